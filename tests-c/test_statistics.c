/* The statistics of a backend: the struct in every size that a program may have, and numbers that change with batches
 * and scrapes. What each number counts is tested in Rust (tests/statistics.rs).
 */
#include "declare.h"
#include "redis_server.h"

static RedisServer server;

static BackendStatistics statistics_of(const Backend *backend) {
  BackendStatistics statistics;
  memset(&statistics, 0xff, sizeof statistics);
  statistics.size = sizeof statistics;
  CHECK_OK(backend_statistics(backend, &statistics, &error));
  CHECK_NUMBER(sizeof statistics, statistics.size);
  return statistics;
}

static void null_is_refused_in_every_place(void) {
  Backend *backend = open_backend("memory:");
  BackendStatistics statistics = {.size = sizeof statistics, .scrapes = 42};
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "backend", backend_statistics(NULL, &statistics, &error));
  CHECK_ERROR(BACKEND_STATUS_NULL_POINTER, "statistics", backend_statistics(backend, NULL, &error));
  CHECK_STATUS(BACKEND_STATUS_NULL_POINTER, backend_statistics(backend, NULL, NULL));
  CHECK_NUMBER(42, statistics.scrapes);
  backend_free(backend);
}

static void a_size_that_no_version_has_is_refused_and_nothing_is_written(void) {
  Backend *backend = open_backend("memory:");
  const size_t sizes[] = {0, sizeof(size_t), sizeof(BackendStatistics) - 1, 1 << 20, (size_t)-1};
  for (size_t index = 0; index < sizeof sizes / sizeof *sizes; index++) {
    BackendStatistics statistics = {.size = sizes[index], .scrapes = 42, .last_flush_timestamp = 42};
    CHECK_ERROR(BACKEND_STATUS_INVALID_ARGUMENT, "statistics->size is",
                backend_statistics(backend, &statistics, &error));
    CHECK(statistics.size == sizes[index]);
    CHECK_NUMBER(42, statistics.scrapes);
    CHECK_NUMBER(42, statistics.last_flush_timestamp);
  }
  backend_free(backend);
}

/* A program that was compiled with a later header: fields that this library does not know become zero, and the memory
 * after the struct is untouched. */
static void a_larger_struct_is_filled_with_zeros(void) {
  struct {
    BackendStatistics known;
    uint64_t later[4];
    uint64_t behind;
  } larger;
  Backend *backend = open_backend("memory:");
  CHECK_SCRAPE("", backend);
  memset(&larger, 0xff, sizeof larger);
  larger.known.size = sizeof larger.known + sizeof larger.later;
  CHECK_OK(backend_statistics(backend, &larger.known, &error));
  CHECK_NUMBER(sizeof larger.known + sizeof larger.later, larger.known.size);
  CHECK_NUMBER(1, larger.known.scrapes);
  for (int index = 0; index < 4; index++) CHECK_NUMBER(0, larger.later[index]);
  CHECK(larger.behind == UINT64_MAX);
  backend_free(backend);
}

static void scrapes_are_counted_in_memory(void) {
  Backend *backend = open_backend("memory:");
  BackendStatistics statistics = statistics_of(backend);
  CHECK_NUMBER(0, statistics.scrapes);
  CHECK_SCRAPE("", backend);
  CHECK_SCRAPE("", backend);
  statistics = statistics_of(backend);
  CHECK_NUMBER(2, statistics.scrapes);
  CHECK_NUMBER(0, statistics.scrape_errors);
  CHECK_NUMBER(0, statistics.batches_sent);
  CHECK_NUMBER(0, statistics.last_flush_timestamp);
  backend_free(backend);
}

static void sent_batches_are_counted(void) {
  time_t began = time(NULL);
  Backend *backend = open_backend(server.url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  CHECK_OK(backend_flush(backend, 30.0, &error));
  BackendStatistics before = statistics_of(backend);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  CHECK_OK(backend_flush(backend, 30.0, &error));
  BackendStatistics after = statistics_of(backend);
  CHECK_NUMBER(1, after.batches_sent - before.batches_sent);
  CHECK_NUMBER(1, after.operations_sent - before.operations_sent);
  CHECK_NUMBER(0, after.batches_resent);
  CHECK_NUMBER(0, after.batches_refused);
  CHECK_NUMBER(0, after.metrics_pending);
  CHECK(after.last_flush_timestamp >= (double)began);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void self_metrics_are_metrics_of_the_store(void) {
  char url[128], *text = NULL;
  snprintf(url, sizeof url, "%s?self_metrics=true", server.url);
  Backend *backend = open_backend(url);
  CHECK_OK(metrics_collect(backend, &text, NULL, &error));
  CHECK_CONTAINS("\npytheus_backend_scrapes_total 1\n", text);
  CHECK_CONTAINS("\n# TYPE pytheus_backend_metrics_pending gauge\n", text);
  backend_string_free(text);
  backend_free(backend);
  CHECK_ERROR(BACKEND_STATUS_CONFIGURATION, "\"self_metrics\" is \"maybe\"",
              backend_new("memory:?self_metrics=maybe", &backend, &error));
}

int main(void) {
  CHECK_RUN(null_is_refused_in_every_place);
  CHECK_RUN(a_size_that_no_version_has_is_refused_and_nothing_is_written);
  CHECK_RUN(a_larger_struct_is_filled_with_zeros);
  CHECK_RUN(scrapes_are_counted_in_memory);
  redis_server_start(&server);
  CHECK_RUN(sent_batches_are_counted);
  CHECK_RUN(self_metrics_are_metrics_of_the_store);
  redis_server_stop(&server);
  return check_result();
}
