/* The stores that processes share, through the C interface: how their URLs look, which status each failure has,
 * and when changes have arrived. Their semantics are tested in Rust (tests/redis_*.rs, tests/shared_memory*.rs).
 * Each test begins with an empty server and a new file name.
 */
#include <unistd.h>

#include "declare.h"
#include "redis_server.h"

static RedisServer server;
static char path[128], shared_memory_url[160];

/* Holds the reply to the last ASK, as text. */
static char reply[4096];
#define ASK(...) (redis_server_ask(&server, reply, sizeof reply, __VA_ARGS__, (char *)NULL), reply)

static void begin(void) {
  CHECK_TEXT("OK", ASK("FLUSHALL"));
  unlink(path);
}

#define RUN(test)    \
  do {               \
    begin();         \
    CHECK_RUN(test); \
  } while (0)

/* Returns the URL of the server with options appended. */
static const char *redis_url_with(const char *options) {
  static char text[256];
  snprintf(text, sizeof text, "%s%s", server.url, options);
  return text;
}

/* A backend with one counter. */
typedef struct {
  Backend *backend;
  MetricFamily *family;
  Metric *metric;
} Counting;

static Counting open_counting(const char *url) {
  Counting counting = {.backend = open_backend(url)};
  counting.family = declare_plain(counting.backend, METRIC_TYPE_COUNTER, "requests_total");
  counting.metric = make_metric(counting.family, NULL);
  return counting;
}

static void close_counting(Counting counting) {
  metric_free(counting.metric);
  metric_family_free(counting.family);
  backend_free(counting.backend);
}

static void backends_of_one_store_count_in_one_metric(void) {
  const char *const urls[][2] = {{server.url, server.unix_url}, {shared_memory_url, shared_memory_url}};
  for (int index = 0; index < 2; index++) {
    Counting one = open_counting(urls[index][0]), other = open_counting(urls[index][1]);
    metric_inc(one.metric, 1);
    metric_inc(other.metric, 2);
    CHECK_OK(backend_flush(one.backend, 30.0, &error));
    CHECK_OK(backend_flush(other.backend, 30.0, &error));
    CHECK_NUMBER(3, value_of(one.metric));
    close_counting(other);
    CHECK_SCRAPE("# HELP requests_total Help.\n# TYPE requests_total counter\nrequests_total 3\n", one.backend);
    close_counting(one);
  }
}

static void a_backend_shows_families_that_it_has_not_declared(void) {
  const char *const urls[] = {server.url, shared_memory_url};
  for (int index = 0; index < 2; index++) {
    Counting writer = open_counting(urls[index]);
    metric_inc(writer.metric, 4);
    CHECK_OK(backend_flush(writer.backend, 30.0, &error));
    Backend *reader = open_backend(urls[index]);
    CHECK_SCRAPE("# HELP requests_total Help.\n# TYPE requests_total counter\nrequests_total 4\n", reader);
    backend_free(reader);
    close_counting(writer);
  }
}

static void freeing_a_backend_sends_its_changes(void) {
  Counting counting = open_counting(redis_url_with("?flush_interval_ms=3600000"));
  metric_inc(counting.metric, 4);
  close_counting(counting);
  CHECK_TEXT("4", ASK("GET", "requests_total"));
}

static void a_closed_backend_has_sent_its_changes_and_is_unavailable(void) {
  Counting counting = open_counting(redis_url_with("?flush_interval_ms=3600000"));
  MetricsSnapshot *snapshot = NULL;
  char *text = NULL;
  double value = 42;
  metric_inc(counting.metric, 4);
  CHECK_OK(backend_close(counting.backend, &error));
  CHECK_TEXT("4", ASK("GET", "requests_total"));
  CHECK_OK(backend_close(counting.backend, &error));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(counting.metric, 1));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "closed", backend_flush(counting.backend, 30.0, &error));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "closed", metrics_collect(counting.backend, &text, NULL, &error));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "closed",
              metrics_snapshot_new(counting.backend, NULL, 0, &snapshot, &error));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "closed", metric_get(counting.metric, &value, &error));
  CHECK(text == NULL && snapshot == NULL);
  CHECK_NUMBER(42, value);
  close_counting(counting);
  CHECK_TEXT("4", ASK("GET", "requests_total"));
}

static void closing_all_backends_sends_the_changes_of_each(void) {
  Counting all[3];
  for (int index = 0; index < 3; index++) {
    all[index] = open_counting(redis_url_with("?flush_interval_ms=3600000"));
    metric_inc(all[index].metric, 1 << index);
  }
  backend_close_all();
  CHECK_TEXT("7", ASK("GET", "requests_total"));
  for (int index = 0; index < 3; index++) {
    CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "closed", backend_flush(all[index].backend, 30.0, &error));
    close_counting(all[index]);
  }
}

static void a_key_of_another_type_is_a_store_error(void) {
  CHECK_TEXT("1", ASK("LPUSH", "requests_total", "not ours"));
  Counting counting = open_counting(server.url);
  double value = 42;
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(counting.metric, 3));
  CHECK_ERROR(BACKEND_STATUS_STORE, "requests_total", backend_flush(counting.backend, 30.0, &error));
  CHECK_ERROR(BACKEND_STATUS_STORE, "requests_total", metric_get(counting.metric, &value, &error));
  CHECK_NUMBER(42, value);
  /* The counter's change waits until the key is free. Then it is sent, so the server must be there. */
  CHECK_TEXT("1", ASK("DEL", "requests_total"));
  CHECK_NUMBER(3, value_of(counting.metric));
  close_counting(counting);
}

static void a_stalled_server_is_a_timeout(void) {
  Counting counting = open_counting(redis_url_with("?collect_timeout=0.2"));
  double value = 42;
  char *text = NULL;
  CHECK_OK(backend_flush(counting.backend, 30.0, &error));
  redis_server_pause(&server);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(counting.metric, 2));
  CHECK_ERROR(BACKEND_STATUS_TIMEOUT, "127.0.0.1", backend_flush(counting.backend, 0.05, &error));
  CHECK_ERROR(BACKEND_STATUS_TIMEOUT, "127.0.0.1", metrics_collect(counting.backend, &text, NULL, &error));
  CHECK_ERROR(BACKEND_STATUS_TIMEOUT, "127.0.0.1", metric_get(counting.metric, &value, &error));
  CHECK(text == NULL);
  CHECK_NUMBER(42, value);
  redis_server_resume(&server);
  CHECK_OK(backend_flush(counting.backend, 30.0, &error));
  CHECK_TEXT("2", ASK("GET", "requests_total"));
  close_counting(counting);
}

static void a_lost_server_is_unavailable(void) {
  char address[32];
  Counting counting = open_counting(redis_url_with("?shutdown_timeout=0.05"));
  double value = 42;
  char *text = NULL;
  MetricsSnapshot *snapshot = NULL;
  CHECK_OK(backend_flush(counting.backend, 30.0, &error));
  redis_server_kill(&server);
  snprintf(address, sizeof address, "127.0.0.1:%d", server.port);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(counting.metric, 1));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, address, metrics_collect(counting.backend, &text, NULL, &error));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, address,
              metrics_snapshot_new(counting.backend, NULL, 0, &snapshot, &error));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, address, metric_get(counting.metric, &value, &error));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, address, backend_flush(counting.backend, 30.0, &error));
  CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "could not be sent to Redis at 127.0.0.1",
              backend_close(counting.backend, &error));
  CHECK(text == NULL && snapshot == NULL);
  CHECK_NUMBER(42, value);
  close_counting(counting);
  redis_server_restart(&server);
}

static void a_file_that_is_no_metrics_file_is_a_store_error(void) {
  FILE *file = fopen(path, "w");
  if (file == NULL || fputs("Not metrics.", file) < 0 || fclose(file) != 0) check_give_up(path);
  Backend *backend = NULL;
  CHECK_ERROR(BACKEND_STATUS_STORE, path, backend_new(shared_memory_url, &backend, &error));
  CHECK(backend == NULL);
}

static void handles_outlive_their_backend(void) {
  const char *const urls[] = {server.url, shared_memory_url};
  for (int index = 0; index < 2; index++) {
    Counting counting = open_counting(urls[index]);
    double value = 42;
    metric_inc(counting.metric, 1);
    backend_free(counting.backend);
    CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(counting.metric, 1));
    metric_get(counting.metric, &value, NULL);
    CHECK_STATUS(BACKEND_STATUS_OK, metric_family_clear(counting.family, NULL));
    metric_family_free(counting.family);
    CHECK_ERROR(BACKEND_STATUS_UNAVAILABLE, "freed", metric_get(counting.metric, &value, &error));
    metric_free(counting.metric);
  }
}

int main(void) {
  redis_server_start(&server);
  snprintf(path, sizeof path, "%s/metrics", server.folder);
  snprintf(shared_memory_url, sizeof shared_memory_url, "shm://%s", path);
  RUN(backends_of_one_store_count_in_one_metric);
  RUN(a_backend_shows_families_that_it_has_not_declared);
  RUN(freeing_a_backend_sends_its_changes);
  RUN(a_closed_backend_has_sent_its_changes_and_is_unavailable);
  RUN(closing_all_backends_sends_the_changes_of_each);
  RUN(a_key_of_another_type_is_a_store_error);
  RUN(a_stalled_server_is_a_timeout);
  RUN(a_lost_server_is_unavailable);
  RUN(a_file_that_is_no_metrics_file_is_a_store_error);
  RUN(handles_outlive_their_backend);
  unlink(path);
  redis_server_stop(&server);
  return check_result();
}
