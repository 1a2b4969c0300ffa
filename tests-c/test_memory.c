/* Counting in memory, as a program does it: every type, labels, buckets, lifetimes, scrapes to the letter
 * and snapshots. All of it runs twice, with atomic cells and with mutex cells, which must not differ.
 */
#include "declare.h"

/* The store under test. */
static const char *url;

static void an_empty_backend_has_an_empty_scrape(void) {
  Backend *backend = open_backend(url);
  CHECK_SCRAPE("", backend);
  backend_free(backend);
}

static void every_type_counts_and_is_shown_in_the_order_of_declaration(void) {
  Backend *backend = open_backend(url);
  const double bounds[] = {0.5, 10};
  MetricFamilyOptions histogram = options_for(METRIC_TYPE_HISTOGRAM, "e_seconds");
  histogram.buckets = bounds;
  histogram.bucket_count = 2;
  MetricFamily *families[] = {
      declare_plain(backend, METRIC_TYPE_UNTYPED, "z_odd"),   declare_plain(backend, METRIC_TYPE_GAUGE, "b_size"),
      declare_plain(backend, METRIC_TYPE_COUNTER, "c_total"), declare_plain(backend, METRIC_TYPE_SUMMARY, "d_bytes"),
      declare(backend, &histogram),
  };
  Metric *metrics[5];
  for (int index = 0; index < 5; index++) metrics[index] = make_metric(families[index], NULL);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_set(metrics[0], -1.5));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc_one(metrics[0]));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_set(metrics[1], 8));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metrics[1], 2));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_dec(metrics[1], 0.75));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metrics[1], -1));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metrics[2], 2.5));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metrics[2], 0));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc_one(metrics[2]));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metrics[3], 3));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metrics[3], -1));
  const double observations[] = {0.5, 0.25, 0.75, 10, 11};
  for (int index = 0; index < 5; index++) {
    CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metrics[4], observations[index]));
  }
  CHECK_SCRAPE("# HELP z_odd Help.\n"
               "# TYPE z_odd untyped\n"
               "z_odd -0.5\n"
               "# HELP b_size Help.\n"
               "# TYPE b_size gauge\n"
               "b_size 8.25\n"
               "# HELP c_total Help.\n"
               "# TYPE c_total counter\n"
               "c_total 3.5\n"
               "# HELP d_bytes Help.\n"
               "# TYPE d_bytes summary\n"
               "d_bytes_sum 2\n"
               "d_bytes_count 2\n"
               "# HELP e_seconds Help.\n"
               "# TYPE e_seconds histogram\n"
               "e_seconds_bucket{le=\"0.5\"} 2\n"
               "e_seconds_bucket{le=\"10\"} 4\n"
               "e_seconds_bucket{le=\"+Inf\"} 5\n"
               "e_seconds_sum 22.5\n"
               "e_seconds_count 5\n",
               backend);
  for (int index = 0; index < 5; index++) {
    metric_free(metrics[index]);
    metric_family_free(families[index]);
  }
  backend_free(backend);
}

static void the_values_of_every_type_can_be_read_one_by_one(void) {
  Backend *backend = open_backend(url);
  const double bounds[] = {1, 2};
  MetricFamilyOptions options = options_for(METRIC_TYPE_HISTOGRAM, "seconds");
  options.buckets = bounds;
  options.bucket_count = 2;
  MetricFamily *histogram_family = declare(backend, &options);
  MetricFamily *summary_family = declare_plain(backend, METRIC_TYPE_SUMMARY, "bytes");
  MetricFamily *gauge_family = declare_plain(backend, METRIC_TYPE_GAUGE, "size");
  Metric *histogram = make_metric(histogram_family, NULL);
  Metric *summary = make_metric(summary_family, NULL);
  Metric *gauge = make_metric(gauge_family, NULL);
  const double observations[] = {0.5, 1.5, 2, 7};
  for (int index = 0; index < 4; index++) {
    metric_observe(histogram, observations[index]);
    metric_observe(summary, observations[index]);
  }
  metric_set(gauge, 0.1);
  double value = 0;
  CHECK_OK(metric_get_bucket(histogram, 1, &value, &error));
  CHECK_NUMBER(1, value);
  CHECK_OK(metric_get_bucket(histogram, 2, &value, &error));
  CHECK_NUMBER(3, value);
  CHECK_OK(metric_get_bucket(histogram, INFINITY, &value, &error));
  CHECK_NUMBER(4, value);
  CHECK_OK(metric_get_count(histogram, &value, &error));
  CHECK_NUMBER(4, value);
  CHECK_OK(metric_get_sum(histogram, &value, &error));
  CHECK_NUMBER(11, value);
  CHECK_OK(metric_get_count(summary, &value, &error));
  CHECK_NUMBER(4, value);
  CHECK_OK(metric_get_sum(summary, &value, &error));
  CHECK_NUMBER(11, value);
  CHECK_NUMBER(0.1, value_of(gauge));
  metric_free(histogram);
  metric_free(summary);
  metric_free(gauge);
  metric_family_free(histogram_family);
  metric_family_free(summary_family);
  metric_family_free(gauge_family);
  backend_free(backend);
}

static void a_histogram_without_bounds_has_the_default_ones(void) {
  Backend *backend = open_backend(url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_HISTOGRAM, "seconds");
  metric_free(make_metric(family, NULL));
  CHECK_SCRAPE("# HELP seconds Help.\n"
               "# TYPE seconds histogram\n"
               "seconds_bucket{le=\"0.005\"} 0\n"
               "seconds_bucket{le=\"0.01\"} 0\n"
               "seconds_bucket{le=\"0.025\"} 0\n"
               "seconds_bucket{le=\"0.05\"} 0\n"
               "seconds_bucket{le=\"0.1\"} 0\n"
               "seconds_bucket{le=\"0.25\"} 0\n"
               "seconds_bucket{le=\"0.5\"} 0\n"
               "seconds_bucket{le=\"1\"} 0\n"
               "seconds_bucket{le=\"2.5\"} 0\n"
               "seconds_bucket{le=\"5\"} 0\n"
               "seconds_bucket{le=\"10\"} 0\n"
               "seconds_bucket{le=\"+Inf\"} 0\n"
               "seconds_sum 0\n"
               "seconds_count 0\n",
               backend);
  metric_family_free(family);
  backend_free(backend);
}

static void an_infinite_last_bound_is_the_implied_one(void) {
  Backend *backend = open_backend(url);
  const double with_infinity[] = {1, INFINITY};
  MetricFamilyOptions options = options_for(METRIC_TYPE_HISTOGRAM, "seconds");
  options.buckets = with_infinity;
  options.bucket_count = 2;
  MetricFamily *family = declare(backend, &options);
  options.bucket_count = 1;
  MetricFamily *same = declare(backend, &options);
  Metric *metric = make_metric(family, NULL);
  metric_observe(metric, 1);
  metric_observe(metric, INFINITY);
  CHECK_SCRAPE("# HELP seconds Help.\n"
               "# TYPE seconds histogram\n"
               "seconds_bucket{le=\"1\"} 1\n"
               "seconds_bucket{le=\"+Inf\"} 2\n"
               "seconds_sum +Inf\n"
               "seconds_count 2\n",
               backend);
  metric_free(metric);
  metric_family_free(same);
  metric_family_free(family);
  backend_free(backend);
}

static void what_is_no_number_is_counted_and_shown(void) {
  Backend *backend = open_backend(url);
  MetricFamily *gauge_family = declare_labelled(backend, METRIC_TYPE_GAUGE, "size");
  MetricFamily *summary_family = declare_plain(backend, METRIC_TYPE_SUMMARY, "bytes");
  MetricFamily *histogram_family = declare_plain(backend, METRIC_TYPE_HISTOGRAM, "seconds");
  Metric *up = make_metric(gauge_family, "up"), *down = make_metric(gauge_family, "down");
  Metric *nan_metric = make_metric(gauge_family, "nan");
  Metric *summary = make_metric(summary_family, NULL), *histogram = make_metric(histogram_family, NULL);
  metric_set(up, INFINITY);
  metric_set(down, -INFINITY);
  metric_set(nan_metric, NAN);
  metric_observe(summary, NAN);
  metric_observe(histogram, NAN);
  CHECK_NUMBER(INFINITY, value_of(up));
  CHECK_NUMBER(-INFINITY, value_of(down));
  CHECK_NUMBER(NAN, value_of(nan_metric));
  double value = 0;
  CHECK_OK(metric_get_sum(summary, &value, &error));
  CHECK_NUMBER(NAN, value);
  CHECK_OK(metric_get_bucket(histogram, 10, &value, &error));
  CHECK_NUMBER(0, value);
  CHECK_OK(metric_get_bucket(histogram, INFINITY, &value, &error));
  CHECK_NUMBER(1, value);
  char *text = NULL;
  CHECK_OK(metrics_collect(backend, &text, NULL, &error));
  CHECK_CONTAINS("size{method=\"down\"} -Inf\nsize{method=\"nan\"} NaN\nsize{method=\"up\"} +Inf\n", text);
  backend_string_free(text);
  metric_free(up);
  metric_free(down);
  metric_free(nan_metric);
  metric_free(summary);
  metric_free(histogram);
  metric_family_free(gauge_family);
  metric_family_free(summary_family);
  metric_family_free(histogram_family);
  backend_free(backend);
}

static void label_values_are_taken_in_the_declared_order_and_shown_sorted_by_name(void) {
  Backend *backend = open_backend(url);
  const char *const names[] = {"path", "method"};
  const char *const reversed_names[] = {"method", "path"};
  const char *const values[] = {"/a", "GET"};
  const char *const reversed_values[] = {"GET", "/a"};
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "requests_total");
  options.label_names = names;
  options.label_count = 2;
  MetricFamily *family = declare(backend, &options);
  options.label_names = reversed_names;
  MetricFamily *reversed_family = declare(backend, &options);
  Metric *metric = NULL, *same = NULL;
  CHECK_OK(metric_new(family, values, 2, &metric, &error));
  CHECK_OK(metric_new(reversed_family, reversed_values, 2, &same, &error));
  metric_inc(metric, 1);
  metric_inc(same, 2);
  CHECK_NUMBER(3, value_of(metric));
  CHECK_SCRAPE("# HELP requests_total Help.\n"
               "# TYPE requests_total counter\n"
               "requests_total{method=\"GET\",path=\"/a\"} 3\n",
               backend);
  metric_free(metric);
  metric_free(same);
  metric_family_free(family);
  metric_family_free(reversed_family);
  backend_free(backend);
}

static void texts_are_escaped_as_prometheus_reads_them(void) {
  Backend *backend = open_backend(url);
  const char *const label_names[] = {"method"};
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "requests_total");
  options.help = "A \\ and \"quotes\",\nand a second line.";
  options.label_names = label_names;
  options.label_count = 1;
  MetricFamily *family = declare(backend, &options);
  Metric *metric = make_metric(family, "a\\b\"c\nd\t\xc3\xa9");
  CHECK_SCRAPE("# HELP requests_total A \\\\ and \"quotes\",\\nand a second line.\n"
               "# TYPE requests_total counter\n"
               "requests_total{method=\"a\\\\b\\\"c\\nd\t\xc3\xa9\"} 0\n",
               backend);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void strings_are_copied(void) {
  Backend *backend = open_backend(url);
  char name[] = "requests_total", help[] = "Help.", label_name[] = "method", label_value[] = "GET";
  const char *label_names[] = {label_name};
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, name);
  options.help = help;
  options.label_names = label_names;
  options.label_count = 1;
  MetricFamily *family = declare(backend, &options);
  Metric *metric = make_metric(family, label_value);
  name[0] = help[0] = label_name[0] = label_value[0] = 'X';
  label_names[0] = NULL;
  CHECK_SCRAPE("# HELP requests_total Help.\n"
               "# TYPE requests_total counter\n"
               "requests_total{method=\"GET\"} 0\n",
               backend);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_family_declared_again_is_the_same_and_outlives_its_handles(void) {
  Backend *backend = open_backend(url);
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, "GET");
  metric_inc(metric, 1);
  metric_free(metric);
  metric_family_free(family);
  family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  metric = make_metric(family, "GET");
  metric_inc(metric, 1);
  CHECK_NUMBER(2, value_of(metric));
  metric_free(metric);
  metric_family_free(family);
  CHECK_SCRAPE("# HELP requests_total Help.\n"
               "# TYPE requests_total counter\n"
               "requests_total{method=\"GET\"} 2\n",
               backend);
  backend_free(backend);
}

static void a_family_of_a_handle_lives_as_long_as_its_handles(void) {
  Backend *backend = open_backend(url);
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "requests_total");
  options.lifetime = METRIC_LIFETIME_HANDLE;
  MetricFamily *family = declare(backend, &options);
  MetricFamily *twin = declare(backend, &options);
  Metric *metric = make_metric(family, NULL), *twin_metric = make_metric(twin, NULL);
  metric_inc(metric, 3);
  CHECK_NUMBER(3, value_of(metric));
  CHECK_NUMBER(0, value_of(twin_metric));
  /* A scrape can show a name once: the first that was declared. */
  CHECK_SCRAPE("# HELP requests_total Help.\n# TYPE requests_total counter\nrequests_total 3\n", backend);

  const MetricFamily *families[] = {family};
  MetricsSnapshot *snapshot = NULL;
  MetricsSeries series;
  CHECK_OK(metrics_snapshot_new(backend, families, 1, &snapshot, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_snapshot_next(snapshot, &series));
  CHECK_TEXT("requests_total", series.family);
  CHECK_NUMBER(3, series.values[0]);
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, metrics_snapshot_next(snapshot, &series));
  metrics_snapshot_free(snapshot);

  /* The metric goes with its last handle, and a new one begins anew. */
  metric_free(metric);
  metric = make_metric(family, NULL);
  CHECK_NUMBER(0, value_of(metric));
  /* A metric outlives the handle of its family. */
  metric_family_free(family);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 5));
  CHECK_NUMBER(5, value_of(metric));
  metric_free(metric);
  CHECK_SCRAPE("# HELP requests_total Help.\n# TYPE requests_total counter\nrequests_total 0\n", backend);
  metric_free(twin_metric);
  metric_family_free(twin);
  CHECK_SCRAPE("", backend);
  backend_free(backend);
}

static void many_families_of_handles_come_and_go(void) {
  Backend *backend = open_backend(url);
  int repetitions = check_repetitions(5000);
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "requests_total");
  options.lifetime = METRIC_LIFETIME_HANDLE;
  for (int index = 0; index < repetitions; index++) {
    MetricFamily *family = declare(backend, &options);
    Metric *metric = make_metric(family, NULL);
    metric_inc(metric, 1);
    metric_free(metric);
    metric_family_free(family);
  }
  CHECK_SCRAPE("", backend);
  backend_free(backend);
}

static void two_backends_have_nothing_in_common(void) {
  Backend *one = open_backend(url), *other = open_backend(url);
  MetricFamily *family = declare_plain(one, METRIC_TYPE_COUNTER, "requests_total");
  MetricFamily *other_family = declare_plain(other, METRIC_TYPE_GAUGE, "requests_total");
  Metric *metric = make_metric(family, NULL), *other_metric = make_metric(other_family, NULL);
  metric_inc(metric, 1);
  metric_set(other_metric, 9);
  CHECK_NUMBER(1, value_of(metric));
  CHECK_NUMBER(9, value_of(other_metric));
  metric_free(metric);
  metric_free(other_metric);
  metric_family_free(family);
  metric_family_free(other_family);
  backend_free(one);
  backend_free(other);
}

static void a_removed_metric_is_gone_and_can_be_made_again(void) {
  Backend *backend = open_backend(url);
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *get = make_metric(family, "GET"), *post = make_metric(family, "POST");
  const char *label_value = "GET";
  metric_inc(get, 1);
  metric_inc(post, 2);
  CHECK_OK(metric_remove(family, &label_value, 1, &error));
  CHECK_ERROR(BACKEND_STATUS_NOT_FOUND, "GET", metric_remove(family, &label_value, 1, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(get, 100));
  CHECK_SCRAPE("# HELP requests_total Help.\n"
               "# TYPE requests_total counter\n"
               "requests_total{method=\"POST\"} 2\n",
               backend);
  Metric *again = make_metric(family, "GET");
  metric_inc(again, 5);
  CHECK_SCRAPE("# HELP requests_total Help.\n"
               "# TYPE requests_total counter\n"
               "requests_total{method=\"GET\"} 5\n"
               "requests_total{method=\"POST\"} 2\n",
               backend);
  metric_free(again);
  metric_free(get);
  metric_free(post);
  metric_family_free(family);
  backend_free(backend);
}

static void a_cleared_family_has_no_metrics_until_new_ones_are_made(void) {
  Backend *backend = open_backend(url);
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *get = make_metric(family, "GET"), *post = make_metric(family, "POST");
  metric_inc(get, 1);
  CHECK_OK(metric_family_clear(family, &error));
  CHECK_OK(metric_family_clear(family, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(get, 1));
  CHECK_SCRAPE("# HELP requests_total Help.\n# TYPE requests_total counter\n", backend);
  Metric *again = make_metric(family, "GET");
  CHECK_NUMBER(0, value_of(again));
  metric_free(again);
  metric_free(get);
  metric_free(post);
  metric_family_free(family);
  backend_free(backend);
}

static void handles_outlive_their_backend(void) {
  Backend *backend = open_backend(url);
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, "GET");
  backend_free(backend);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  Metric *late = make_metric(family, "POST");
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(late, 1));
  CHECK_OK(metric_family_clear(family, &error));
  metric_family_free(family);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  metric_free(metric);
  metric_free(late);
}

static void closing_twice_does_nothing(void) {
  Backend *backend = open_backend(url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  CHECK_OK(backend_close(backend, &error));
  CHECK_OK(backend_close(backend, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_snapshot_walks_series_by_family_and_labels(void) {
  Backend *backend = open_backend(url);
  const double bounds[] = {1};
  MetricFamilyOptions options = options_for(METRIC_TYPE_HISTOGRAM, "seconds");
  options.buckets = bounds;
  options.bucket_count = 1;
  MetricFamily *counters = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  MetricFamily *histograms = declare(backend, &options);
  MetricFamily *summaries = declare_plain(backend, METRIC_TYPE_SUMMARY, "bytes");
  Metric *post = make_metric(counters, "POST"), *get = make_metric(counters, "G\"ET");
  Metric *histogram = make_metric(histograms, NULL), *summary = make_metric(summaries, NULL);
  metric_inc(post, 2);
  metric_inc(get, 1);
  metric_observe(histogram, 0.5);
  metric_observe(histogram, 2);
  metric_observe(summary, 7);

  MetricsSnapshot *snapshot = NULL;
  MetricsSeries series;
  CHECK_OK(metrics_snapshot_new(backend, NULL, 0, &snapshot, &error));
  /* A snapshot is of its time: this comes too late. */
  metric_inc(get, 100);
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_snapshot_next(snapshot, &series));
  CHECK_NUMBER(0, series.family_index);
  CHECK_TEXT("requests_total", series.family);
  CHECK_TEXT("{\"method\":\"G\\\"ET\"}", series.labels);
  CHECK_NUMBER(1, series.value_count);
  CHECK_NUMBER(1, series.values[0]);
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_snapshot_next(snapshot, &series));
  CHECK_NUMBER(0, series.family_index);
  CHECK_TEXT("{\"method\":\"POST\"}", series.labels);
  CHECK_NUMBER(2, series.values[0]);
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_snapshot_next(snapshot, &series));
  CHECK_NUMBER(1, series.family_index);
  CHECK_TEXT("seconds", series.family);
  CHECK_TEXT("{}", series.labels);
  CHECK_NUMBER(4, series.value_count);
  CHECK_NUMBER(1, series.values[0]);
  CHECK_NUMBER(2, series.values[1]);
  CHECK_NUMBER(2, series.values[2]);
  CHECK_NUMBER(2.5, series.values[3]);
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_snapshot_next(snapshot, &series));
  CHECK_NUMBER(2, series.family_index);
  CHECK_NUMBER(2, series.value_count);
  CHECK_NUMBER(1, series.values[0]);
  CHECK_NUMBER(7, series.values[1]);
  const char *last = series.family;
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, metrics_snapshot_next(snapshot, &series));
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, metrics_snapshot_next(snapshot, &series));
  /* The end writes nothing, and what was written before still lives. */
  CHECK(series.family == last);
  CHECK_TEXT("bytes", last);
  metrics_snapshot_free(snapshot);

  const MetricFamily *wanted[] = {summaries, counters, summaries};
  const size_t indexes[] = {0, 1, 1, 2};
  CHECK_OK(metrics_snapshot_new(backend, wanted, 3, &snapshot, &error));
  for (int index = 0; index < 4; index++) {
    CHECK_STATUS(BACKEND_STATUS_OK, metrics_snapshot_next(snapshot, &series));
    CHECK_NUMBER(indexes[index], series.family_index);
  }
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, metrics_snapshot_next(snapshot, &series));
  metrics_snapshot_free(snapshot);

  CHECK_OK(metrics_snapshot_new(backend, wanted, 0, &snapshot, &error));
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, metrics_snapshot_next(snapshot, &series));
  metrics_snapshot_free(snapshot);

  metric_free(post);
  metric_free(get);
  metric_free(histogram);
  metric_free(summary);
  metric_family_free(counters);
  metric_family_free(histograms);
  metric_family_free(summaries);
  backend_free(backend);
}

static void a_snapshot_outlives_what_it_shows(void) {
  Backend *backend = open_backend(url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_GAUGE, "size");
  Metric *metric = make_metric(family, NULL);
  MetricsSnapshot *snapshot = NULL;
  MetricsSeries series;
  metric_set(metric, 4);
  CHECK_OK(metrics_snapshot_new(backend, NULL, 0, &snapshot, &error));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_snapshot_next(snapshot, &series));
  CHECK_TEXT("size", series.family);
  CHECK_NUMBER(4, series.values[0]);
  metrics_snapshot_free(snapshot);
}

static void run_all(const char *store) {
  url = store;
  fprintf(stderr, "with %s\n", url);
  CHECK_RUN(an_empty_backend_has_an_empty_scrape);
  CHECK_RUN(every_type_counts_and_is_shown_in_the_order_of_declaration);
  CHECK_RUN(the_values_of_every_type_can_be_read_one_by_one);
  CHECK_RUN(a_histogram_without_bounds_has_the_default_ones);
  CHECK_RUN(an_infinite_last_bound_is_the_implied_one);
  CHECK_RUN(what_is_no_number_is_counted_and_shown);
  CHECK_RUN(label_values_are_taken_in_the_declared_order_and_shown_sorted_by_name);
  CHECK_RUN(texts_are_escaped_as_prometheus_reads_them);
  CHECK_RUN(strings_are_copied);
  CHECK_RUN(a_family_declared_again_is_the_same_and_outlives_its_handles);
  CHECK_RUN(a_family_of_a_handle_lives_as_long_as_its_handles);
  CHECK_RUN(many_families_of_handles_come_and_go);
  CHECK_RUN(two_backends_have_nothing_in_common);
  CHECK_RUN(a_removed_metric_is_gone_and_can_be_made_again);
  CHECK_RUN(a_cleared_family_has_no_metrics_until_new_ones_are_made);
  CHECK_RUN(handles_outlive_their_backend);
  CHECK_RUN(closing_twice_does_nothing);
  CHECK_RUN(a_snapshot_walks_series_by_family_and_labels);
  CHECK_RUN(a_snapshot_outlives_what_it_shows);
}

int main(void) {
  run_all("memory:");
  run_all("memory:?cell=atomic");
  run_all("memory:?cell=mutex");
  return check_result();
}
