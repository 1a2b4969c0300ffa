/* Families, metrics and snapshots through the C interface, in the memory store. What the engine does with the
 * values is tested in Rust (tests/); these tests show what crosses the boundary: strings, arrays, out-parameters
 * and the lifetime of handles.
 */
#include <malloc.h>
#include <unistd.h>

#include "declare.h"

/* Checks the next series of a snapshot. */
static void check_series(MetricsSnapshot *snapshot, size_t family_index, const char *family, const char *labels,
                         const double *values, size_t value_count) {
  MetricsSeries series;
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_snapshot_next(snapshot, &series));
  CHECK_NUMBER(family_index, series.family_index);
  CHECK_TEXT(family, series.family);
  CHECK_TEXT(labels, series.labels);
  CHECK_NUMBER(value_count, series.value_count);
  for (size_t index = 0; index < value_count && index < series.value_count; index++) {
    CHECK_NUMBER(values[index], series.values[index]);
  }
}

static void check_no_more_series(MetricsSnapshot *snapshot) {
  MetricsSeries series;
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, metrics_snapshot_next(snapshot, &series));
}

static void each_type_is_changed_and_read_by_its_functions(void) {
  Backend *backend = open_backend("memory:");
  const double bounds[] = {1, 2};
  MetricFamilyOptions histogram_options = options_for(METRIC_TYPE_HISTOGRAM, "seconds");
  histogram_options.buckets = bounds;
  histogram_options.bucket_count = 2;
  MetricFamily *families[] = {
      declare_plain(backend, METRIC_TYPE_UNTYPED, "odd"),         declare_plain(backend, METRIC_TYPE_GAUGE, "size"),
      declare_plain(backend, METRIC_TYPE_COUNTER, "calls_total"), declare_plain(backend, METRIC_TYPE_SUMMARY, "bytes"),
      declare(backend, &histogram_options),
  };
  Metric *metrics[5];
  for (int index = 0; index < 5; index++) metrics[index] = make_metric(families[index], NULL);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_set(metrics[0], -1.5));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_set(metrics[1], 8));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_dec(metrics[1], 0.75));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metrics[2], 2.5));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metrics[3], 3));
  const double observations[] = {0.5, 1.5, 2, 7};
  for (int index = 0; index < 4; index++) {
    CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metrics[4], observations[index]));
  }
  CHECK_NUMBER(-1.5, value_of(metrics[0]));
  CHECK_NUMBER(7.25, value_of(metrics[1]));
  CHECK_NUMBER(2.5, value_of(metrics[2]));
  double value = 0;
  CHECK_OK(metric_inc_and_get(metrics[2], 0.5, &value, &error));
  CHECK_NUMBER(3, value);
  CHECK_OK(metric_inc_and_get(metrics[1], -1, &value, &error));
  CHECK_NUMBER(6.25, value);
  CHECK_OK(metric_inc_and_get(metrics[0], 0, &value, &error));
  CHECK_NUMBER(-1.5, value);
  CHECK_OK(metric_get_count(metrics[3], &value, &error));
  CHECK_NUMBER(1, value);
  CHECK_OK(metric_get_sum(metrics[3], &value, &error));
  CHECK_NUMBER(3, value);
  CHECK_OK(metric_get_bucket(metrics[4], 2, &value, &error));
  CHECK_NUMBER(3, value);
  CHECK_OK(metric_get_bucket(metrics[4], INFINITY, &value, &error));
  CHECK_NUMBER(4, value);
  CHECK_OK(metric_get_sum(metrics[4], &value, &error));
  CHECK_NUMBER(11, value);
  CHECK_SCRAPE("# HELP odd Help.\n"
               "# TYPE odd untyped\n"
               "odd -1.5\n"
               "# HELP size Help.\n"
               "# TYPE size gauge\n"
               "size 6.25\n"
               "# HELP calls_total Help.\n"
               "# TYPE calls_total counter\n"
               "calls_total 3\n"
               "# HELP bytes Help.\n"
               "# TYPE bytes summary\n"
               "bytes_sum 3\n"
               "bytes_count 1\n"
               "# HELP seconds Help.\n"
               "# TYPE seconds histogram\n"
               "seconds_bucket{le=\"1\"} 1\n"
               "seconds_bucket{le=\"2\"} 3\n"
               "seconds_bucket{le=\"+Inf\"} 4\n"
               "seconds_sum 11\n"
               "seconds_count 4\n",
               backend);
  for (int index = 0; index < 5; index++) {
    metric_free(metrics[index]);
    metric_family_free(families[index]);
  }
  backend_free(backend);
}

static void strings_are_copied(void) {
  Backend *backend = open_backend("memory:");
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

static void the_lifetime_of_a_family_is_an_option(void) {
  Backend *backend = open_backend("memory:");
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "kept_total");
  MetricFamily *kept = declare(backend, &options);
  options.name = "passing_total";
  options.lifetime = METRIC_LIFETIME_HANDLE;
  MetricFamily *passing = declare(backend, &options);
  Metric *metric = make_metric(passing, NULL);
  metric_family_free(kept);
  metric_family_free(passing);
  const char *const help_of_kept = "# HELP kept_total Help.\n# TYPE kept_total counter\n";
  CHECK_SCRAPE("# HELP kept_total Help.\n# TYPE kept_total counter\n"
               "# HELP passing_total Help.\n# TYPE passing_total counter\npassing_total 0\n",
               backend);
  metric_free(metric);
  CHECK_SCRAPE(help_of_kept, backend);
  backend_free(backend);
}

static void removed_and_cleared_metrics_are_gone(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *get = make_metric(family, "GET"), *post = make_metric(family, "POST");
  const char *label_value = "GET";
  CHECK_OK(metric_remove(family, &label_value, 1, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(get, 1));
  CHECK_SCRAPE("# HELP requests_total Help.\n# TYPE requests_total counter\n"
               "requests_total{method=\"POST\"} 0\n",
               backend);
  CHECK_OK(metric_family_clear(family, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(post, 1));
  CHECK_SCRAPE("# HELP requests_total Help.\n# TYPE requests_total counter\n", backend);
  metric_free(get);
  metric_free(post);
  metric_family_free(family);
  backend_free(backend);
}

/* valgrind would report a use after free. */
static void handles_outlive_their_backend(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, "GET");
  CHECK_OK(backend_close(backend, &error));
  CHECK_OK(backend_close(backend, &error));
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

static void a_snapshot_walks_series_by_family_and_labels(void) {
  Backend *backend = open_backend("memory:");
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
  CHECK_OK(metrics_snapshot_new(backend, NULL, 0, &snapshot, &error));
  /* A snapshot does not follow later changes. */
  metric_inc(get, 100);
  check_series(snapshot, 0, "requests_total", "{\"method\":\"G\\\"ET\"}", (double[]){1}, 1);
  check_series(snapshot, 0, "requests_total", "{\"method\":\"POST\"}", (double[]){2}, 1);
  check_series(snapshot, 1, "seconds", "{}", (double[]){1, 2, 2, 2.5}, 4);
  MetricsSeries series;
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_snapshot_next(snapshot, &series));
  CHECK_TEXT("bytes", series.family);
  const char *last = series.family;
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, metrics_snapshot_next(snapshot, &series));
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, metrics_snapshot_next(snapshot, &series));
  /* The end writes nothing, and the strings of earlier series stay valid. */
  CHECK(series.family == last);
  CHECK_TEXT("bytes", last);
  metrics_snapshot_free(snapshot);

  const MetricFamily *wanted[] = {summaries, counters, summaries};
  CHECK_OK(metrics_snapshot_new(backend, wanted, 3, &snapshot, &error));
  check_series(snapshot, 0, "bytes", "{}", (double[]){1, 7}, 2);
  check_series(snapshot, 1, "requests_total", "{\"method\":\"G\\\"ET\"}", (double[]){101}, 1);
  check_series(snapshot, 1, "requests_total", "{\"method\":\"POST\"}", (double[]){2}, 1);
  check_series(snapshot, 2, "bytes", "{}", (double[]){1, 7}, 2);
  check_no_more_series(snapshot);
  metrics_snapshot_free(snapshot);

  CHECK_OK(metrics_snapshot_new(backend, wanted, 0, &snapshot, &error));
  check_no_more_series(snapshot);
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

static void an_info_shows_the_labels_that_were_set_last(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_INFO, "server");
  const char *values[] = {"GET"};
  const char *info_names[] = {"version", "commit"};
  const char *info_values[] = {"1", "a\"b"};
  CHECK_OK(metric_family_set_info(family, values, 1, info_names, info_values, 1, &error));
  CHECK_OK(metric_family_set_info(family, values, 1, info_names, info_values, 2, &error));
  CHECK_SCRAPE("# HELP server_info Help.\n"
               "# TYPE server_info gauge\n"
               "server_info{commit=\"a\\\"b\",method=\"GET\",version=\"1\"} 1\n",
               backend);
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "at least one label",
              metric_family_set_info(family, values, 1, NULL, NULL, 0, &error));
  const char *declared[] = {"method"};
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "\"method\" is declared",
              metric_family_set_info(family, values, 1, declared, info_values, 1, &error));
  Metric *metric = NULL;
  CHECK_ERROR(BACKEND_STATUS_WRONG_TYPE, "set_info", metric_new(family, values, 1, &metric, &error));
  CHECK_OK(metric_remove(family, values, 1, &error));
  CHECK_SCRAPE("# HELP server_info Help.\n# TYPE server_info gauge\n", backend);
  metric_family_free(family);
  backend_free(backend);
}

static void a_state_set_has_its_declared_states(void) {
  Backend *backend = open_backend("memory:");
  const char *states[] = {"idle", "busy"};
  MetricFamilyOptions options = options_for(METRIC_TYPE_STATE_SET, "job");
  MetricFamily *family = NULL;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "1 to 52 states",
              metric_family_new(backend, &options, &family, &error));
  options.states = states;
  options.state_count = 2;
  family = declare(backend, &options);
  Metric *metric = make_metric(family, NULL);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_set_state(metric, "idle", 1));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_set_state(metric, "busy", 1));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_set_state(metric, "idle", 0));
  CHECK_STATUS(BACKEND_STATUS_INVALID_ARGUMENT, metric_set_state(metric, "none", 1));
  CHECK_STATUS(BACKEND_STATUS_INVALID_ARGUMENT, metric_choose_state(metric, "\xff"));
  CHECK_STATUS(BACKEND_STATUS_WRONG_TYPE, metric_set(metric, 1));
  int32_t is_on = -1;
  CHECK_OK(metric_get_state(metric, "busy", &is_on, &error));
  CHECK_NUMBER(1, is_on);
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "expected one of idle, busy",
              metric_get_state(metric, "none", &is_on, &error));
  CHECK_SCRAPE("# HELP job Help.\n"
               "# TYPE job gauge\n"
               "job{job=\"idle\"} 0\n"
               "job{job=\"busy\"} 1\n",
               backend);
  MetricsSnapshot *snapshot = NULL;
  CHECK_STATUS(BACKEND_STATUS_OK, metric_choose_state(metric, "idle"));
  CHECK_OK(metrics_snapshot_new(backend, NULL, 0, &snapshot, &error));
  check_series(snapshot, 0, "job", "{}", (double[]){1, 0}, 2);
  metrics_snapshot_free(snapshot);
  options.metric_type = METRIC_TYPE_GAUGE;
  options.name = "other";
  MetricFamily *none = NULL;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "takes no states",
              metric_family_new(backend, &options, &none, &error));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_gauge_with_a_mode_shows_the_processes(void) {
  char path[64], url[128], expected[128];
  snprintf(path, sizeof path, "/tmp/pytheus-modes-%d", (int)getpid());
  snprintf(url, sizeof url, "shm://%s?start=reset", path);
  Backend *backend = open_backend(url);
  MetricFamilyOptions options = options_for(METRIC_TYPE_GAUGE, "jobs");
  options.gauge_mode = METRIC_GAUGE_MODE_LIVE_ALL;
  MetricFamily *family = declare(backend, &options);
  Metric *metric = make_metric(family, NULL);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_set(metric, 3));
  snprintf(expected, sizeof expected, "# HELP jobs Help.\n# TYPE jobs gauge\njobs{pid=\"%d\"} 3\n", (int)getpid());
  CHECK_SCRAPE(expected, backend);
  MetricFamily *none = NULL;
  options.gauge_mode = METRIC_GAUGE_MODE_SUM;
  CHECK_ERROR(BACKEND_STATUS_CONFLICT, "with the mode liveall", metric_family_new(backend, &options, &none, &error));
  options.name = "other";
  options.metric_type = METRIC_TYPE_COUNTER;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "only a gauge has a mode",
              metric_family_new(backend, &options, &none, &error));
  options.gauge_mode = METRIC_GAUGE_MODE_SHARED;
  const double wrong[] = {-1, 0.5, NAN, -INFINITY, 1e12};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    options.series_ttl = wrong[i];
    CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "series_ttl", metric_family_new(backend, &options, &none, &error));
  }
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
  CHECK(unlink(path) == 0);
}

static void a_family_keeps_exemplars_if_it_is_told_to(void) {
  Backend *backend = open_backend("memory:");
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "jobs_total");
  options.exemplars = METRIC_EXEMPLARS_KEPT;
  MetricFamily *family = declare(backend, &options);
  Metric *metric = make_metric(family, NULL);
  const char *const names[] = {"trace_id", "trace_id"};
  const char *values[] = {"4bf92f3577b34da6", "00f067aa0ba902b7"};
  CHECK(metric_takes_exemplar(NULL, 2) == 0);
  CHECK(metric_takes_exemplar(metric, 2) == 1);
  CHECK_OK(metric_inc_with_exemplar(metric, 2, names, values, 1, &error));
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "given twice",
              metric_inc_with_exemplar(metric, 2, names, values, 2, &error));
  char text[130];
  memset(text, 'x', sizeof text - 1);
  text[sizeof text - 1] = '\0';
  values[0] = text;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "have 137 characters: expected at most 128",
              metric_inc_with_exemplar(metric, 2, names, values, 1, &error));
  CHECK_ERROR(BACKEND_STATUS_WRONG_TYPE, "no such operation",
              metric_observe_with_exemplar(metric, 2, names, values, 1, &error));
  MetricsRenderOptions rendering = {.size = sizeof rendering};
  rendering.accept = "application/openmetrics-text; version=1.0.0";
  MetricsText *scrape = NULL;
  CHECK_OK(metrics_render(backend, &rendering, &scrape, &error));
  CHECK(strstr(metrics_text_data(scrape), "\njobs_total 2 # {trace_id=\"4bf92f3577b34da6\"} 2 ") != NULL);
  metrics_text_free(scrape);
  MetricFamily *none = NULL;
  options.metric_type = METRIC_TYPE_GAUGE;
  options.name = "other";
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "a gauge has no exemplars",
              metric_family_new(backend, &options, &none, &error));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void an_exemplar_is_kept_without_counting(void) {
  Backend *backend = open_backend("memory:");
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "jobs_total");
  options.exemplars = METRIC_EXEMPLARS_KEPT;
  MetricFamily *family = declare(backend, &options);
  Metric *metric = make_metric(family, NULL);
  const char *const names[] = {"trace_id", "span_id"}, *const values[] = {"a", "b"};
  CHECK_OK(metric_keep_exemplar(metric, 2.5, names, values, 2, &error));
  double value = 1;
  CHECK_OK(metric_get(metric, &value, &error));
  CHECK(value == 0);
  MetricsSnapshot *snapshot = NULL;
  CHECK_OK(metrics_snapshot_new(backend, NULL, 0, &snapshot, &error));
  MetricsExemplar exemplar;
  CHECK_ERROR(BACKEND_STATUS_NOT_FOUND, "no series was written yet",
              metrics_snapshot_exemplar(snapshot, 0, &exemplar, &error));
  MetricsSeries series;
  CHECK(metrics_snapshot_next(snapshot, &series) == BACKEND_STATUS_OK);
  CHECK_OK(metrics_snapshot_exemplar(snapshot, 0, &exemplar, &error));
  CHECK(strcmp(exemplar.labels, "{\"span_id\":\"b\",\"trace_id\":\"a\"}") == 0);
  CHECK(exemplar.value == 2.5 && exemplar.timestamp > 1.7e9);
  CHECK_ERROR(BACKEND_STATUS_NOT_FOUND, "no exemplar 1",
              metrics_snapshot_exemplar(snapshot, 1, &exemplar, &error));
  metrics_snapshot_free(snapshot);
  metric_free(metric);
  metric_family_free(family);
  options.exemplars = METRIC_EXEMPLARS_NONE;
  options.name = "plain_total";
  family = declare(backend, &options);
  metric = make_metric(family, NULL);
  CHECK_ERROR(BACKEND_STATUS_WRONG_TYPE, "declared without exemplars",
              metric_keep_exemplar(metric, 2.5, names, values, 2, &error));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_process_shows_itself(void) {
  Backend *backend = open_backend("memory:");
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "a b_process", backend_process_metrics(backend, "a b", &error));
  CHECK_OK(backend_process_metrics(backend, "shop", &error));
  CHECK_OK(backend_process_metrics(backend, NULL, &error));
  char *text = NULL;
  CHECK_OK(metrics_collect(backend, &text, NULL, &error));
  CHECK(strstr(text, "\nshop_process_cpu_seconds_total ") != NULL);
  CHECK(strstr(text, "\nshop_process_open_fds ") != NULL);
  backend_string_free(text);
  backend_free(backend);
}

static void a_native_histogram_needs_no_bounds(void) {
  Backend *backend = open_backend("memory:");
  MetricFamilyOptions options = options_for(METRIC_TYPE_HISTOGRAM, "seconds");
  options.native = METRIC_NATIVE_ALONE;
  MetricFamily *family = declare(backend, &options);
  Metric *metric = make_metric(family, NULL);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metric, 0.5));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metric, 8));
  double value = -1;
  CHECK_OK(metric_get_count(metric, &value, &error));
  CHECK_NUMBER(2, value);
  CHECK_SCRAPE("# HELP seconds Help.\n"
               "# TYPE seconds histogram\n"
               "seconds_bucket{le=\"+Inf\"} 2\n"
               "seconds_sum 8.5\n"
               "seconds_count 2\n",
               backend);
  MetricsRenderOptions render = {.size = sizeof render};
  render.accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"
                  "encoding=delimited";
  render.formats = METRICS_FORMATS_ALL;
  MetricsText *text = NULL;
  CHECK_OK(metrics_render(backend, &render, &text, &error));
  /* The schema, 3, and the zero threshold 2^-128, whose bytes are 0 0 0 0 0 0 f0 37. */
  const char schema[] = "\x28\x06\x31\0\0\0\0\0\0\xf0\x37";
  CHECK(memmem(metrics_text_data(text), metrics_text_length(text), schema, sizeof schema - 1) != NULL);
  metrics_text_free(text);

  const double bounds[] = {1};
  options.name = "both_seconds";
  options.native = METRIC_NATIVE_BOTH;
  options.native_resolution = 256;
  options.native_size = 4096;
  options.buckets = bounds;
  options.bucket_count = 1;
  MetricFamily *both = declare(backend, &options);
  Metric *in_both = make_metric(both, NULL);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(in_both, 0.5));
  CHECK_OK(metric_get_bucket(in_both, 1, &value, &error));
  CHECK_NUMBER(1, value);
  MetricFamily *none = NULL;
  options.native_size = 100;
  CHECK_ERROR(BACKEND_STATUS_CONFLICT, "both_seconds", metric_family_new(backend, &options, &none, &error));
  metric_free(in_both);
  metric_family_free(both);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_mistake_in_the_options_of_native_buckets_is_named(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *none = NULL;
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "c_total");
  options.native = METRIC_NATIVE_ALONE;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "a counter cannot be a native histogram",
              metric_family_new(backend, &options, &none, &error));
  options = options_for(METRIC_TYPE_HISTOGRAM, "h");
  options.native_size = 100;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "native_size is given, but options->native is METRIC_NATIVE_NONE",
              metric_family_new(backend, &options, &none, &error));
  options.native = METRIC_NATIVE_BOTH;
  options.native_size = 15;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "\"h\": the size of a native histogram is 15: expected 16 to 4096",
              metric_family_new(backend, &options, &none, &error));
  options.native_size = 0;
  options.native_resolution = 3;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "resolution of a native histogram is 3: expected 1, 2, 4",
              metric_family_new(backend, &options, &none, &error));
  const double bounds[] = {1};
  options.native_resolution = 0;
  options.native = METRIC_NATIVE_ALONE;
  options.buckets = bounds;
  options.bucket_count = 1;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "expected METRIC_NATIVE_BOTH",
              metric_family_new(backend, &options, &none, &error));
  backend_free(backend);
}

static void a_gauge_histogram_takes_observations_back(void) {
  Backend *backend = open_backend("memory:");
  const double bounds[] = {1};
  MetricFamilyOptions options = options_for(METRIC_TYPE_GAUGE_HISTOGRAM, "ages");
  options.buckets = bounds;
  options.bucket_count = 1;
  MetricFamily *family = declare(backend, &options);
  Metric *metric = make_metric(family, NULL);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metric, 0.5));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metric, 8));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_unobserve(metric, 0.5));
  double value = -1;
  CHECK_OK(metric_get_count(metric, &value, &error));
  CHECK_NUMBER(1, value);
  CHECK_OK(metric_get_sum(metric, &value, &error));
  CHECK_NUMBER(8, value);
  CHECK_OK(metric_get_bucket(metric, 1, &value, &error));
  CHECK_NUMBER(0, value);
  CHECK_SCRAPE("# HELP ages Help.\n"
               "# TYPE ages histogram\n"
               "ages_bucket{le=\"1\"} 0\n"
               "ages_bucket{le=\"+Inf\"} 1\n"
               "ages_sum 8\n"
               "ages_count 1\n",
               backend);
  CHECK_STATUS(BACKEND_STATUS_WRONG_TYPE, metric_set(metric, 1));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_snapshot_outlives_its_backend(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_GAUGE, "size");
  Metric *metric = make_metric(family, NULL);
  MetricsSnapshot *snapshot = NULL;
  metric_set(metric, 4);
  CHECK_OK(metrics_snapshot_new(backend, NULL, 0, &snapshot, &error));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
  check_series(snapshot, 0, "size", "{}", (double[]){4}, 1);
  metrics_snapshot_free(snapshot);
}

static void cells_are_changed_and_read_one_by_one(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_SUMMARY, "sizes");
  Metric *metric = make_metric(family, "GET");
  double value = 0;
  CHECK_STATUS(BACKEND_STATUS_OK, metric_cell_add(metric, 0, 5));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_cell_set(metric, 0, 2));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_cell_add(metric, 1, 3));
  CHECK_STATUS(BACKEND_STATUS_INVALID_ARGUMENT, metric_cell_add(metric, 2, 1));
  CHECK_STATUS(BACKEND_STATUS_INVALID_ARGUMENT, metric_cell_set(metric, 2, 1));
  CHECK_STATUS(BACKEND_STATUS_NULL_POINTER, metric_cell_add(NULL, 0, 1));
  CHECK_OK(metric_get_cell(metric, 0, &value, &error));
  CHECK_NUMBER(2, value);
  CHECK_OK(metric_get_cell(metric, 1, &value, &error));
  CHECK_NUMBER(3, value);
  CHECK_ERROR(BACKEND_STATUS_NOT_FOUND, "", metric_get_cell(metric, 2, &value, &error));
  CHECK(metric_is_live(metric) == 1);
  CHECK(metric_is_live(NULL) == 0);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_snapshot_tells_its_families_and_when_series_began(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_SUMMARY, "sizes");
  Metric *metric = make_metric(family, "GET");
  MetricsSnapshot *snapshot = NULL;
  MetricsSnapshotFamily shown = {.size = sizeof shown};
  double began = 0;
  CHECK_OK(metrics_snapshot_new(backend, NULL, 0, &snapshot, &error));
  CHECK_OK(metrics_snapshot_family(snapshot, 0, &shown, &error));
  CHECK_TEXT("sizes", shown.name);
  CHECK(shown.metric_type == METRIC_TYPE_SUMMARY);
  CHECK_ERROR(BACKEND_STATUS_NOT_FOUND, "", metrics_snapshot_family(snapshot, 1, &shown, &error));
  shown.size = 1;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "",
              metrics_snapshot_family(snapshot, 0, &shown, &error));
  CHECK_ERROR(BACKEND_STATUS_NOT_FOUND, "", metrics_snapshot_created(snapshot, &began, &error));
  MetricsSeries series;
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_snapshot_next(snapshot, &series));
  CHECK_OK(metrics_snapshot_created(snapshot, &began, &error));
  CHECK(began > 1e9);
  metrics_snapshot_free(snapshot);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

/* Makes a handle of every kind, and frees all of them. */
static void make_and_free(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_HISTOGRAM, "seconds");
  Metric *metric = make_metric(family, "GET");
  MetricsText *text = NULL;
  MetricsSnapshot *snapshot = NULL;
  MetricsForeign *foreign = NULL;
  metric_observe(metric, 1);
  CHECK_OK(metrics_render(backend, NULL, &text, &error));
  CHECK_OK(metrics_snapshot_new(backend, NULL, 0, &snapshot, &error));
  CHECK_OK(metrics_foreign_new(&foreign, &error));
  CHECK_ERROR(BACKEND_STATUS_WRONG_TYPE, "", metric_get(metric, &(double){0}, &error));
  metrics_foreign_free(foreign);
  metrics_snapshot_free(snapshot);
  metrics_text_free(text);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void ten_thousand_backends_leave_no_memory_behind(void) {
  for (int index = 0; index < check_repetitions(1000); index++) make_and_free();
  size_t before = mallinfo2().uordblks;
  for (int index = 0; index < check_repetitions(10000); index++) make_and_free();
  size_t after = mallinfo2().uordblks;
  /* Less than seven bytes a backend. */
  CHECK(after < before + 65536);
}

int main(void) {
  CHECK_RUN(each_type_is_changed_and_read_by_its_functions);
  CHECK_RUN(strings_are_copied);
  CHECK_RUN(the_lifetime_of_a_family_is_an_option);
  CHECK_RUN(removed_and_cleared_metrics_are_gone);
  CHECK_RUN(handles_outlive_their_backend);
  CHECK_RUN(a_snapshot_walks_series_by_family_and_labels);
  CHECK_RUN(an_info_shows_the_labels_that_were_set_last);
  CHECK_RUN(a_state_set_has_its_declared_states);
  CHECK_RUN(a_gauge_with_a_mode_shows_the_processes);
  CHECK_RUN(a_family_keeps_exemplars_if_it_is_told_to);
  CHECK_RUN(an_exemplar_is_kept_without_counting);
  CHECK_RUN(a_process_shows_itself);
  CHECK_RUN(a_native_histogram_needs_no_bounds);
  CHECK_RUN(a_mistake_in_the_options_of_native_buckets_is_named);
  CHECK_RUN(a_gauge_histogram_takes_observations_back);
  CHECK_RUN(cells_are_changed_and_read_one_by_one);
  CHECK_RUN(a_snapshot_tells_its_families_and_when_series_began);
  CHECK_RUN(a_snapshot_outlives_its_backend);
  CHECK_RUN(ten_thousand_backends_leave_no_memory_behind);
  return check_result();
}
