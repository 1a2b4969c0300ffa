/* Scrapes as text through the C interface: the format that a client asks for, its content type, and the options of
 * a scrape. The formats are tested in Rust (src/exposition/tests.rs).
 */
#include <stddef.h>
#include <unistd.h>

#include "declare.h"

#define OPEN_METRICS "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2"

static MetricsRenderOptions render_options(void) {
  MetricsRenderOptions options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  return options;
}

static MetricsText *render(const Backend *backend, const MetricsRenderOptions *options) {
  MetricsText *text = NULL;
  CHECK_OK(metrics_render(backend, options, &text, &error));
  CHECK(text != NULL);
  CHECK(metrics_text_length(text) == strlen(metrics_text_data(text)));
  return text;
}

/* Checks a whole text and its content type. */
static void check_rendered(const char *expected, const char *content_type, const Backend *backend,
                           const MetricsRenderOptions *options) {
  MetricsText *text = render(backend, options);
  CHECK_TEXT(expected, metrics_text_data(text));
  CHECK_TEXT(content_type, metrics_text_content_type(text));
  metrics_text_free(text);
}

static const char *content_type_for(const Backend *backend, const char *accept) {
  static char content_type[200];
  MetricsRenderOptions options = render_options();
  options.accept = accept;
  MetricsText *text = render(backend, &options);
  snprintf(content_type, sizeof content_type, "%s", metrics_text_content_type(text));
  metrics_text_free(text);
  return content_type;
}

static void without_options_all_families_are_rendered_as_text(void) {
  Backend *backend = open_backend("memory:");
  check_rendered("", "text/plain; version=0.0.4; charset=utf-8", backend, NULL);
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_GAUGE, "b");
  MetricFamily *other = declare_plain(backend, METRIC_TYPE_GAUGE, "a");
  Metric *metric = make_metric(family, "x");
  MetricsRenderOptions options = render_options();
  const char *expected = "# HELP b Help.\n# TYPE b gauge\nb{method=\"x\"} 0\n# HELP a Help.\n# TYPE a gauge\n";
  check_rendered(expected, "text/plain; version=0.0.4; charset=utf-8", backend, NULL);
  check_rendered(expected, "text/plain; version=0.0.4; charset=utf-8", backend, &options);
  metric_free(metric);
  metric_family_free(family);
  metric_family_free(other);
  backend_free(backend);
}

static void the_accept_header_decides_on_the_format(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  MetricsRenderOptions options = render_options();
  options.accept = OPEN_METRICS;
  check_rendered("# HELP requests Help.\n# TYPE requests counter\n# EOF\n",
                 "application/openmetrics-text; version=1.0.0; charset=utf-8", backend, &options);
  CHECK_TEXT("text/plain; version=0.0.4; charset=utf-8", content_type_for(backend, "*/*"));
  CHECK_TEXT("text/plain; version=0.0.4; charset=utf-8", content_type_for(backend, ""));
  CHECK_TEXT("text/plain; version=0.0.4; charset=utf-8", content_type_for(backend, "\xff;;q=\xfe"));
  CHECK_TEXT("text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
             content_type_for(backend, "text/plain;version=1.0.0;escaping=allow-utf-8"));
  metric_family_free(family);
  backend_free(backend);
}

static void created_samples_are_shown_if_the_options_say_so(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  double before = (double)time(NULL);
  Metric *metric = make_metric(family, NULL);
  double after = (double)time(NULL) + 1;
  MetricsRenderOptions options = render_options();
  options.accept = OPEN_METRICS;
  MetricsText *hidden = render(backend, &options);
  CHECK(strstr(metrics_text_data(hidden), "_created") == NULL);
  metrics_text_free(hidden);
  options.created_samples = METRICS_CREATED_SAMPLES_SHOWN;
  MetricsText *text = render(backend, &options);
  const char *line = strstr(metrics_text_data(text), "\nrequests_created ");
  CHECK(line != NULL);
  double created = line == NULL ? 0 : strtod(line + strlen("\nrequests_created "), NULL);
  CHECK(created >= before && created <= after);
  metrics_text_free(text);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void families_are_rendered_in_the_order_in_which_they_are_given(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *first = declare_plain(backend, METRIC_TYPE_GAUGE, "first");
  MetricFamily *second = declare_plain(backend, METRIC_TYPE_GAUGE, "second");
  MetricFamily *third = declare_plain(backend, METRIC_TYPE_GAUGE, "third");
  const MetricFamily *families[] = {third, first, third};
  MetricsRenderOptions options = render_options();
  options.families = families;
  options.family_count = 3;
  options.name_prefix = "app";
  options.accept = OPEN_METRICS;
  /* A family that is given twice is shown once. */
  const char *all = "# HELP app_third Help.\n# TYPE app_third gauge\n"
                    "# HELP app_first Help.\n# TYPE app_first gauge\n# EOF\n";
  check_rendered(all, "application/openmetrics-text; version=1.0.0; charset=utf-8", backend, &options);

  options.family_count = 0;
  check_rendered("# EOF\n", "application/openmetrics-text; version=1.0.0; charset=utf-8", backend, &options);
  metric_family_free(first);
  metric_family_free(second);
  metric_family_free(third);
  backend_free(backend);
}

/* Another backend with the same file stands for another process. */
static void families_of_other_processes_are_appended_on_request(void) {
  char path[] = "/tmp/test_render_XXXXXX";
  int file = mkstemp(path);
  if (file == -1) check_give_up("mkstemp");
  unlink(path);
  close(file);
  char url[64];
  snprintf(url, sizeof url, "shm://%s", path);
  Backend *here = open_backend(url), *there = open_backend(url);
  MetricFamily *shown = declare_plain(here, METRIC_TYPE_GAUGE, "shown");
  MetricFamily *hidden = declare_plain(here, METRIC_TYPE_GAUGE, "hidden");
  MetricFamily *other = declare_plain(there, METRIC_TYPE_GAUGE, "other");
  Metric *metric = make_metric(other, NULL);
  metric_set(metric, 2);
  const MetricFamily *families[] = {shown};
  MetricsRenderOptions options = render_options();
  options.families = families;
  options.family_count = 1;
  check_rendered("# HELP shown Help.\n# TYPE shown gauge\n", "text/plain; version=0.0.4; charset=utf-8", here,
                 &options);
  options.others = METRICS_OTHERS_APPEND;
  check_rendered("# HELP shown Help.\n# TYPE shown gauge\n# HELP other Help.\n# TYPE other gauge\nother 2\n",
                 "text/plain; version=0.0.4; charset=utf-8", here, &options);
  metric_free(metric);
  metric_family_free(shown);
  metric_family_free(hidden);
  metric_family_free(other);
  backend_free(here);
  backend_free(there);
  unlink(path);
}

static void families_with_colliding_names_are_left_out(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *histogram = declare_plain(backend, METRIC_TYPE_SUMMARY, "time");
  MetricFamily *counter = declare_plain(backend, METRIC_TYPE_COUNTER, "time_count");
  check_rendered("# HELP time Help.\n# TYPE time summary\n", "text/plain; version=0.0.4; charset=utf-8", backend,
                 NULL);
  metric_family_free(histogram);
  metric_family_free(counter);
  backend_free(backend);
}

static void names_and_units_are_options_of_a_family(void) {
  Backend *backend = open_backend("memory:");
  MetricFamilyOptions family_options = options_for(METRIC_TYPE_GAUGE, "größe.bytes");
  MetricFamily *family = NULL;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "größe.bytes",
              metric_family_new(backend, &family_options, &family, &error));
  family_options.names = 7;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "options->names is 7",
              metric_family_new(backend, &family_options, &family, &error));
  family_options.names = METRIC_NAMES_UTF8;
  family_options.unit = "bytes";
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "_bytes",
              metric_family_new(backend, &family_options, &family, &error));
  family_options.name = "größe_bytes";
  const char *const label_names[] = {"http.method"};
  family_options.label_names = label_names;
  family_options.label_count = 1;
  family = declare(backend, &family_options);
  Metric *metric = make_metric(family, "GET");
  MetricsRenderOptions options = render_options();
  options.accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8";
  check_rendered("# HELP \"größe_bytes\" Help.\n# TYPE \"größe_bytes\" gauge\n# UNIT \"größe_bytes\" bytes\n"
                 "{\"größe_bytes\",\"http.method\"=\"GET\"} 0\n# EOF\n",
                 "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8", backend,
                 &options);
  CHECK_SCRAPE("# HELP gr__e_bytes Help.\n# TYPE gr__e_bytes gauge\ngr__e_bytes{http_method=\"GET\"} 0\n",
               backend);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_query_selects_families(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *level = declare_plain(backend, METRIC_TYPE_GAUGE, "level");
  MetricFamily *requests = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  const char *type = "text/plain; version=0.0.4; charset=utf-8";
  const char *shown_level = "# HELP level Help.\n# TYPE level gauge\n";
  const char *both = "# HELP level Help.\n# TYPE level gauge\n# HELP requests_total Help.\n"
                     "# TYPE requests_total counter\n";
  MetricsRenderOptions options = render_options();
  check_rendered(both, type, backend, &options);
  options.query = "";
  check_rendered(both, type, backend, &options);
  options.query = "x=1&name=level";
  check_rendered(both, type, backend, &options);
  options.query = "name[]=level&name%5B%5D=other";
  check_rendered(shown_level, type, backend, &options);
  options.query = "name[]=requests&name[]=level";
  check_rendered(both, type, backend, &options);
  options.query = "name[]=\xff%ff%&name[]=%";
  check_rendered("", type, backend, &options);
  options.accept = OPEN_METRICS;
  check_rendered("# EOF\n", "application/openmetrics-text; version=1.0.0; charset=utf-8", backend, &options);
  /* A program that was compiled before the field `query` existed gives the size without it. */
  options = render_options();
  options.size = offsetof(MetricsRenderOptions, query);
  options.query = "name[]=level";
  check_rendered(both, type, backend, &options);
  metric_family_free(level);
  metric_family_free(requests);
  backend_free(backend);
}

static void wrong_arguments_are_named(void) {
  Backend *backend = open_backend("memory:"), *other = open_backend("memory:");
  MetricFamily *foreign = declare_plain(other, METRIC_TYPE_GAUGE, "foreign");
  MetricsText *text = NULL;
  MetricsRenderOptions options = render_options();
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "backend", metrics_render(NULL, &options, &text, &error));
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "text", metrics_render(backend, &options, NULL, &error));
  CHECK_STATUS(BACKEND_STATUS_NULL_POINTER, metrics_render(backend, NULL, NULL, NULL));
  const size_t sizes[] = {0, 8, sizeof options - 1, (size_t)-1};
  for (size_t index = 0; index < sizeof sizes / sizeof sizes[0]; index++) {
    options.size = sizes[index];
    CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "sizeof(MetricsRenderOptions)",
                metrics_render(backend, &options, &text, &error));
  }
  /* A program that was compiled before the field `formats` existed gives the size without it. */
  options = render_options();
  options.size = offsetof(MetricsRenderOptions, formats);
  options.formats = 7;
  metrics_text_free(render(backend, &options));
  options = render_options();
  options.formats = 7;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "options->formats is 7",
              metrics_render(backend, &options, &text, &error));
  options = render_options();
  options.created_samples = 2;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "options->created_samples is 2: expected a MetricsCreatedSamples, 0 to 1",
              metrics_render(backend, &options, &text, &error));
  options = render_options();
  options.others = 2;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "options->others is 2",
              metrics_render(backend, &options, &text, &error));
  options = render_options();
  options.name_prefix = "\xff";
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "options->name_prefix",
              metrics_render(backend, &options, &text, &error));
  const MetricFamily *families[] = {foreign, NULL};
  options = render_options();
  options.families = families;
  options.family_count = 1;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "foreign", metrics_render(backend, &options, &text, &error));
  options.family_count = 2;
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "families[1]", metrics_render(other, &options, &text, &error));
  CHECK(text == NULL);
  CHECK(metrics_text_data(NULL) == NULL);
  CHECK(metrics_text_length(NULL) == 0);
  CHECK(metrics_text_content_type(NULL) == NULL);
  metrics_text_free(NULL);
  metric_family_free(foreign);
  backend_free(backend);
  backend_free(other);
}

/* The values that a program computes when it is scraped. */

static MetricsForeign *new_foreign(void) {
  MetricsForeign *foreign = NULL;
  CHECK_OK(metrics_foreign_new(&foreign, &error));
  CHECK(foreign != NULL);
  return foreign;
}

static MetricsForeignFamily foreign_family(MetricType type, const char *name, size_t position) {
  MetricsForeignFamily family;
  memset(&family, 0, sizeof family);
  family.size = sizeof family;
  family.name = name;
  family.help = "Help.";
  family.metric_type = type;
  family.position = position;
  return family;
}

/* Adds a sample with one label, or without if `label_name` is NULL. */
static MetricsForeignSample foreign_sample(const char *const *label_name, const char *const *label_value,
                                           double value) {
  MetricsForeignSample sample;
  memset(&sample, 0, sizeof sample);
  sample.size = sizeof sample;
  sample.label_names = label_name;
  sample.label_values = label_value;
  sample.label_count = label_name == NULL ? 0 : 1;
  sample.value = value;
  return sample;
}

static void samples_of_the_program_stand_between_the_families_of_the_store(void) {
  static const char *const names[] = {"disk", "le"}, *const disks[] = {"sd\"a\"", "+Inf"};
  Backend *backend = open_backend("memory:");
  MetricFamily *first = declare_plain(backend, METRIC_TYPE_GAUGE, "first");
  MetricFamily *second = declare_plain(backend, METRIC_TYPE_GAUGE, "second");
  MetricsForeign *foreign = new_foreign();
  MetricsForeignFamily family = foreign_family(METRIC_TYPE_COUNTER, "reads_seconds_total", 1);
  family.unit = "seconds";
  CHECK_OK(metrics_foreign_family(foreign, &family, &error));
  MetricsForeignSample sample = foreign_sample(names, disks, 2.5);
  CHECK_OK(metrics_foreign_sample(foreign, &sample, &error));
  family = foreign_family(METRIC_TYPE_HISTOGRAM, "sizes", 2);
  CHECK_OK(metrics_foreign_family(foreign, &family, &error));
  sample.suffix = "_bucket";
  sample.label_count = 2;
  sample.value = 3;
  CHECK_OK(metrics_foreign_sample(foreign, &sample, &error));
  family = foreign_family(METRIC_TYPE_UNTYPED, "first.size", 0);
  family.names = METRIC_NAMES_UTF8;
  CHECK_OK(metrics_foreign_family(foreign, &family, &error));
  sample = foreign_sample(NULL, NULL, -1);
  CHECK_OK(metrics_foreign_sample(foreign, &sample, &error));

  const MetricFamily *families[] = {first, second};
  MetricsRenderOptions options = render_options();
  options.families = families;
  options.family_count = 2;
  options.name_prefix = "app";
  options.foreign = foreign;
  check_rendered("# HELP first_size Help.\n# TYPE first_size untyped\nfirst_size -1\n"
                 "# HELP app_first Help.\n# TYPE app_first gauge\n"
                 "# HELP reads_seconds_total Help.\n# TYPE reads_seconds_total counter\n"
                 "reads_seconds_total{disk=\"sd\\\"a\\\"\"} 2.5\n"
                 "# HELP app_second Help.\n# TYPE app_second gauge\n"
                 "# HELP sizes Help.\n# TYPE sizes histogram\n"
                 "sizes_bucket{disk=\"sd\\\"a\\\"\",le=\"+Inf\"} 3\n",
                 "text/plain; version=0.0.4; charset=utf-8", backend, &options);
  options.family_count = 0;
  options.accept = OPEN_METRICS;
  /* Without families all have the same position. */
  check_rendered("# HELP reads_seconds Help.\n# TYPE reads_seconds counter\n# UNIT reads_seconds seconds\n"
                 "reads_seconds_total{disk=\"sd\\\"a\\\"\"} 2.5\n"
                 "# HELP sizes Help.\n# TYPE sizes histogram\n"
                 "sizes_bucket{disk=\"sd\\\"a\\\"\",le=\"+Inf\"} 3\n"
                 "# HELP first_size Help.\n# TYPE first_size unknown\nfirst_size -1\n# EOF\n",
                 "application/openmetrics-text; version=1.0.0; charset=utf-8", backend, &options);
  metrics_foreign_free(foreign);
  metric_family_free(first);
  metric_family_free(second);
  backend_free(backend);
}

static void a_wrong_foreign_sample_costs_itself_alone(void) {
  static const char *const names[] = {"a"}, *const values[] = {"x"}, *const broken[] = {"\xff"};
  Backend *backend = open_backend("memory:");
  MetricsForeign *foreign = new_foreign();
  MetricsForeignFamily family = foreign_family(METRIC_TYPE_GAUGE, "g", 0);
  MetricsForeignSample sample = foreign_sample(names, values, 1);
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "metrics_foreign_family first",
              metrics_foreign_sample(foreign, &sample, &error));
  CHECK_OK(metrics_foreign_family(foreign, &family, &error));
  CHECK_OK(metrics_foreign_sample(foreign, &sample, &error));
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "given twice",
              metrics_foreign_sample(foreign, &sample, &error));
  sample.label_values = broken;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "sample->label_values[0]",
              metrics_foreign_sample(foreign, &sample, &error));
  sample.label_values = NULL;
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "sample->label_values",
              metrics_foreign_sample(foreign, &sample, &error));
  sample.label_values = values;
  sample.suffix = "_sum";
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "g_sum", metrics_foreign_sample(foreign, &sample, &error));
  sample.size = 8;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "sample->size is 8",
              metrics_foreign_sample(foreign, &sample, &error));
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "sample", metrics_foreign_sample(foreign, NULL, &error));
  sample = foreign_sample(names, values, 1);
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "foreign", metrics_foreign_sample(NULL, &sample, &error));

  /* After a family that is refused, a sample must not end in the one before it. */
  family.name = "not-legacy";
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "not-legacy",
              metrics_foreign_family(foreign, &family, &error));
  sample.suffix = NULL;
  sample.label_count = 0;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "metrics_foreign_family first",
              metrics_foreign_sample(foreign, &sample, &error));
  family.size = 0;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "family->size is 0",
              metrics_foreign_family(foreign, &family, &error));
  family = foreign_family(0, "h", 0);
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "family->metric_type is 0",
              metrics_foreign_family(foreign, &family, &error));
  family = foreign_family(METRIC_TYPE_GAUGE, "h", 0);
  family.names = 2;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "family->names is 2",
              metrics_foreign_family(foreign, &family, &error));
  family.names = METRIC_NAMES_LEGACY;
  family.unit = "bytes";
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "_bytes", metrics_foreign_family(foreign, &family, &error));
  family.name = NULL;
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "family->name", metrics_foreign_family(foreign, &family, &error));
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "family", metrics_foreign_family(foreign, NULL, &error));
  family = foreign_family(METRIC_TYPE_GAUGE, "h", 0);
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "foreign", metrics_foreign_family(NULL, &family, &error));
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "foreign", metrics_foreign_new(NULL, &error));

  MetricsRenderOptions options = render_options();
  options.foreign = foreign;
  check_rendered("# HELP g Help.\n# TYPE g gauge\ng{a=\"x\"} 1\n", "text/plain; version=0.0.4; charset=utf-8",
                 backend, &options);
  metrics_foreign_free(foreign);
  metrics_foreign_free(NULL);
  backend_free(backend);
}

/* Adds a gauge with the number in `user_data`. */
static void collect_number(MetricsForeign *foreign, void *user_data) {
  MetricsForeignFamily family = foreign_family(METRIC_TYPE_GAUGE, "computed", 0);
  MetricsForeignSample sample = foreign_sample(NULL, NULL, *(const double *)user_data);
  CHECK_OK(metrics_foreign_family(foreign, &family, &error));
  CHECK_OK(metrics_foreign_sample(foreign, &sample, &error));
}

static void a_collect_callback_computes_metrics_for_each_scrape_of_the_whole_store(void) {
  double number = 1;
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_GAUGE, "own");
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "callback", metrics_collect_callback(backend, NULL, NULL, &error));
  CHECK_OK(metrics_collect_callback(backend, collect_number, &number, &error));
  CHECK_ERROR(BACKEND_STATUS_CONFLICT, "collect function",
              metrics_collect_callback(backend, collect_number, &number, &error));
  CHECK_SCRAPE("# HELP own Help.\n# TYPE own gauge\n# HELP computed Help.\n# TYPE computed gauge\ncomputed 1\n",
               backend);
  number = 2;
  MetricsText *text = render(backend, NULL);
  CHECK_CONTAINS("\ncomputed 2\n", metrics_text_data(text));
  metrics_text_free(text);
  const MetricFamily *families[] = {family};
  MetricsRenderOptions options = render_options();
  options.families = families;
  options.family_count = 1;
  check_rendered("# HELP own Help.\n# TYPE own gauge\n", "text/plain; version=0.0.4; charset=utf-8", backend, &options);
  metric_family_free(family);
  backend_free(backend);
}

static void gzip_is_used_for_clients_that_accept_it(void) {
  CHECK(metrics_accepts_gzip("deflate, gzip;q=0.5") == 1);
  CHECK(metrics_accepts_gzip("gzip;q=0, *") == 0);
  CHECK(metrics_accepts_gzip("\xff") == 0);
  CHECK(metrics_accepts_gzip("") == 0);
  CHECK(metrics_accepts_gzip(NULL) == 0);
}

int main(void) {
  CHECK_RUN(without_options_all_families_are_rendered_as_text);
  CHECK_RUN(the_accept_header_decides_on_the_format);
  CHECK_RUN(created_samples_are_shown_if_the_options_say_so);
  CHECK_RUN(families_are_rendered_in_the_order_in_which_they_are_given);
  CHECK_RUN(families_of_other_processes_are_appended_on_request);
  CHECK_RUN(families_with_colliding_names_are_left_out);
  CHECK_RUN(names_and_units_are_options_of_a_family);
  CHECK_RUN(a_query_selects_families);
  CHECK_RUN(wrong_arguments_are_named);
  CHECK_RUN(samples_of_the_program_stand_between_the_families_of_the_store);
  CHECK_RUN(a_wrong_foreign_sample_costs_itself_alone);
  CHECK_RUN(a_collect_callback_computes_metrics_for_each_scrape_of_the_whole_store);
  CHECK_RUN(gzip_is_used_for_clients_that_accept_it);
  return check_result();
}
