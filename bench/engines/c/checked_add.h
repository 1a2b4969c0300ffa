#ifndef CHECKED_ADD_H
#define CHECKED_ADD_H

#include <stdatomic.h>
#include <stdint.h>

enum { COUNTER = 4 };

/* On a cache line of its own. */
typedef struct CheckedCell {
  _Alignas(128) uint64_t type;
  _Atomic uint64_t value;
} CheckedCell;

/* Adds a small whole amount. Returns 0, or why it has not. */
int checked_add(CheckedCell *cell, double amount);

#endif
