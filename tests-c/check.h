/* Checks for the test programs. A failed check prints its place, the expected and the actual value.
 *
 * A test is a function that is named for a behaviour. CHECK_RUN runs it, and main returns check_result. A failed check
 * does not end its test, so that one run shows all failures. Any thread may check.
 */
#ifndef CHECK_H
#define CHECK_H

#include <math.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pytheus_backend_rs.h"

static atomic_int check_failures;

#define CHECK(condition) check_true((condition), #condition, __FILE__, __LINE__)
#define CHECK_STATUS(expected, call) check_status((expected), (call), #call, __FILE__, __LINE__)
#define CHECK_NUMBER(expected, got) check_number((expected), (got), #got, __FILE__, __LINE__)
#define CHECK_TEXT(expected, got) check_text((expected), (got), #got, __FILE__, __LINE__)
#define CHECK_CONTAINS(part, text) check_contains((part), (text), true, #text, __FILE__, __LINE__)
#define CHECK_LACKS(part, text) check_contains((part), (text), false, #text, __FILE__, __LINE__)

/* Checks that a call, whose last argument is a BackendError ** named `error`, returns `expected`. The message of a failure
 * must contain `part`. */
#define CHECK_ERROR(expected, part, call)                                                                     \
  do {                                                                                                        \
    BackendError *error = NULL;                                                                               \
    BackendStatus status = (call);                                                                            \
    check_status((expected), status, #call, __FILE__, __LINE__);                                              \
    check_error((expected), (part), error, #call, __FILE__, __LINE__);                                        \
    backend_error_free(error);                                                                                \
  } while (0)

/* Checks that a call with an `error` argument succeeds. */
#define CHECK_OK(call) CHECK_ERROR(BACKEND_STATUS_OK, "", call)

#define CHECK_RUN(test)                                                                                       \
  do {                                                                                                        \
    fprintf(stderr, "%s\n", #test);                                                                           \
    (test)();                                                                                                 \
  } while (0)

static inline bool check_failed(const char *file, int line) {
  atomic_fetch_add(&check_failures, 1);
  fprintf(stderr, "%s:%d: FAILED: ", file, line);
  return false;
}

static inline bool check_true(bool condition, const char *what, const char *file, int line) {
  if (condition) return true;
  check_failed(file, line);
  fprintf(stderr, "expected %s\n", what);
  return false;
}

static inline bool check_status(
    BackendStatus expected, BackendStatus got, const char *what, const char *file, int line) {
  if (expected == got) return true;
  check_failed(file, line);
  fprintf(stderr, "%s\n  expected: %s\n  got:      %s\n", what, backend_status_name(expected),
          backend_status_name(got));
  return false;
}

static inline bool check_number(double expected, double got, const char *what, const char *file, int line) {
  if (expected == got || (isnan(expected) && isnan(got))) return true;
  check_failed(file, line);
  fprintf(stderr, "%s\n  expected: %.17g\n  got:      %.17g\n", what, expected, got);
  return false;
}

static inline bool check_text(
    const char *expected, const char *got, const char *what, const char *file, int line) {
  if (got != NULL && strcmp(expected, got) == 0) return true;
  check_failed(file, line);
  fprintf(stderr, "%s\n  expected: %s\n  got:      %s\n", what, expected, got == NULL ? "NULL" : got);
  return false;
}

static inline bool check_contains(
    const char *part, const char *text, bool wanted, const char *what, const char *file, int line) {
  if (text != NULL && (strstr(text, part) != NULL) == wanted) return true;
  check_failed(file, line);
  fprintf(stderr, "%s\n  expected: a text %s \"%s\"\n  got:      %s\n", what, wanted ? "with" : "without",
          part, text == NULL ? "NULL" : text);
  return false;
}

static inline void check_error(BackendStatus expected, const char *part, const BackendError *error,
                               const char *what, const char *file, int line) {
  if (expected == BACKEND_STATUS_OK) {
    if (error == NULL) return;
    check_failed(file, line);
    fprintf(stderr, "%s\n  expected: no error\n  got:      %s\n", what, backend_error_message(error));
    return;
  }
  if (error == NULL) {
    check_failed(file, line);
    fprintf(stderr, "%s\n  expected: an error\n  got:      none\n", what);
    return;
  }
  check_status(expected, backend_error_status(error), what, file, line);
  check_contains(part, backend_error_message(error), true, what, file, line);
}

/* Returns the exit status of a test program. */
static inline int check_result(void) {
  int failures = atomic_load(&check_failures);
  if (failures == 0) return 0;
  fprintf(stderr, "%d checks FAILED\n", failures);
  return 1;
}

/* Returns `count`, or a fraction of it under valgrind, where every step is slow. */
static inline int check_repetitions(int count) {
  const char *divisor = getenv("CHECK_REPETITIONS_DIVISOR");
  int divided = count / (divisor == NULL ? 1 : atoi(divisor));
  return divided > 1 ? divided : 1;
}

/* Ends a test program that cannot run, because a system call failed. */
static inline void check_give_up(const char *reason) {
  perror(reason);
  exit(2);
}

/* Yields between two looks at a condition for which there is no event. */
static inline void check_pause(void) {
  struct timespec pause = {0, 1000000};
  nanosleep(&pause, NULL);
}

#endif
