/* Forks while threads of the parent are in the middle of every call. In the end the totals are exact, in Redis and
 * in shared memory, and no child hangs.
 */
#include <pthread.h>
#include <sys/mman.h>

#include "children.h"
#include "declare.h"
#include "redis_server.h"

enum { BUSY_THREADS = 3, FORKS = 300 };

static RedisServer server;

/* The call that each thread and the current child make, in memory that parent and child share. A failure report
 * shows them when a child hangs. */
static struct {
  const char *_Atomic by_child;
  const char *_Atomic by_thread[BUSY_THREADS];
} *current_call;

static void explain_hang(void) {
  fprintf(stderr, "  the child is at %s\n", atomic_load(&current_call->by_child));
  for (int index = 0; index < BUSY_THREADS; index++) {
    fprintf(stderr, "  thread %d of its parent is at %s\n", index, atomic_load(&current_call->by_thread[index]));
  }
}

/* The handles that all processes use, created before the first fork, and the expected totals. Each count changes
 * a counter, a gauge and a histogram. */
typedef struct {
  Backend *backend;
  MetricFamily *requests, *scratch;
  Metric *by_threads, *by_children, *by_grandchildren, *level, *seconds;
  atomic_bool is_over;
  atomic_int threads_counted, children_counted, grandchildren_counted;
} Service;

static Metric *make_plain_metric(const Backend *backend, MetricType type, const char *name) {
  MetricFamily *family = declare_plain(backend, type, name);
  Metric *metric = make_metric(family, NULL);
  metric_family_free(family);
  return metric;
}

static Service open_service(const char *url) {
  Service service = {.backend = open_backend(url)};
  service.requests = declare_labelled(service.backend, METRIC_TYPE_COUNTER, "requests_total");
  service.scratch = declare_labelled(service.backend, METRIC_TYPE_GAUGE, "scratch");
  service.by_threads = make_metric(service.requests, "thread");
  service.by_children = make_metric(service.requests, "child");
  service.by_grandchildren = make_metric(service.requests, "grandchild");
  service.level = make_plain_metric(service.backend, METRIC_TYPE_GAUGE, "level");
  service.seconds = make_plain_metric(service.backend, METRIC_TYPE_HISTOGRAM, "seconds");
  return service;
}

static void close_service(Service *service) {
  Metric *metrics[] = {service->by_threads, service->by_children, service->by_grandchildren, service->level,
                       service->seconds};
  for (size_t index = 0; index < sizeof metrics / sizeof *metrics; index++) metric_free(metrics[index]);
  metric_family_free(service->requests);
  metric_family_free(service->scratch);
  backend_free(service->backend);
}

static void count(const Service *service, const Metric *counter) {
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(counter, 1));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(service->level, 3));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_dec(service->level, 2));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(service->seconds, 0.5));
}

/* Makes one of the other calls, chosen by number, and notes it in `at`. */
static void call_another(const Service *service, int number, const char *_Atomic *at) {
  char text[16];
  const char *label_value = text;
  snprintf(text, sizeof text, "%d", number % 17);
  switch (number % 8) {
    case 0:
    case 1: {
      atomic_store(at, "metric_new, metric_set, metric_free");
      Metric *metric = make_metric(service->scratch, label_value);
      CHECK_STATUS(BACKEND_STATUS_OK, metric_set(metric, number));
      metric_free(metric);
      break;
    }
    case 2: {
      /* Another thread may have removed the metric before. */
      atomic_store(at, "metric_remove");
      BackendStatus status = metric_remove(service->scratch, &label_value, 1, NULL);
      CHECK(status == BACKEND_STATUS_OK || status == BACKEND_STATUS_NOT_FOUND);
      break;
    }
    case 3: {
      atomic_store(at, "metrics_collect");
      char *exposition = NULL;
      CHECK_OK(metrics_collect(service->backend, &exposition, NULL, &error));
      backend_string_free(exposition);
      break;
    }
    case 4:
      atomic_store(at, "backend_flush");
      CHECK_OK(backend_flush(service->backend, 60.0, &error));
      break;
    case 5: {
      atomic_store(at, "metric_family_new, metric_family_clear, metric_family_free");
      MetricFamily *family = declare_labelled(service->backend, METRIC_TYPE_COUNTER, "passing");
      metric_free(make_metric(family, label_value));
      CHECK_OK(metric_family_clear(family, &error));
      metric_family_free(family);
      break;
    }
    case 6: {
      atomic_store(at, "backend_new, backend_flush, backend_free");
      Backend *another = open_backend(number % 16 == 6 ? "memory:" : server.url);
      CHECK_OK(backend_flush(another, 60.0, &error));
      backend_free(another);
      break;
    }
    default: {
      atomic_store(at, "metric_get, backend_log_next");
      int32_t level = 0;
      char *message = NULL;
      CHECK(value_of(service->by_threads) >= 0);
      backend_log_next(0.0, &level, NULL, &message);
      backend_string_free(message);
    }
  }
  atomic_store(at, "counting");
}

/* The kinds of children, which take turns. */
enum { IDLE, COUNTING, WITH_GRANDCHILD, BUSY_UNTIL_EXIT, BUSY, KINDS };

/* Plays the part of a child and ends it. */
static void be_a_child(const Service *service, int kind) {
  if (kind == IDLE) leave();
  if (kind == WITH_GRANDCHILD) {
    pid_t grandchild = fork_child();
    if (grandchild == 0) {
      count(service, service->by_grandchildren);
      CHECK_OK(backend_flush(service->backend, 60.0, &error));
      leave();
    }
    wait_for(grandchild);
  }
  count(service, service->by_children);
  if (kind >= BUSY_UNTIL_EXIT) {
    /* Each call once, whatever the parent's threads were doing at the fork. */
    for (int number = 0; number < 8; number++) call_another(service, number, &current_call->by_child);
    count(service, service->by_children);
  }
  atomic_store(&current_call->by_child, "its end");
  if (kind == BUSY_UNTIL_EXIT) exit(check_result());
  CHECK_OK(backend_flush(service->backend, 60.0, &error));
  leave();
}

static void fork_children(Service *service, int number) {
  int failures = atomic_load(&check_failures);
  for (int index = 0; index < number && atomic_load(&check_failures) == failures; index++) {
    int kind = index % KINDS;
    atomic_store(&current_call->by_child, "its beginning");
    pid_t child = fork_child();
    if (child == 0) be_a_child(service, kind);
    int status = wait_for_status(child, explain_hang);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    atomic_fetch_add(&service->children_counted, kind == IDLE ? 0 : kind < BUSY_UNTIL_EXIT ? 1 : 2);
    atomic_fetch_add(&service->grandchildren_counted, kind == WITH_GRANDCHILD);
  }
}

typedef struct {
  Service *service;
  int index;
  int forks;
} Worker;

static void *work(void *argument) {
  Worker *worker = argument;
  Service *service = worker->service;
  for (int number = worker->index; !atomic_load(&service->is_over); number++) {
    for (int index = 0; index < 20; index++) {
      count(service, service->by_threads);
      atomic_fetch_add(&service->threads_counted, 1);
    }
    call_another(service, number, &current_call->by_thread[worker->index]);
  }
  return NULL;
}

static void *fork_in_a_thread(void *argument) {
  Worker *worker = argument;
  fork_children(worker->service, worker->forks);
  return NULL;
}

/* Compares the totals as a second backend sees them, which has counted nothing itself. */
static void check_totals(const char *url, Service *service) {
  double value = 0;
  double threads = atomic_load(&service->threads_counted);
  double children = atomic_load(&service->children_counted);
  double grandchildren = atomic_load(&service->grandchildren_counted);
  double total = threads + children + grandchildren;
  CHECK_OK(backend_flush(service->backend, 60.0, &error));
  Service reader = open_service(url);
  CHECK_NUMBER(threads, value_of(reader.by_threads));
  CHECK_NUMBER(children, value_of(reader.by_children));
  CHECK_NUMBER(grandchildren, value_of(reader.by_grandchildren));
  CHECK_NUMBER(total, value_of(reader.level));
  CHECK_OK(metric_get_count(reader.seconds, &value, &error));
  CHECK_NUMBER(total, value);
  CHECK_OK(metric_get_sum(reader.seconds, &value, &error));
  CHECK_NUMBER(total / 2, value);
  close_service(&reader);
}

static void fork_in_the_middle_of_every_call(const char *url) {
  int forks = check_repetitions(FORKS);
  Service service = open_service(url);
  Worker workers[BUSY_THREADS + 1];
  pthread_t threads[BUSY_THREADS + 1];
  for (int index = 0; index <= BUSY_THREADS; index++) {
    workers[index] = (Worker){.service = &service, .index = index, .forks = forks / 10};
    /* The last thread forks too, at the same time as the main thread. */
    pthread_create(&threads[index], NULL, index < BUSY_THREADS ? work : fork_in_a_thread, &workers[index]);
  }
  fork_children(&service, forks);
  pthread_join(threads[BUSY_THREADS], NULL);
  atomic_store(&service.is_over, true);
  for (int index = 0; index < BUSY_THREADS; index++) pthread_join(threads[index], NULL);
  check_totals(url, &service);
  close_service(&service);
}

static void forks_in_the_middle_of_every_call_keep_totals_exact_in_redis(void) {
  fork_in_the_middle_of_every_call(server.url);
}

static void forks_in_the_middle_of_every_call_keep_totals_exact_in_shared_memory(void) {
  char path[128], url[160];
  snprintf(path, sizeof path, "%s/metrics", server.folder);
  snprintf(url, sizeof url, "shm://%s", path);
  fork_in_the_middle_of_every_call(url);
  CHECK(unlink(path) == 0);
}

int main(void) {
  current_call = mmap(NULL, sizeof *current_call, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (current_call == MAP_FAILED) check_give_up("mmap");
  atomic_store(&current_call->by_child, "nothing");
  for (int index = 0; index < BUSY_THREADS; index++) atomic_store(&current_call->by_thread[index], "counting");
  redis_server_start(&server);
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_WARNING));
  CHECK_RUN(forks_in_the_middle_of_every_call_keep_totals_exact_in_redis);
  CHECK_RUN(forks_in_the_middle_of_every_call_keep_totals_exact_in_shared_memory);
  redis_server_stop(&server);
  return check_result();
}
