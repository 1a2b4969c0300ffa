/* Handles made before a fork work in the child as they are. Children count in Redis, where the totals must
 * be exact, or never touch the library; they end with _exit, as a forked worker does, after backend_flush.
 * Some forks happen while other threads of the parent are busy in every part of the library.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#include <valgrind/valgrind.h>

#include "declare.h"
#include "redis_server.h"

static RedisServer server;

/* Ends a child; its failed checks become its exit status. */
static void leave(void) {
  _exit(check_result());
}

static pid_t fork_child(void) {
  fflush(stderr);
  pid_t child = fork();
  if (child < 0) check_give_up("fork");
  if (child > 0) return child;
  /* What the parent has found out so far is the parent's to report. */
  atomic_store(&check_failures, 0);
  /* A child has memory of its parent's threads without the threads, and the library forgets what was
   * theirs on purpose: leaks mean nothing here. All other errors still count. */
  VALGRIND_CLO_CHANGE("--leak-check=no");
  return child;
}

static void wait_for(pid_t child) {
  int status = -1;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void empty_server(void) {
  char reply[64];
  redis_server_ask(&server, reply, sizeof reply, "FLUSHALL", (char *)NULL);
  CHECK_TEXT("OK", reply);
}

static void a_child_counts_on_with_the_handles_of_its_parent(void) {
  empty_server();
  Backend *backend = open_backend(server.url);
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, "GET");
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  pid_t child = fork_child();
  if (child == 0) {
    CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 10));
    Metric *another = make_metric(family, "POST");
    CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(another, 100));
    CHECK_OK(backend_flush(backend, 30.0, &error));
    CHECK_NUMBER(100, value_of(another));
    metric_free(another);
    leave();
  }
  wait_for(child);
  /* The parent's own increment, which the child inherited, counts once. */
  CHECK_NUMBER(11, value_of(metric));
  CHECK_SCRAPE("# HELP requests_total Help.\n"
               "# TYPE requests_total counter\n"
               "requests_total{method=\"GET\"} 11\n"
               "requests_total{method=\"POST\"} 100\n",
               backend);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void count_call(void *calls) {
  ++*(int *)calls;
}

static void a_child_that_starts_threads_anew_tells_the_program(void) {
  int calls = 0;
  Backend *backend = open_backend(server.url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_GAUGE, "level");
  Metric *metric = make_metric(family, NULL);
  backend_restart_callback(count_call, &calls);
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  pid_t child = fork_child();
  if (child == 0) {
    CHECK_NUMBER(0, calls);
    CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
    CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
    CHECK_NUMBER(1, calls);
    leave();
  }
  wait_for(child);
  CHECK_NUMBER(0, calls);
  backend_restart_callback(NULL, NULL);
  child = fork_child();
  if (child == 0) {
    CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
    CHECK_NUMBER(0, calls);
    leave();
  }
  wait_for(child);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_child_may_free_everything_and_open_anew(void) {
  empty_server();
  Backend *backend = open_backend(server.url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  pid_t child = fork_child();
  if (child == 0) {
    metric_inc(metric, 1);
    metric_free(metric);
    metric_family_free(family);
    backend_free(backend);
    backend = open_backend(server.url);
    family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
    metric = make_metric(family, NULL);
    metric_inc(metric, 1);
    metric_free(metric);
    metric_family_free(family);
    backend_free(backend);
    leave();
  }
  wait_for(child);
  CHECK_NUMBER(2, value_of(metric));
  metric_inc(metric, 1);
  CHECK_NUMBER(3, value_of(metric));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_child_that_never_uses_the_backend_changes_nothing(void) {
  empty_server();
  Backend *backend = open_backend(server.url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, NULL);
  for (int index = 0; index < 20; index++) {
    metric_inc(metric, 1);
    pid_t child = fork_child();
    if (child == 0) leave();
    metric_inc(metric, 1);
    wait_for(child);
  }
  CHECK_NUMBER(40, value_of(metric));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_grandchild_counts_too(void) {
  empty_server();
  Backend *backend = open_backend(server.unix_url);
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_HISTOGRAM, "seconds");
  Metric *metric = make_metric(family, NULL);
  pid_t child = fork_child();
  if (child == 0) {
    metric_observe(metric, 1);
    pid_t grandchild = fork_child();
    if (grandchild == 0) {
      metric_observe(metric, 2);
      CHECK_OK(backend_flush(backend, 30.0, &error));
      leave();
    }
    wait_for(grandchild);
    CHECK_OK(backend_flush(backend, 30.0, &error));
    leave();
  }
  wait_for(child);
  double value = 0;
  CHECK_OK(metric_get_count(metric, &value, &error));
  CHECK_NUMBER(2, value);
  CHECK_OK(metric_get_sum(metric, &value, &error));
  CHECK_NUMBER(3, value);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

/* In memory a child has a copy of its own. */
static void in_memory_each_process_counts_for_itself(void) {
  const char *const urls[] = {"memory:", "memory:?cell=mutex"};
  for (int index = 0; index < 2; index++) {
    Backend *backend = open_backend(urls[index]);
    MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
    Metric *metric = make_metric(family, NULL);
    metric_inc(metric, 1);
    pid_t child = fork_child();
    if (child == 0) {
      metric_inc(metric, 10);
      CHECK_NUMBER(11, value_of(metric));
      leave();
    }
    wait_for(child);
    CHECK_NUMBER(1, value_of(metric));
    metric_free(metric);
    metric_family_free(family);
    backend_free(backend);
  }
}

/* Threads of the parent that are busy in the library while it forks. */
typedef struct {
  const Backend *backend;
  const MetricFamily *family;
  const Metric *metric;
  atomic_bool is_over;
  atomic_int increments;
} Busy;

static void *stay_busy(void *argument) {
  Busy *busy = argument;
  char text[32];
  for (int index = 0; !atomic_load(&busy->is_over); index++) {
    metric_inc(busy->metric, 1);
    atomic_fetch_add(&busy->increments, 1);
    if (index % 16 != 0) continue;
    snprintf(text, sizeof text, "%d", index % 7);
    metric_free(make_metric(busy->family, text));
    if (index % 128 == 0) CHECK_OK(backend_flush(busy->backend, 30.0, &error));
    /* The queue of log records is locked and read, though there are none. */
    int32_t level = 0;
    char *message = NULL;
    backend_log_next(0.0, &level, &message);
    backend_string_free(message);
  }
  return NULL;
}

static void fork_while_threads_are_busy(const char *url, bool is_shared) {
  enum { THREADS = 3 };
  empty_server();
  int forks = check_repetitions(60);
  Backend *backend = open_backend(url);
  MetricFamily *counted = declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total");
  MetricFamily *labelled = declare_labelled(backend, METRIC_TYPE_GAUGE, "size");
  Metric *metric = make_metric(counted, NULL);
  Busy busy = {.backend = backend, .family = labelled, .metric = metric};
  pthread_t threads[THREADS];
  for (int index = 0; index < THREADS; index++) pthread_create(&threads[index], NULL, stay_busy, &busy);
  for (int index = 0; index < forks; index++) {
    pid_t child = fork_child();
    if (child == 0) {
      CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
      metric_free(make_metric(labelled, "child"));
      CHECK_OK(backend_flush(backend, 60.0, &error));
      leave();
    }
    wait_for(child);
  }
  atomic_store(&busy.is_over, true);
  for (int index = 0; index < THREADS; index++) pthread_join(threads[index], NULL);
  double increments = atomic_load(&busy.increments);
  CHECK_NUMBER(is_shared ? increments + forks : increments, value_of(metric));
  metric_free(metric);
  metric_family_free(counted);
  metric_family_free(labelled);
  backend_free(backend);
}

/* Nothing but counting, so that a fork is likely to find the thread at it. */
static void *keep_counting(void *argument) {
  Busy *busy = argument;
  while (!atomic_load(&busy->is_over)) metric_inc(busy->metric, 1);
  return NULL;
}

static void *keep_making_metrics(void *argument) {
  Busy *busy = argument;
  char text[32];
  for (int index = 0; !atomic_load(&busy->is_over); index++) {
    snprintf(text, sizeof text, "%d", index % 100);
    metric_free(make_metric(busy->family, text));
  }
  return NULL;
}

/* Handles of a removed metric, or of a backend that is freed, work in a child as others do. */
static void handles_of_what_is_gone_do_not_hang_a_child(const char *url, bool is_closed) {
  enum { THREADS = 4 };
  int forks = check_repetitions(200);
  const char *label_value = "removed";
  Backend *backend = open_backend(url);
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, label_value);
  if (is_closed) {
    backend_free(backend);
  } else {
    CHECK_OK(metric_remove(family, &label_value, 1, &error));
  }
  Busy busy = {.family = family, .metric = metric};
  pthread_t threads[THREADS];
  for (int index = 0; index < THREADS; index++) {
    pthread_create(&threads[index], NULL, index % 2 == 0 ? keep_counting : keep_making_metrics, &busy);
  }
  int failures = atomic_load(&check_failures);
  for (int index = 0; index < forks && atomic_load(&check_failures) == failures; index++) {
    pid_t child = fork_child();
    if (child == 0) {
      /* Not a measure: a child that hangs is one that never ends. */
      alarm(20);
      metric_inc(metric, 1);
      metric_free(make_metric(family, "child"));
      leave();
    }
    wait_for(child);
  }
  atomic_store(&busy.is_over, true);
  for (int index = 0; index < THREADS; index++) pthread_join(threads[index], NULL);
  metric_free(metric);
  metric_family_free(family);
  if (!is_closed) backend_free(backend);
}

static void forks_while_other_threads_use_a_removed_metric(void) {
  handles_of_what_is_gone_do_not_hang_a_child("memory:", false);
  handles_of_what_is_gone_do_not_hang_a_child("memory:?cell=mutex", false);
  handles_of_what_is_gone_do_not_hang_a_child(server.url, false);
}

static void forks_while_other_threads_use_a_freed_backend(void) {
  handles_of_what_is_gone_do_not_hang_a_child("memory:", true);
  handles_of_what_is_gone_do_not_hang_a_child("memory:?cell=mutex", true);
  handles_of_what_is_gone_do_not_hang_a_child(server.url, true);
}

static void forks_while_other_threads_are_busy_keep_totals_exact(void) {
  fork_while_threads_are_busy(server.url, true);
  fork_while_threads_are_busy("memory:", false);
  fork_while_threads_are_busy("memory:?cell=mutex", false);
}

/* As a program does that returns from main without closing anything. */
static void a_process_that_calls_exit_sends_what_it_has_counted(void) {
  empty_server();
  pid_t child = fork_child();
  if (child == 0) {
    Backend *backend = open_backend(server.url);
    Metric *metric = make_metric(declare_plain(backend, METRIC_TYPE_COUNTER, "requests_total"), NULL);
    for (int i = 0; i < 1000; i++) CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
    exit(check_result());
  }
  wait_for(child);
  char reply[64];
  redis_server_ask(&server, reply, sizeof reply, "GET", "requests_total", (char *)NULL);
  CHECK_TEXT("1000", reply);
}

int main(void) {
  redis_server_start(&server);
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_WARNING));
  CHECK_RUN(a_child_counts_on_with_the_handles_of_its_parent);
  CHECK_RUN(a_child_that_starts_threads_anew_tells_the_program);
  CHECK_RUN(a_child_may_free_everything_and_open_anew);
  CHECK_RUN(a_process_that_calls_exit_sends_what_it_has_counted);
  CHECK_RUN(a_child_that_never_uses_the_backend_changes_nothing);
  CHECK_RUN(a_grandchild_counts_too);
  CHECK_RUN(in_memory_each_process_counts_for_itself);
  CHECK_RUN(forks_while_other_threads_are_busy_keep_totals_exact);
  CHECK_RUN(forks_while_other_threads_use_a_removed_metric);
  CHECK_RUN(forks_while_other_threads_use_a_freed_backend);
  redis_server_stop(&server);
  return check_result();
}
