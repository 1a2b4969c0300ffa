// prometheus-cpp, as Debian packages it. Argument: calls per round.

#include <prometheus/counter.h>
#include <prometheus/histogram.h>

#include "round.h"

static void increment(void *counter, long calls) {
  for (long i = 0; i < calls; i++) static_cast<prometheus::Counter *>(counter)->Increment();
}

static void observe(void *histogram, long calls) {
  for (long i = 0; i < calls; i++) static_cast<prometheus::Histogram *>(histogram)->Observe(0.3);
}

int main(int count, char **arguments) {
  prometheus::Counter one, other;
  prometheus::Histogram seconds({0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10});
  long calls = count > 1 ? atol(arguments[1]) : 1000000;
  while (next_round()) {
    print_increments("prometheus-cpp, Counter", increment, &one, &other, &one, calls);
    print_observations("prometheus-cpp, Histogram", observe, &seconds, &seconds, calls);
    end_round();
  }
  return 0;
}
