/* Counts once and prints the scrape. Fails if the library is not the one of the header. */
#include <pytheus_backend_rs.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  Backend *backend = NULL;
  MetricFamily *family = NULL;
  Metric *metric = NULL;
  char *text = NULL;
  MetricFamilyOptions options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.name = "consumed_total";
  options.metric_type = METRIC_TYPE_COUNTER;
  if (backend_abi_version() != BACKEND_ABI_VERSION || strcmp(backend_version(), BACKEND_VERSION) != 0) return 1;
  if (backend_new("memory:", &backend, NULL) != BACKEND_STATUS_OK) return 1;
  if (metric_family_new(backend, &options, &family, NULL) != BACKEND_STATUS_OK) return 1;
  if (metric_new(family, NULL, 0, &metric, NULL) != BACKEND_STATUS_OK) return 1;
  metric_inc(metric, 1);
  if (metrics_collect(backend, &text, NULL, NULL) != BACKEND_STATUS_OK) return 1;
  fputs(text, stdout);
  backend_string_free(text);
  metric_free(metric);
  metric_family_free(family);
  backend_free(backend);
  return 0;
}
