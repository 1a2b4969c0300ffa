/* The calls from C that bench/instructions.py counts. Arguments: for each store its name and its URL.
 *
 * Each name of a count says how often the work was done: "<name>|<times>|<unit>".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "marks.h"
#include "pytheus_backend_rs.h"

enum { CALLS = 1000, FAMILIES = 9, SERIES = 30 };

static void check(BackendStatus status, BackendError *error) {
  if (status == BACKEND_STATUS_OK) return;
  fprintf(stderr, "%d: %s\n", (int)status, error ? backend_error_message(error) : "refused");
  exit(1);
}

static MetricFamily *make_family(const Backend *backend, const char *name, int32_t type, int labelled) {
  static const char *const labels[] = {"path"};
  MetricFamilyOptions options;
  MetricFamily *family = NULL;
  BackendError *error = NULL;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.name = name;
  options.help = "Counted by the benchmark.";
  options.metric_type = type;
  options.label_names = labelled ? labels : NULL;
  options.label_count = labelled ? 1 : 0;
  check(metric_family_new(backend, &options, &family, &error), error);
  return family;
}

/* A histogram with native buckets alone, which is gone with its handles. */
static MetricFamily *make_native_family(const Backend *backend, const char *name) {
  MetricFamilyOptions options;
  MetricFamily *family = NULL;
  BackendError *error = NULL;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.name = name;
  options.help = "Counted by the benchmark.";
  options.metric_type = METRIC_TYPE_HISTOGRAM;
  options.lifetime = METRIC_LIFETIME_HANDLE;
  options.native = METRIC_NATIVE_ALONE;
  check(metric_family_new(backend, &options, &family, &error), error);
  return family;
}

static Metric *make_metric(const MetricFamily *family, const char *path) {
  const char *values[] = {path};
  Metric *metric = NULL;
  BackendError *error = NULL;
  check(metric_new(family, values, path ? 1 : 0, &metric, &error), error);
  return metric;
}

static void end(const char *store, const char *work, long times, const char *unit) {
  char name[200];
  snprintf(name, sizeof name, "%s: %s|%ld|%s", store, work, times, unit);
  end_counting(name);
}

/* Counts a call after it was made once: the first one queues the metric of a store with a server, and binds the
 * symbol. */
#define COUNT(work, call)                                \
  do {                                                   \
    check(call, NULL);                                   \
    begin_counting();                                    \
    for (int i = 0; i < CALLS; i++) call;                \
    end(store, work, CALLS, "call");                     \
  } while (0)

static void count_calls(const char *store, const Backend *backend) {
  MetricFamily *families[] = {make_family(backend, "counted_total", METRIC_TYPE_COUNTER, 0),
                              make_family(backend, "level", METRIC_TYPE_GAUGE, 0),
                              make_family(backend, "seconds", METRIC_TYPE_HISTOGRAM, 0)};
  Metric *counter = make_metric(families[0], NULL), *gauge = make_metric(families[1], NULL);
  Metric *histogram = make_metric(families[2], NULL);
  COUNT("metric_inc of a counter by 1", metric_inc(counter, 1));
  COUNT("metric_inc of a counter by 0.5", metric_inc(counter, 0.5));
  COUNT("metric_inc of a gauge", metric_inc(gauge, 1));
  COUNT("metric_set", metric_set(gauge, 2.5));
  COUNT("metric_observe", metric_observe(histogram, 0.3));
  metric_free(counter);
  metric_free(gauge);
  metric_free(histogram);
  for (int i = 0; i < 3; i++) metric_family_free(families[i]);
  MetricFamily *family = make_native_family(backend, "native_seconds");
  Metric *native = make_metric(family, NULL);
  COUNT("metric_observe of a native histogram", metric_observe(native, 0.3));
  metric_free(native);
  metric_family_free(family);
}

static void count_series(const char *store, const Backend *backend) {
  MetricFamily *family = make_family(backend, "series_total", METRIC_TYPE_COUNTER, 1);
  Metric *metrics[CALLS];
  char paths[CALLS][32];
  for (int i = 0; i < CALLS; i++) snprintf(paths[i], sizeof paths[i], "/api/v1/resource/%d", i);
  begin_counting();
  for (int i = 0; i < CALLS; i++) metrics[i] = make_metric(family, paths[i]);
  end(store, "metric_new of a new series", CALLS, "call");
  for (int i = 0; i < CALLS; i++) metric_free(metrics[i]);
  begin_counting();
  for (int i = 0; i < CALLS; i++) metrics[i] = make_metric(family, paths[i]);
  end(store, "metric_new of a known series", CALLS, "call");
  for (int i = 0; i < CALLS; i++) metric_free(metrics[i]);
  metric_family_free(family);
}

/* Counts the first change of each metric after all changes were sent, which queues the metric. */
static void count_queueing(const char *store, const Backend *backend) {
  MetricFamily *family = make_family(backend, "queued_total", METRIC_TYPE_COUNTER, 1);
  Metric *metrics[CALLS];
  BackendError *error = NULL;
  for (int i = 0; i < CALLS; i++) {
    char path[32];
    snprintf(path, sizeof path, "/api/v1/resource/%d", i);
    metrics[i] = make_metric(family, path);
  }
  check(backend_flush(backend, 10, &error), error);
  begin_counting();
  for (int i = 0; i < CALLS; i++) metric_inc(metrics[i], 1);
  end(store, "metric_inc that queues its metric", CALLS, "call");
  for (int i = 0; i < CALLS; i++) metric_free(metrics[i]);
  metric_family_free(family);
}

static long lines(const MetricsText *text) {
  long count = 0;
  for (const char *at = metrics_text_data(text); (at = strchr(at, '\n')) != NULL; at++) count++;
  return count;
}

static void count_scrape(const char *store, const char *work, const Backend *backend, const char *accept) {
  MetricsRenderOptions options;
  MetricsText *text = NULL;
  BackendError *error = NULL;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.accept = accept;
  begin_counting();
  check(metrics_render(backend, &options, &text, &error), error);
  end(store, work, lines(text), "line");
  metrics_text_free(text);
}

static void count_scrapes(const char *store, const Backend *backend) {
  static const int32_t types[] = {METRIC_TYPE_COUNTER, METRIC_TYPE_GAUGE, METRIC_TYPE_HISTOGRAM};
  for (int i = 0; i < FAMILIES; i++) {
    char name[64];
    int32_t type = types[i % 3];
    snprintf(name, sizeof name, "scraped_%d%s", i, type == METRIC_TYPE_COUNTER ? "_total" : "");
    MetricFamily *family = make_family(backend, name, type, 1);
    for (int series = 0; series < SERIES; series++) {
      snprintf(name, sizeof name, "/api/v1/resource/%d", series);
      Metric *metric = make_metric(family, name);
      if (type == METRIC_TYPE_HISTOGRAM)
        for (int times = 0; times < 20; times++) metric_observe(metric, 0.003 * times * (1 + series));
      else
        metric_inc(metric, series + 0.25 * (i % 3));
      metric_free(metric);
    }
    metric_family_free(family);
  }
  count_scrape(store, "a scrape, text", backend, NULL);
  count_scrape(store, "a scrape, OpenMetrics", backend, "application/openmetrics-text;version=1.0.0");
}

int main(int count, char **arguments) {
  for (int i = 1; i + 1 < count; i += 2) {
    const char *store = arguments[i], *url = arguments[i + 1];
    Backend *backend = NULL;
    BackendError *error = NULL;
    check(backend_new(url, &backend, &error), error);
    count_calls(store, backend);
    /* Changes of a store with a server wait in this process, and another thread would take them. */
    if (strncmp(url, "redis", 5) != 0) {
      count_series(store, backend);
      count_scrapes(store, backend);
    } else {
      count_queueing(store, backend);
    }
    backend_free(backend);
  }
  return 0;
}
