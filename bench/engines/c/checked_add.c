/* The least that a C function does which makes the checks of metric_inc: the handle is not NULL, it is of a counter,
 * and the amount may be added. It stands in a file of its own, so that it is called and not inlined.
 */
#include "checked_add.h"

enum { OK, IS_NULL, IS_OTHER };

int checked_add(CheckedCell *cell, double amount) {
  if (!cell) return IS_NULL;
  if (cell->type != COUNTER || !(amount >= 0 && amount < 256)) return IS_OTHER;
  int64_t whole = (int64_t)amount;
  if ((double)whole != amount) return IS_OTHER;
  atomic_fetch_add_explicit(&cell->value, (uint64_t)whole, memory_order_relaxed);
  return OK;
}
