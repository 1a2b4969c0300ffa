/* Handles that were created before a fork work in the child, and a program that a child starts inherits nothing
 * from the library. The forks in the middle of every call are in test_fork_storm.c; what a fork means for values
 * and connections is tested in Rust (tests/fork.rs).
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>

#include "children.h"
#include "declare.h"
#include "redis_server.h"

static RedisServer server;
static const char *program;

static void empty_server(void) {
  char reply[64];
  redis_server_ask(&server, reply, sizeof reply, "FLUSHALL", (char *)NULL);
  CHECK_TEXT("OK", reply);
}

static void children_and_grandchildren_count_with_inherited_handles(void) {
  empty_server();
  Backend *backend = open_backend(server.url);
  MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
  Metric *metric = make_metric(family, "GET");
  CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  pid_t child = fork_child();
  if (child == 0) {
    CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 10));
    pid_t grandchild = fork_child();
    if (grandchild == 0) {
      Metric *another = make_metric(family, "POST");
      CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(another, 100));
      CHECK_OK(backend_flush(backend, 30.0, &error));
      metric_free(another);
      leave();
    }
    wait_for(grandchild);
    CHECK_OK(backend_flush(backend, 30.0, &error));
    leave();
  }
  wait_for(child);
  /* The parent's increment, which the child inherited as pending, counts once. */
  CHECK_SCRAPE("# HELP requests_total Help.\n"
               "# TYPE requests_total counter\n"
               "requests_total{method=\"GET\"} 11\n"
               "requests_total{method=\"POST\"} 100\n",
               backend);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
}

static void a_child_may_free_inherited_handles_and_open_the_store_again(void) {
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

/* --- Fork and exec -------------------------------------------------------------------------------------- */

/* Counts the entries of a folder and writes their names to `names`. */
static int list_folder(const char *folder, char *names, size_t size) {
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

/* Starts this program by fork and exec, and writes the numbers of its open descriptors to `names`. */
static void read_descriptors_of_started_program(char *names, size_t size) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) check_give_up("pipe");
  pid_t child = fork_child();
  if (child == 0) {
    CHECK_NUMBER(1, list_folder("/proc/self/task", names, size));
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

static int show_descriptors(void) {
  char names[1024];
  list_folder("/proc/self/fd", names, sizeof names);
  fputs(names, stdout);
  return 0;
}

/* A thread that keeps the library busy while the main thread forks. */
typedef struct {
  const Backend *backend;
  const MetricFamily *family;
  atomic_bool is_over;
} Busy;

static void *count_and_scrape(void *argument) {
  Busy *busy = argument;
  while (!atomic_load(&busy->is_over)) {
    char *text = NULL;
    Metric *metric = make_metric(busy->family, "GET");
    CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
    metric_free(metric);
    CHECK_OK(metrics_collect(busy->backend, &text, NULL, &error));
    backend_string_free(text);
  }
  return NULL;
}

static void a_program_started_by_fork_and_exec_inherits_nothing(void) {
  char before[1024], after[1024], path[128], url[160];
  snprintf(path, sizeof path, "%s/metrics", server.folder);
  snprintf(url, sizeof url, "shm://%s", path);
  const char *const urls[] = {server.url, server.unix_url, url};
  read_descriptors_of_started_program(before, sizeof before);
  for (int index = 0; index < 3; index++) {
    Backend *backend = open_backend(urls[index]);
    MetricFamily *family = declare_labelled(backend, METRIC_TYPE_COUNTER, "requests_total");
    Busy busy = {.backend = backend, .family = family};
    pthread_t thread;
    pthread_create(&thread, NULL, count_and_scrape, &busy);
    for (int fork = 0; fork < check_repetitions(20); fork++) {
      read_descriptors_of_started_program(after, sizeof after);
      CHECK_TEXT(before, after);
    }
    atomic_store(&busy.is_over, true);
    pthread_join(thread, NULL);
    metric_family_free(family);
    backend_free(backend);
  }
  CHECK(unlink(path) == 0);
}

int main(int argument_count, char **arguments) {
  program = arguments[0];
  if (argument_count > 1 && strcmp(arguments[1], "show-descriptors") == 0) return show_descriptors();
  redis_server_start(&server);
  CHECK_STATUS(BACKEND_STATUS_OK, backend_log_queue(BACKEND_LOG_LEVEL_WARNING));
  CHECK_RUN(children_and_grandchildren_count_with_inherited_handles);
  CHECK_RUN(a_child_may_free_inherited_handles_and_open_the_store_again);
  CHECK_RUN(a_program_started_by_fork_and_exec_inherits_nothing);
  redis_server_stop(&server);
  return check_result();
}
