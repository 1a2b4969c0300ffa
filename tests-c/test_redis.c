/* Counting in Redis, with a real server of this program's own: what the server holds, what other backends
 * see, and what happens while it stalls, refuses, dies and comes back. Each test begins with an empty
 * server.
 */
#include "declare.h"
#include "redis_server.h"

static RedisServer server;

/* The server's answer to a command, in text; the next one overwrites it. */
static char reply[16384];
#define ASK(...) (redis_server_ask(&server, reply, sizeof reply, __VA_ARGS__, (char *)NULL), reply)

/* The URL of the server with options behind it. */
static const char *url_with(const char *options) {
  static char text[256];
  snprintf(text, sizeof text, "%s%s", server.url, options);
  return text;
}

static void flush(const Backend *backend) {
  CHECK_OK(backend_flush(backend, 30.0, &error));
}

static void begin_with_an_empty_server(void) {
  CHECK_TEXT("OK", ASK("FLUSHALL"));
}

static void count_every_type(const char *url) {
  Backend *backend = open_backend(url);
  const double bounds[] = {0.5, 10};
  MetricFamilyOptions options = options_for(METRIC_TYPE_HISTOGRAM, "seconds");
  options.buckets = bounds;
  options.bucket_count = 2;
  MetricFamily *families[] = {
      declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total"),
      declare_plain(backend, METRIC_TYPE_GAUGE, "size"),
      declare_plain(backend, METRIC_TYPE_UNTYPED, "odd"),
      declare_plain(backend, METRIC_TYPE_SUMMARY, "bytes"),
      declare(backend, &options),
  };
  Metric *metrics[5];
  for (int index = 0; index < 5; index++) metrics[index] = make_metric(families[index], index == 0 ? "GET" : NULL);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metrics[0], 2.5));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_set(metrics[1], 8));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_dec(metrics[1], 0.75));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_dec(metrics[2], 3));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metrics[3], 3));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metrics[4], 0.25));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metrics[4], 7));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(metrics[4], NAN));
  double value = 0;
  CHECK_NUMBER(2.5, value_of(metrics[0]));
  CHECK_OK(metric_get_count(metrics[3], &value, &error));
  CHECK_NUMBER(1, value);
  CHECK_OK(metric_get_sum(metrics[3], &value, &error));
  CHECK_NUMBER(3, value);
  CHECK_OK(metric_get_bucket(metrics[4], 10, &value, &error));
  CHECK_NUMBER(2, value);
  CHECK_OK(metric_get_bucket(metrics[4], INFINITY, &value, &error));
  CHECK_NUMBER(3, value);
  CHECK_SCRAPE("# HELP requests_total Help.\n"
               "# TYPE requests_total counter\n"
               "requests_total{method=\"GET\"} 2.5\n"
               "# HELP size Help.\n"
               "# TYPE size gauge\n"
               "size 7.25\n"
               "# HELP odd Help.\n"
               "# TYPE odd untyped\n"
               "odd -3\n"
               "# HELP bytes Help.\n"
               "# TYPE bytes summary\n"
               "bytes_sum 3\n"
               "bytes_count 1\n"
               "# HELP seconds Help.\n"
               "# TYPE seconds histogram\n"
               "seconds_bucket{le=\"0.5\"} 1\n"
               "seconds_bucket{le=\"10\"} 2\n"
               "seconds_bucket{le=\"+Inf\"} 3\n"
               "seconds_sum NaN\n"
               "seconds_count 3\n",
               backend);
  CHECK_TEXT("2.5", ASK("HGET", "requests_total", "{\"method\":\"GET\"}"));
  CHECK_TEXT("7.25", ASK("GET", "size"));
  CHECK_TEXT("3", ASK("HGET", "bytes", "{}#sum"));
  CHECK_TEXT("1", ASK("HGET", "seconds", "{}#le=+Inf"));
  for (int index = 0; index < 5; index++) {
    metric_free(metrics[index]);
    metric_family_free(families[index]);
  }
  backend_free(backend);
}

static void every_type_counts_over_tcp(void) {
  count_every_type(server.url);
}

static void every_type_counts_over_a_unix_socket(void) {
  count_every_type(server.unix_url);
}

static void two_backends_see_one_sum(void) {
  Backend *one = open_backend(server.url), *other = open_backend(server.unix_url);
  MetricFamily *family = declare_labelled(one, METRIC_TYPE_COUNTER, "requests_total");
  MetricFamily *other_family = declare_labelled(other, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, "GET"), *other_metric = make_metric(other_family, "GET");
  for (int index = 0; index < 1000; index++) {
    metric_inc(metric, 1);
    metric_inc(other_metric, 2);
  }
  flush(one);
  flush(other);
  CHECK_NUMBER(3000, value_of(metric));
  CHECK_NUMBER(3000, value_of(other_metric));
  metric_free(metric);
  metric_free(other_metric);
  metric_family_free(family);
  metric_family_free(other_family);
  backend_free(one);
  backend_free(other);
}

static void a_backend_shows_the_families_of_others(void) {
  Backend *writer = open_backend(server.url), *reader = open_backend(server.url);
  MetricFamily *family = declare_plain(writer, METRIC_TYPE_SUMMARY, "bytes");
  Metric *metric = make_metric(family, NULL);
  metric_observe(metric, 4);
  flush(writer);
  CHECK_SCRAPE("# HELP bytes Help.\n# TYPE bytes summary\nbytes_sum 4\nbytes_count 1\n", reader);
  metric_free(metric);
  metric_family_free(family);
  backend_free(writer);
  CHECK_SCRAPE("# HELP bytes Help.\n# TYPE bytes summary\nbytes_sum 4\nbytes_count 1\n", reader);
  backend_free(reader);
}

static void freeing_a_backend_sends_what_is_pending(void) {
  Backend *backend = open_backend(url_with("?flush_interval_ms=3600000"));
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  metric_inc(metric, 4);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
  CHECK_TEXT("4", ASK("GET", "requests_total"));
}

static void closing_a_backend_sends_what_is_pending_and_ends_it(void) {
  Backend *backend = open_backend(url_with("?flush_interval_ms=3600000"));
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  MetricsSnapshot *snapshot = NULL;
  char *text = NULL;
  double value = 42;
  metric_inc(metric, 4);
  CHECK_OK(backend_close(backend, &error));
  CHECK_TEXT("4", ASK("GET", "requests_total"));
  CHECK_OK(backend_close(backend, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "closed", backend_flush(backend, 30.0, &error));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "closed", metrics_collect(backend, &text, NULL, &error));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "closed", metrics_snapshot_new(backend, NULL, 0, &snapshot, &error));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "closed", metric_get(metric, &value, &error));
  CHECK(text == NULL && snapshot == NULL);
  CHECK_NUMBER(42, value);
  CHECK_TEXT("4", ASK("GET", "requests_total"));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_flush_sends_what_would_otherwise_wait(void) {
  Backend *backend = open_backend(url_with("?flush_interval_ms=3600000"));
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  /* The first change wakes the sender; those after it wait for an hour. */
  flush(backend);
  metric_inc(metric, 4);
  flush(backend);
  CHECK_TEXT("4", ASK("GET", "requests_total"));
  metric_inc(metric, 1);
  CHECK_NUMBER(5, value_of(metric));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void key_prefix_and_expiry_are_those_of_the_url(void) {
  Backend *backend = open_backend(url_with("/3?key_prefix=shop&expire_key_time=1000"));
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  metric_inc(metric, 1);
  flush(backend);
  CHECK_TEXT("(nil)", ASK("GET", "shop-requests_total"));
  CHECK_TEXT("1", ASK("EVAL", "redis.call('SELECT', 3) return redis.call('GET', 'shop-requests_total')", "0"));
  int seconds = atoi(ASK("EVAL", "redis.call('SELECT', 3) return redis.call('TTL', 'shop-requests_total')", "0"));
  CHECK(seconds > 0 && seconds <= 1000);
  CHECK_SCRAPE("# HELP requests_total Help.\n# TYPE requests_total counter\nrequests_total 1\n", backend);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_removed_metric_is_gone_from_the_server_too(void) {
  Backend *backend = open_backend(server.url);
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_HISTOGRAM, "seconds");
  Metric *get = make_metric(family, "GET"), *post = make_metric(family, "POST");
  const char *label_value = "GET";
  metric_observe(get, 1);
  metric_observe(post, 1);
  flush(backend);
  CHECK_TEXT("4", ASK("HLEN", "seconds"));
  metric_observe(get, 1);
  CHECK_OK(metric_remove(family, &label_value, 1, &error));
  CHECK_ERROR(BACKEND_STATUS_NOT_FOUND, "GET", metric_remove(family, &label_value, 1, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(get, 1));
  flush(backend);
  CHECK_TEXT("2", ASK("HLEN", "seconds"));
  Metric *again = make_metric(family, "GET");
  metric_observe(again, 4);
  double value = 0;
  CHECK_OK(metric_get_sum(again, &value, &error));
  CHECK_NUMBER(4, value);
  metric_free(again);
  metric_free(get);
  metric_free(post);
  metric_family_free(family);
  backend_free(backend);
}

static void a_cleared_family_is_gone_for_everybody(void) {
  Backend *one = open_backend(server.url), *other = open_backend(server.url);
  MetricFamily *family = declare_labelled(one, METRIC_TYPE_COUNTER, "requests_total");
  MetricFamily *other_family = declare_labelled(other, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, "GET"), *other_metric = make_metric(other_family, "POST");
  metric_inc(metric, 1);
  metric_inc(other_metric, 1);
  flush(one);
  flush(other);
  CHECK_OK(metric_family_clear(family, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  flush(one);
  CHECK_TEXT("0", ASK("EXISTS", "requests_total"));
  CHECK_SCRAPE("# HELP requests_total Help.\n# TYPE requests_total counter\n", one);
  /* Who counts on brings its metric back, from zero. */
  metric_inc(other_metric, 1);
  CHECK_NUMBER(1, value_of(other_metric));
  metric_free(metric);
  metric_free(other_metric);
  metric_family_free(family);
  metric_family_free(other_family);
  backend_free(one);
  backend_free(other);
}

static void a_snapshot_reads_the_families_that_are_asked_for(void) {
  Backend *backend = open_backend(server.url);
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "requests_total");
  options.lifetime = METRIC_LIFETIME_HANDLE;
  MetricFamily *family = declare(backend, &options);
  MetricFamily *gauges = declare_plain(backend, METRIC_TYPE_GAUGE, "size");
  Metric *metric = make_metric(family, NULL), *gauge = make_metric(gauges, NULL);
  const MetricFamily *wanted[] = {gauges, family};
  MetricsSnapshot *snapshot = NULL;
  MetricsSeries series;
  metric_inc(metric, 3);
  metric_set(gauge, -2);
  CHECK_OK(metrics_snapshot_new(backend, wanted, 2, &snapshot, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_snapshot_next(snapshot, &series));
  CHECK_TEXT("size", series.family);
  CHECK_NUMBER(-2, series.values[0]);
  CHECK_STATUS(BACKEND_STATUS_OK, metrics_snapshot_next(snapshot, &series));
  CHECK_NUMBER(1, series.family_index);
  CHECK_TEXT("requests_total", series.family);
  CHECK_TEXT("{}", series.labels);
  CHECK_NUMBER(3, series.values[0]);
  CHECK_STATUS(BACKEND_STATUS_NOT_FOUND, metrics_snapshot_next(snapshot, &series));
  metrics_snapshot_free(snapshot);
  metric_free(metric);
  metric_free(gauge);
  metric_family_free(family);
  metric_family_free(gauges);
  backend_free(backend);
}

static void a_name_declared_in_two_ways_is_a_conflict_whatever_its_lifetime(void) {
  Backend *backend = open_backend(server.url);
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "requests_total");
  options.lifetime = METRIC_LIFETIME_HANDLE;
  MetricFamily *family = declare(backend, &options), *other = NULL;
  options.metric_type = METRIC_TYPE_GAUGE;
  CHECK_ERROR(BACKEND_STATUS_CONFLICT, "requests_total", metric_family_new(backend, &options, &other, &error));
  CHECK(other == NULL);
  metric_family_free(family);
  backend_free(backend);
}

static void what_is_no_number_counts_as_it_does_in_memory(void) {
  Backend *backend = open_backend(server.url);
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_GAUGE, "size");
  Metric *up = make_metric(family, "up"), *down = make_metric(family, "down"), *none = make_metric(family, "none");
  metric_set(up, INFINITY);
  metric_dec(down, INFINITY);
  metric_set(none, NAN);
  CHECK_NUMBER(INFINITY, value_of(up));
  CHECK_NUMBER(-INFINITY, value_of(down));
  CHECK_NUMBER(NAN, value_of(none));
  metric_inc(up, -INFINITY);
  CHECK_NUMBER(NAN, value_of(up));
  metric_set(none, 0.1);
  metric_inc(none, 0.2);
  CHECK_NUMBER(0.1 + 0.2, value_of(none));
  metric_free(up);
  metric_free(down);
  metric_free(none);
  metric_family_free(family);
  backend_free(backend);
}

static void a_key_of_another_type_is_a_store_error_and_spoils_nothing_else(void) {
  Backend *backend = open_backend(server.url);
  CHECK_TEXT("1", ASK("LPUSH", "requests_total", "not ours"));
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  MetricFamily *gauges = declare_plain(backend, METRIC_TYPE_GAUGE, "size");
  Metric *metric = make_metric(family, NULL), *gauge = make_metric(gauges, NULL);
  double value = 42;
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 3));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_set(gauge, 7));
  CHECK_ERROR(BACKEND_STATUS_STORE, "requests_total", backend_flush(backend, 30.0, &error));
  CHECK_ERROR(BACKEND_STATUS_STORE, "requests_total", metric_get(metric, &value, &error));
  CHECK_NUMBER(42, value);
  CHECK_NUMBER(7, value_of(gauge));
  CHECK_SCRAPE("# HELP requests_total Help.\n"
               "# TYPE requests_total counter\n"
               "# HELP size Help.\n"
               "# TYPE size gauge\n"
               "size 7\n",
               backend);
  CHECK_TEXT("not ours", ASK("LRANGE", "requests_total", "0", "-1"));
  /* When the key is free, what waited is sent. */
  CHECK_TEXT("1", ASK("DEL", "requests_total"));
  CHECK_NUMBER(3, value_of(metric));
  metric_free(metric);
  metric_free(gauge);
  metric_family_free(family);
  metric_family_free(gauges);
  backend_free(backend);
}

static void a_password_is_needed_and_never_shown(void) {
  char url[128];
  Backend *backend = NULL;
  CHECK_TEXT("OK", ASK("CONFIG", "SET", "requirepass", "right horse"));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "NOAUTH", backend_new(server.url, &backend, &error));
  BackendError *error = NULL;
  snprintf(url, sizeof url, "redis://:wr0ng-s3cret@127.0.0.1:%d", server.port);
  CHECK_STATUS(BACKEND_STATUS_UNAVAILABLE, backend_new(url, &backend, &error));
  CHECK_LACKS("wr0ng-s3cret", backend_error_message(error));
  CHECK_CONTAINS("127.0.0.1", backend_error_message(error));
  backend_error_free(error);
  CHECK(backend == NULL);
  snprintf(url, sizeof url, "redis://127.0.0.1:%d?password=right%%20horse", server.port);
  backend = open_backend(url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  metric_inc(metric, 1);
  CHECK_NUMBER(1, value_of(metric));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
  snprintf(url, sizeof url, "redis://:right%%20horse@127.0.0.1:%d?username=default", server.port);
  backend = open_backend(url);
  backend_free(backend);
}

/* The test above leaves a server that wants a password: nobody else could ask it anything. */
static void begin_with_a_new_server(void) {
  redis_server_kill(&server);
  redis_server_restart(&server);
}

static void a_stalled_server_is_a_timeout_and_loses_nothing(void) {
  Backend *backend = open_backend(url_with("?collect_timeout=0.2"));
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  double value = 42;
  char *text = NULL;
  flush(backend);
  redis_server_pause(&server);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 2));
  CHECK_ERROR(BACKEND_STATUS_TIMEOUT, "127.0.0.1", backend_flush(backend, 0.05, &error));
  CHECK_ERROR(BACKEND_STATUS_TIMEOUT, "127.0.0.1", metrics_collect(backend, &text, NULL, &error));
  CHECK_ERROR(BACKEND_STATUS_TIMEOUT, "127.0.0.1", metric_get(metric, &value, &error));
  CHECK(text == NULL);
  CHECK_NUMBER(42, value);
  redis_server_resume(&server);
  flush(backend);
  CHECK_TEXT("2", ASK("GET", "requests_total"));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void what_is_counted_while_the_server_is_dead_is_sent_when_it_is_back(void) {
  char address[32];
  Backend *backend = open_backend(server.url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  double value = 42;
  char *text = NULL;
  MetricsSnapshot *snapshot = NULL;
  metric_inc(metric, 1);
  flush(backend);
  redis_server_kill(&server);
  snprintf(address, sizeof address, "127.0.0.1:%d", server.port);
  for (int index = 0; index < 1000; index++) CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, address, metrics_collect(backend, &text, NULL, &error));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, address, metrics_snapshot_new(backend, NULL, 0, &snapshot, &error));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, address, metric_get(metric, &value, &error));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, address, backend_flush(backend, 30.0, &error));
  CHECK(text == NULL && snapshot == NULL);
  CHECK_NUMBER(42, value);
  redis_server_restart(&server);
  /* The new server is empty: the 1 that it had is gone with it, the 1,000 are not. */
  flush(backend);
  CHECK_TEXT("1000", ASK("GET", "requests_total"));
  CHECK_SCRAPE("# HELP requests_total Help.\n# TYPE requests_total counter\nrequests_total 1000\n", backend);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_server_that_is_not_required_may_come_later(void) {
  redis_server_kill(&server);
  char url[128];
  Backend *backend = NULL;
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "127.0.0.1", backend_new(server.url, &backend, &error));
  CHECK(backend == NULL);
  snprintf(url, sizeof url, "%s?required=false", server.url);
  backend = open_backend(url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 6));
  redis_server_restart(&server);
  flush(backend);
  CHECK_TEXT("6", ASK("GET", "requests_total"));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void closing_all_backends_sends_what_each_of_them_has(void) {
  Backend *backends[3];
  Metric *metrics[3];
  for (int i = 0; i < 3; i++) {
    backends[i] = open_backend(url_with("?flush_interval_ms=3600000"));
    MetricFamily *family = declare_plain(backends[i], METRIC_TYPE_COUNTER, "requests_total");
    metrics[i] = make_metric(family, NULL);
    metric_family_free(family);
    metric_inc(metrics[i], 1 << i);
  }
  backend_close_all();
  CHECK_TEXT("7", ASK("GET", "requests_total"));
  for (int i = 0; i < 3; i++) {
    CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "closed", backend_flush(backends[i], 30.0, &error));
    metric_free(metrics[i]);
    backend_free(backends[i]);
  }
}

static void a_backend_whose_server_never_came_says_so_when_it_is_closed(void) {
  redis_server_kill(&server);
  Backend *backend = open_backend(url_with("?required=false&shutdown_timeout=0.05"));
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  metric_inc(metric, 6);
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "could not be sent to Redis at 127.0.0.1",
              backend_close(backend, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  backend_free(backend);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  metric_free(metric);
  metric_family_free(family);
  redis_server_restart(&server);
}

static void handles_outlive_their_backend(void) {
  Backend *backend = open_backend(server.url);
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, "GET");
  double value = 42;
  metric_inc(metric, 1);
  backend_free(backend);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "closed", metric_get(metric, &value, &error));
  Metric *late = make_metric(family, "POST");
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(late, 1));
  CHECK_OK(metric_family_clear(family, &error));
  metric_family_free(family);
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "freed", metric_get(metric, &value, &error));
  CHECK_NUMBER(42, value);
  metric_free(late);
  metric_free(metric);
  CHECK_TEXT("1", ASK("HGET", "requests_total", "{\"method\":\"GET\"}"));
}

static void a_thousand_metrics_are_sent_and_read(void) {
  int count = check_repetitions(2500);
  Backend *backend = open_backend(server.url);
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  char text[32];
  for (int index = 0; index < count; index++) {
    snprintf(text, sizeof text, "%d", index);
    Metric *metric = make_metric(family, text);
    metric_inc(metric, index);
    metric_free(metric);
  }
  flush(backend);
  snprintf(text, sizeof text, "%d", count);
  CHECK_TEXT(text, ASK("HLEN", "requests_total"));
  MetricsSnapshot *snapshot = NULL;
  MetricsSeries series;
  CHECK_OK(metrics_snapshot_new(backend, NULL, 0, &snapshot, &error));
  int seen = 0;
  double sum = 0;
  for (; metrics_snapshot_next(snapshot, &series) == BACKEND_STATUS_OK; seen++) sum += series.values[0];
  CHECK_NUMBER(count, seen);
  CHECK_NUMBER(count * (count - 1.0) / 2, sum);
  metrics_snapshot_free(snapshot);
  metric_family_free(family);
  backend_free(backend);
}

#define RUN(test)                  \
  do {                             \
    begin_with_an_empty_server();  \
    CHECK_RUN(test);               \
  } while (0)

int main(void) {
  redis_server_start(&server);
  RUN(every_type_counts_over_tcp);
  RUN(every_type_counts_over_a_unix_socket);
  RUN(two_backends_see_one_sum);
  RUN(a_backend_shows_the_families_of_others);
  RUN(freeing_a_backend_sends_what_is_pending);
  RUN(closing_a_backend_sends_what_is_pending_and_ends_it);
  RUN(closing_all_backends_sends_what_each_of_them_has);
  RUN(a_flush_sends_what_would_otherwise_wait);
  RUN(key_prefix_and_expiry_are_those_of_the_url);
  RUN(a_removed_metric_is_gone_from_the_server_too);
  RUN(a_cleared_family_is_gone_for_everybody);
  RUN(a_snapshot_reads_the_families_that_are_asked_for);
  RUN(a_name_declared_in_two_ways_is_a_conflict_whatever_its_lifetime);
  RUN(what_is_no_number_counts_as_it_does_in_memory);
  RUN(a_key_of_another_type_is_a_store_error_and_spoils_nothing_else);
  RUN(a_password_is_needed_and_never_shown);
  begin_with_a_new_server();
  RUN(a_stalled_server_is_a_timeout_and_loses_nothing);
  RUN(what_is_counted_while_the_server_is_dead_is_sent_when_it_is_back);
  RUN(a_server_that_is_not_required_may_come_later);
  RUN(a_backend_whose_server_never_came_says_so_when_it_is_closed);
  RUN(handles_outlive_their_backend);
  RUN(a_thousand_metrics_are_sent_and_read);
  redis_server_stop(&server);
  return check_result();
}
