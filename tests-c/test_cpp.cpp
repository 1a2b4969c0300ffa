// A C++ program that owns its handles by RAII and turns failures into exceptions. The header must allow both. It is built as C++11 and as C++17.
#include <cmath>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "pytheus_backend_rs.h"

namespace {

struct Free {
  void operator()(Backend *backend) const { backend_free(backend); }
  void operator()(MetricFamily *family) const { metric_family_free(family); }
  void operator()(Metric *metric) const { metric_free(metric); }
  void operator()(MetricsSnapshot *snapshot) const { metrics_snapshot_free(snapshot); }
  void operator()(BackendError *error) const { backend_error_free(error); }
  void operator()(char *text) const { backend_string_free(text); }
};

template <typename Handle>
using Owned = std::unique_ptr<Handle, Free>;

class Failure : public std::runtime_error {
 public:
  Failure(BackendStatus status, const std::string &message) : std::runtime_error(message), status(status) {}
  BackendStatus status;
};

// Takes the results from the out-parameters of a call, or throws its failure.
template <typename Handle, typename Call>
Owned<Handle> made_by(Call call) {
  Handle *handle = nullptr;
  BackendError *error = nullptr;
  BackendStatus status = call(&handle, &error);
  Owned<BackendError> owned_error(error);
  if (status != BACKEND_STATUS_OK) throw Failure(status, backend_error_message(error));
  return Owned<Handle>(handle);
}

Owned<Backend> open_backend(const std::string &url) {
  return made_by<Backend>(
      [&](Backend **backend, BackendError **error) { return backend_new(url.c_str(), backend, error); });
}

Owned<MetricFamily> declare(const Owned<Backend> &backend, MetricType type, const char *name,
                            const std::vector<const char *> &label_names) {
  MetricFamilyOptions options = MetricFamilyOptions();
  options.size = sizeof options;
  options.name = name;
  options.metric_type = type;
  options.label_names = label_names.data();
  options.label_count = label_names.size();
  return made_by<MetricFamily>([&](MetricFamily **family, BackendError **error) {
    return metric_family_new(backend.get(), &options, family, error);
  });
}

Owned<Metric> metric_of(const Owned<MetricFamily> &family, const std::vector<const char *> &label_values) {
  return made_by<Metric>([&](Metric **metric, BackendError **error) {
    return metric_new(family.get(), label_values.data(), label_values.size(), metric, error);
  });
}

std::string scrape(const Owned<Backend> &backend) {
  std::size_t length = 0;
  Owned<char> text = made_by<char>(
      [&](char **text, BackendError **error) { return metrics_collect(backend.get(), text, &length, error); });
  return std::string(text.get(), length);
}

int failures = 0;

void expect(bool condition, const std::string &what) {
  if (condition) return;
  failures++;
  std::cerr << "FAILED: " << what << std::endl;
}

void handles_own_themselves() {
  Owned<Backend> backend = open_backend("memory:");
  Owned<MetricFamily> family = declare(backend, METRIC_TYPE_COUNTER, "requests_total", {"method"});
  Owned<Metric> metric = metric_of(family, {"GET"});
  std::vector<std::thread> threads;
  for (int index = 0; index < 4; index++) {
    threads.emplace_back([&] {
      for (int step = 0; step < 1000; step++) metric_inc(metric.get(), 1.0);
    });
  }
  for (std::thread &thread : threads) thread.join();
  std::string expected = "# HELP requests_total \n# TYPE requests_total counter\nrequests_total{method=\"GET\"} 4000\n";
  expect(scrape(backend) == expected, "the scrape is " + scrape(backend));
}

void a_failure_is_an_exception_with_status_and_message() {
  try {
    open_backend("nowhere:");
    expect(false, "an unknown store is accepted");
  } catch (const Failure &failure) {
    expect(failure.status == BACKEND_STATUS_CONFIGURATION, backend_status_name(failure.status));
    expect(std::string(failure.what()).find("nowhere") != std::string::npos, failure.what());
  }
}

void a_snapshot_is_walked_in_a_loop() {
  Owned<Backend> backend = open_backend("memory:?cell=mutex");
  Owned<MetricFamily> family = declare(backend, METRIC_TYPE_HISTOGRAM, "seconds", {});
  Owned<Metric> metric = metric_of(family, {});
  metric_observe(metric.get(), NAN);
  Owned<MetricsSnapshot> snapshot = made_by<MetricsSnapshot>([&](MetricsSnapshot **snapshot, BackendError **error) {
    return metrics_snapshot_new(backend.get(), nullptr, 0, snapshot, error);
  });
  MetricsSeries series = MetricsSeries();
  int count = 0;
  for (; metrics_snapshot_next(snapshot.get(), &series) == BACKEND_STATUS_OK; count++) {
    std::vector<double> values(series.values, series.values + series.value_count);
    expect(std::string(series.family) == "seconds", series.family);
    expect(values.size() == 14 && values[10] == 0 && values[11] == 1 && values[12] == 1 && std::isnan(values[13]),
           "the values of a histogram");
  }
  expect(count == 1, "one series");
}

}  // namespace

int main() {
  handles_own_themselves();
  a_failure_is_an_exception_with_status_and_message();
  a_snapshot_is_walked_in_a_loop();
  return failures == 0 ? 0 : 1;
}
