/* Counts orders in a shop, and prints what Prometheus would scrape.
 *
 *   cc count.c -lpytheus_backend_rs -o count
 *   ./count                                    keeps the values in this process
 *   ./count redis://127.0.0.1:6379             keeps them on a Redis server, shared with other processes
 */
#include <pytheus_backend_rs.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the program with the library's explanation if a call has failed. */
static void check(BackendStatus status, BackendError *error) {
  if (status == BACKEND_STATUS_OK) return;
  fprintf(stderr, "%s: %s\n", backend_status_name(status), backend_error_message(error));
  backend_error_free(error);
  exit(1);
}

int main(int argument_count, char **arguments) {
  const char *url = argument_count > 1 ? arguments[1] : "memory:";
  BackendError *error = NULL;

  /* A backend is an open store. A program opens it once, at its start. */
  Backend *backend = NULL;
  check(backend_new(url, &backend, &error), error);

  /* A counter with one label. The options start as zeros; `size` says which version of the struct this is. */
  const char *label_names[] = {"payment"};
  MetricFamilyOptions counter_options = {0};
  counter_options.size = sizeof counter_options;
  counter_options.name = "shop_orders_total";
  counter_options.help = "Orders, by the way they were paid.";
  counter_options.metric_type = METRIC_TYPE_COUNTER;
  counter_options.label_names = label_names;
  counter_options.label_count = 1;
  MetricFamily *orders = NULL;
  check(metric_family_new(backend, &counter_options, &orders, &error), error);

  /* A histogram with its own buckets and without labels. */
  const double buckets[] = {0.1, 0.5, 2};
  MetricFamilyOptions histogram_options = {0};
  histogram_options.size = sizeof histogram_options;
  histogram_options.name = "shop_order_seconds";
  histogram_options.help = "How long an order took.";
  histogram_options.metric_type = METRIC_TYPE_HISTOGRAM;
  histogram_options.buckets = buckets;
  histogram_options.bucket_count = 3;
  MetricFamily *durations = NULL;
  check(metric_family_new(backend, &histogram_options, &durations, &error), error);

  /* A metric is one label set of a family. Ask for it once and keep the handle: counting with it looks nothing up and
   * never waits, whatever the store. */
  Metric *by_card = NULL, *by_cash = NULL, *duration = NULL;
  const char *card[] = {"card"}, *cash[] = {"cash"};
  check(metric_new(orders, card, 1, &by_card, &error), error);
  check(metric_new(orders, cash, 1, &by_cash, &error), error);
  check(metric_new(durations, NULL, 0, &duration, &error), error);

  const double seconds[] = {0.25, 0.0625, 3, 0.5};
  for (int order = 0; order < 4; order++) {
    metric_inc(order < 3 ? by_card : by_cash, 1.0);
    metric_observe(duration, seconds[order]);
  }

  /* The text that a web server would answer to GET /metrics. */
  char *text = NULL;
  check(metrics_collect(backend, &text, NULL, &error), error);
  fputs(text, stdout);
  backend_string_free(text);

  /* Handles are freed in any order. Freeing the backend sends what is still pending. */
  metric_free(duration);
  metric_free(by_cash);
  metric_free(by_card);
  metric_family_free(durations);
  metric_family_free(orders);
  backend_free(backend);
  return 0;
}
