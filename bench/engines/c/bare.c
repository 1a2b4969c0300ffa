/* The floor, from C: an atomic addition, the compare-and-swap loop that adding to a double takes, and a call of a
 * function that makes the checks of metric_inc before it adds.
 * Argument: calls per round.
 */
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "checked_add.h"
#include "round.h"

/* Each on a cache line of its own. */
typedef struct Cell {
  _Alignas(128) _Atomic uint64_t bits;
} Cell;

static void add_integer(void *target, long calls) {
  Cell *cell = target;
  for (long i = 0; i < calls; i++) atomic_fetch_add_explicit(&cell->bits, 1, memory_order_relaxed);
}

static void add_double(void *target, long calls) {
  Cell *cell = target;
  for (long i = 0; i < calls; i++) {
    uint64_t current = atomic_load_explicit(&cell->bits, memory_order_relaxed), next;
    do {
      double value;
      memcpy(&value, &current, sizeof value);
      value += 1;
      memcpy(&next, &value, sizeof next);
    } while (!atomic_compare_exchange_weak_explicit(&cell->bits, &current, next, memory_order_relaxed,
                                                    memory_order_relaxed));
  }
}

static void add_checked(void *target, long calls) {
  CheckedCell *cell = target;
  for (long i = 0; i < calls; i++) checked_add(cell, 1);
}

int main(int count, char **arguments) {
  static Cell one, other;
  static CheckedCell checked = {COUNTER, 0}, other_checked = {COUNTER, 0};
  long calls = count > 1 ? atol(arguments[1]) : 1000000;
  while (next_round()) {
    print_increments("bare fetch_add on u64 (C)", add_integer, &one, &other, &one, calls);
    print_increments("bare CAS loop on double (C)", add_double, &one, &other, &one, calls);
    print_increments("floor: a C call that checks, then adds (C)", add_checked, &checked, &other_checked,
                     &checked, calls);
    end_round();
  }
  return 0;
}
