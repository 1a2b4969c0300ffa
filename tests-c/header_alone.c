/* The header needs no other before it. ctest compiles this file, as it is, for every standard of C and
 * C++ that the header promises to work with.
 */
#include "pytheus_backend_rs.h"

/* C says that a file must not be empty, and a header that declares nothing would go unnoticed. */
int header_alone(void);
int header_alone(void) {
  return backend_status_name(BACKEND_STATUS_OK) == 0 ? BACKEND_ABI_VERSION : (int)sizeof(MetricFamilyOptions);
}
