/* Threads that use the C interface at the same time, in the memory store and in Redis. Totals are exact. The threads
 * start together behind a barrier. Sanitizers run this program, too.
 */
#include <pthread.h>

#include "declare.h"
#include "redis_server.h"

enum { THREADS = 8 };

/* The store under test. Its server is NULL for the memory store. */
static const char *url;
static const RedisServer *server;
static pthread_barrier_t start;

typedef struct {
  int number;
  int repetitions;
  const Backend *backend;
  const MetricFamily *family;
  Metric *metrics[4];
} Work;

static void run_in_threads(void *(*body)(void *), Work work) {
  pthread_t threads[THREADS];
  Work works[THREADS];
  pthread_barrier_init(&start, NULL, THREADS);
  for (int index = 0; index < THREADS; index++) {
    works[index] = work;
    works[index].number = index;
    if (pthread_create(&threads[index], NULL, body, &works[index]) != 0) check_give_up("pthread_create");
  }
  for (int index = 0; index < THREADS; index++) pthread_join(threads[index], NULL);
  pthread_barrier_destroy(&start);
}

static void *change_four_metrics(void *argument) {
  const Work *work = argument;
  pthread_barrier_wait(&start);
  for (int index = 0; index < work->repetitions; index++) {
    metric_inc(work->metrics[0], 0.5);
    metric_inc(work->metrics[1], 3);
    metric_dec(work->metrics[1], 1);
    metric_observe(work->metrics[2], index % 2 == 0 ? 0.25 : 4);
    metric_observe(work->metrics[3], 2);
  }
  return NULL;
}

static void changes_of_every_type_add_up(void) {
  Backend *backend = open_backend(url);
  MetricFamily *families[] = {
      declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total"),
      declare_plain(backend, METRIC_TYPE_GAUGE, "size"),
      declare_plain(backend, METRIC_TYPE_HISTOGRAM, "seconds"),
      declare_plain(backend, METRIC_TYPE_SUMMARY, "bytes"),
  };
  /* The number is even, so that both values of the histogram are equally frequent. */
  Work work = {.repetitions = 2 * check_repetitions(10000)};
  for (int index = 0; index < 4; index++) work.metrics[index] = make_metric(families[index], NULL);
  run_in_threads(change_four_metrics, work);
  double changes = (double)THREADS * work.repetitions, value = 0;
  CHECK_NUMBER(changes / 2, value_of(work.metrics[0]));
  CHECK_NUMBER(changes * 2, value_of(work.metrics[1]));
  CHECK_OK(metric_get_count(work.metrics[2], &value, &error));
  CHECK_NUMBER(changes, value);
  CHECK_OK(metric_get_bucket(work.metrics[2], 0.25, &value, &error));
  CHECK_NUMBER(changes / 2, value);
  CHECK_OK(metric_get_sum(work.metrics[2], &value, &error));
  CHECK_NUMBER(changes / 2 * 4.25, value);
  CHECK_OK(metric_get_count(work.metrics[3], &value, &error));
  CHECK_NUMBER(changes, value);
  CHECK_OK(metric_get_sum(work.metrics[3], &value, &error));
  CHECK_NUMBER(changes * 2, value);
  for (int index = 0; index < 4; index++) {
    metric_free(work.metrics[index]);
    metric_family_free(families[index]);
  }
  backend_free(backend);
}

/* Some threads count while others scrape, read, flush, remove and clear. */
static void *count_or_disturb(void *argument) {
  const Work *work = argument;
  const char *label_value = "removed";
  double before = 0, value = 0;
  pthread_barrier_wait(&start);
  for (int index = 0; index < work->repetitions; index++) {
    MetricsSnapshot *snapshot = NULL;
    char *text = NULL;
    Metric *metric = NULL;
    switch (work->number % 4) {
      case 0:
        for (int step = 0; step < 100; step++) metric_inc(work->metrics[0], 1);
        break;
      case 1:
        CHECK_OK(metrics_collect(work->backend, &text, NULL, &error));
        CHECK_CONTAINS("# TYPE kept_total counter\n", text);
        backend_string_free(text);
        break;
      case 2:
        CHECK_OK(metric_get(work->metrics[0], &value, &error));
        CHECK(value >= before);
        before = value;
        CHECK_OK(backend_flush(work->backend, 30.0, &error));
        break;
      default:
        metric = make_metric(work->family, label_value);
        metric_inc(metric, 1);
        /* Another thread may have removed it first. */
        metric_remove(work->family, &label_value, 1, NULL);
        metric_free(metric);
        CHECK_OK(metrics_snapshot_new(work->backend, NULL, 0, &snapshot, &error));
        metrics_snapshot_free(snapshot);
        CHECK_OK(metric_family_clear(work->family, &error));
    }
  }
  return NULL;
}

static void scrapes_and_removals_lose_no_increment(void) {
  Backend *backend = open_backend(url);
  MetricFamily *kept = declare_plain(backend, METRIC_TYPE_COUNTER, "kept_total");
  MetricFamily *disturbed = declare_labelled(backend, METRIC_TYPE_COUNTER, "disturbed_total");
  Work work = {
      .repetitions = check_repetitions(200),
      .backend = backend,
      .family = disturbed,
      .metrics = {make_metric(kept, NULL)},
  };
  run_in_threads(count_or_disturb, work);
  CHECK_NUMBER(THREADS / 4 * 100.0 * work.repetitions, value_of(work.metrics[0]));
  metric_free(work.metrics[0]);
  metric_family_free(kept);
  metric_family_free(disturbed);
  backend_free(backend);
}

static void *open_and_close(void *argument) {
  const Work *work = argument;
  pthread_barrier_wait(&start);
  for (int index = 0; index < work->repetitions; index++) {
    Backend *backend = open_backend(url);
    MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "opened_total");
    Metric *metric = make_metric(family, NULL);
    CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
    metric_free(metric);
    metric_family_free(family);
    backend_free(backend);
  }
  return NULL;
}

static void backends_open_and_close_beside_each_other(void) {
  Work work = {.repetitions = check_repetitions(40)};
  run_in_threads(open_and_close, work);
  Backend *backend = open_backend(url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "opened_total");
  Metric *metric = make_metric(family, NULL);
  CHECK_NUMBER(server != NULL ? (double)THREADS * work.repetitions : 0, value_of(metric));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

/* Each test begins with an empty store. */
#define RUN(test)    \
  do {               \
    empty_server();  \
    CHECK_RUN(test); \
  } while (0)

static void empty_server(void) {
  char reply[64];
  if (server == NULL) return;
  redis_server_ask(server, reply, sizeof reply, "FLUSHALL", (char *)NULL);
  CHECK_TEXT("OK", reply);
}

static void run_all(const char *store) {
  url = store;
  fprintf(stderr, "with %s\n", url);
  RUN(changes_of_every_type_add_up);
  RUN(scrapes_and_removals_lose_no_increment);
  RUN(backends_open_and_close_beside_each_other);
}

int main(void) {
  RedisServer started;
  run_all("memory:");
  redis_server_start(&started);
  server = &started;
  run_all(started.url);
  redis_server_stop(&started);
  return check_result();
}
