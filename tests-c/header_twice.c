/* The header may be included twice. ctest compiles this file, as it is, for every standard of C and C++
 * that the header promises to work with.
 */
#include "pytheus_backend_rs.h"
#include "pytheus_backend_rs.h"

BackendStatus header_twice(const Metric *metric);
BackendStatus header_twice(const Metric *metric) {
  return metric_inc(metric, 1.0);
}
