/* One round of a benchmark program in C or C++: the same loops as src/lib.rs has for those in Rust, with the same
 * protocol. A program makes one function per loop, so that nothing stands between the loop and the call.
 */
#ifndef ROUND_H
#define ROUND_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { PARTS = 21 };

/* Makes the call that is measured `calls` times on `target`. */
typedef void (*Loop)(void *target, long calls);

typedef struct Run {
  Loop loop;
  void *target;
  long calls;
  double ns;
  pthread_barrier_t *both;
} Run;

static inline int by_size(const void *one, const void *other) {
  double difference = *(const double *)one - *(const double *)other;
  return (difference > 0) - (difference < 0);
}

/* Returns the median of parts that are shorter than a time slice of the scheduler, so that a preemption affects few. */
static inline double ns_per_call(Loop loop, void *target, long calls) {
  double parts[PARTS];
  calls /= PARTS;
  for (int i = 0; i < PARTS; i++) {
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    loop(target, calls);
    clock_gettime(CLOCK_MONOTONIC, &end);
    parts[i] = ((end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec)) / calls;
  }
  qsort(parts, PARTS, sizeof *parts, by_size);
  return parts[PARTS / 2];
}

static inline void *run_beside_another(void *argument) {
  Run *run = (Run *)argument;
  pthread_barrier_wait(run->both);
  run->ns = ns_per_call(run->loop, run->target, run->calls);
  return NULL;
}

/* Returns the cost of a call to the thread that makes it, while another thread does the same. */
static inline double ns_per_call_of_two(Loop loop, void *one, void *other, long calls) {
  pthread_barrier_t both;
  pthread_t thread;
  Run first = {loop, one, calls, 0, &both}, second = {loop, other, calls, 0, &both};
  pthread_barrier_init(&both, NULL, 2);
  if (pthread_create(&thread, NULL, run_beside_another, &second) != 0) {
    perror("pthread_create");
    exit(1);
  }
  run_beside_another(&first);
  pthread_join(thread, NULL);
  pthread_barrier_destroy(&both);
  return (first.ns + second.ns) / 2;
}

/* Counting: one thread, two threads on one metric, two threads on a metric each. Two threads collide at `contended`:
 * a metric of its own for an engine in which such a metric is slower from then on. */
static inline void print_increments(const char *engine, Loop loop, void *one, void *other, void *contended, long calls) {
  printf("%s\tinc\t%.3f\n", engine, ns_per_call(loop, one, calls));
  printf("%s\tinc, 2 threads on one\t%.3f\n", engine, ns_per_call_of_two(loop, contended, contended, calls));
  printf("%s\tinc, 2 threads on two\t%.3f\n", engine, ns_per_call_of_two(loop, one, other, calls));
}

/* Observing: one thread, two threads on one histogram. */
static inline void print_observations(const char *engine, Loop loop, void *histogram, void *contended, long calls) {
  printf("%s\tobserve\t%.3f\n", engine, ns_per_call(loop, histogram, calls));
  printf("%s\tobserve, 2 threads on one\t%.3f\n", engine, ns_per_call_of_two(loop, contended, contended, calls));
}

/* Waits for the line that asks for a round. Returns 0 at the end of the input. */
static inline int next_round(void) {
  char line[16];
  return fgets(line, sizeof line, stdin) != NULL;
}

static inline void end_round(void) {
  printf("\n");
  fflush(stdout);
}

#endif
