// Counts orders in a shop through koffi, and prints what Prometheus would scrape.
//
//   npm install
//   node count.js                            keeps the values in this process
//   node count.js redis://127.0.0.1:6379     keeps them on a Redis server, shared with other processes
import koffi from "koffi";

const library = koffi.load(process.env.PYTHEUS_BACKEND_RS_LIBRARY ?? "libpytheus_backend_rs.so.1");
for (const name of ["Backend", "BackendError", "MetricFamily", "Metric"]) koffi.opaque(name);
const MetricFamilyOptions = koffi.struct("MetricFamilyOptions", {
  size: "size_t", name: "const char *", help: "const char *", metric_type: "int32_t", lifetime: "int32_t",
  label_names: "const char **", label_count: "size_t", buckets: "const double *", bucket_count: "size_t",
  unit: "const char *", names: "int32_t",
});
const [COUNTER, SUMMARY] = [1, 4]; // METRIC_TYPE_COUNTER, METRIC_TYPE_SUMMARY

const message = library.func("const char *backend_error_message(const BackendError *error)");
const open = library.func("int32_t backend_new(const char *url, _Out_ Backend **backend, _Out_ BackendError **error)");
const close = library.func("void backend_free(Backend *backend)");
const declare = library.func("int32_t metric_family_new(const Backend *backend, const MetricFamilyOptions *options, " +
  "_Out_ MetricFamily **family, _Out_ BackendError **error)");
const metric = library.func("int32_t metric_new(const MetricFamily *family, const char **label_values, " +
  "size_t label_count, _Out_ Metric **metric, _Out_ BackendError **error)");
const inc = library.func("int32_t metric_inc(const Metric *metric, double amount)");
const observe = library.func("int32_t metric_observe(const Metric *metric, double value)");
koffi.disposable("Text", "str", library.func("void backend_string_free(void *text)"));
const collect = library.func("int32_t metrics_collect(const Backend *backend, _Out_ Text *text, size_t *length, " +
  "_Out_ BackendError **error)");

// Makes a call whose last parameters are an out-parameter, `behind` it and an error; returns the result or throws.
function call(function_, args, behind = []) {
  const [result, error] = [[null], [null]];
  if (function_(...args, result, ...behind, error) !== 0) throw new Error(message(error[0]));
  return result[0];
}

function family(backend, metric_type, name, help, labels = []) {
  return call(declare, [backend, { size: koffi.sizeof(MetricFamilyOptions), name, help, metric_type, lifetime: 0,
    label_names: labels, label_count: labels.length, buckets: null, bucket_count: 0, unit: null, names: 0 }]);
}

const backend = call(open, [process.argv[2] ?? "memory:"]);
const orders = family(backend, COUNTER, "shop_orders_total", "Orders, by the way they were paid.", ["payment"]);
const durations = family(backend, SUMMARY, "shop_order_seconds", "How long an order took.");
// Ask for a metric once and keep it: counting with it looks nothing up.
const [card, cash, duration] = [call(metric, [orders, ["card"], 1]), call(metric, [orders, ["cash"], 1]),
  call(metric, [durations, [], 0])];

for (const [order, seconds] of [[card, 0.25], [card, 0.0625], [card, 3], [cash, 0.5]]) {
  inc(order, 1);
  observe(duration, seconds);
}
process.stdout.write(call(collect, [backend], [null]));
close(backend); // sends what is pending
