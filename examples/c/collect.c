/* Computes a metric when it is scraped: the load of the machine. The program never updates it.
 *
 *   cc collect.c -lpytheus_backend_rs -o collect
 *   ./collect
 */
#define _DEFAULT_SOURCE /* getloadavg */
#include <pytheus_backend_rs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The library calls this for each scrape, on the thread that scrapes. */
static void collect_load(MetricsForeign *foreign, void *user_data) {
  const char *const *minutes = user_data;
  double load[3];
  int count = getloadavg(load, 3);

  MetricsForeignFamily family;
  memset(&family, 0, sizeof family);
  family.size = sizeof family;
  family.name = "machine_load";
  family.help = "Processes that run or wait, on average.";
  family.metric_type = METRIC_TYPE_GAUGE;
  metrics_foreign_family(foreign, &family, NULL);

  const char *const label_names[] = {"minutes"};
  for (int index = 0; index < count; index++) {
    MetricsForeignSample sample;
    memset(&sample, 0, sizeof sample);
    sample.size = sizeof sample;
    sample.label_names = label_names;
    sample.label_values = &minutes[index];
    sample.label_count = 1;
    sample.value = load[index];
    metrics_foreign_sample(foreign, &sample, NULL);
  }
}

int main(void) {
  static const char *minutes[] = {"1", "5", "15"};
  Backend *backend = NULL;
  BackendError *error = NULL;
  char *text = NULL;
  if (backend_new("memory:", &backend, &error) != BACKEND_STATUS_OK ||
      metrics_collect_callback(backend, collect_load, minutes, &error) != BACKEND_STATUS_OK ||
      metrics_collect(backend, &text, NULL, &error) != BACKEND_STATUS_OK) {
    fprintf(stderr, "%s\n", backend_error_message(error));
    backend_error_free(error);
    return 1;
  }
  fputs(text, stdout);
  backend_string_free(text);
  backend_free(backend);
  return 0;
}
