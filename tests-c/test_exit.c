/* The end of a process in every order: `exit` from any thread, while other threads are in the library, with a
 * backend that is open, closed or freed, with and without an answering server. Each end is bounded and without a
 * crash, and after a normal end all changes have arrived.
 *
 * A forked child plays each end. Its parent never uses the library.
 */
#include <pthread.h>

#include "children.h"
#include "declare.h"
#include "redis_server.h"

enum { STATUS = 7, COUNTED = 3 };

static RedisServer server;
static char shared_memory_path[128];
/* The flush interval is so long that only the end of the process sends. */
static char redis_url[128], shared_memory_url[160];

/* The handles of the process that ends. */
static Backend *backend;
static MetricFamily *family;
static Metric *metric, *noise;

static void open_everything(const char *url) {
  backend = open_backend(url);
  family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  metric = make_metric(family, "main");
  noise = make_metric(family, "noise");
}

static void count(void) {
  for (int index = 0; index < COUNTED; index++) CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
}

/* Keeps a thread in the library until the process ends. It checks nothing, because the backend may be closed. */
static void *keep_busy(void *argument) {
  const int *which = argument;
  for (int number = 0;; number++) {
    metric_inc(noise, 1);
    switch (*which) {
      case 0: {
        char *text = NULL;
        metrics_collect(backend, &text, NULL, NULL);
        backend_string_free(text);
        break;
      }
      case 1: {
        char value[16];
        const char *label_value = value;
        Metric *another = NULL;
        snprintf(value, sizeof value, "%d", number % 10);
        metric_new(family, &label_value, 1, &another, NULL);
        metric_free(another);
        if (number % 3 == 0) metric_remove(family, &label_value, 1, NULL);
        break;
      }
      default:
        backend_flush(backend, 10, NULL);
    }
  }
  return NULL;
}

static void start(void *(*body)(void *), void *argument) {
  pthread_t thread;
  if (pthread_create(&thread, NULL, body, argument) != 0) check_give_up("pthread_create");
}

static void start_busy_threads(void) {
  static int which[] = {0, 1, 2};
  for (int index = 0; index < 3; index++) start(keep_busy, &which[index]);
}

static void *exit_here(void *argument) {
  (void)argument;
  count();
  exit(STATUS);
}

/* --- The ends, each in a process of its own -------------------------------------------------------------- */

static void by_exit(void) {
  count();
  exit(STATUS);
}

static void by_exit_while_threads_are_busy(void) {
  start_busy_threads();
  count();
  exit(STATUS);
}

static void by_exit_in_a_thread(void) {
  start(exit_here, NULL);
  for (;;) pause();
}

static void by_exit_in_a_thread_while_all_are_busy(void) {
  static int which = 1;
  start_busy_threads();
  start(exit_here, NULL);
  keep_busy(&which);
}

static void by_exit_after_close_all(void) {
  start_busy_threads();
  count();
  backend_close_all();
  backend_close_all();
  exit(STATUS);
}

static void by_exit_after_everything_is_freed(void) {
  count();
  metric_free(metric);
  metric_free(noise);
  metric_family_free(family);
  backend_free(backend);
  exit(STATUS);
}

static void by_exit_with_handlers_of_the_program(void) {
  /* A handler that is registered after the library's runs before it. */
  atexit(count);
  exit(STATUS);
}

static void by_exit_of_a_forked_child(void) {
  pid_t child = fork();
  if (child < 0) check_give_up("fork");
  if (child == 0) by_exit_in_a_thread_while_all_are_busy();
  int status = 0;
  waitpid(child, &status, 0);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != STATUS) _exit(1);
  exit(STATUS);
}

static void by_exit_without_handlers(void) {
  count();
  CHECK_OK(backend_flush(backend, 60.0, &error));
  start_busy_threads();
  _exit(STATUS);
}

static void by_a_signal(void) {
  count();
  CHECK_OK(backend_flush(backend, 60.0, &error));
  start_busy_threads();
  raise(SIGTERM);
}

/* --- The checks ----------------------------------------------------------------------------------------- */

/* Opens a store in a child, ends the child by `end`, and returns its status. */
static int end_of(const char *url, void (*end)(void)) {
  pid_t child = fork_child();
  if (child == 0) {
    open_everything(url);
    if (check_result() != 0) _exit(1);
    end();
    _exit(1);
  }
  return wait_for_status(child, NULL);
}

static double expected;

static void compare(void) {
  CHECK_NUMBER(expected, value_of(metric));
  exit(check_result() == 0 ? STATUS : 1);
}

static void check_end(void (*end)(void)) {
  const char *const urls[] = {redis_url, shared_memory_url, "memory:"};
  int runs = check_repetitions(5);
  for (int index = 0; index < 3; index++) {
    char reply[64];
    redis_server_ask(&server, reply, sizeof reply, "FLUSHALL", (char *)NULL);
    unlink(shared_memory_path);
    for (int run = 0; run < runs; run++) {
      int status = end_of(urls[index], end);
      if (end == by_a_signal) {
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
      } else {
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == STATUS);
      }
    }
    if (index < 2) {
      expected = COUNTED * runs;
      int status = end_of(urls[index], compare);
      CHECK(WIFEXITED(status) && WEXITSTATUS(status) == STATUS);
    }
  }
}

#define CHECK_END(end)                                                                                        \
  static void an_end_##end(void) {                                                                            \
    check_end(end);                                                                                           \
  }

CHECK_END(by_exit)
CHECK_END(by_exit_while_threads_are_busy)
CHECK_END(by_exit_in_a_thread)
CHECK_END(by_exit_in_a_thread_while_all_are_busy)
CHECK_END(by_exit_after_close_all)
CHECK_END(by_exit_after_everything_is_freed)
CHECK_END(by_exit_with_handlers_of_the_program)
CHECK_END(by_exit_of_a_forked_child)
CHECK_END(by_exit_without_handlers)
CHECK_END(by_a_signal)

static void stall_and_exit(void) {
  redis_server_pause(&server);
  start_busy_threads();
  count();
  exit(STATUS);
}

static void an_end_without_a_server_is_bounded(void) {
  char url[192];
  snprintf(url, sizeof url, "%s?shutdown_timeout=0.3&collect_timeout=100&socket_timeout=100", server.url);
  for (int run = 0; run < check_repetitions(5); run++) {
    int status = end_of(url, stall_and_exit);
    redis_server_resume(&server);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == STATUS);
  }
}

int main(void) {
  redis_server_start(&server);
  snprintf(redis_url, sizeof redis_url, "%s?flush_interval_ms=600000&shutdown_timeout=60", server.url);
  snprintf(shared_memory_path, sizeof shared_memory_path, "%s/metrics", server.folder);
  snprintf(shared_memory_url, sizeof shared_memory_url, "shm://%s", shared_memory_path);
  CHECK_RUN(an_end_by_exit);
  CHECK_RUN(an_end_by_exit_while_threads_are_busy);
  CHECK_RUN(an_end_by_exit_in_a_thread);
  CHECK_RUN(an_end_by_exit_in_a_thread_while_all_are_busy);
  CHECK_RUN(an_end_by_exit_after_close_all);
  CHECK_RUN(an_end_by_exit_after_everything_is_freed);
  CHECK_RUN(an_end_by_exit_with_handlers_of_the_program);
  CHECK_RUN(an_end_by_exit_of_a_forked_child);
  CHECK_RUN(an_end_by_exit_without_handlers);
  CHECK_RUN(an_end_by_a_signal);
  CHECK_RUN(an_end_without_a_server_is_bounded);
  unlink(shared_memory_path);
  redis_server_stop(&server);
  return check_result();
}
