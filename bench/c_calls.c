/* What metric_inc costs from C, beside the least that it could cost: a compare-and-swap loop on a double in
 * memory that is mapped from a file, as another process would have it.
 *
 * Usage: c_calls <store URL>... Prints a line for each store: its name, ns per call, ns per bare loop, ratio;
 * medians of interleaved rounds.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "pytheus_backend_rs.h"

enum { ROUNDS = 9, CALLS = 5000000 };

static double now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e9 + time.tv_nsec;
}

static int by_size(const void *one, const void *other) {
  double difference = *(const double *)one - *(const double *)other;
  return (difference > 0) - (difference < 0);
}

static double median(double *values) {
  qsort(values, ROUNDS, sizeof *values, by_size);
  return values[ROUNDS / 2];
}

static double time_bare(_Atomic uint64_t *cell) {
  double start = now_ns();
  for (int i = 0; i < CALLS; i++) {
    uint64_t current = atomic_load_explicit(cell, memory_order_relaxed), next;
    do {
      double value;
      memcpy(&value, &current, sizeof value);
      value += 1;
      memcpy(&next, &value, sizeof next);
    } while (!atomic_compare_exchange_weak_explicit(cell, &current, next, memory_order_relaxed,
                                                    memory_order_relaxed));
  }
  return (now_ns() - start) / CALLS;
}

static double time_metric(const Metric *metric) {
  double start = now_ns();
  for (int i = 0; i < CALLS; i++) metric_inc(metric, 1);
  return (now_ns() - start) / CALLS;
}

static int measure(const char *url, _Atomic uint64_t *cell) {
  Backend *backend = NULL;
  BackendError *error = NULL;
  MetricFamily *family = NULL;
  Metric *metric = NULL;
  MetricFamilyOptions options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.name = "bench_total";
  options.metric_type = METRIC_TYPE_COUNTER;
  if (backend_new(url, &backend, &error) != BACKEND_STATUS_OK ||
      metric_family_new(backend, &options, &family, &error) != BACKEND_STATUS_OK ||
      metric_new(family, NULL, 0, &metric, &error) != BACKEND_STATUS_OK) {
    fprintf(stderr, "%s\n", backend_error_message(error));
    return 1;
  }
  double calls[ROUNDS], bare[ROUNDS], ratios[ROUNDS];
  for (int round = 0; round < ROUNDS; round++) {
    calls[round] = time_metric(metric);
    bare[round] = time_bare(cell);
    ratios[round] = calls[round] / bare[round];
  }
  printf("%s %.2f %.2f %.3f\n", url, median(calls), median(bare), median(ratios));
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
  return 0;
}

int main(int count, char **urls) {
  void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) {
    perror("mmap");
    return 1;
  }
  for (int i = 1; i < count; i++) {
    if (measure(urls[i], page) != 0) return 1;
  }
  return 0;
}
