/* How costs grow with the number of series, threads and processes. Prints "curve, engine, number, value, unit" lines.
 *
 * Arguments: a folder for metrics files, and the most series, threads and processes. Calls are measured by the processor
 * time of the threads that make them, because there may be more threads than processors.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pytheus_backend_rs.h"

enum { CALLS = 4000000, MOST_THREADS = 64, SCRAPES = 5, FILE_SERIES = 1000, LOOK_UPS = 100 };

static const char *folder;

static double now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return time.tv_sec * 1e9 + time.tv_nsec;
}

static void print(const char *curve, const char *engine, long number, double value, const char *unit) {
  printf("%s\t%s\t%ld\t%.6g\t%s\n", curve, engine, number, value, unit);
  fflush(stdout);
}

static void check(BackendStatus status, BackendError *error) {
  if (status == BACKEND_STATUS_OK) return;
  fprintf(stderr, "%d: %s\n", (int)status, error ? backend_error_message(error) : "refused");
  exit(1);
}

static Backend *open_store(const char *url) {
  Backend *backend = NULL;
  BackendError *error = NULL;
  check(backend_new(url, &backend, &error), error);
  return backend;
}

static MetricFamily *make_family(const Backend *backend, const char *name, int32_t type) {
  static const char *const labels[] = {"path"};
  MetricFamilyOptions options;
  MetricFamily *family = NULL;
  BackendError *error = NULL;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.name = name;
  options.metric_type = type;
  options.label_names = labels;
  options.label_count = 1;
  check(metric_family_new(backend, &options, &family, &error), error);
  return family;
}

static Metric *make_metric(const MetricFamily *family, long number) {
  char path[40];
  const char *values[] = {path};
  Metric *metric = NULL;
  BackendError *error = NULL;
  snprintf(path, sizeof path, "/api/v1/resource/%ld", number);
  check(metric_new(family, values, 1, &metric, &error), error);
  return metric;
}

static int by_size(const void *one, const void *other) {
  double difference = *(const double *)one - *(const double *)other;
  return (difference > 0) - (difference < 0);
}

/* Returns the processor time of a scrape in ms: the median of some. */
static double scrape(const Backend *backend) {
  double times[SCRAPES];
  for (int i = 0; i < SCRAPES; i++) {
    MetricsText *text = NULL;
    BackendError *error = NULL;
    double start = now(CLOCK_PROCESS_CPUTIME_ID);
    check(metrics_render(backend, NULL, &text, &error), error);
    times[i] = (now(CLOCK_PROCESS_CPUTIME_ID) - start) / 1e6;
    metrics_text_free(text);
  }
  qsort(times, SCRAPES, sizeof *times, by_size);
  return times[SCRAPES / 2];
}

static char *file_url(const char *name) {
  static char url[500];
  snprintf(url, sizeof url, "shm://%s/%s?size_limit=4294967296&start=reset", folder, name);
  return url;
}

static void remove_file(const char *name) {
  char path[500];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  unlink(path);
}

/* What a file that has series costs a new process. */
typedef struct Start {
  double first_ms, look_up_us, family_us;
} Start;

/* A new process attaches to the file and makes a series. Then it looks up series that the file has, and makes
 * families. */
static Start start_process(const char *url, long series) {
  double begin = now(CLOCK_THREAD_CPUTIME_ID);
  Start start;
  Backend *backend = open_store(url);
  MetricFamily *family = make_family(backend, "requests_total", METRIC_TYPE_COUNTER);
  metric_inc(make_metric(family, series + 1), 1);
  start.first_ms = (now(CLOCK_THREAD_CPUTIME_ID) - begin) / 1e6;
  begin = now(CLOCK_THREAD_CPUTIME_ID);
  for (long i = 0; i < LOOK_UPS; i++) make_metric(family, i * (series / LOOK_UPS));
  start.look_up_us = (now(CLOCK_THREAD_CPUTIME_ID) - begin) / 1e3 / LOOK_UPS;
  begin = now(CLOCK_THREAD_CPUTIME_ID);
  for (long i = 0; i < LOOK_UPS; i++) {
    char name[60];
    snprintf(name, sizeof name, "family_%ld_of_%ld_total", i, series);
    make_family(backend, name, METRIC_TYPE_COUNTER);
  }
  start.family_us = (now(CLOCK_THREAD_CPUTIME_ID) - begin) / 1e3 / LOOK_UPS;
  return start;
}

static Start in_new_process(long series) {
  char url[500], *question = strchr(strcpy(url, file_url("series")), '?');
  Start start;
  int ends[2];
  *question = 0;
  strcat(url, "?size_limit=4294967296");
  if (pipe(ends) != 0) exit(1);
  if (fork() == 0) {
    start = start_process(url, series);
    _exit(write(ends[1], &start, sizeof start) != sizeof start);
  }
  close(ends[1]);
  if (read(ends[0], &start, sizeof start) != sizeof start) exit(1);
  close(ends[0]);
  wait(NULL);
  return start;
}

static void grow_series(const char *engine, const char *url, int has_file, long most) {
  Backend *backend = open_store(url);
  MetricFamily *family = make_family(backend, "requests_total", METRIC_TYPE_COUNTER);
  long made = 0;
  for (long series = 1000; series <= most; series *= 10) {
    long first = made;
    double start = now(CLOCK_PROCESS_CPUTIME_ID), took;
    for (; made < series; made++) metric_free(make_metric(family, made));
    took = (now(CLOCK_PROCESS_CPUTIME_ID) - start) / 1e3;
    print("first use of a label set", engine, series, took / (series - first), "µs");
    print("scrape of counters", engine, series, scrape(backend), "ms");
    if (!has_file) continue;
    Start process = in_new_process(series);
    print("first series of a new process", engine, series, process.first_ms, "ms");
    print("look-up of a series in a file", engine, series, process.look_up_us, "µs");
    print("new family in a file", engine, series, process.family_us, "µs");
  }
  metric_family_free(family);
  backend_free(backend);
}

typedef struct Run {
  Metric *metric;
  long calls;
  int observes;
  pthread_barrier_t *all;
  double ns;
} Run;

static void *run(void *argument) {
  Run *run = argument;
  pthread_barrier_wait(run->all);
  double start = now(CLOCK_THREAD_CPUTIME_ID);
  if (run->observes)
    for (long i = 0; i < run->calls; i++) metric_observe(run->metric, 0.3);
  else
    for (long i = 0; i < run->calls; i++) metric_inc(run->metric, 1);
  run->ns = (now(CLOCK_THREAD_CPUTIME_ID) - start) / run->calls;
  return NULL;
}

static double with_threads(Metric *metric, int observes, int count) {
  Run runs[MOST_THREADS];
  pthread_t threads[MOST_THREADS];
  pthread_barrier_t all;
  double ns = 0;
  pthread_barrier_init(&all, NULL, count);
  for (int i = 0; i < count; i++) {
    runs[i] = (Run){metric, CALLS, observes, &all, 0};
    if (pthread_create(&threads[i], NULL, run, &runs[i]) != 0) exit(1);
  }
  for (int i = 0; i < count; i++) {
    pthread_join(threads[i], NULL);
    ns += runs[i].ns / count;
  }
  pthread_barrier_destroy(&all);
  return ns;
}

static void grow_threads(const char *engine, const char *url, long most) {
  Backend *backend = open_store(url);
  MetricFamily *counters = make_family(backend, "requests_total", METRIC_TYPE_COUNTER);
  MetricFamily *histograms = make_family(backend, "seconds", METRIC_TYPE_HISTOGRAM);
  Metric *counter = make_metric(counters, 0), *histogram = make_metric(histograms, 0);
  for (int count = 1; count <= most && count <= MOST_THREADS; count++) {
    print("metric_inc of one counter, threads", engine, count, with_threads(counter, 0, count), "ns");
    print("metric_observe of one histogram, threads", engine, count, with_threads(histogram, 1, count), "ns");
  }
  metric_free(counter);
  metric_free(histogram);
  metric_family_free(counters);
  metric_family_free(histograms);
  backend_free(backend);
}

/* Lets one process count once in each series, and then many times in one that it shares. Returns ns per call. */
static double count_in(const char *url) {
  Backend *backend = open_store(url);
  MetricFamily *family = make_family(backend, "requests_total", METRIC_TYPE_COUNTER);
  Metric *shared = make_metric(family, 0);
  for (long i = 0; i < FILE_SERIES; i++) {
    Metric *metric = make_metric(family, i);
    metric_inc(metric, 1);
    metric_free(metric);
  }
  double start = now(CLOCK_THREAD_CPUTIME_ID);
  for (long i = 0; i < CALLS / 10; i++) metric_inc(shared, 1);
  return (now(CLOCK_THREAD_CPUTIME_ID) - start) / (CALLS / 10);
}

static void grow_processes(const char *engine, long most) {
  static const long counts[] = {1, 2, 5, 10, 20, 50, 100, 200};
  Backend *backend = open_store(file_url("processes"));
  char url[500];
  snprintf(url, sizeof url, "shm://%s/processes?size_limit=4294967296", folder);
  for (size_t i = 0; i < sizeof counts / sizeof *counts && counts[i] <= most; i++) {
    double sum = 0, ns;
    int ends[2];
    if (pipe(ends) != 0) exit(1);
    for (long process = 0; process < counts[i]; process++)
      if (fork() == 0) {
        ns = count_in(url);
        _exit(write(ends[1], &ns, sizeof ns) != sizeof ns);
      }
    close(ends[1]);
    for (long process = 0; process < counts[i]; process++) {
      if (read(ends[0], &ns, sizeof ns) != sizeof ns) exit(1);
      sum += ns;
    }
    close(ends[0]);
    while (wait(NULL) > 0) {
    }
    print("metric_inc of one counter, processes", engine, counts[i], sum / counts[i], "ns");
    print("scrape of 1,000 counters, processes", engine, counts[i], scrape(backend), "ms");
  }
  backend_free(backend);
}

int main(int count, char **arguments) {
  if (count != 5) {
    fprintf(stderr, "usage: %s <folder> <most series> <most threads> <most processes>\n", arguments[0]);
    return 2;
  }
  folder = arguments[1];
  grow_series("memory", "memory:", 0, atol(arguments[2]));
  grow_series("shared memory", file_url("series"), 1, atol(arguments[2]));
  remove_file("series");
  grow_threads("memory", "memory:", atol(arguments[3]));
  grow_threads("shared memory", file_url("threads"), atol(arguments[3]));
  remove_file("threads");
  grow_processes("shared memory", atol(arguments[4]));
  remove_file("processes");
  return 0;
}
