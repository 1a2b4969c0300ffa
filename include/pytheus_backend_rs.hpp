/**
 * @file
 * C++17 classes over the C interface in pytheus_backend_rs.h.
 *
 * @code{.cpp}
 * #include <pytheus_backend_rs.hpp>
 * #include <iostream>
 *
 * int main() {
 *   pytheus::Backend backend("memory:");
 *   auto requests = backend.counter("requests_total", "Requests served.", {"method"});
 *   auto seconds = backend.histogram("request_seconds", "How long a request took.").with();
 *
 *   pytheus::Counter gets = requests.with({"GET"});  // look up once, keep
 *   {
 *     pytheus::Timer timer(seconds);  // observes when it goes out of scope
 *     gets.inc();
 *   }
 *   std::cout << backend.render().text;
 * }
 * @endcode
 *
 * The objects own their handles: they can be moved, not copied, and free the handle in their
 * destructor. They may be destroyed in any order. A failure throws pytheus::Error. For threads,
 * forks and the end of the process see pytheus_backend_rs.h.
 */
#ifndef PYTHEUS_BACKEND_RS_HPP
#define PYTHEUS_BACKEND_RS_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pytheus_backend_rs.h"

namespace pytheus {

/** A call that failed. `what()` says why. */
class Error : public std::runtime_error {
 public:
  /** An error with the status and the reason of a call. */
  Error(BackendStatus status, const std::string &reason)
      : std::runtime_error(reason), status_(status) {}

  /** Returns the status of the call. */
  BackendStatus status() const noexcept { return status_; }

 private:
  BackendStatus status_;
};

/** What the classes below share. */
namespace detail {

/** Frees a handle. */
struct Free {
  void operator()(::Backend *handle) const noexcept { backend_free(handle); }
  void operator()(::BackendError *handle) const noexcept { backend_error_free(handle); }
  void operator()(::MetricFamily *handle) const noexcept { metric_family_free(handle); }
  void operator()(::Metric *handle) const noexcept { metric_free(handle); }
  void operator()(::MetricsText *handle) const noexcept { metrics_text_free(handle); }
  void operator()(::MetricsServer *handle) const noexcept { metrics_server_free(handle); }
};

/** A handle that is freed with its owner. */
template <class T>
using Handle = std::unique_ptr<T, Free>;

/** Calls a function that takes a `BackendError **` last, and throws its failure. */
template <class Call>
void check(Call &&call) {
  ::BackendError *error = nullptr;
  const auto status = static_cast<BackendStatus>(call(&error));
  if (status == BACKEND_STATUS_OK) return;
  const Handle<::BackendError> owner(error);
  throw Error(status,
              error == nullptr ? backend_status_name(status) : backend_error_message(error));
}

/** Throws the failure of a function that only returns a status. */
inline void check_status(BackendStatus status) {
  if (status != BACKEND_STATUS_OK) throw Error(status, backend_status_name(status));
}

/** Calls a function that makes a handle. */
template <class T, class Call>
Handle<T> make(Call &&call) {
  T *handle = nullptr;
  check([&](::BackendError **error) { return call(&handle, error); });
  return Handle<T>(handle);
}

/** NUL-terminated copies of some texts, as C takes them. */
class Texts {
 public:
  Texts() = default;
  explicit Texts(std::initializer_list<std::string_view> texts) {
    for (const auto &text : texts) add(text);
  }
  Texts(const Texts &) = delete;
  Texts &operator=(const Texts &) = delete;
  void add(std::string_view text) { pointers_.push_back(owned_.emplace_back(text).c_str()); }
  const char *const *data() const noexcept { return pointers_.data(); }
  std::size_t size() const noexcept { return pointers_.size(); }

 private:
  /** Not a vector: the texts must stay where they are. */
  std::deque<std::string> owned_;
  std::vector<const char *> pointers_;
};

/** Calls one of the `_with_exemplar` functions. */
template <class Function>
void keep_exemplar(Function &&function, ::Metric *metric, double value,
                   const std::vector<std::pair<std::string, std::string>> &labels) {
  std::vector<const char *> names, values;
  for (const auto &label : labels) {
    names.push_back(label.first.c_str());
    values.push_back(label.second.c_str());
  }
  check([&](::BackendError **error) {
    return function(metric, value, names.data(), values.data(), names.size(), error);
  });
}

}  // namespace detail

/** The labels of an exemplar: names and values. */
using ExemplarLabels = std::vector<std::pair<std::string, std::string>>;

/** One metric: what all types have in common. */
class Metric {
 public:
  /** Returns the handle for the C functions. It lives as long as this object. */
  ::Metric *get_handle() const noexcept { return handle_.get(); }

 protected:
  /** Takes a handle over. */
  explicit Metric(detail::Handle<::Metric> handle) : handle_(std::move(handle)) {}

  /** Reads a number with one of the `metric_get` functions. */
  template <class Read>
  double read(Read &&function) const {
    double value = 0;
    detail::check([&](::BackendError **error) { return function(get_handle(), &value, error); });
    return value;
  }

 private:
  detail::Handle<::Metric> handle_;
};

/** A counter: it only goes up. */
class Counter : public Metric {
 public:
  /** Takes a handle over. */
  explicit Counter(detail::Handle<::Metric> handle) : Metric(std::move(handle)) {}
  /** Adds `amount`. Throws if it is negative or NaN. */
  void inc(double amount = 1) { detail::check_status(metric_inc(get_handle(), amount)); }
  /** Adds `amount` and returns the new value in the store. With a server it waits for the answer. */
  double inc_and_get(double amount = 1) {
    return read([amount](const ::Metric *metric, double *value, ::BackendError **error) {
      return metric_inc_and_get(metric, amount, value, error);
    });
  }
  /** Adds `amount`, and keeps it with labels that lead to a trace: see metric_inc_with_exemplar. */
  void inc_with_exemplar(double amount, const ExemplarLabels &labels) {
    detail::keep_exemplar(metric_inc_with_exemplar, get_handle(), amount, labels);
  }
  /** Returns the value in the store. */
  double value() const { return read(metric_get); }
};

/** A gauge: it goes up and down. */
class Gauge : public Metric {
 public:
  /** Takes a handle over. */
  explicit Gauge(detail::Handle<::Metric> handle) : Metric(std::move(handle)) {}
  /** Adds `amount`. */
  void inc(double amount = 1) { detail::check_status(metric_inc(get_handle(), amount)); }
  /** Adds `amount` and returns the new value in the store. With a server it waits for the answer. */
  double inc_and_get(double amount = 1) {
    return read([amount](const ::Metric *metric, double *value, ::BackendError **error) {
      return metric_inc_and_get(metric, amount, value, error);
    });
  }
  /** Subtracts `amount`. */
  void dec(double amount = 1) { detail::check_status(metric_dec(get_handle(), amount)); }
  /** Replaces the value. */
  void set(double value) { detail::check_status(metric_set(get_handle(), value)); }
  /** Returns the value in the store. */
  double value() const { return read(metric_get); }
};

/** A summary: it counts and sums observations. */
class Summary : public Metric {
 public:
  /** Takes a handle over. */
  explicit Summary(detail::Handle<::Metric> handle) : Metric(std::move(handle)) {}
  /** Counts `value`. */
  void observe(double value) { detail::check_status(metric_observe(get_handle(), value)); }
  /** Returns the number of observations in the store. */
  double count() const { return read(metric_get_count); }
  /** Returns the sum of the observations in the store. */
  double sum() const { return read(metric_get_sum); }
};

/** A histogram: a summary that also counts observations in buckets. */
class Histogram : public Summary {
 public:
  /** Takes a handle over. */
  explicit Histogram(detail::Handle<::Metric> handle) : Summary(std::move(handle)) {}
  /** Counts `value`, and keeps it with labels that lead to a trace: see
   * metric_observe_with_exemplar. */
  void observe_with_exemplar(double value, const ExemplarLabels &labels) {
    detail::keep_exemplar(metric_observe_with_exemplar, get_handle(), value, labels);
  }
  /** Returns the cumulative count of the bucket with this upper bound; `INFINITY` is the last. */
  double bucket(double upper_bound) const {
    return read([&](const ::Metric *metric, double *value, ::BackendError **error) {
      return metric_get_bucket(metric, upper_bound, value, error);
    });
  }
};

/** A gauge histogram: a histogram of what exists at present. */
class GaugeHistogram : public Histogram {
 public:
  /** Takes a handle over. */
  explicit GaugeHistogram(detail::Handle<::Metric> handle) : Histogram(std::move(handle)) {}
  /** Takes an observation of `value` out again. */
  void unobserve(double value) { detail::check_status(metric_unobserve(get_handle(), value)); }
};

/** A state set: named states, each of which is on or off. */
class StateSet : public Metric {
 public:
  /** Takes a handle over. */
  explicit StateSet(detail::Handle<::Metric> handle) : Metric(std::move(handle)) {}
  /** Switches one state on or off. Throws if there is no such state. */
  void set(const std::string &state, bool is_on = true) {
    detail::check_status(metric_set_state(get_handle(), state.c_str(), is_on ? 1 : 0));
  }
  /** Switches one state on and all others off. Throws if there is no such state. */
  void choose(const std::string &state) {
    detail::check_status(metric_choose_state(get_handle(), state.c_str()));
  }
  /** Returns whether the state is on in the store. */
  bool is_on(const std::string &state) const {
    std::int32_t is_on = 0;
    detail::check([&](::BackendError **error) {
      return metric_get_state(get_handle(), state.c_str(), &is_on, error);
    });
    return is_on != 0;
  }
};

/**
 * Observes how many seconds it has lived when it is destroyed. The summary or histogram must live
 * longer.
 */
class Timer {
 public:
  /** Starts the clock. */
  explicit Timer(Summary &metric) : metric_(metric.get_handle()), start_(Clock::now()) {}
  /** Stops the clock and observes, which cannot fail. */
  ~Timer() { (void)metric_observe(metric_, seconds()); }
  Timer(const Timer &) = delete;
  Timer &operator=(const Timer &) = delete;

  /** Returns how many seconds have passed. */
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  const ::Metric *metric_;
  Clock::time_point start_;
};

/** A metric family, whose metrics are of the class `M`. */
template <class M>
class Family {
 public:
  /** Takes a handle over. */
  explicit Family(detail::Handle<::MetricFamily> handle) : handle_(std::move(handle)) {}

  /** Returns the metric with these label values, in the order of the declared names. */
  M with(std::initializer_list<std::string_view> label_values = {}) const {
    const detail::Texts values(label_values);
    return M(detail::make<::Metric>([&](auto **metric, auto **error) {
      return metric_new(get_handle(), values.data(), values.size(), metric, error);
    }));
  }

  /** Removes the metric with these label values from the store. */
  void remove(std::initializer_list<std::string_view> label_values = {}) {
    const detail::Texts values(label_values);
    detail::check([&](::BackendError **error) {
      return metric_remove(get_handle(), values.data(), values.size(), error);
    });
  }

  /** Removes all metrics of the family from the store. */
  void clear() {
    detail::check([&](::BackendError **error) { return metric_family_clear(get_handle(), error); });
  }

  /** Returns the handle for the C functions. It lives as long as this object. */
  ::MetricFamily *get_handle() const noexcept { return handle_.get(); }

 private:
  detail::Handle<::MetricFamily> handle_;
};

/** A family of infos: labels that describe something, such as the version of the program. */
class Info {
 public:
  /** Takes a handle over. */
  explicit Info(detail::Handle<::MetricFamily> handle) : handle_(std::move(handle)) {}

  /** Sets names and values of labels, for these values of the declared label names. */
  void set(std::initializer_list<std::pair<std::string_view, std::string_view>> labels,
           std::initializer_list<std::string_view> label_values = {}) {
    const detail::Texts declared(label_values);
    detail::Texts names, values;
    for (const auto &label : labels) {
      names.add(label.first);
      values.add(label.second);
    }
    detail::check([&](::BackendError **error) {
      return metric_family_set_info(get_handle(), declared.data(), declared.size(), names.data(),
                                    values.data(), names.size(), error);
    });
  }

  /** Removes all labels that were set from the store. */
  void clear() {
    detail::check([&](::BackendError **error) { return metric_family_clear(get_handle(), error); });
  }

  /** Returns the handle for the C functions. It lives as long as this object. */
  ::MetricFamily *get_handle() const noexcept { return handle_.get(); }

 private:
  detail::Handle<::MetricFamily> handle_;
};

/** What a scrape shows, and how. */
struct Rendering {
  /** The `Accept` header of the scraper, which decides on the format. Empty: text 0.0.4. */
  std::string accept;
  /** The query of the request, whose parameters `name[]` select families. Empty: all. */
  std::string query;
  /** Stands in front of each name, with `_` between them. Empty: nothing does. */
  std::string name_prefix;
  /** Whether OpenMetrics shows when each counter, summary and histogram began. */
  bool created_samples = false;
};

/** The text of a scrape, and the value for the HTTP header `Content-Type`. */
struct Text {
  /** The text. In the format protobuf it is binary. */
  std::string text;
  /** The value for the HTTP header. */
  std::string content_type;
};

/** An HTTP server for scrapes, which stops when it is destroyed. */
class Server {
 public:
  /** Takes a handle over. */
  explicit Server(detail::Handle<::MetricsServer> handle) : handle_(std::move(handle)) {}
  /** Returns the port at which it listens. */
  std::uint16_t port() const noexcept { return metrics_server_port(handle_.get()); }
  /** Returns the address and port at which it listens. */
  std::string address() const { return metrics_server_address(handle_.get()); }

 private:
  detail::Handle<::MetricsServer> handle_;
};

/** The native buckets of a histogram: see MetricFamilyOptions. */
struct Native {
  /** How many buckets there are from each power of two to the next: 1, 2, 4, … 256. 0: 8. */
  std::int32_t resolution = 0;
  /** How many buckets a series has room for, 16 to 4096. 0: 384. */
  std::size_t size = 0;
};

/**
 * An open store.
 *
 * `series_ttl`, the last argument of each declaration, says after how many seconds without use a
 * series ends: see MetricFamilyOptions. 0: what the store's option says, INFINITY: never.
 */
class Backend {
 public:
  /** Opens the store that `url` names: see backend_new. */
  explicit Backend(const std::string &url)
      : handle_(detail::make<::Backend>([&](auto **backend, auto **error) {
          return backend_new(url.c_str(), backend, error);
        })) {}

  /** Shows what the system says about each process: see backend_process_metrics. */
  void process_metrics(const std::string &prefix = "") {
    detail::check([&](::BackendError **error) {
      return backend_process_metrics(get_handle(), prefix.c_str(), error);
    });
  }
  /** Declares a family of counters. `exemplars`: whether its series keep exemplars. */
  Family<Counter> counter(const std::string &name, const std::string &help,
                          std::initializer_list<std::string_view> label_names = {},
                          MetricExemplars exemplars = METRIC_EXEMPLARS_NONE,
                          double series_ttl = 0) {
    return Family<Counter>(declare(METRIC_TYPE_COUNTER, name, help, label_names, {}, series_ttl, {},
                                   nullptr, METRIC_GAUGE_MODE_SHARED, exemplars));
  }
  /** Declares a family of gauges. `mode`: whether every process has its own value. */
  Family<Gauge> gauge(const std::string &name, const std::string &help,
                      std::initializer_list<std::string_view> label_names = {},
                      MetricGaugeMode mode = METRIC_GAUGE_MODE_SHARED, double series_ttl = 0) {
    return Family<Gauge>(
        declare(METRIC_TYPE_GAUGE, name, help, label_names, {}, series_ttl, {}, nullptr, mode));
  }
  /** Declares a family of summaries. */
  Family<Summary> summary(const std::string &name, const std::string &help,
                          std::initializer_list<std::string_view> label_names = {},
                          double series_ttl = 0) {
    return Family<Summary>(declare(METRIC_TYPE_SUMMARY, name, help, label_names, {}, series_ttl));
  }
  /** Declares a family of histograms. No buckets: the default ones of MetricFamilyOptions. */
  Family<Histogram> histogram(const std::string &name, const std::string &help,
                              std::initializer_list<std::string_view> label_names = {},
                              const std::vector<double> &buckets = {},
                              MetricExemplars exemplars = METRIC_EXEMPLARS_NONE,
                              double series_ttl = 0) {
    return Family<Histogram>(declare(METRIC_TYPE_HISTOGRAM, name, help, label_names, buckets,
                                     series_ttl, {}, nullptr, METRIC_GAUGE_MODE_SHARED, exemplars));
  }
  /** Declares a family of histograms with native buckets. `buckets`: classic ones beside them. */
  Family<Histogram> native_histogram(const std::string &name, const std::string &help,
                                     std::initializer_list<std::string_view> label_names = {},
                                     const Native &native = Native(),
                                     const std::vector<double> &buckets = {},
                                     MetricExemplars exemplars = METRIC_EXEMPLARS_NONE,
                                     double series_ttl = 0) {
    return Family<Histogram>(declare(METRIC_TYPE_HISTOGRAM, name, help, label_names, buckets,
                                     series_ttl, {}, &native, METRIC_GAUGE_MODE_SHARED, exemplars));
  }
  /** Declares a family of gauge histograms. No buckets: the default ones of MetricFamilyOptions. */
  Family<GaugeHistogram> gauge_histogram(const std::string &name, const std::string &help,
                                         std::initializer_list<std::string_view> label_names = {},
                                         const std::vector<double> &buckets = {},
                                         double series_ttl = 0) {
    return Family<GaugeHistogram>(
        declare(METRIC_TYPE_GAUGE_HISTOGRAM, name, help, label_names, buckets, series_ttl));
  }
  /** Declares a family of state sets. */
  Family<StateSet> state_set(const std::string &name, const std::string &help,
                             std::initializer_list<std::string_view> states,
                             std::initializer_list<std::string_view> label_names = {},
                             double series_ttl = 0) {
    return Family<StateSet>(
        declare(METRIC_TYPE_STATE_SET, name, help, label_names, {}, series_ttl, states));
  }
  /** Declares a family of infos. */
  Info info(const std::string &name, const std::string &help,
            std::initializer_list<std::string_view> label_names = {}, double series_ttl = 0) {
    return Info(declare(METRIC_TYPE_INFO, name, help, label_names, {}, series_ttl));
  }

  /** Renders all families, or those that the parameters `name[]` of an HTTP query name, in the format that an
   * `Accept` header asks for. */
  Text render(const std::string &accept = "", const std::string &query = "") const {
    Rendering rendering;
    rendering.accept = accept;
    rendering.query = query;
    return render(rendering);
  }
  /** Renders as `rendering` says. */
  Text render(const Rendering &rendering) const {
    MetricsRenderOptions options = {};
    options.size = sizeof options;
    options.accept = rendering.accept.c_str();
    options.query = rendering.query.c_str();
    options.name_prefix = rendering.name_prefix.empty() ? nullptr : rendering.name_prefix.c_str();
    options.formats = METRICS_FORMATS_ALL;
    options.created_samples = rendering.created_samples ? METRICS_CREATED_SAMPLES_SHOWN
                                                        : METRICS_CREATED_SAMPLES_HIDDEN;
    const auto rendered = detail::make<::MetricsText>([&](auto **text, auto **error) {
      return metrics_render(get_handle(), &options, text, error);
    });
    return {{metrics_text_data(rendered.get()), metrics_text_length(rendered.get())},
            metrics_text_content_type(rendered.get())};
  }

  /** Serves scrapes by HTTP at a port of 127.0.0.1; 0: a free one. */
  Server serve(std::uint16_t port = 0) const {
    MetricsServeOptions options = {};
    options.size = sizeof options;
    options.port = port;
    return Server(detail::make<::MetricsServer>([&](auto **server, auto **error) {
      return metrics_serve(get_handle(), &options, server, error);
    }));
  }

  /** Sends what is pending, and waits for at most `timeout_seconds`. */
  void flush(double timeout_seconds) {
    detail::check([&](::BackendError **error) {
      return backend_flush(get_handle(), timeout_seconds, error);
    });
  }

  /** Sends what is pending, and closes the store. */
  void close() {
    detail::check([&](::BackendError **error) { return backend_close(get_handle(), error); });
  }

  /** Returns the handle for the C functions. It lives as long as this object. */
  ::Backend *get_handle() const noexcept { return handle_.get(); }

 private:
  detail::Handle<::MetricFamily> declare(MetricType type, const std::string &name,
                                         const std::string &help,
                                         std::initializer_list<std::string_view> label_names,
                                         const std::vector<double> &buckets, double series_ttl,
                                         std::initializer_list<std::string_view> state_names = {},
                                         const Native *native = nullptr,
                                         MetricGaugeMode mode = METRIC_GAUGE_MODE_SHARED,
                                         MetricExemplars exemplars = METRIC_EXEMPLARS_NONE) {
    const detail::Texts names(label_names), states(state_names);
    MetricFamilyOptions options = {};
    options.size = sizeof options;
    options.name = name.c_str();
    options.help = help.c_str();
    options.metric_type = static_cast<std::int32_t>(type);
    options.label_names = names.data();
    options.label_count = names.size();
    options.buckets = buckets.empty() ? nullptr : buckets.data();
    options.bucket_count = buckets.size();
    options.states = states.data();
    options.state_count = states.size();
    options.gauge_mode = static_cast<std::int32_t>(mode);
    options.exemplars = static_cast<std::int32_t>(exemplars);
    options.series_ttl = series_ttl;
    if (native != nullptr) {
      options.native = buckets.empty() ? METRIC_NATIVE_ALONE : METRIC_NATIVE_BOTH;
      options.native_resolution = native->resolution;
      options.native_size = native->size;
    }
    return detail::make<::MetricFamily>([&](auto **family, auto **error) {
      return metric_family_new(get_handle(), &options, family, error);
    });
  }

  detail::Handle<::Backend> handle_;
};

}  // namespace pytheus

#endif
