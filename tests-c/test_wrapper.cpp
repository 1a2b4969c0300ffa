// The C++ classes over the C interface.
#include <chrono>
#include <cmath>
#include <iostream>
#include <limits>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include "pytheus_backend_rs.hpp"

namespace {

int failures = 0;

void check(bool condition, const std::string &what) {
  if (condition) return;
  ++failures;
  std::cerr << "FAILED: " << what << "\n";
}

template <class Call>
void check_throws(BackendStatus status, const std::string &part, Call call) {
  try {
    call();
    check(false, "expected " + part);
  } catch (const pytheus::Error &error) {
    check(error.status() == status, std::string("the status of ") + error.what());
    check(std::string(error.what()).find(part) != std::string::npos, error.what());
  }
}

void every_type_counts() {
  pytheus::Backend backend("memory:");
  auto requests = backend.counter("requests_total", "Requests.", {"method", "path"});
  pytheus::Counter gets = requests.with({"GET", "/\"x\""});
  gets.inc();
  gets.inc(2.5);
  pytheus::Gauge size = backend.gauge("size_bytes", "Size.").with();
  size.set(8);
  size.inc();
  size.dec(4);
  pytheus::Summary bytes = backend.summary("body_bytes", "Body.").with();
  bytes.observe(3);
  pytheus::Histogram seconds = backend.histogram("seconds", "Time.", {"step"}, {0.5, 2}).with({"load"});
  seconds.observe(1);
  check(gets.value() == 3.5 && size.value() == 5, "a counter and a gauge are read");
  check(bytes.count() == 1 && bytes.sum() == 3, "a summary is read");
  check(seconds.bucket(0.5) == 0 && seconds.bucket(2) == 1 && seconds.bucket(INFINITY) == 1, "buckets are read");
  const pytheus::Text scrape = backend.render("application/openmetrics-text;version=1.0.0");
  check(scrape.content_type.find("application/openmetrics-text") == 0, "the format is the one of the header");
  check(scrape.text.find("requests_total{method=\"GET\",path=\"/\\\"x\\\"\"} 3.5\n") != std::string::npos,
        scrape.text);
  check(backend.render().text.find("seconds_bucket{step=\"load\",le=\"2\"} 1\n") != std::string::npos, "text");
  check(backend.render("", "name[]=nothing").text.empty(), "a query selects families");
  pytheus::Rendering rendering;
  rendering.accept = "application/openmetrics-text;version=1.0.0";
  rendering.query = "name[]=shop_body_bytes";
  rendering.name_prefix = "shop";
  rendering.created_samples = true;
  const std::string text = backend.render(rendering).text;
  check(text.find("shop_body_bytes_created ") != std::string::npos && text.find("seconds") == std::string::npos, text);
  const std::string protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
  const pytheus::Text binary = backend.render(protobuf);
  check(binary.content_type.find("application/vnd.google.protobuf") == 0, binary.content_type);
  check(binary.text.find('\0') != std::string::npos, "all bytes are there");
}

void gauges_with_a_mode() {
  pytheus::Backend backend("memory:");
  pytheus::Gauge jobs = backend.gauge("jobs", "Jobs.", {}, METRIC_GAUGE_MODE_LIVE_SUM).with();
  jobs.set(3);
  check(jobs.value() == 3, "a gauge with a mode is set");
  check_throws(BACKEND_STATUS_INVALID_ARGUMENT, "pid",
               [&] { backend.gauge("wrong", "", {"pid"}, METRIC_GAUGE_MODE_ALL); });
}

void series_that_end() {
  pytheus::Backend backend("memory:?series_ttl=1");
  const double endless = std::numeric_limits<double>::infinity();
  backend.counter("kept_total", "", {}, METRIC_EXEMPLARS_NONE, endless).with().inc();
  backend.histogram("ended", "", {}, {1}, METRIC_EXEMPLARS_NONE, 2).with().observe(1);
  backend.gauge("ended_too", "").with().set(1);
  std::string text;
  const auto is_gone = [&](const char *series) { return text.find(series) == std::string::npos; };
  for (int tries = 0; tries < 3000; tries++) {
    text = backend.render().text;
    if (is_gone("\nended_sum ") && is_gone("\nended_too ")) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  check(is_gone("\nended_sum ") && is_gone("\nended_too "), text);
  check(text.find("kept_total 1") != std::string::npos, text);
  check_throws(BACKEND_STATUS_INVALID_ARGUMENT, "from 1 to",
               [&] { backend.summary("wrong", "", {}, 1.5); });
  check_throws(BACKEND_STATUS_INVALID_ARGUMENT, "from 1 to",
               [&] { backend.state_set("wrong", "", {"on"}, {}, -1); });
}

void exemplars() {
  pytheus::Backend backend("memory:");
  pytheus::Counter jobs = backend.counter("jobs_total", "Jobs.", {}, METRIC_EXEMPLARS_KEPT).with();
  pytheus::Histogram times = backend.histogram("times", "Times.", {}, {1}, METRIC_EXEMPLARS_KEPT).with();
  jobs.inc_with_exemplar(2, {{"trace_id", "a"}});
  times.observe_with_exemplar(0.5, {{"trace_id", "b"}, {"span_id", "c"}});
  const std::string text = backend.render("application/openmetrics-text; version=1.0.0").text;
  check(text.find("jobs_total 2 # {trace_id=\"a\"} 2 ") != std::string::npos, text);
  const std::string bucket = "times_bucket{le=\"1.0\"} 1 # {trace_id=\"b\",span_id=\"c\"} 0.5 ";
  check(text.find(bucket) != std::string::npos, text);
  check_throws(BACKEND_STATUS_INVALID_ARGUMENT, "at least one label",
               [&] { jobs.inc_with_exemplar(2, {}); });
}

void native_histograms() {
  pytheus::Backend backend("memory:");
  pytheus::Histogram alone = backend.native_histogram("alone_seconds", "Time.").with();
  alone.observe(3);
  check(alone.count() == 1 && alone.bucket(INFINITY) == 1, "a native histogram counts");
  pytheus::Native native;
  native.resolution = 4;
  native.size = 16;
  pytheus::Histogram both = backend.native_histogram("both_seconds", "Time.", {}, native, {1}).with();
  both.observe(0.5);
  check(both.bucket(1) == 1, "a native histogram has classic buckets");
  native.resolution = 5;
  check_throws(BACKEND_STATUS_INVALID_ARGUMENT, "resolution",
               [&] { backend.native_histogram("wrong", "", {}, native); });
}

void infos_state_sets_and_gauge_histograms() {
  pytheus::Backend backend("memory:");
  pytheus::Info build = backend.info("build", "Build.", {"part"});
  build.set({{"version", "1"}}, {"core"});
  build.set({{"version", "2"}, {"commit", "a"}}, {"core"});
  pytheus::StateSet job = backend.state_set("job", "Job.", {"idle", "busy"}).with();
  job.set("idle");
  job.choose("busy");
  check(job.is_on("busy") && !job.is_on("idle"), "a state is chosen");
  check_throws(BACKEND_STATUS_INVALID_ARGUMENT, "", [&] { job.set("none"); });
  pytheus::GaugeHistogram ages = backend.gauge_histogram("ages", "Ages.", {}, {1}).with();
  ages.observe(0.5);
  ages.observe(7);
  ages.unobserve(0.5);
  check(ages.bucket(1) == 0 && ages.count() == 1 && ages.sum() == 7, "an observation is taken out");
  const std::string text = backend.render().text;
  check(text.find("build_info{commit=\"a\",part=\"core\",version=\"2\"} 1\n") != std::string::npos, text);
  check(text.find("version=\"1\"") == std::string::npos, text);
  build.clear();
  check(backend.render().text.find("build_info{") == std::string::npos, "an info is cleared");
}

void a_timer_observes_its_lifetime() {
  pytheus::Backend backend("memory:");
  pytheus::Histogram seconds = backend.histogram("seconds", "Time.").with();
  double passed = 0;
  {
    pytheus::Timer timer(seconds);
    check(seconds.count() == 0, "a timer observes at its end");
    passed = timer.seconds();
  }
  check(seconds.count() == 1 && seconds.sum() >= passed, "a timer observes once");
}

void failures_are_exceptions() {
  check_throws(BACKEND_STATUS_CONFIGURATION, "mysql", [] { pytheus::Backend backend("mysql://h"); });
  pytheus::Backend backend("memory:");
  check_throws(BACKEND_STATUS_INVALID_ARGUMENT, "with-dash", [&] { backend.counter("with-dash", ""); });
  auto family = backend.counter("requests_total", "", {"method"});
  check_throws(BACKEND_STATUS_INVALID_ARGUMENT, "1 labels", [&] { family.with(); });
  check_throws(BACKEND_STATUS_NOT_FOUND, "no metric", [&] { family.remove({"GET"}); });
  check_throws(BACKEND_STATUS_CONFLICT, "requests_total", [&] { backend.gauge("requests_total", ""); });
  pytheus::Counter counter = family.with({"GET"});
  check_throws(BACKEND_STATUS_INVALID_ARGUMENT, "INVALID_ARGUMENT", [&] { counter.inc(-1); });
  check_throws(BACKEND_STATUS_INVALID_ARGUMENT, "timeout_seconds", [&] { backend.flush(-1); });
  family.remove({"GET"});
  family.clear();
  backend.flush(1);
  backend.close();
}

void handles_move_and_die_in_any_order() {
  static_assert(!std::is_copy_constructible_v<pytheus::Backend>);
  static_assert(!std::is_copy_constructible_v<pytheus::Counter>);
  static_assert(std::is_nothrow_move_constructible_v<pytheus::Family<pytheus::Gauge>>);
  auto backend = std::make_unique<pytheus::Backend>("memory:");
  auto family = backend->counter("requests_total", "");
  pytheus::Counter first = family.with();
  pytheus::Counter counter = std::move(first);
  check(counter.inc_and_get() == 1 && counter.inc_and_get(0) == 1, "an addition returns the new value");
  backend.reset();
  counter.inc();
}

void a_server_stops_with_its_object() {
  pytheus::Backend backend("memory:");
  std::uint16_t port = 0;
  {
    pytheus::Server server = backend.serve();
    port = server.port();
    check(port != 0 && server.address() == "127.0.0.1:" + std::to_string(port), server.address());
  }
  check(backend.serve(port).port() == port, "the port is free again");
}

}  // namespace

int main() {
  every_type_counts();
  gauges_with_a_mode();
  exemplars();
  native_histograms();
  series_that_end();
  infos_state_sets_and_gauge_histograms();
  a_timer_observes_its_lifetime();
  failures_are_exceptions();
  handles_move_and_die_in_any_order();
  a_server_stops_with_its_object();
  return failures == 0 ? 0 : 1;
}
