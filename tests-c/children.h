/* Forked children of a test program. A child reports its failed checks by its exit status; its parent waits for
 * it with a time limit, so that a child that hangs fails the test.
 */
#ifndef CHILDREN_H
#define CHILDREN_H

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <valgrind/valgrind.h>

#include "check.h"

/* A child that takes longer hangs, also under valgrind. */
enum { CHILD_HANGS_AFTER_SECONDS = 120 };

/* Forks. Returns 0 in the child and the child's process id in the parent. */
static inline pid_t fork_child(void) {
  fflush(stderr);
  pid_t child = fork();
  if (child < 0) check_give_up("fork");
  if (child > 0) return child;
  /* The parent reports its own failures. */
  atomic_store(&check_failures, 0);
  /* A child has the memory of its parent's threads without the threads, so leaks mean nothing. */
  VALGRIND_CLO_CHANGE("--leak-check=no");
  return child;
}

/* Ends a child at once, without the handlers of `exit`. */
static inline void leave(void) {
  _exit(check_result());
}

/* Waits for a child and returns its status as waitpid does. Kills a child that hangs, and calls `explain` first,
 * unless that is NULL. */
static inline int wait_for_status(pid_t child, void (*explain)(void)) {
  struct timespec begin, now;
  int status = -1;
  clock_gettime(CLOCK_MONOTONIC, &begin);
  while (waitpid(child, &status, WNOHANG) == 0) {
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec - begin.tv_sec > CHILD_HANGS_AFTER_SECONDS) {
      fprintf(stderr, "child %d hangs\n", (int)child);
      if (explain != NULL) explain();
      kill(child, SIGKILL);
      waitpid(child, &status, 0);
      break;
    }
    check_pause();
  }
  return status;
}

/* Waits for a child whose checks must have passed. */
static inline void wait_for(pid_t child) {
  int status = wait_for_status(child, NULL);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#endif
