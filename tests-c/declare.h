/* Opens a backend, declares a family and creates its metric, as nearly every test does first. Failures are failed
 * checks.
 */
#ifndef DECLARE_H
#define DECLARE_H

#include "check.h"

static inline Backend *open_backend(const char *url) {
  Backend *backend = NULL;
  CHECK_OK(backend_new(url, &backend, &error));
  CHECK(backend != NULL);
  return backend;
}

static inline MetricFamilyOptions options_for(MetricType type, const char *name) {
  MetricFamilyOptions options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.name = name;
  options.help = "Help.";
  options.metric_type = type;
  return options;
}

static inline MetricFamily *declare(const Backend *backend, const MetricFamilyOptions *options) {
  MetricFamily *family = NULL;
  CHECK_OK(metric_family_new(backend, options, &family, &error));
  CHECK(family != NULL);
  return family;
}

/* Declares a family without labels. */
static inline MetricFamily *declare_plain(const Backend *backend, MetricType type, const char *name) {
  MetricFamilyOptions options = options_for(type, name);
  return declare(backend, &options);
}

/* Declares a family with the label "method". */
static inline MetricFamily *declare_labelled(const Backend *backend, MetricType type, const char *name) {
  static const char *const label_names[] = {"method"};
  MetricFamilyOptions options = options_for(type, name);
  options.label_names = label_names;
  options.label_count = 1;
  return declare(backend, &options);
}

/* Creates a metric with one label, or without if `label_value` is NULL. */
static inline Metric *make_metric(const MetricFamily *family, const char *label_value) {
  Metric *metric = NULL;
  CHECK_OK(metric_new(family, &label_value, label_value == NULL ? 0 : 1, &metric, &error));
  CHECK(metric != NULL);
  return metric;
}

static inline double value_of(const Metric *metric) {
  double value = -1;
  CHECK_OK(metric_get(metric, &value, &error));
  return value;
}

/* Checks the whole text of a scrape. */
#define CHECK_SCRAPE(expected, backend) check_scrape((expected), (backend), __FILE__, __LINE__)

static inline void check_scrape(const char *expected, const Backend *backend, const char *file, int line) {
  char *text = NULL;
  size_t length = 0;
  CHECK_OK(metrics_collect(backend, &text, &length, &error));
  check_text(expected, text, "the scrape", file, line);
  if (text != NULL) CHECK(length == strlen(text));
  backend_string_free(text);
}

#endif
