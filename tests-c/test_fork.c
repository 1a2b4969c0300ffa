/* Handles made before a fork work in the child as they are. Children count in Redis or in shared memory, where
 * the totals must be exact, or never touch the library; most end with _exit, as a forked worker does, after
 * backend_flush. Some forks happen while other threads of the parent are busy in every part of the library.
 * A child that hangs is found by a deadline.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <valgrind/valgrind.h>

#include "declare.h"
#include "redis_server.h"

static RedisServer server;
static const char *program;

/* What is being done just now, by child and parent, in memory that both see: it is told when a child hangs. */
enum { BUSY_THREADS = 3 };
static struct {
  const char *_Atomic by_child;
  const char *_Atomic by_thread[BUSY_THREADS];
} *doing;

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

/* Waits for a child, for longer than any takes that does not hang, also under valgrind. */
static void wait_for(pid_t child) {
  struct timespec start, now;
  int status = -1;
  clock_gettime(CLOCK_MONOTONIC, &start);
  while (waitpid(child, &status, WNOHANG) == 0) {
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec - start.tv_sec > 120) {
      fprintf(stderr, "a child hangs: it was at %s\n", atomic_load(&doing->by_child));
      for (int index = 0; index < BUSY_THREADS; index++) {
        fprintf(stderr, "  thread %d of its parent is at %s\n", index, atomic_load(&doing->by_thread[index]));
      }
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      break;
    }
    check_pause();
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

/* --- Forks in the midst of every call ------------------------------------------------------------------ */

/* What all processes of the test use: handles that were made before the first fork, and what must be counted in
 * the end. Each count changes a counter, a gauge and a histogram. */
typedef struct {
  Backend *backend;
  MetricFamily *requests, *scratch;
  Metric *by_threads, *by_children, *by_grandchildren, *level, *seconds;
  atomic_bool is_over;
  atomic_int threads_counted, children_counted, grandchildren_counted;
} Service;

static Service open_service(const char *url) {
  Service service = {.backend = open_backend(url)};
  service.requests = declare_labelled(service.backend, METRIC_TYPE_COUNTER, "requests_total");
  service.scratch = declare_labelled(service.backend, METRIC_TYPE_GAUGE, "scratch");
  service.by_threads = make_metric(service.requests, "thread");
  service.by_children = make_metric(service.requests, "child");
  service.by_grandchildren = make_metric(service.requests, "grandchild");
  MetricFamily *family = declare_plain(service.backend, METRIC_TYPE_GAUGE, "level");
  service.level = make_metric(family, NULL);
  metric_family_free(family);
  family = declare_plain(service.backend, METRIC_TYPE_HISTOGRAM, "seconds");
  service.seconds = make_metric(family, NULL);
  metric_family_free(family);
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

static void count(const Service *service, const Metric *who) {
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(who, 1));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(service->level, 3));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_dec(service->level, 2));
  CHECK_STATUS(BACKEND_STATUS_OK, metric_observe(service->seconds, 0.5));
}

/* One of the other calls, by number; `at` is told which. */
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
      /* Another thread may have removed it before. */
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
      backend_log_next(0.0, &level, &message);
      backend_string_free(message);
    }
  }
  atomic_store(at, "counting");
}

/* Does in the child what its kind is, and ends it. */
static void be_a_child(const Service *service, int kind) {
  switch (kind) {
    case 0:
      leave();
      break;
    case 1:
      count(service, service->by_children);
      break;
    case 2: {
      pid_t grandchild = fork_child();
      if (grandchild == 0) {
        count(service, service->by_grandchildren);
        CHECK_OK(backend_flush(service->backend, 60.0, &error));
        leave();
      }
      wait_for(grandchild);
      count(service, service->by_children);
      break;
    }
    default:
      /* Every call, whatever the parent's threads were at. */
      count(service, service->by_children);
      for (int number = 0; number < 8; number++) call_another(service, number, &doing->by_child);
      count(service, service->by_children);
  }
  atomic_store(&doing->by_child, "its end");
  if (kind == 3) exit(check_result());
  CHECK_OK(backend_flush(service->backend, 60.0, &error));
  leave();
}

static void fork_children(Service *service, int number) {
  int failures = atomic_load(&check_failures);
  for (int index = 0; index < number && atomic_load(&check_failures) == failures; index++) {
    int kind = index % 5;
    atomic_store(&doing->by_child, "its beginning");
    pid_t child = fork_child();
    if (child == 0) be_a_child(service, kind);
    wait_for(child);
    atomic_fetch_add(&service->children_counted, kind == 0 ? 0 : kind <= 2 ? 1 : 2);
    atomic_fetch_add(&service->grandchildren_counted, kind == 2);
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
    call_another(service, number, &doing->by_thread[worker->index]);
  }
  return NULL;
}

static void *fork_in_a_thread(void *argument) {
  Worker *worker = argument;
  fork_children(worker->service, worker->forks);
  return NULL;
}

static void check_counted(const char *url, Service *service) {
  double value = 0;
  double threads = atomic_load(&service->threads_counted);
  double children = atomic_load(&service->children_counted);
  double grandchildren = atomic_load(&service->grandchildren_counted);
  double total = threads + children + grandchildren;
  CHECK_OK(backend_flush(service->backend, 60.0, &error));
  /* By another backend, which has counted nothing. */
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

static void fork_in_the_midst_of_every_call(const char *url) {
  enum { ROUNDS = 3 };
  empty_server();
  int forks = check_repetitions(300);
  Service service = open_service(url);
  for (int round = 0; round < ROUNDS; round++) {
    Worker workers[BUSY_THREADS + 1];
    pthread_t threads[BUSY_THREADS + 1];
    atomic_store(&service.is_over, false);
    for (int index = 0; index <= BUSY_THREADS; index++) {
      workers[index] = (Worker){.service = &service, .index = index, .forks = forks / 10};
      /* The last of them forks too, at the same time as the main thread. */
      pthread_create(&threads[index], NULL, index < BUSY_THREADS ? work : fork_in_a_thread, &workers[index]);
    }
    fork_children(&service, forks);
    pthread_join(threads[BUSY_THREADS], NULL);
    atomic_store(&service.is_over, true);
    for (int index = 0; index < BUSY_THREADS; index++) pthread_join(threads[index], NULL);
    check_counted(url, &service);
  }
  close_service(&service);
}

static void forks_300_times_in_the_midst_of_every_call_with_redis(void) {
  fork_in_the_midst_of_every_call(server.url);
}

static void forks_300_times_in_the_midst_of_every_call_with_shared_memory(void) {
  char path[128], url[160];
  snprintf(path, sizeof path, "%s/metrics", server.folder);
  snprintf(url, sizeof url, "shm://%s", path);
  fork_in_the_midst_of_every_call(url);
  CHECK(unlink(path) == 0);
}

/* --- Fork and exec -------------------------------------------------------------------------------------- */

static int entries(const char *folder, char *names, size_t size) {
  int count = 0;
  DIR *directory = opendir(folder);
  if (directory == NULL) check_give_up(folder);
  names[0] = '\0';
  for (struct dirent *entry = readdir(directory); entry != NULL; entry = readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    size_t length = strlen(names);
    snprintf(names + length, size - length, "%s ", entry->d_name);
    count++;
  }
  closedir(directory);
  return count;
}

/* What a program has open that is started by fork and exec: its descriptors, by number. */
static void started_program_has_open(char *names, size_t size) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) check_give_up("pipe");
  pid_t child = fork_child();
  if (child == 0) {
    CHECK_NUMBER(1, entries("/proc/self/task", names, size));
    if (check_result() != 0) leave();
    dup2(ends[1], STDOUT_FILENO);
    execl(program, program, "show-descriptors", (char *)NULL);
    check_give_up(program);
  }
  close(ends[1]);
  size_t length = 0;
  ssize_t count = 0;
  while ((count = read(ends[0], names + length, size - length - 1)) > 0) length += (size_t)count;
  names[length] = '\0';
  close(ends[0]);
  wait_for(child);
}

static void a_program_started_by_fork_and_exec_gets_nothing_of_ours(void) {
  char before[1024], after[1024], path[128], url[160];
  snprintf(path, sizeof path, "%s/metrics", server.folder);
  snprintf(url, sizeof url, "shm://%s", path);
  const char *const urls[] = {server.url, server.unix_url, url};
  started_program_has_open(before, sizeof before);
  for (int index = 0; index < 3; index++) {
    Service service = open_service(urls[index]);
    Worker worker = {.service = &service};
    pthread_t thread;
    pthread_create(&thread, NULL, work, &worker);
    for (int fork = 0; fork < check_repetitions(20); fork++) {
      started_program_has_open(after, sizeof after);
      CHECK_TEXT(before, after);
    }
    atomic_store(&service.is_over, true);
    pthread_join(thread, NULL);
    close_service(&service);
  }
  CHECK(unlink(path) == 0);
}

static int show_descriptors(void) {
  char names[1024];
  entries("/proc/self/fd", names, sizeof names);
  fputs(names, stdout);
  return 0;
}

/* --- The end -------------------------------------------------------------------------------------------- */

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

int main(int argument_count, char **arguments) {
  program = arguments[0];
  if (argument_count > 1 && strcmp(arguments[1], "show-descriptors") == 0) return show_descriptors();
  doing = mmap(NULL, sizeof *doing, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (doing == MAP_FAILED) check_give_up("mmap");
  atomic_store(&doing->by_child, "nothing in particular");
  for (int index = 0; index < BUSY_THREADS; index++) atomic_store(&doing->by_thread[index], "counting");
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
  CHECK_RUN(forks_300_times_in_the_midst_of_every_call_with_redis);
  CHECK_RUN(forks_300_times_in_the_midst_of_every_call_with_shared_memory);
  CHECK_RUN(a_program_started_by_fork_and_exec_gets_nothing_of_ours);
  redis_server_stop(&server);
  return check_result();
}
