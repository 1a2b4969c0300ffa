/* Two copies of the library in one process, as a Python extension that carries the engine and a C library that is
 * linked with it: each works, also with the same store, across a fork and at the end of the process.
 *
 * usage: test_two_copies <a second file of the library>
 */
#include <dlfcn.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "declare.h"

enum { CHANGES = 1000 };

/* The functions of the copy. */
static struct {
  __typeof__(backend_new) *backend_new;
  __typeof__(backend_free) *backend_free;
  __typeof__(metric_family_new) *metric_family_new;
  __typeof__(metric_family_free) *metric_family_free;
  __typeof__(metric_new) *metric_new;
  __typeof__(metric_free) *metric_free;
  __typeof__(metric_inc) *metric_inc;
} copy;

static void load_the_copy(const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    exit(2);
  }
#define LOAD(name) *(void **)&copy.name = dlsym(library, #name)
  LOAD(backend_new);
  LOAD(backend_free);
  LOAD(metric_family_new);
  LOAD(metric_family_free);
  LOAD(metric_new);
  LOAD(metric_free);
  LOAD(metric_inc);
  CHECK(copy.metric_inc != NULL && copy.metric_inc != metric_inc);
}

static void *count_in_the_copy(void *metric) {
  for (int index = 0; index < CHANGES; index++) CHECK_STATUS(BACKEND_STATUS_OK, copy.metric_inc(metric, 1));
  return NULL;
}

static void both_copies_count_in_one_file(void) {
  char path[] = "/tmp/test_two_copies_XXXXXX", url[64];
  int file = mkstemp(path);
  if (file == -1) check_give_up("mkstemp");
  close(file);
  unlink(path);
  snprintf(url, sizeof url, "shm://%s", path);

  Backend *backend = open_backend(url), *backend_copy = NULL;
  MetricFamily *family = declare_plain(backend, METRIC_TYPE_COUNTER, "counted_total"), *family_copy = NULL;
  Metric *metric = make_metric(family, NULL), *metric_copy = NULL;
  MetricFamilyOptions options = options_for(METRIC_TYPE_COUNTER, "counted_total");
  CHECK_STATUS(BACKEND_STATUS_OK, copy.backend_new(url, &backend_copy, NULL));
  CHECK_STATUS(BACKEND_STATUS_OK, copy.metric_family_new(backend_copy, &options, &family_copy, NULL));
  CHECK_STATUS(BACKEND_STATUS_OK, copy.metric_new(family_copy, NULL, 0, &metric_copy, NULL));

  pthread_t thread;
  pthread_create(&thread, NULL, count_in_the_copy, metric_copy);
  for (int index = 0; index < CHANGES; index++) CHECK_STATUS(BACKEND_STATUS_OK, metric_inc(metric, 1));
  pthread_join(thread, NULL);

  pid_t child = fork();
  if (child == 0) {
    metric_inc(metric, 1);
    copy.metric_inc(metric_copy, 1);
    exit(check_result());
  }
  int status = -1;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_NUMBER(2 * CHANGES + 2, value_of(metric));

  copy.metric_free(metric_copy);
  copy.metric_family_free(family_copy);
  copy.backend_free(backend_copy);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
  unlink(path);
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  load_the_copy(argv[1]);
  CHECK_RUN(both_copies_count_in_one_file);
  return check_result();
}
