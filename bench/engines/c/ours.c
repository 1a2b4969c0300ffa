/* This engine, called from C. Arguments: calls per round, then for each store its name and its URL.
 * Built twice: with the static library, and with the shared one.
 */
#include <stdio.h>
#include <string.h>

#include "pytheus_backend_rs.h"
#include "round.h"

enum { MOST_STORES = 8 };

typedef struct Store {
  const char *name;
  Backend *backend;
  Metric *one, *other, *contended, *seconds, *contended_seconds;
} Store;

static void increment(void *metric, long calls) {
  for (long i = 0; i < calls; i++) metric_inc((const Metric *)metric, 1);
}

static void observe(void *metric, long calls) {
  for (long i = 0; i < calls; i++) metric_observe((const Metric *)metric, 0.3);
}

static void check(BackendStatus status, BackendError *error) {
  if (status == BACKEND_STATUS_OK) return;
  fprintf(stderr, "%s\n", backend_error_message(error));
  exit(1);
}

static Metric *make_metric(const Backend *backend, const char *name, int32_t type) {
  MetricFamilyOptions options;
  MetricFamily *family = NULL;
  Metric *metric = NULL;
  BackendError *error = NULL;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.name = name;
  options.metric_type = type;
  check(metric_family_new(backend, &options, &family, &error), error);
  check(metric_new(family, NULL, 0, &metric, &error), error);
  metric_family_free(family);
  return metric;
}

static void open_store(Store *store, const char *name, const char *url) {
  BackendError *error = NULL;
  store->name = name;
  check(backend_new(url, &store->backend, &error), error);
  store->one = make_metric(store->backend, "one_total", METRIC_TYPE_COUNTER);
  store->other = make_metric(store->backend, "other_total", METRIC_TYPE_COUNTER);
  store->contended = make_metric(store->backend, "contended_total", METRIC_TYPE_COUNTER);
  store->seconds = make_metric(store->backend, "seconds", METRIC_TYPE_HISTOGRAM);
  store->contended_seconds = make_metric(store->backend, "contended_seconds", METRIC_TYPE_HISTOGRAM);
}

static void close_store(Store *store) {
  metric_free(store->one);
  metric_free(store->other);
  metric_free(store->contended);
  metric_free(store->seconds);
  metric_free(store->contended_seconds);
  backend_free(store->backend);
}

int main(int count, char **arguments) {
  Store stores[MOST_STORES];
  long calls = count > 1 ? atol(arguments[1]) : 0;
  int store_count = (count - 2) / 2;
  if (calls < 1 || count % 2 != 0 || store_count > MOST_STORES) {
    fprintf(stderr, "usage: %s <calls> <name> <store URL>...\n", arguments[0]);
    return 2;
  }
  for (int i = 0; i < store_count; i++) open_store(&stores[i], arguments[2 + 2 * i], arguments[3 + 2 * i]);
  while (next_round()) {
    for (int i = 0; i < store_count; i++) {
      Store *store = &stores[i];
      print_increments(store->name, increment, store->one, store->other, store->contended, calls);
      print_observations(store->name, observe, store->seconds, store->contended_seconds, calls);
    }
    end_round();
  }
  for (int i = 0; i < store_count; i++) close_store(&stores[i]);
  return 0;
}
