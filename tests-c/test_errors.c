/* Failures at the boundary: every status but BACKEND_STATUS_STORE (see test_stores.c), NULL in every place, and
 * out-parameters that a failing call leaves alone. The rules for names, buckets and URLs are tested in Rust.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "declare.h"

/* An address for out-parameters that no call may change. */
static char untouched_place;
#define UNTOUCHED ((void *)&untouched_place)

static void the_library_tells_its_version_and_its_abi(void) {
  char composed[64];
  CHECK_TEXT(BACKEND_VERSION, backend_version());
  snprintf(composed, sizeof composed, "%d.%d.%d", BACKEND_VERSION_MAJOR, BACKEND_VERSION_MINOR,
           BACKEND_VERSION_PATCH);
  CHECK_TEXT(BACKEND_VERSION, composed);
  CHECK_NUMBER(BACKEND_ABI_VERSION, backend_abi_version());
}

static void every_status_has_its_name(void) {
  const char *const names[] = {
      "BACKEND_STATUS_OK",          "BACKEND_STATUS_NULL_POINTER", "BACKEND_STATUS_INVALID_ARGUMENT",
      "BACKEND_STATUS_CONFIGURATION", "BACKEND_STATUS_CONFLICT",   "BACKEND_STATUS_WRONG_TYPE",
      "BACKEND_STATUS_NOT_FOUND",   "BACKEND_STATUS_UNAVAILABLE",  "BACKEND_STATUS_TIMEOUT",
      "BACKEND_STATUS_STORE",       "BACKEND_STATUS_PANIC",
  };
  CHECK_NUMBER(10, BACKEND_STATUS_PANIC);
  for (int32_t status = 0; status <= BACKEND_STATUS_PANIC; status++) {
    CHECK_TEXT(names[status], backend_status_name(status));
  }
  CHECK_TEXT("unknown status", backend_status_name(-1));
  CHECK_TEXT("unknown status", backend_status_name(BACKEND_STATUS_PANIC + 1));
  CHECK_TEXT("unknown status", backend_status_name(INT32_MIN));
  CHECK_TEXT("unknown status", backend_status_name(INT32_MAX));
}

static void freeing_null_does_nothing(void) {
  backend_free(NULL);
  metric_family_free(NULL);
  metric_free(NULL);
  metrics_snapshot_free(NULL);
  backend_error_free(NULL);
  backend_string_free(NULL);
}

static void an_error_that_is_null_says_so(void) {
  CHECK_STATUS(BACKEND_STATUS_NULL_POINTER, backend_error_status(NULL));
  CHECK(backend_error_message(NULL) == NULL);
}

/* Each pointer of each function, one at a time. The message names the parameter, and the result is untouched. */
static void null_is_refused_in_every_place(void) {
  const BackendStatus refused = BACKEND_STATUS_NULL_POINTER;
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, "GET");
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "other_total");
  const char *label_value = "GET";
  const char *no_label_value = NULL;
  const MetricFamily *no_family = NULL;

  Backend *backend_result = UNTOUCHED;
  CHECK_ERROR(refused, "url", backend_new(NULL, &backend_result, &error));
  CHECK_ERROR(refused, "backend", backend_new("memory:", NULL, &error));
  CHECK(backend_result == UNTOUCHED);
  CHECK_ERROR(refused, "backend", backend_flush(NULL, 1.0, &error));
  CHECK_ERROR(refused, "backend", backend_close(NULL, &error));

  MetricFamily *family_result = UNTOUCHED;
  CHECK_ERROR(refused, "backend", metric_family_new(NULL, &options, &family_result, &error));
  CHECK_ERROR(refused, "options", metric_family_new(backend, NULL, &family_result, &error));
  CHECK_ERROR(refused, "family", metric_family_new(backend, &options, NULL, &error));
  options.name = NULL;
  CHECK_ERROR(refused, "options->name", metric_family_new(backend, &options, &family_result, &error));
  options.name = "other_total";
  options.label_count = 1;
  CHECK_ERROR(refused, "options->label_names", metric_family_new(backend, &options, &family_result, &error));
  options.label_names = &no_label_value;
  CHECK_ERROR(refused, "options->label_names[0]",
              metric_family_new(backend, &options, &family_result, &error));
  options.label_count = 0;
  options.metric_type = METRIC_TYPE_HISTOGRAM;
  options.bucket_count = 2;
  CHECK_ERROR(refused, "options->buckets", metric_family_new(backend, &options, &family_result, &error));
  CHECK(family_result == UNTOUCHED);
  CHECK_ERROR(refused, "family", metric_family_clear(NULL, &error));

  Metric *metric_result = UNTOUCHED;
  CHECK_ERROR(refused, "family", metric_new(NULL, &label_value, 1, &metric_result, &error));
  CHECK_ERROR(refused, "label_values", metric_new(family, NULL, 1, &metric_result, &error));
  CHECK_ERROR(refused, "label_values[0]", metric_new(family, &no_label_value, 1, &metric_result, &error));
  CHECK_ERROR(refused, "metric", metric_new(family, &label_value, 1, NULL, &error));
  CHECK(metric_result == UNTOUCHED);
  CHECK_ERROR(refused, "family", metric_remove(NULL, &label_value, 1, &error));
  CHECK_ERROR(refused, "label_values", metric_remove(family, NULL, 1, &error));
  CHECK_ERROR(refused, "label_values[0]", metric_remove(family, &no_label_value, 1, &error));

  CHECK_STATUS(refused, metric_inc(NULL, 1.0));
  CHECK_STATUS(refused, metric_dec(NULL, 1.0));
  CHECK_STATUS(refused, metric_set(NULL, 1.0));
  CHECK_STATUS(refused, metric_observe(NULL, 1.0));

  double value = 42;
  CHECK_ERROR(refused, "metric", metric_inc_and_get(NULL, 1, &value, &error));
  CHECK_ERROR(refused, "value", metric_inc_and_get(metric, 1, NULL, &error));
  CHECK_ERROR(refused, "metric", metric_get(NULL, &value, &error));
  CHECK_ERROR(refused, "value", metric_get(metric, NULL, &error));
  CHECK_ERROR(refused, "metric", metric_get_sum(NULL, &value, &error));
  CHECK_ERROR(refused, "value", metric_get_sum(metric, NULL, &error));
  CHECK_ERROR(refused, "metric", metric_get_count(NULL, &value, &error));
  CHECK_ERROR(refused, "value", metric_get_count(metric, NULL, &error));
  CHECK_ERROR(refused, "metric", metric_get_bucket(NULL, 1.0, &value, &error));
  CHECK_ERROR(refused, "value", metric_get_bucket(metric, 1.0, NULL, &error));
  CHECK_NUMBER(42, value);

  char *text = UNTOUCHED;
  size_t length = 42;
  CHECK_ERROR(refused, "backend", metrics_collect(NULL, &text, &length, &error));
  CHECK_ERROR(refused, "text", metrics_collect(backend, NULL, &length, &error));
  CHECK(text == UNTOUCHED);
  CHECK_NUMBER(42, length);

  MetricsSnapshot *snapshot = UNTOUCHED;
  CHECK_ERROR(refused, "backend", metrics_snapshot_new(NULL, NULL, 0, &snapshot, &error));
  CHECK_ERROR(refused, "snapshot", metrics_snapshot_new(backend, NULL, 0, NULL, &error));
  CHECK_ERROR(refused, "families[0]", metrics_snapshot_new(backend, &no_family, 1, &snapshot, &error));
  CHECK(snapshot == UNTOUCHED);
  MetricsSeries series;
  memset(&series, 0, sizeof series);
  series.value_count = 42;
  CHECK_STATUS(refused, metrics_snapshot_next(NULL, &series));
  CHECK_NUMBER(42, series.value_count);
  CHECK_OK(metrics_snapshot_new(backend, NULL, 0, &snapshot, &error));
  CHECK_STATUS(refused, metrics_snapshot_next(snapshot, NULL));
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_snapshot_next(snapshot, &series));
  CHECK_TEXT("requests_total", series.family);
  metrics_snapshot_free(snapshot);

  int32_t level = 42;
  char *message = UNTOUCHED;
  CHECK_STATUS(refused, backend_log_next(0.0, NULL, NULL, &message));
  CHECK_STATUS(refused, backend_log_next(0.0, &level, NULL, NULL));
  CHECK(message == UNTOUCHED);
  CHECK_NUMBER(42, level);

  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void null_is_accepted_where_an_argument_is_optional(void) {
  Backend *backend = open_backend("memory:");
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "plain_total");
  options.help = NULL;
  MetricFamily *family = declare(backend, &options);
  Metric *metric = NULL;
  char *text = NULL;
  MetricsSnapshot *snapshot = NULL;
  CHECK_STATUS(BACKEND_STATUS_OK, metric_new(family, NULL, 0, &metric, NULL));
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_collect(backend, &text, NULL, NULL));
  CHECK_TEXT("# HELP plain_total \n# TYPE plain_total counter\nplain_total 0\n", text);
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_snapshot_new(backend, NULL, 0, &snapshot, NULL));
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_callback(NULL, NULL, BACKEND_LOG_LEVEL_INFO));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_remove(family, NULL, 0, NULL));
  metrics_snapshot_free(snapshot);
  backend_string_free(text);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void the_error_parameter_may_be_null_in_every_failing_call(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, "GET");
  Backend *other_backend = open_backend("memory:");
  const MetricFamily *foreign = family;
  MetricFamilyOptions options = options_for(METRIC_TYPE_GAUGE, "requests_total");
  const char *label_value = "POST";
  MetricFamily *family_result = UNTOUCHED;
  Metric *metric_result = UNTOUCHED;
  MetricsSnapshot *snapshot = UNTOUCHED;
  Backend *backend_result = UNTOUCHED;
  char *text = UNTOUCHED;
  double value = 42;
  CHECK_STATUS(BACKEND_STATUS_CONFIGURATION, backend_new("nowhere:", &backend_result, NULL));
  CHECK_STATUS(BACKEND_STATUS_INVALID_ARGUMENT, backend_flush(backend, -1.0, NULL));
  CHECK_STATUS(BACKEND_STATUS_NULL_POINTER, backend_close(NULL, NULL));
  CHECK_STATUS(BACKEND_STATUS_PANIC, backend_panic(NULL));
  CHECK_STATUS(BACKEND_STATUS_CONFLICT, metric_family_new(backend, &options, &family_result, NULL));
  CHECK_STATUS(BACKEND_STATUS_NULL_POINTER, metric_family_clear(NULL, NULL));
  CHECK_STATUS(BACKEND_STATUS_INVALID_ARGUMENT, metric_new(family, NULL, 0, &metric_result, NULL));
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, metric_remove(family, &label_value, 1, NULL));
  CHECK_STATUS(BACKEND_STATUS_NULL_POINTER, metric_get(NULL, &value, NULL));
  CHECK_STATUS(BACKEND_STATUS_WRONG_TYPE, metric_get_sum(metric, &value, NULL));
  CHECK_STATUS(BACKEND_STATUS_WRONG_TYPE, metric_get_count(metric, &value, NULL));
  CHECK_STATUS(BACKEND_STATUS_WRONG_TYPE, metric_get_bucket(metric, 1.0, &value, NULL));
  CHECK_STATUS(BACKEND_STATUS_NULL_POINTER, metrics_collect(NULL, &text, NULL, NULL));
  CHECK_STATUS(BACKEND_STATUS_INVALID_ARGUMENT,
               metrics_snapshot_new(other_backend, &foreign, 1, &snapshot, NULL));
  CHECK(backend_result == UNTOUCHED && family_result == UNTOUCHED && metric_result == UNTOUCHED);
  CHECK(snapshot == UNTOUCHED && text == UNTOUCHED);
  CHECK_NUMBER(42, value);
  metric_free(metric);
  metric_family_free(family);
  backend_free(other_backend);
  backend_free(backend);
}

static void success_leaves_the_error_alone(void) {
  BackendError *error = UNTOUCHED;
  Backend *backend = NULL;
  MetricFamilyOptions options = options_for(METRIC_TYPE_HISTOGRAM, "seconds");
  MetricFamily *family = NULL;
  Metric *metric = NULL;
  MetricsSnapshot *snapshot = NULL;
  char *text = NULL;
  double value = 0;
  CHECK_STATUS(BACKEND_STATUS_OK, backend_new("memory:", &backend, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_family_new(backend, &options, &family, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_new(family, NULL, 0, &metric, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_get_sum(metric, &value, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_get_count(metric, &value, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_get_bucket(metric, 1.0, &value, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_collect(backend, &text, NULL, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_snapshot_new(backend, NULL, 0, &snapshot, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, backend_flush(backend, 1.0, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_remove(family, NULL, 0, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_family_clear(family, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, backend_close(backend, &error));
  CHECK(error == UNTOUCHED);
  metrics_snapshot_free(snapshot);
  backend_string_free(text);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void refuse_options(const Backend *backend, const MetricFamilyOptions *options, const char *part) {
  MetricFamily *family = UNTOUCHED;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, part, metric_family_new(backend, options, &family, &error));
  CHECK(family == UNTOUCHED);
}

static void an_invalid_definition_is_refused_with_its_reason(void) {
  Backend *backend = open_backend("memory:");
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "with-dash");
  refuse_options(backend, &options, "invalid metric name");
  options = options_for(METRIC_TYPE_COUNTER, "\xff\xfe");
  refuse_options(backend, &options, "UTF-8");
  options = options_for(METRIC_TYPE_COUNTER, "fine");
  options.help = "\xff";
  refuse_options(backend, &options, "options->help");
  const char *const twice[] = {"method", "method"};
  options = options_for(METRIC_TYPE_COUNTER, "fine");
  options.label_names = twice;
  options.label_count = 2;
  refuse_options(backend, &options, "\"method\": it is given twice");
  const double bounds[] = {2, 1};
  options = options_for(METRIC_TYPE_HISTOGRAM, "fine");
  options.buckets = bounds;
  options.bucket_count = 2;
  refuse_options(backend, &options, "bucket");
  backend_free(backend);
}

static void an_unknown_enum_value_is_invalid(void) {
  Backend *backend = open_backend("memory:");
  const int32_t bad_types[] = {0, -1, 9, INT32_MAX, INT32_MIN};
  for (size_t index = 0; index < sizeof bad_types / sizeof *bad_types; index++) {
    MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "fine");
    options.metric_type = bad_types[index];
    refuse_options(backend, &options, "options->metric_type");
  }
  const int32_t bad_lifetimes[] = {-1, 2, INT32_MAX};
  for (size_t index = 0; index < sizeof bad_lifetimes / sizeof *bad_lifetimes; index++) {
    MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "fine");
    options.lifetime = bad_lifetimes[index];
    refuse_options(backend, &options, "options->lifetime");
  }
  const int32_t bad_levels[] = {0, -1, 5, INT32_MAX};
  for (size_t index = 0; index < sizeof bad_levels / sizeof *bad_levels; index++) {
    CHECK_STATUS(BACKEND_STATUS_INVALID_ARGUMENT, backend_log_callback(NULL, NULL, bad_levels[index]));
    CHECK_STATUS(BACKEND_STATUS_INVALID_ARGUMENT, backend_log_queue(bad_levels[index]));
  }
  backend_free(backend);
}

static void options_of_a_newer_program_are_read(void) {
  struct {
    MetricFamilyOptions known;
    char later_fields[16];
  } newer;
  Backend *backend = open_backend("memory:");
  memset(&newer, 0, sizeof newer);
  newer.known = options_for(METRIC_TYPE_COUNTER, "newer_total");
  newer.known.size = sizeof newer;
  metric_family_free(declare(backend, &newer.known));
  newer.later_fields[15] = 1;
  refuse_options(backend, &newer.known, "does not know");
  const size_t bad_sizes[] = {0, 1, sizeof(MetricFamilyOptions) - 1, SIZE_MAX};
  for (size_t index = 0; index < sizeof bad_sizes / sizeof *bad_sizes; index++) {
    MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "fine");
    options.size = bad_sizes[index];
    refuse_options(backend, &options, "options->size");
  }
  backend_free(backend);
}

static void lists_that_cannot_fit_in_memory_are_invalid(void) {
  Backend *backend = open_backend("memory:");
  const char *const label_names[] = {"method"};
  const double bound = 1;
  MetricFamilyOptions options = options_for(METRIC_TYPE_HISTOGRAM, "fine");
  options.label_names = label_names;
  options.label_count = SIZE_MAX;
  refuse_options(backend, &options, "options->label_names");
  options.label_count = 0;
  options.buckets = &bound;
  options.bucket_count = SIZE_MAX / sizeof(double);
  refuse_options(backend, &options, "options->buckets");
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = UNTOUCHED;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "label_values",
              metric_new(family, label_names, SIZE_MAX, &metric, &error));
  CHECK(metric == UNTOUCHED);
  metric_family_free(family);
  backend_free(backend);
}

static void label_values_must_match_the_label_names_and_be_utf_8(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = UNTOUCHED;
  const char *const two[] = {"GET", "POST"};
  const char *const not_utf_8[] = {"\xc3\x28"};
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "1 label", metric_new(family, NULL, 0, &metric, &error));
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "method", metric_new(family, two, 2, &metric, &error));
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "UTF-8", metric_new(family, not_utf_8, 1, &metric, &error));
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "2 values", metric_remove(family, two, 2, &error));
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "UTF-8", metric_remove(family, not_utf_8, 1, &error));
  CHECK(metric == UNTOUCHED);
  metric_family_free(family);
  backend_free(backend);
}

static void a_negative_or_infinite_timeout_is_invalid(void) {
  Backend *backend = open_backend("memory:");
  const double bad_timeouts[] = {-1, -0.001, NAN, INFINITY, 1000001};
  int32_t level = 0;
  char *message = NULL;
  for (size_t index = 0; index < sizeof bad_timeouts / sizeof *bad_timeouts; index++) {
    CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "timeout_seconds",
                backend_flush(backend, bad_timeouts[index], &error));
    CHECK_STATUS(BACKEND_STATUS_INVALID_ARGUMENT, backend_log_next(bad_timeouts[index], &level, NULL, &message));
  }
  CHECK_OK(backend_flush(backend, 0.0, &error));
  CHECK_OK(backend_flush(backend, 1000000.0, &error));
  backend_free(backend);
}

static void an_invalid_url_is_refused_with_its_reason(void) {
  const struct {
    const char *url;
    const char *part;
  } cases[] = {
      {"", "malformed"},
      {"mysql://127.0.0.1", "\"mysql\""},
      {"memory:?colour=red", "\"colour\""},
      {"redis://127.0.0.1?flush_interval_ms=0", "\"flush_interval_ms\""},
      {"shm://relative/path", "absolute path"},
  };
  for (size_t index = 0; index < sizeof cases / sizeof *cases; index++) {
    Backend *backend = UNTOUCHED;
    CHECK_ERROR(BACKEND_STATUS_CONFIGURATION, cases[index].part,
                backend_new(cases[index].url, &backend, &error));
    CHECK(backend == UNTOUCHED);
  }
  Backend *backend = UNTOUCHED;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "UTF-8", backend_new("memory:\xff", &backend, &error));
  CHECK(backend == UNTOUCHED);
}

/* Returns a listening TCP socket on loopback whose clients wait forever, because it is never accepted from. */
static int open_silent_server(int *port) {
  struct sockaddr_in address;
  socklen_t length = sizeof address;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 8) != 0 ||
      getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
    check_give_up("cannot listen on the loopback interface");
  }
  *port = ntohs(address.sin_port);
  return listener;
}

static void a_server_that_never_answers_is_a_timeout(void) {
  char url[128];
  int port = 0;
  int listener = open_silent_server(&port);
  Backend *backend = UNTOUCHED;
  snprintf(url, sizeof url, "redis://127.0.0.1:%d?connect_timeout=0.05", port);
  CHECK_ERROR(BACKEND_STATUS_TIMEOUT, "127.0.0.1", backend_new(url, &backend, &error));
  CHECK(backend == UNTOUCHED);
  close(listener);
}

static void a_missing_server_is_unavailable(void) {
  char url[128], address[64];
  int port = 0;
  /* The port is free, so a connection is refused. */
  close(open_silent_server(&port));
  Backend *backend = UNTOUCHED;
  snprintf(url, sizeof url, "redis://:s3cret@127.0.0.1:%d", port);
  snprintf(address, sizeof address, "127.0.0.1:%d", port);
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, address, backend_new(url, &backend, &error));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "/nowhere/redis.sock",
              backend_new("redis+unix:///nowhere/redis.sock", &backend, &error));
  CHECK(backend == UNTOUCHED);
}

static void a_name_declared_in_two_ways_is_a_conflict(void) {
  Backend *backend = open_backend("memory:");
  const double bounds[] = {1, 2};
  const char *const label_names[] = {"method"};
  metric_family_free(declare_plain(backend, METRIC_TYPE_HISTOGRAM, "seconds"));
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "seconds");
  MetricFamily *family = UNTOUCHED;
  CHECK_ERROR(BACKEND_STATUS_CONFLICT, "counter", metric_family_new(backend, &options, &family, &error));
  options = options_for(METRIC_TYPE_HISTOGRAM, "seconds");
  options.buckets = bounds;
  options.bucket_count = 2;
  CHECK_ERROR(BACKEND_STATUS_CONFLICT, "buckets 1, 2", metric_family_new(backend, &options, &family, &error));
  options = options_for(METRIC_TYPE_HISTOGRAM, "seconds");
  options.label_names = label_names;
  options.label_count = 1;
  CHECK_ERROR(BACKEND_STATUS_CONFLICT, "method", metric_family_new(backend, &options, &family, &error));
  options = options_for(METRIC_TYPE_HISTOGRAM, "seconds");
  options.help = "Another help.";
  CHECK_ERROR(BACKEND_STATUS_CONFLICT, "Another help.", metric_family_new(backend, &options, &family, &error));
  CHECK(family == UNTOUCHED);
  backend_free(backend);
}

static void each_type_refuses_the_operations_of_the_others(void) {
  const BackendStatus wrong = BACKEND_STATUS_WRONG_TYPE;
  Backend *backend = open_backend("memory:");
  MetricFamily *families[] = {
      declare_plain(backend, METRIC_TYPE_COUNTER, "a_total"), declare_plain(backend, METRIC_TYPE_GAUGE, "b"),
      declare_plain(backend, METRIC_TYPE_UNTYPED, "c"),       declare_plain(backend, METRIC_TYPE_SUMMARY, "d"),
      declare_plain(backend, METRIC_TYPE_HISTOGRAM, "e"),
  };
  Metric *metrics[5];
  double value = 42;
  for (int index = 0; index < 5; index++) metrics[index] = make_metric(families[index], NULL);
  CHECK_STATUS(BACKEND_STATUS_INVALID_ARGUMENT, metric_inc(metrics[0], -1));
  CHECK_STATUS(BACKEND_STATUS_INVALID_ARGUMENT, metric_inc(metrics[0], NAN));
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "cannot add -1 to counter \"a_total\"",
              metric_inc_and_get(metrics[0], -1, &value, &error));
  CHECK_STATUS(wrong, metric_dec(metrics[0], 1));
  CHECK_STATUS(wrong, metric_set(metrics[0], 1));
  for (int index = 0; index < 3; index++) {
    CHECK_STATUS(wrong, metric_observe(metrics[index], 1));
    CHECK_ERROR(wrong, "sum", metric_get_sum(metrics[index], &value, &error));
    CHECK_ERROR(wrong, "count", metric_get_count(metrics[index], &value, &error));
    CHECK_ERROR(wrong, "buckets", metric_get_bucket(metrics[index], 1, &value, &error));
  }
  for (int index = 3; index < 5; index++) {
    CHECK_STATUS(wrong, metric_inc(metrics[index], 1));
    CHECK_STATUS(wrong, metric_inc(metrics[index], -1));
    CHECK_ERROR(wrong, "no such operation", metric_inc_and_get(metrics[index], 1, &value, &error));
    CHECK_STATUS(wrong, metric_dec(metrics[index], 1));
    CHECK_STATUS(wrong, metric_set(metrics[index], 1));
    CHECK_ERROR(wrong, "value", metric_get(metrics[index], &value, &error));
  }
  CHECK_ERROR(wrong, "buckets", metric_get_bucket(metrics[3], 1, &value, &error));
  CHECK_NUMBER(42, value);
  for (int index = 0; index < 5; index++) {
    metric_free(metrics[index]);
    metric_family_free(families[index]);
  }
  backend_free(backend);
}

static void a_missing_metric_or_bucket_is_not_found(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_HISTOGRAM, "seconds");
  Metric *metric = make_metric(family, "GET");
  const char *label_value = "POST";
  double value = 42;
  CHECK_ERROR(BACKEND_STATUS_NOT_FOUND, "POST", metric_remove(family, &label_value, 1, &error));
  CHECK_ERROR(BACKEND_STATUS_NOT_FOUND, "0.3", metric_get_bucket(metric, 0.3, &value, &error));
  CHECK_ERROR(BACKEND_STATUS_NOT_FOUND, "NaN", metric_get_bucket(metric, NAN, &value, &error));
  CHECK_NUMBER(42, value);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_family_of_another_backend_is_refused(void) {
  Backend *backend = open_backend("memory:");
  Backend *other = open_backend("memory:");
  MetricFamily *family = declare_plain(other, METRIC_TYPE_COUNTER, "requests_total");
  const MetricFamily *families[] = {family};
  MetricsSnapshot *snapshot = UNTOUCHED;
  CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "\"requests_total\" belongs to another backend",
              metrics_snapshot_new(backend, families, 1, &snapshot, &error));
  CHECK(snapshot == UNTOUCHED);
  metric_family_free(family);
  backend_free(other);
  backend_free(backend);
}

static void a_panic_is_a_status_and_the_library_goes_on(void) {
  Backend *backend = open_backend("memory:");
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  for (int repetition = 0; repetition < 3; repetition++) {
    CHECK_ERROR(BACKEND_STATUS_PANIC, "backend_panic was called", backend_panic(&error));
    CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1.0));
  }
  CHECK_SCRAPE("# HELP requests_total Help.\n# TYPE requests_total counter\nrequests_total 3\n", backend);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

int main(void) {
  CHECK_RUN(the_library_tells_its_version_and_its_abi);
  CHECK_RUN(every_status_has_its_name);
  CHECK_RUN(freeing_null_does_nothing);
  CHECK_RUN(an_error_that_is_null_says_so);
  CHECK_RUN(null_is_refused_in_every_place);
  CHECK_RUN(null_is_accepted_where_an_argument_is_optional);
  CHECK_RUN(the_error_parameter_may_be_null_in_every_failing_call);
  CHECK_RUN(success_leaves_the_error_alone);
  CHECK_RUN(an_invalid_definition_is_refused_with_its_reason);
  CHECK_RUN(an_unknown_enum_value_is_invalid);
  CHECK_RUN(options_of_a_newer_program_are_read);
  CHECK_RUN(lists_that_cannot_fit_in_memory_are_invalid);
  CHECK_RUN(label_values_must_match_the_label_names_and_be_utf_8);
  CHECK_RUN(a_negative_or_infinite_timeout_is_invalid);
  CHECK_RUN(an_invalid_url_is_refused_with_its_reason);
  CHECK_RUN(a_server_that_never_answers_is_a_timeout);
  CHECK_RUN(a_missing_server_is_unavailable);
  CHECK_RUN(a_name_declared_in_two_ways_is_a_conflict);
  CHECK_RUN(each_type_refuses_the_operations_of_the_others);
  CHECK_RUN(a_missing_metric_or_bucket_is_not_found);
  CHECK_RUN(a_family_of_another_backend_is_refused);
  CHECK_RUN(a_panic_is_a_status_and_the_library_goes_on);
  return check_result();
}
