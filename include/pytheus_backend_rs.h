/**
 * @file
 * pytheus_backend_rs: a metrics engine behind a C interface.
 *
 * Generated from src/ffi by cbindgen: do not edit.
 *
 * A program opens a store, declares metric families in it, asks each family once for the metrics
 * that it counts with, and counts. A scrape shows the values as text for Prometheus:
 *
 * @code{.c}
 * #include <pytheus_backend_rs.h>
 * #include <stdio.h>
 *
 * static int failed(BackendError *error) {
 *   fprintf(stderr, "%s\n", backend_error_message(error));
 *   backend_error_free(error);
 *   return 1;
 * }
 *
 * int main(void) {
 *   BackendError *error = NULL;
 *   Backend *backend = NULL;
 *   if (backend_new("memory:", &backend, &error) != BACKEND_STATUS_OK) return failed(error);
 *
 *   const char *const names[] = {"method"}, *const values[] = {"GET"};
 *   MetricFamilyOptions options = {.size = sizeof options,
 *                                  .name = "requests_total",
 *                                  .help = "Requests served.",
 *                                  .metric_type = METRIC_TYPE_COUNTER,
 *                                  .label_names = names,
 *                                  .label_count = 1};
 *   MetricFamily *family = NULL;
 *   Metric *requests = NULL;
 *   MetricsText *text = NULL;
 *   if (metric_family_new(backend, &options, &family, &error) != BACKEND_STATUS_OK ||
 *       metric_new(family, values, 1, &requests, &error) != BACKEND_STATUS_OK)
 *     return failed(error);
 *
 *   metric_inc(requests, 1);
 *
 *   if (metrics_render(backend, NULL, &text, &error) != BACKEND_STATUS_OK) return failed(error);
 *   fputs(metrics_text_data(text), stdout);
 *
 *   metrics_text_free(text);
 *   metric_free(requests);
 *   metric_family_free(family);
 *   backend_free(backend);
 *   return 0;
 * }
 * @endcode
 *
 * @par Ownership
 * A handle is a pointer to one of the opaque types Backend, MetricFamily, Metric, MetricsText,
 * MetricsSnapshot, MetricsForeign, MetricsServer and BackendError. The function that makes a handle
 * says which function frees it. Free each handle once, in any order; never use free(). Freeing NULL
 * does nothing. Handles of families and metrics may be freed after their backend. The library
 * copies its arguments, or uses them only until the call returns.
 *
 * @par Errors
 * A function that can fail returns a BackendStatus; 0 is success. It writes its results only on
 * success. The last parameter of most functions is a `BackendError **`. If it is not NULL, a
 * failing call writes an error there, which the program frees with backend_error_free; a
 * successful call leaves it alone.
 *
 * @par Threads
 * Any number of threads may use the same handle at once, except a MetricsSnapshot and a
 * MetricsForeign. The program must not free a handle that another thread still uses. metric_inc,
 * metric_dec, metric_set and metric_observe change each value by one atomic operation and never
 * wait for a store.
 *
 * @par Store
 * A full file or disk, a label value that is too long, or a lost server never makes metric_new or
 * an operation on a metric fail: the metric counts in this process until the store takes it. The
 * log says why, once for each cause, and BackendStatistics.metrics_held_back counts such metrics. A
 * failure of these functions means a mistake in the program.
 *
 * @par Signal handlers
 * With a store in memory or shared memory, a handler may call metric_inc, metric_dec, metric_set
 * and metric_observe, also while it interrupts one of them. With a server it may not: the first
 * change after a send queues the metric, which takes a lock and allocates.
 *
 * @par Fork
 * Handles made before a fork work in the child. The exception is a MetricsServer: it goes on
 * serving in the parent, and freeing it in the child does nothing. The threads of a store start in
 * the child when it first uses the store.
 *
 * @par Exit
 * A process that returns from main or calls exit stops its servers and sends what is pending, as
 * backend_close does. A process that ends by _exit or a signal, or that calls exec, loses what it
 * has not sent: call backend_close_all or backend_flush before.
 *
 * @par Pointers
 * Strings are NUL-terminated UTF-8. A pointer argument is NULL or points to what its type says
 * until the call returns. NULL where a value is required is BACKEND_STATUS_NULL_POINTER.
 *
 * @par Enums
 * They are passed as int32_t. A number that is not one of the constants is
 * BACKEND_STATUS_INVALID_ARGUMENT.
 *
 * @par Structs
 * Structs that begin with their size can grow. Set them to zeros, set `size` to their sizeof, and
 * set the fields that you need. A library that is older or newer than the header then reads and
 * writes only the fields that both know.
 *
 * @par Memory
 * An allocation that fails ends the process with SIGABRT, as the Rust runtime does.
 */


#ifndef PYTHEUS_BACKEND_RS_H
#define PYTHEUS_BACKEND_RS_H

#include <stddef.h>
#include <stdint.h>

/** The version of this header. backend_version() returns that of the library. */
#define BACKEND_VERSION "0.1.0"
/** The major part of the version. */
#define BACKEND_VERSION_MAJOR 0
/** The minor part of the version. */
#define BACKEND_VERSION_MINOR 1
/** The last part of the version. */
#define BACKEND_VERSION_PATCH 0
/**
 * The number of the binary interface, with which the SONAME ends. backend_abi_version() returns
 * that of the library, which must be the same.
 */
#define BACKEND_ABI_VERSION 1

/**
 * The result of a function that can fail. 0 is success.
 */
enum BackendStatus
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Success.
   */
  BACKEND_STATUS_OK = 0,
  /**
   * A pointer that must not be NULL is NULL.
   */
  BACKEND_STATUS_NULL_POINTER = 1,
  /**
   * A name, label, amount, bound or enum value is not acceptable.
   */
  BACKEND_STATUS_INVALID_ARGUMENT = 2,
  /**
   * The store URL or one of its options is not acceptable.
   */
  BACKEND_STATUS_CONFIGURATION = 3,
  /**
   * A metric family of this name exists with another definition, or the backend has a collect
   * function already.
   */
  BACKEND_STATUS_CONFLICT = 4,
  /**
   * The type of the metric has no such operation.
   */
  BACKEND_STATUS_WRONG_TYPE = 5,
  /**
   * The metric, bucket, series or log record does not exist.
   */
  BACKEND_STATUS_NOT_FOUND = 6,
  /**
   * The store cannot be reached, refuses to serve or is closed; or an address cannot be listened
   * at.
   */
  BACKEND_STATUS_UNAVAILABLE = 7,
  /**
   * The store did not answer before the deadline.
   */
  BACKEND_STATUS_TIMEOUT = 8,
  /**
   * The store holds something that this library did not write, or its file cannot be used.
   */
  BACKEND_STATUS_STORE = 9,
  /**
   * A defect in this library, which the error and the log describe. The function stopped there.
   */
  BACKEND_STATUS_PANIC = 10,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum BackendStatus BackendStatus;
#else
typedef int32_t BackendStatus;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How important a log record is.
 */
enum BackendLogLevel
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Something is lost, or will be lost unless the operator acts.
   */
  BACKEND_LOG_LEVEL_ERROR = 1,
  /**
   * Something is unusual.
   */
  BACKEND_LOG_LEVEL_WARNING = 2,
  /**
   * Threads start, a store is back.
   */
  BACKEND_LOG_LEVEL_INFO = 3,
  /**
   * Details for finding a defect.
   */
  BACKEND_LOG_LEVEL_DEBUG = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum BackendLogLevel BackendLogLevel;
#else
typedef int32_t BackendLogLevel;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The type of a metric family.
 */
enum MetricType
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Only goes up: `metric_inc`.
   */
  METRIC_TYPE_COUNTER = 1,
  /**
   * Goes up and down: `metric_inc`, `metric_dec`, `metric_set`.
   */
  METRIC_TYPE_GAUGE = 2,
  /**
   * Counts observations in buckets, and sums them: `metric_observe`.
   */
  METRIC_TYPE_HISTOGRAM = 3,
  /**
   * Counts and sums observations: `metric_observe`.
   */
  METRIC_TYPE_SUMMARY = 4,
  /**
   * Behaves as a gauge, but tells Prometheus no type.
   */
  METRIC_TYPE_UNTYPED = 5,
  /**
   * Describes something by labels that the program sets, such as its version:
   * `metric_family_set_info`.
   */
  METRIC_TYPE_INFO = 6,
  /**
   * Named states, each of which is on or off: `metric_set_state`, `metric_choose_state`.
   */
  METRIC_TYPE_STATE_SET = 7,
  /**
   * The distribution of what exists at present, such as the ages of waiting jobs:
   * `metric_observe`, `metric_unobserve`.
   */
  METRIC_TYPE_GAUGE_HISTOGRAM = 8,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum MetricType MetricType;
#else
typedef int32_t MetricType;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How long a metric family lives, and which declarations share it.
 */
enum MetricLifetime
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Until its backend is freed. Declaring the same definition again returns the same family.
   */
  METRIC_LIFETIME_BACKEND = 0,
  /**
   * As long as the program holds a handle of it or of one of its metrics. Every declaration
   * makes a family of its own, even of the same name: in memory `metrics_collect` shows the
   * first of them that is alive, and `metrics_render` and `metrics_snapshot_new` show those that
   * they are asked for. It serves bindings whose own objects decide what exists.
   */
  METRIC_LIFETIME_HANDLE = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum MetricLifetime MetricLifetime;
#else
typedef int32_t MetricLifetime;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The rule for the names of a metric family and its labels.
 */
enum MetricNames
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Names that every version of Prometheus accepts: `[a-zA-Z_:][a-zA-Z0-9_:]*`, without `:` for
   * labels.
   */
  METRIC_NAMES_LEGACY = 0,
  /**
   * Any text that is not empty, as in Prometheus 3. A scraper that does not ask for such names
   * gets them escaped.
   */
  METRIC_NAMES_UTF8 = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum MetricNames MetricNames;
#else
typedef int32_t MetricNames;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Which buckets a histogram has. Native ones need no bounds. Prometheus scrapes them by protobuf,
 * if it is told to; the text formats show the classic ones, or none.
 */
enum MetricNative
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Classic buckets alone, whose bounds are `buckets`.
   */
  METRIC_NATIVE_NONE = 0,
  /**
   * Native buckets alone. `buckets` must be NULL.
   */
  METRIC_NATIVE_ALONE = 1,
  /**
   * Native and classic buckets.
   */
  METRIC_NATIVE_BOTH = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum MetricNative MetricNative;
#else
typedef int32_t MetricNative;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Whether every process has its own value of a gauge, and how a scrape merges them. The modes are
 * those of prometheus_client. Those with "live" show the processes that live at the moment of the
 * scrape; the others also show what dead ones have left.
 */
enum MetricGaugeMode
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * All processes share one value.
   */
  METRIC_GAUGE_MODE_SHARED = 0,
  /**
   * The value of each process, with its process id as the label `pid`. That of a dead process is
   * shown until another process takes its place.
   */
  METRIC_GAUGE_MODE_ALL = 1,
  /**
   * The value of each living process, with the label `pid`.
   */
  METRIC_GAUGE_MODE_LIVE_ALL = 2,
  /**
   * The smallest value.
   */
  METRIC_GAUGE_MODE_MIN = 3,
  /**
   * The smallest value of the living processes.
   */
  METRIC_GAUGE_MODE_LIVE_MIN = 4,
  /**
   * The largest value.
   */
  METRIC_GAUGE_MODE_MAX = 5,
  /**
   * The largest value of the living processes.
   */
  METRIC_GAUGE_MODE_LIVE_MAX = 6,
  /**
   * The sum of the values.
   */
  METRIC_GAUGE_MODE_SUM = 7,
  /**
   * The sum of the values of the living processes.
   */
  METRIC_GAUGE_MODE_LIVE_SUM = 8,
  /**
   * The value that was set last.
   */
  METRIC_GAUGE_MODE_MOST_RECENT = 9,
  /**
   * The value that a living process has set last.
   */
  METRIC_GAUGE_MODE_LIVE_MOST_RECENT = 10,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum MetricGaugeMode MetricGaugeMode;
#else
typedef int32_t MetricGaugeMode;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Whether the series of a counter or histogram keep exemplars, which `metric_inc_with_exemplar` and
 * `metric_observe_with_exemplar` give them.
 */
enum MetricExemplars
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * They keep none.
   */
  METRIC_EXEMPLARS_NONE = 0,
  /**
   * A counter keeps the last one, and a histogram up to four, of different buckets. They take 192
   * bytes each.
   */
  METRIC_EXEMPLARS_KEPT = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum MetricExemplars MetricExemplars;
#else
typedef int32_t MetricExemplars;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The metric families that `metrics_render` shows besides those that it is asked for.
 */
enum MetricsOthers
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * None.
   */
  METRICS_OTHERS_NONE = 0,
  /**
   * Behind them, the families in the store that only other processes have declared.
   */
  METRICS_OTHERS_APPEND = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum MetricsOthers MetricsOthers;
#else
typedef int32_t MetricsOthers;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * The formats that a client may choose by its `Accept` header.
 */
enum MetricsFormats
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Those that are text: 0.0.4 and 1.0.0, OpenMetrics 1.0.0 and 0.0.1.
   */
  METRICS_FORMATS_TEXT = 0,
  /**
   * Protobuf also: delimited messages `io.prometheus.client.MetricFamily`. Its body is binary, so
   * send `metrics_text_length` bytes of it.
   */
  METRICS_FORMATS_ALL = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum MetricsFormats MetricsFormats;
#else
typedef int32_t MetricsFormats;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Whether OpenMetrics shows when series began. Protobuf always does, the other formats never do.
 */
enum MetricsCreatedSamples
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * No.
   */
  METRICS_CREATED_SAMPLES_HIDDEN = 0,
  /**
   * As a sample `_created` of each counter, summary and histogram. Prometheus stores these
   * samples as series of their own.
   */
  METRICS_CREATED_SAMPLES_SHOWN = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum MetricsCreatedSamples MetricsCreatedSamples;
#else
typedef int32_t MetricsCreatedSamples;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * An open store, and the metric families that are declared in it.
 */
typedef struct Backend Backend;

/**
 * The reason of a failure. A failing function writes it to its `error` out-parameter; free it with
 * `backend_error_free`.
 */
typedef struct BackendError BackendError;

/**
 * One label set of a metric family: the object that a program counts with.
 */
typedef struct Metric Metric;

/**
 * A declared metric family. It has one metric for each label set.
 */
typedef struct MetricFamily MetricFamily;

/**
 * Metric families whose samples the program computes when it is scraped. `metrics_foreign_new`
 * makes an empty list; free it with `metrics_foreign_free`. Fill it, set `foreign` in
 * MetricsRenderOptions to it, and free it after `metrics_render` has returned, or keep it and
 * render it again. While one thread fills it, no other may use it.
 */
typedef struct MetricsForeign MetricsForeign;

/**
 * An HTTP server that shows the metrics of a backend. `metrics_serve` starts one; free it with
 * `metrics_server_free`.
 */
typedef struct MetricsServer MetricsServer;

/**
 * The values of some metric families at one time, which the program walks series by series.
 * `metrics_snapshot_new` makes one; free it with `metrics_snapshot_free`. Threads must not share
 * it.
 */
typedef struct MetricsSnapshot MetricsSnapshot;

/**
 * The body of a scrape. `metrics_render` makes one; free it with `metrics_text_free`.
 */
typedef struct MetricsText MetricsText;

/**
 * The definition that `metric_family_new` declares. Set the struct to zeros and `size` to
 * `sizeof(MetricFamilyOptions)` first: later versions may add fields behind the last.
 */
typedef struct {
  /**
   * `sizeof(MetricFamilyOptions)` of the header that the program was compiled with.
   */
  size_t size;
  /**
   * The name, by the rule in `names`.
   */
  const char *name;
  /**
   * The help text, or NULL for none.
   */
  const char *help;
  /**
   * A MetricType.
   */
  int32_t metric_type;
  /**
   * A MetricLifetime.
   */
  int32_t lifetime;
  /**
   * `label_count` label names, by the rule in `names`, or NULL for none. Names that begin with
   * `__` are reserved for Prometheus.
   */
  const char *const *label_names;
  /**
   * The number of label names.
   */
  size_t label_count;
  /**
   * `bucket_count` upper bounds of a histogram or gauge histogram, finite and increasing; the
   * bound `+Inf` is implied. NULL for the default: .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5,
   * 10.
   */
  const double *buckets;
  /**
   * The number of bucket bounds.
   */
  size_t bucket_count;
  /**
   * The unit, for example "seconds", or NULL for none. The name must end with it: `_seconds`,
   * and `_seconds_total` for a counter. An info or state set has none.
   */
  const char *unit;
  /**
   * A MetricNames.
   */
  int32_t names;
  /**
   * `state_count` names of the states of a state set: 1 to 52, in an order that all processes
   * declare. NULL for other types. The states are shown as values of a label that has the name
   * of the family, so that name contains no `:`.
   */
  const char *const *states;
  /**
   * The number of states.
   */
  size_t state_count;
  /**
   * A MetricNative: whether a histogram has native buckets. Other types have none.
   *
   * ```c
   * MetricFamilyOptions options = {.size = sizeof options, .name = "request_seconds"};
   * options.metric_type = METRIC_TYPE_HISTOGRAM;
   * options.native = METRIC_NATIVE_ALONE;
   * metric_family_new(backend, &options, &family, &error);
   * ```
   */
  int32_t native;
  /**
   * How many native buckets there are from each power of two to the next: 1, 2, 4, 8, 16, 32, 64,
   * 128 or 256. 0 means 8, with which a quantile is off by at most 9 %. All processes declare the
   * same.
   */
  int32_t native_resolution;
  /**
   * How many native buckets a series has room for, 16 to 4096; each takes 8 bytes. 0 means 384.
   * When a third of them are in use, further values get buckets of half the resolution, and so on,
   * up to seven times and down to one bucket for 16 powers of two. All processes declare the same.
   */
  size_t native_size;
  /**
   * A MetricGaugeMode. Other types than a gauge have none. In memory it changes nothing. The Redis
   * store refuses such a family. All processes declare the same.
   */
  int32_t gauge_mode;
  /**
   * After how many seconds without use a series ends: a whole number from 1 to 315360000. 0 means
   * what the option `series_ttl` of the store says, INFINITY never. Use is each change, and
   * `metric_new`. A series that has ended is gone from the store and from every scrape. A handle
   * that counts again begins a new one, from 0. Info has no use for the option of the store, and a
   * gauge with a `gauge_mode` has no series_ttl. All processes declare the same.
   */
  double series_ttl;
  /**
   * A MetricExemplars. Other types than a counter or histogram have none. Processes need not
   * agree about it.
   */
  int32_t exemplars;
} MetricFamilyOptions;

/**
 * What `metrics_render` shows, and how. Set the struct to zeros and `size` to
 * `sizeof(MetricsRenderOptions)` first: later versions may add fields behind the last.
 */
typedef struct {
  /**
   * `sizeof(MetricsRenderOptions)` of the header that the program was compiled with.
   */
  size_t size;
  /**
   * The `Accept` header of the HTTP request. It selects one of the `formats`, and how names
   * beyond `[a-zA-Z_:][a-zA-Z0-9_:]*` are escaped. NULL, or a header that asks for none of these
   * formats, selects text 0.0.4.
   */
  const char *accept;
  /**
   * The prefix of the name of each family, to which an underscore is added; NULL for none.
   */
  const char *name_prefix;
  /**
   * `family_count` families, in the order in which they are shown; NULL for all families in the
   * store.
   */
  const MetricFamily *const *families;
  /**
   * The number of families.
   */
  size_t family_count;
  /**
   * A MetricsOthers. It has no effect if `families` is NULL.
   */
  int32_t others;
  /**
   * Families whose samples the program computes, shown between the others; NULL for none.
   */
  const MetricsForeign *foreign;
  /**
   * A MetricsFormats.
   */
  int32_t formats;
  /**
   * The query of the HTTP request, the text behind the `?` of its URL. Each parameter `name[]`
   * names a family or one of its samples. If there are any, only these families are shown, each
   * as a whole, and none if no family has these names. Other parameters are ignored. NULL, or a
   * query without `name[]`, shows all families.
   */
  const char *query;
  /**
   * A MetricsCreatedSamples.
   */
  int32_t created_samples;
} MetricsRenderOptions;

/**
 * The values of one metric in a snapshot. Its pointers live as long as the snapshot. This struct
 * never grows: later versions report more about a series by other functions.
 */
typedef struct {
  /**
   * The position of its family in the list that was asked for, or among all families.
   */
  size_t family_index;
  /**
   * The name of its family.
   */
  const char *family;
  /**
   * Its labels: a compact JSON object of strings, sorted by label name.
   */
  const char *labels;
  /**
   * Its sample values. Counter, gauge, untyped: the value. Summary: count, sum. Histogram, gauge
   * histogram: the cumulative buckets in the order of their bounds, `+Inf` last; then count, sum.
   * Info: 1. State set: 1 or 0 for each state in its declared order.
   */
  const double *values;
  /**
   * The number of values.
   */
  size_t value_count;
} MetricsSeries;

/**
 * An exemplar of a series in a snapshot. Its pointer lives as long as the snapshot. This struct
 * never grows.
 */
typedef struct {
  /**
   * Its labels: a compact JSON object of strings, sorted by label name.
   */
  const char *labels;
  /**
   * The observed value, or the amount that was added to a counter.
   */
  double value;
  /**
   * When that was, in seconds since 1970.
   */
  double timestamp;
} MetricsExemplar;

/**
 * The definition of a family of a snapshot. Its pointers live as long as the snapshot. Set `size`
 * to `sizeof(MetricsSnapshotFamily)` first: later versions may add fields behind the last.
 */
typedef struct {
  /**
   * `sizeof(MetricsSnapshotFamily)` of the header that the program was compiled with.
   */
  size_t size;
  /**
   * The name.
   */
  const char *name;
  /**
   * The help text.
   */
  const char *help;
  /**
   * The unit, or NULL.
   */
  const char *unit;
  /**
   * The upper bounds of a histogram, without `+Inf`.
   */
  const double *buckets;
  /**
   * The number of bounds.
   */
  size_t bucket_count;
  /**
   * The states of a state set.
   */
  const char *const *states;
  /**
   * The number of states.
   */
  size_t state_count;
  /**
   * A MetricType.
   */
  int32_t metric_type;
  /**
   * A MetricGaugeMode. The series are those of the merge, with the label `pid` if the mode has
   * one.
   */
  int32_t gauge_mode;
} MetricsSnapshotFamily;

/**
 * The definition of a foreign family. Set the struct to zeros and `size` to
 * `sizeof(MetricsForeignFamily)` first: later versions may add fields behind the last.
 */
typedef struct {
  /**
   * `sizeof(MetricsForeignFamily)` of the header that the program was compiled with.
   */
  size_t size;
  /**
   * The name, by the rule in `names`. The `name_prefix` of MetricsRenderOptions is not added to
   * it. The name of a counter ends with `_total`.
   */
  const char *name;
  /**
   * The help text, or NULL for none.
   */
  const char *help;
  /**
   * The unit as in MetricFamilyOptions, or NULL for none.
   */
  const char *unit;
  /**
   * A MetricType.
   */
  int32_t metric_type;
  /**
   * A MetricNames, for the names of the family and of its labels.
   */
  int32_t names;
  /**
   * The number of `families` in MetricsRenderOptions that are shown before this family. If there
   * are fewer, or if `families` is NULL, it is shown behind them. Foreign families of one
   * position are shown in the order in which they were added.
   */
  size_t position;
} MetricsForeignFamily;

/**
 * One sample of a foreign family. Set the struct to zeros and `size` to
 * `sizeof(MetricsForeignSample)` first: later versions may add fields behind the last.
 */
typedef struct {
  /**
   * `sizeof(MetricsForeignSample)` of the header that the program was compiled with.
   */
  size_t size;
  /**
   * The text behind the name of the family, or NULL for none. A counter has none or `_created`;
   * a gauge or untyped family none; a summary none (with the label `quantile`), `_sum`, `_count`
   * or `_created`; a histogram `_bucket` (with the label `le` and the cumulative count), `_sum`,
   * `_count` or `_created`.
   */
  const char *suffix;
  /**
   * `label_count` label names, shown in this order; NULL for none.
   */
  const char *const *label_names;
  /**
   * `label_count` label values.
   */
  const char *const *label_values;
  /**
   * The number of labels.
   */
  size_t label_count;
  /**
   * The value.
   */
  double value;
} MetricsForeignSample;

/**
 * Receives an empty list, which it fills by `metrics_foreign_family` and `metrics_foreign_sample`,
 * and the `user_data` that was registered with it. The library owns the list and renders it when
 * the function returns. Any thread may call the function, also several at once. It must not scrape
 * the same backend, unwind or jump out.
 */
typedef void (*MetricsCollectCallback)(MetricsForeign *foreign, void *user_data);

/**
 * How `metrics_serve` serves. Set the struct to zeros and `size` to `sizeof(MetricsServeOptions)`
 * first: later versions may add fields behind the last.
 */
typedef struct {
  /**
   * `sizeof(MetricsServeOptions)` of the header that the program was compiled with.
   */
  size_t size;
  /**
   * The IPv4 or IPv6 address to listen at, for example "::1". "0.0.0.0" stands for all IPv4
   * addresses of the machine and "::" for all addresses. NULL: "127.0.0.1", which only this
   * machine can reach.
   */
  const char *address;
  /**
   * The prefix of the name of each family, to which an underscore is added; NULL for none.
   */
  const char *name_prefix;
  /**
   * The largest number of connections at a time; 0: 64. When another client comes, the connection
   * is closed that has waited longest for its own client to ask or to read.
   */
  size_t max_connections;
  /**
   * How many seconds a client may take to send the headers of a request, counted from the
   * connection or from the last answer; 0: 30. An idle connection is kept open for so long.
   */
  double read_timeout;
  /**
   * How many seconds a client may take to read an answer; 0: 30.
   */
  double write_timeout;
  /**
   * The port to listen at; 0: a free one, which `metrics_server_port` returns.
   */
  uint16_t port;
  /**
   * The host names by which clients may ask, without ports and separated by commas; other names
   * get 421. NULL: every name. It keeps web pages from reading the metrics through a browser on
   * this machine (DNS rebinding).
   */
  const char *allowed_hosts;
  /**
   * A MetricsCreatedSamples.
   */
  int32_t created_samples;
} MetricsServeOptions;

/**
 * What a backend has done in this process so far; a forked child begins at zero. A store that
 * sends nothing (in memory, in shared memory) only counts scrapes and scrape errors. Set `size` to
 * `sizeof(BackendStatistics)` first: later versions may add fields behind the last.
 */
typedef struct {
  /**
   * `sizeof(BackendStatistics)` of the header that the program was compiled with.
   */
  size_t size;
  /**
   * The batches that the server has confirmed.
   */
  uint64_t batches_sent;
  /**
   * How often a batch was sent again because its answer was lost.
   */
  uint64_t batches_resent;
  /**
   * How often the server refused a batch. The batch is kept and tried again.
   */
  uint64_t batches_refused;
  /**
   * The operations in the batches that the server has confirmed.
   */
  uint64_t operations_sent;
  /**
   * The metrics with changes that the server has not confirmed. A metric that has changed again
   * while its last changes are on their way counts twice.
   */
  uint64_t metrics_pending;
  /**
   * Metrics that the store could not take yet, because it is full or cannot be used. They count in
   * this process, and no scrape shows them; the log says why.
   */
  uint64_t metrics_held_back;
  /**
   * The scrapes, including those that failed.
   */
  uint64_t scrapes;
  /**
   * The scrapes that failed.
   */
  uint64_t scrape_errors;
  /**
   * When the server last confirmed a batch, or a flush found nothing left to send, in seconds
   * since 1970; 0 if neither has happened.
   */
  double last_flush_timestamp;
  /**
   * Confirmed batches that were sent again because the server had lost them: it crashed, or a
   * replica that lacked them became the master.
   */
  uint64_t batches_replayed;
  /**
   * How often the server lost confirmed changes of a family that could not be sent again: by an
   * empty restart, an expiry, an old snapshot, or a failover beyond the replay log.
   */
  uint64_t losses;
} BackendStatistics;

/**
 * Receives a log record: its BackendLogLevel, its text (UTF-8, valid during the call), and the
 * `user_data` that was registered with it. Any thread may call it, also several at once, and it
 * may call this library. It must not unwind or jump out.
 */
typedef void (*BackendLogCallback)(int32_t level, const char *message, void *user_data);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Returns the version of this library, for example "0.1.0". The text is static: never free it.
 */
const char *backend_version(void);

/**
 * Returns the number of the binary interface, with which the SONAME ends. It must equal the
 * BACKEND_ABI_VERSION of the header that the program was compiled with.
 */
uint32_t backend_abi_version(void);

/**
 * Stops all servers of this process and closes all its backends at the same time, each as
 * `backend_close` does. Changes that could not be sent are reported to the log. A process that
 * ends normally does this by itself; a language runtime calls it where the runtime ends.
 */
void backend_close_all(void);

/**
 * Panics within the library and returns BACKEND_STATUS_PANIC, so that a program can test how it
 * handles a defect. It has no other use.
 */
BackendStatus backend_panic(BackendError **error);

/**
 * Frees a text that a function of this library has written to a `char **`. NULL does nothing.
 */
void backend_string_free(char *text);

/**
 * Opens the store that `url` names and writes a handle to `*backend`; free it with `backend_free`.
 *
 * The URL is one of these, and its query sets options (`?option=value&option=value`). The default
 * of an option stands in parentheses.
 *
 * `memory:`: the values are in this process only.
 *
 * - `cell` (atomic): accepted for programs written for 0.0.9; both values mean atomic operations
 *
 * `shm:///path/of/a/file`: a file that all processes of a service on this machine map. `shm:`
 * without a path: a file that the processes which descend from one program by fork, or by
 * Python's multiprocessing, find by themselves.
 *
 * - `size_limit` (67108864): how large a new file may grow
 * - `start` (continue): continue with what the file holds, reset it to an empty one, or attach to
 *   a file that others have made and only read it
 * - `mode` (0600): the permissions of a new file, in octal
 * - `parent`: without a path: an ancestor of this process that belongs to the same service, though
 *   it has started this process by exec
 * - `required`: with start=attach: whether a file that cannot be read is an error when the store
 *   is opened (true), or an error of each scrape until the file is there (false)
 *
 * `redis://[user[:password]@]host[:port][/db]` or `redis+unix:///path/of/a/socket`: a Redis or
 * Valkey server. `rediss://` is the same as `redis://`, by TLS.
 *
 * `redis-sentinel://[user[:password]@]host[:port],host[:port]/master[/db]`: the server that is the
 * master of that name, as one of these Sentinels says. `rediss-sentinel://`: by TLS.
 *
 * `redis-cluster://[user[:password]@]host[:port],host[:port]`: a cluster, some of whose nodes these
 * are. `rediss-cluster://`: by TLS.
 *
 * - `db` (0): the number of the logical database, unless the path of the URL gives it
 * - `username`: the user to log in as, unless the URL gives it before the host
 * - `password`: the password to log in with, unless the URL gives it before the host
 * - `sentinel_username`: with redis-sentinel://: the user to log in as at the Sentinels
 * - `sentinel_password`: with redis-sentinel://: the password to log in with at the Sentinels
 * - `sentinel_ssl`: with redis-sentinel://: whether the Sentinels speak TLS, unless they do if the
 *   servers do
 * - `client_name`: the name of the connections in CLIENT LIST, instead of program:host:pid
 * - `key_prefix`: text that precedes the name of each key, followed by a dash
 * - `expire_key_time` (3600): how many seconds after its last write or scrape a key expires, or
 *   never (or 0) to keep all keys
 * - `flush_interval_ms` (5): how many milliseconds changes are gathered before they are sent, while
 *   there are few
 * - `max_flush_interval_ms` (250): how many milliseconds changes are gathered at most, by a process
 *   that always has some to send; no effect below flush_interval_ms
 * - `connect_timeout` or `socket_connect_timeout` (5): how many seconds connecting may take,
 *   from the look-up of the host to the login
 * - `socket_timeout` (5): how many seconds the server may take to answer
 * - `collect_timeout` (10): how many seconds a scrape may take altogether
 * - `shutdown_timeout` (2): how many seconds the end of the process may take to send what is
 *   pending
 * - `pipeline_threads` (4): how many threads serve scrapes, each with a connection while it reads
 * - `replicas` (auto): how many replicas must have a batch before the process forgets it, or auto
 *   for as many as the server has; 0 for none
 * - `read_from_replicas` (false): whether scrapes read values from a replica, if one has all that
 *   the master has
 * - `replay_log_mb` (16): how many megabytes of memory may hold batches that the server has
 *   confirmed and could still lose; 0 for none
 * - `required` (true): whether a server that cannot be reached is an error when the store is
 *   opened (true), or is connected to as soon as it can be (false)
 * - `read_only` (false): for a program that only reads: do not check that the server takes
 *   what counting needs
 * - `ssl_ca_certs`: with rediss://: a file of PEM certificates to trust instead of those of the
 *   system
 * - `ssl_ca_data`: with rediss://: PEM certificates to trust instead of those of the system, as
 *   text
 * - `ssl_pinned_certfile`: with rediss://: a file of PEM certificates, one of which the server must
 *   show; neither its issuer nor its dates are verified
 * - `ssl_certfile`: with rediss://: the PEM certificate to show to the server
 * - `ssl_keyfile`: with rediss://: the PEM private key of that certificate, unless it is in the
 *   same file
 * - `ssl_cert_reqs` (required): with rediss://: whether the certificate of the server is verified
 * - `ssl_check_hostname` (true): with rediss://: whether the certificate must be for the name of
 *   the host
 * - `tls_server_name`: with rediss://: the name that the certificate must have, instead of that
 *   of the host
 * - `socket_keepalive` (false): whether TCP keep-alive is on
 *
 * Every store:
 *
 * - `self_metrics` (false): show the statistics of the backend as metrics of the backend, too
 * - `series_ttl`: end a series when no process has used it for so many seconds, unless its family
 *   says otherwise
 *
 * BACKEND_STATUS_CONFIGURATION: the URL or an option is not acceptable.
 * BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT: the server cannot be reached.
 * BACKEND_STATUS_STORE: the file cannot be used; the error names the file and the reason.
 */
BackendStatus backend_new(const char *url, Backend **backend, BackendError **error);

/**
 * Sends what is pending, for at most the store's `shutdown_timeout` seconds, and ends the store's
 * threads. Handles of families and metrics stay valid, but operations on them are discarded from
 * then on. Closing a second time does nothing.
 *
 * BACKEND_STATUS_UNAVAILABLE: not everything could be sent; the error says how much is lost.
 */
BackendStatus backend_close(const Backend *backend, BackendError **error);

/**
 * Sends what is pending and waits until the store has it, for at most `timeout_seconds` (0 to
 * 1000000). Stores in memory have nothing pending. A failure loses nothing: the changes are sent
 * later.
 *
 * BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT: the store does not have everything yet.
 * BACKEND_STATUS_STORE: the store refuses a key; the error names the key.
 * BACKEND_STATUS_INVALID_ARGUMENT: the timeout is out of range.
 */
BackendStatus backend_flush(const Backend *backend, double timeout_seconds, BackendError **error);

/**
 * Shows what the system says about the processes that call this: `process_cpu_seconds_total`, a
 * counter of all of them, those that have ended included; and of each living one
 * `process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_open_fds`,
 * `process_max_fds` and `process_start_time_seconds`, in shared memory with the label `pid`. A
 * Redis server shows the counter alone. `prefix`, unless it is NULL or empty, begins the names:
 * `shop_process_open_fds`.
 *
 * A scrape, flush or close of this process updates its own figures. Each further call does so too,
 * whatever its `prefix`: in a process that is not scraped, call it now and then. A forked child
 * appears with its first call or scrape.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the prefix is no beginning of a metric name.
 * BACKEND_STATUS_CONFLICT: one of the names is declared with another definition.
 */
BackendStatus backend_process_metrics(const Backend *backend,
                                      const char *prefix,
                                      BackendError **error);

/**
 * Closes the backend as `backend_close` does, unless it is closed already, and frees the handle.
 * Changes that could not be sent are reported to the log. Handles of families and metrics stay
 * valid until they are freed themselves. NULL does nothing.
 */
void backend_free(Backend *backend);

/**
 * Declares a metric family and writes a handle to `*family`; free it with `metric_family_free`.
 * The strings are copied.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: a name, label, bound, state, unit, type, lifetime, size,
 * native option or gauge mode is not acceptable.
 * BACKEND_STATUS_CONFLICT: the name is declared already with another definition.
 */
BackendStatus metric_family_new(const Backend *backend,
                                const MetricFamilyOptions *options,
                                MetricFamily **family,
                                BackendError **error);

/**
 * Sets labels of an info, which a scrape then shows with the value 1 in place of those that any
 * process has set before:
 *
 * ```c
 * const char *names[] = {"version", "compiler"};
 * const char *values[] = {"1.2", "gcc"};
 * metric_family_set_info(build, NULL, 0, names, values, 2, &error);
 * ```
 *
 * `label_values` are those of the declared label names, in their order; each of their combinations
 * has labels of its own. The names that are set need no declaration, and may be any text. Labels
 * that are replaced stay in the store, out of sight, until `metric_family_clear`. It never waits
 * for a server.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: there are no labels, a label name is declared, reserved, empty
 * or given twice, the number of label values is not the declared one, a text is not UTF-8, or the
 * lifetime of the family is METRIC_LIFETIME_HANDLE.
 * BACKEND_STATUS_WRONG_TYPE: the family is no info.
 */
BackendStatus metric_family_set_info(const MetricFamily *family,
                                     const char *const *label_values,
                                     size_t label_count,
                                     const char *const *info_names,
                                     const char *const *info_values,
                                     size_t info_count,
                                     BackendError **error);

/**
 * Removes all metrics of the family from the store, those of other processes too. Handles of its
 * metrics stay valid, but what they count no longer reaches the store; `metric_new` makes new
 * metrics. It never waits for a server: the store removes them before it applies what this process
 * counts next.
 *
 * BACKEND_STATUS_STORE: the store refuses it; the error says why.
 */
BackendStatus metric_family_clear(const MetricFamily *family, BackendError **error);

/**
 * Frees the handle. The family and its values stay, unless its lifetime is METRIC_LIFETIME_HANDLE.
 * NULL does nothing.
 */
void metric_family_free(MetricFamily *family);

/**
 * Writes the metric of `family` with these label values, in the order of the declared label names,
 * to `*metric`; free it with `metric_free`. A metric that does not exist yet is made with the
 * value 0. Ask once and keep the handle: this function looks the metric up, the functions on a
 * handle do not.
 *
 * If the store cannot take the metric (it is full, or permission is missing), the call succeeds:
 * the metric counts in this process until the store takes it, the log says why, and
 * `metrics_held_back` in BackendStatistics counts it.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the number of labels is not the declared one, or a value is not
 * UTF-8.
 * BACKEND_STATUS_WRONG_TYPE: the family is an info, which has no metrics: see
 * `metric_family_set_info`.
 */
BackendStatus metric_new(const MetricFamily *family,
                         const char *const *label_values,
                         size_t label_count,
                         Metric **metric,
                         BackendError **error);

/**
 * Frees the handle. The metric and its value stay, unless the lifetime of its family is
 * METRIC_LIFETIME_HANDLE. NULL does nothing.
 */
void metric_free(Metric *metric);

/**
 * Adds `amount` to a counter, gauge or untyped metric. It never waits for a store.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the metric is a counter, and the amount is negative or NaN.
 * BACKEND_STATUS_WRONG_TYPE: the metric has another type.
 */
BackendStatus metric_inc(const Metric *metric, double amount);

/**
 * Adds `amount` to a counter, gauge or untyped metric like `metric_inc`, and writes the new value
 * to `*value` like `metric_get`. The value includes `amount`, and what other threads and processes
 * have added by then. With a server it waits for the answer; a program that does not need the
 * value calls `metric_inc`.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the metric is a counter, and the amount is negative or NaN.
 * BACKEND_STATUS_WRONG_TYPE: the metric has another type.
 * BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT, BACKEND_STATUS_STORE: the amount was added,
 * but the value could not be read.
 */
BackendStatus metric_inc_and_get(const Metric *metric,
                                 double amount,
                                 double *value,
                                 BackendError **error);

/**
 * Adds `amount` to a counter like `metric_inc`, and keeps it as an exemplar: an example that a
 * scrape shows beside the value, with `label_count` labels that lead to a trace, for example
 * "trace_id" and "span_id". Their names match `[a-zA-Z_][a-zA-Z0-9_]*`; names and values have at
 * most 128 characters together. An exemplar that is younger than a tenth of a second stays, and the
 * new one is dropped. It never waits for a store.
 *
 * If it fails, nothing is added.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the amount is negative or NaN; there are no labels, or they are
 * too long; a name is invalid or given twice; a text is not UTF-8.
 * BACKEND_STATUS_WRONG_TYPE: the metric has another type, or its family is declared without
 * `exemplars` in MetricFamilyOptions.
 */
BackendStatus metric_inc_with_exemplar(const Metric *metric,
                                       double amount,
                                       const char *const *label_names,
                                       const char *const *label_values,
                                       size_t label_count,
                                       BackendError **error);

/**
 * Subtracts `amount` from a gauge or untyped metric. It never waits for a store.
 *
 * BACKEND_STATUS_WRONG_TYPE: the metric has another type.
 */
BackendStatus metric_dec(const Metric *metric, double amount);

/**
 * Sets a gauge or untyped metric to `value`. It never waits for a store.
 *
 * BACKEND_STATUS_WRONG_TYPE: the metric has another type.
 */
BackendStatus metric_set(const Metric *metric, double value);

/**
 * Counts `value` in a histogram, summary or gauge histogram; NaN counts in the bucket `+Inf`. It
 * never waits for a store.
 *
 * BACKEND_STATUS_WRONG_TYPE: the metric has another type.
 */
BackendStatus metric_observe(const Metric *metric, double value);

/**
 * Counts `value` in a histogram like `metric_observe`, and keeps it as an exemplar of its bucket.
 * Otherwise it is like `metric_inc_with_exemplar`. A value that is not finite counts, and is not
 * kept.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: there are no labels, or they are too long; a name is invalid or
 * given twice; a text is not UTF-8.
 * BACKEND_STATUS_WRONG_TYPE: the metric has another type, or its family is declared without
 * `exemplars` in MetricFamilyOptions.
 */
BackendStatus metric_observe_with_exemplar(const Metric *metric,
                                           double value,
                                           const char *const *label_names,
                                           const char *const *label_values,
                                           size_t label_count,
                                           BackendError **error);

/**
 * Keeps `value` as an exemplar like `metric_inc_with_exemplar` and `metric_observe_with_exemplar`,
 * and counts nothing: for client libraries that count in a call of its own. It never waits for a
 * store.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: there are no labels, or they are too long; a name is invalid or
 * given twice; a text is not UTF-8.
 * BACKEND_STATUS_WRONG_TYPE: the family of the metric is declared without `exemplars` in
 * MetricFamilyOptions.
 */
BackendStatus metric_keep_exemplar(const Metric *metric,
                                   double value,
                                   const char *const *label_names,
                                   const char *const *label_values,
                                   size_t label_count,
                                   BackendError **error);

/**
 * Returns 1 if an exemplar of `value` would be kept now, and 0 if it would be dropped: because the
 * last one is younger than a tenth of a second, or because the metric keeps none. A program asks
 * before it looks for labels that take time to find.
 */
int32_t metric_takes_exemplar(const Metric *metric, double value);

/**
 * Takes an observation of `value` out of a gauge histogram again: what it describes has ended. It
 * never waits for a store. Values that were not observed before make the shown counts too small,
 * but not smaller than 0.
 *
 * BACKEND_STATUS_WRONG_TYPE: the metric has another type.
 */
BackendStatus metric_unobserve(const Metric *metric, double value);

/**
 * Switches one state of a state set on (`is_on` is not 0) or off (0); the others stay as they are.
 * It never waits for a store. In memory and in shared memory, processes that switch different
 * states at the same time lose nothing. On a server, the states as this process knows them replace
 * all that is there, and the last process wins.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the state set has no such state.
 * BACKEND_STATUS_WRONG_TYPE: the metric has another type.
 * BACKEND_STATUS_NULL_POINTER: `metric` or `state` is NULL.
 */
BackendStatus metric_set_state(const Metric *metric, const char *state, int32_t is_on);

/**
 * Switches one state of a state set on and all others off: for states that exclude each other. It
 * never waits for a store.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the state set has no such state.
 * BACKEND_STATUS_WRONG_TYPE: the metric has another type.
 * BACKEND_STATUS_NULL_POINTER: `metric` or `state` is NULL.
 */
BackendStatus metric_choose_state(const Metric *metric, const char *state);

/**
 * Writes 1 to `*is_on` if the state of the state set is on in the store, and 0 if it is off. It
 * reads the store as `metric_get` does.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the state set has no such state.
 * BACKEND_STATUS_WRONG_TYPE: the metric has another type.
 * BACKEND_STATUS_NULL_POINTER: `metric`, `state` or `is_on` is NULL.
 */
BackendStatus metric_get_state(const Metric *metric,
                               const char *state,
                               int32_t *is_on,
                               BackendError **error);

/**
 * Adds `amount` to the cell `index` of a metric, without the checks of the functions above. Cell 0
 * is the value of a counter, gauge or untyped metric, or the sum of a summary, histogram or gauge
 * histogram. Cell 1 of a summary is the count. A histogram has from cell 1 on the count of each
 * bucket alone, not cumulated, in the order of the bounds, `+Inf` last. Counts are whole numbers.
 * It never waits for a store. It is for client libraries whose values are objects of their own.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the metric has no such cell. Infos, state sets and native
 * histograms have none.
 * BACKEND_STATUS_NOT_FOUND: the metric was removed: see `metric_is_live`.
 */
BackendStatus metric_cell_add(const Metric *metric, size_t index, double amount);

/**
 * Sets the cell `index` of a metric, as in `metric_cell_add`, to `value`. What other threads add at
 * the same time may be lost.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the metric has no such cell.
 * BACKEND_STATUS_NOT_FOUND: the metric was removed.
 * BACKEND_STATUS_WRONG_TYPE: the value is on a server, and the metric is no gauge.
 */
BackendStatus metric_cell_set(const Metric *metric, size_t index, double value);

/**
 * Writes the cell `index` of a metric, as in `metric_cell_add`, to `*value`. It reads the store as
 * `metric_get` does.
 *
 * BACKEND_STATUS_NOT_FOUND: the metric has no such cell.
 */
BackendStatus metric_get_cell(const Metric *metric,
                              size_t index,
                              double *value,
                              BackendError **error);

/**
 * Returns 0 if the store does not have the metric any more: another process, or this one, has
 * removed it from a shared file. What is counted with this handle then reaches no store, and
 * `metric_new` makes a new metric. Otherwise returns 1; on a server and in memory always. NULL
 * gives 0.
 */
int32_t metric_is_live(const Metric *metric);

/**
 * Writes the value of a counter, gauge or untyped metric to `*value`: the value in the store,
 * after the pending changes of this process were sent. With a server it waits for the answer.
 *
 * BACKEND_STATUS_WRONG_TYPE: the metric has another type.
 * BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT, BACKEND_STATUS_STORE: the value could not be
 * read.
 */
BackendStatus metric_get(const Metric *metric, double *value, BackendError **error);

/**
 * Writes the sum of the observations of a histogram, summary or gauge histogram to `*value`.
 * Otherwise it is like `metric_get`.
 *
 * BACKEND_STATUS_WRONG_TYPE: the metric has another type.
 */
BackendStatus metric_get_sum(const Metric *metric, double *value, BackendError **error);

/**
 * Writes the number of observations of a histogram, summary or gauge histogram to `*value`.
 * Otherwise it is like `metric_get`.
 *
 * BACKEND_STATUS_WRONG_TYPE: the metric has another type.
 */
BackendStatus metric_get_count(const Metric *metric, double *value, BackendError **error);

/**
 * Writes the cumulative count of the bucket with this upper bound, `INFINITY` for the last one, of
 * a histogram or gauge histogram to `*value`. Otherwise it is like `metric_get`.
 *
 * BACKEND_STATUS_NOT_FOUND: the histogram has no such bucket.
 * BACKEND_STATUS_WRONG_TYPE: the metric has another type.
 */
BackendStatus metric_get_bucket(const Metric *metric,
                                double upper_bound,
                                double *value,
                                BackendError **error);

/**
 * Removes the metric with these label values from the store. Handles of it stay valid, but what
 * they count no longer reaches the store; `metric_new` makes a new metric. On a server, another
 * process that counts with the metric brings it back; in a shared file, other processes must call
 * `metric_new` again. Of an info, it removes all labels that this process has set for these label
 * values. It never waits for a server.
 *
 * BACKEND_STATUS_NOT_FOUND: the store has no such metric; on a server: this process has none.
 * BACKEND_STATUS_INVALID_ARGUMENT: the number of labels is not the declared one, or a value is not
 * UTF-8.
 */
BackendStatus metric_remove(const MetricFamily *family,
                            const char *const *label_values,
                            size_t label_count,
                            BackendError **error);

/**
 * Renders metric families and writes the text to `*text`; free it with `metrics_text_free`. The
 * text shows every change that happened before in this process. With a server it waits for the
 * answer, for at most the store's `collect_timeout` seconds. `options` may be NULL: all families
 * as text 0.0.4.
 *
 * A family without metrics is shown by its comments alone. A family is left out and reported to
 * the log if an earlier one has taken its names in this format (a counter `x_count` behind a
 * histogram `x`, or the same family twice): Prometheus would reject the whole text or mix up the
 * two.
 *
 * BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT, BACKEND_STATUS_STORE: the store could not be
 * read.
 * BACKEND_STATUS_INVALID_ARGUMENT: a family belongs to another backend, or an option is not
 * acceptable.
 */
BackendStatus metrics_render(const Backend *backend,
                             const MetricsRenderOptions *options,
                             MetricsText **text,
                             BackendError **error);

/**
 * Returns the text in UTF-8, with a NUL behind its end and none inside. It lives as long as
 * `text`. Returns NULL if `text` is NULL.
 *
 * A body in protobuf, which only METRICS_FORMATS_ALL allows, is binary and has NULs inside.
 */
const char *metrics_text_data(const MetricsText *text);

/**
 * Returns the length of the text in bytes, without the NUL, or 0 if `text` is NULL.
 */
size_t metrics_text_length(const MetricsText *text);

/**
 * Returns the value for the HTTP header `Content-Type`, which names the format. It lives as long
 * as `text`. Returns NULL if `text` is NULL.
 */
const char *metrics_text_content_type(const MetricsText *text);

/**
 * Frees a text. NULL does nothing.
 */
void metrics_text_free(MetricsText *text);

/**
 * Renders all families in the store as text 0.0.4. It writes the text to `*text` and its length in
 * bytes, without the final NUL, to `*length`, which may be NULL; free the text with
 * `backend_string_free`. Otherwise it is like `metrics_render`.
 *
 * BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT, BACKEND_STATUS_STORE: the store could not be
 * read.
 */
BackendStatus metrics_collect(const Backend *backend,
                              char **text,
                              size_t *length,
                              BackendError **error);

/**
 * Returns 1 if the HTTP header `Accept-Encoding` allows gzip, and 0 if not. NULL stands for a
 * request without the header and returns 0.
 */
int32_t metrics_accepts_gzip(const char *accept_encoding);

/**
 * Reads `family_count` families in one go, or all families in the store if `families` is NULL, and
 * writes the snapshot to `*snapshot`; free it with `metrics_snapshot_free`. A family whose key the
 * store refuses has no series, and is reported to the log. It waits as `metrics_render` does.
 *
 * BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT, BACKEND_STATUS_STORE: the store could not be
 * read.
 * BACKEND_STATUS_INVALID_ARGUMENT: a family belongs to another backend.
 */
BackendStatus metrics_snapshot_new(const Backend *backend,
                                   const MetricFamily *const *families,
                                   size_t family_count,
                                   MetricsSnapshot **snapshot,
                                   BackendError **error);

/**
 * Writes the next series of the snapshot to `*series`. Series come family by family, sorted by
 * their labels within each.
 *
 * BACKEND_STATUS_NOT_FOUND: there are no more series.
 */
BackendStatus metrics_snapshot_next(MetricsSnapshot *snapshot, MetricsSeries *series);

/**
 * Writes when the series that `metrics_snapshot_next` wrote last began to `*created`, in seconds
 * since 1970, or 0 if the store does not know it.
 *
 * BACKEND_STATUS_NOT_FOUND: no series was written yet.
 */
BackendStatus metrics_snapshot_created(const MetricsSnapshot *snapshot,
                                       double *created,
                                       BackendError **error);

/**
 * Writes the exemplar `index`, from 0 on, of the series that `metrics_snapshot_next` wrote last to
 * `*exemplar`. They are in no order.
 *
 * BACKEND_STATUS_NOT_FOUND: no series was written yet, or it has no more exemplars.
 */
BackendStatus metrics_snapshot_exemplar(const MetricsSnapshot *snapshot,
                                        size_t index,
                                        MetricsExemplar *exemplar,
                                        BackendError **error);

/**
 * Fills `*family`, whose `size` the program has set, with the definition of the family `index` of
 * the snapshot: the `family_index` of its series. Families without series are there too.
 *
 * BACKEND_STATUS_NOT_FOUND: the snapshot has no more families.
 * BACKEND_STATUS_INVALID_ARGUMENT: the size is not that of a MetricsSnapshotFamily.
 */
BackendStatus metrics_snapshot_family(const MetricsSnapshot *snapshot,
                                      size_t index,
                                      MetricsSnapshotFamily *family,
                                      BackendError **error);

/**
 * Frees a snapshot and everything that its series point to. NULL does nothing.
 */
void metrics_snapshot_free(MetricsSnapshot *snapshot);

/**
 * Makes an empty list of foreign families and writes a handle to `*foreign`; free it with
 * `metrics_foreign_free`.
 */
BackendStatus metrics_foreign_new(MetricsForeign **foreign, BackendError **error);

/**
 * Adds a family without samples, to which `metrics_foreign_sample` adds samples. The strings are
 * copied. After a failure `metrics_foreign_sample` fails, too, until a family is added.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: a name, unit, type or size is not acceptable.
 */
BackendStatus metrics_foreign_family(MetricsForeign *foreign,
                                     const MetricsForeignFamily *family,
                                     BackendError **error);

/**
 * Adds a sample to the family that was added last. The strings are copied. Samples are shown in
 * the order in which they were added; add those of one label set one after the other. A sample
 * that fails is left out, and the family keeps the others.
 *
 * A format leaves out the samples that it cannot show. Text has no `_created`. OpenMetrics has no
 * negative counters or sums, no counts that are not whole numbers, and no histograms whose buckets
 * do not increase up to `+Inf`.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the type has no such suffix; a label name is not acceptable or
 * given twice; `le` or `quantile` is missing or not a number; the family has this sample already;
 * or there is no family.
 */
BackendStatus metrics_foreign_sample(MetricsForeign *foreign,
                                     const MetricsForeignSample *sample,
                                     BackendError **error);

/**
 * Registers a function that computes metrics for each scrape of the whole store:
 * `metrics_collect`, `metrics_render` without `families`, and the requests of `metrics_serve`. A
 * backend takes one function, and may call it until the backend and its servers are freed.
 *
 * BACKEND_STATUS_CONFLICT: the backend has a function already.
 */
BackendStatus metrics_collect_callback(const Backend *backend,
                                       MetricsCollectCallback callback,
                                       void *user_data,
                                       BackendError **error);

/**
 * Frees the families and their samples. NULL does nothing.
 */
void metrics_foreign_free(MetricsForeign *foreign);

/**
 * Starts an HTTP server that shows the metrics of `backend`, in threads of its own, and writes a
 * handle to `*server`; free it with `metrics_server_free`. `options` may be NULL: a free port of
 * 127.0.0.1.
 *
 * The server answers GET and HEAD. `/metrics` has what `metrics_render` shows of all families, in
 * the format that the client asks for, compressed by gzip if the client accepts it; or 503 and the
 * reason if the store cannot be read or the backend was closed or freed. `/` has a page for
 * people. `/-/healthy` is 200 whatever the state of the store, and `/-/ready` is 200 if the store
 * can be read, and otherwise 503 and the reason.
 *
 * The server ends with the process. A forked child does not have it, and may start its own.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the address, a limit or the size is not acceptable.
 * BACKEND_STATUS_UNAVAILABLE: the address cannot be listened at; the error says why.
 */
BackendStatus metrics_serve(const Backend *backend,
                            const MetricsServeOptions *options,
                            MetricsServer **server,
                            BackendError **error);

/**
 * Returns the port at which the server listens, or 0 if `server` is NULL.
 */
uint16_t metrics_server_port(const MetricsServer *server);

/**
 * Returns the address and port at which the server listens, for example `127.0.0.1:9464` or
 * `[::1]:9464`. The text lives as long as `server`. Returns NULL if `server` is NULL.
 */
const char *metrics_server_address(const MetricsServer *server);

/**
 * Closes the port, gives requests in flight one second to be answered, and frees the handle. It
 * takes two seconds at most. In a forked child it does not affect the server of the parent. NULL
 * does nothing.
 */
void metrics_server_free(MetricsServer *server);

/**
 * Fills `*statistics`, whose `size` the program has set. It never waits for a store.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the size is not that of a BackendStatistics.
 */
BackendStatus backend_statistics(const Backend *backend,
                                 BackendStatistics *statistics,
                                 BackendError **error);

/**
 * Sends the log records of all backends up to `max_level` (a BackendLogLevel) to `callback` from
 * now on. NULL stops logging. A call that another thread has begun may still reach the former
 * callback.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: there is no such level.
 */
BackendStatus backend_log_callback(BackendLogCallback callback, void *user_data, int32_t max_level);

/**
 * Keeps the log records of all backends up to `max_level` (a BackendLogLevel) in a queue from now
 * on, from which `backend_log_next` takes them. The queue holds 1,000 records; when it is full,
 * further records are dropped and counted.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: there is no such level.
 */
BackendStatus backend_log_queue(int32_t max_level);

/**
 * Takes the next record from the queue, for which it waits for at most `timeout_seconds` (0 to
 * 1000000). It writes the level to `*level`, the time at which the record was made (seconds since
 * 1970) to `*time` unless `time` is NULL, and the text to `*message`; free the text with
 * `backend_string_free`. The text is one line: control characters are escaped.
 *
 * BACKEND_STATUS_NOT_FOUND: the queue is still empty, or records go to a callback by now.
 * BACKEND_STATUS_INVALID_ARGUMENT: the timeout is out of range.
 */
BackendStatus backend_log_next(double timeout_seconds,
                               int32_t *level,
                               double *time,
                               char **message);

/**
 * Returns the address of a byte that is 1 while records wait in the queue and no thread has claimed
 * them, and 0 otherwise. The address is never NULL and stays valid as long as the process.
 *
 * With it a program needs no thread for its log. It reads the byte, with a relaxed atomic load,
 * after each of its calls of this library. If the byte is 1, the program calls `backend_log_claim`,
 * takes that many records with `backend_log_next`, logs them, and calls `backend_log_release`.
 */
const uint8_t *backend_log_waiting(void);

/**
 * Claims the waiting records for the calling thread and returns their number. End the claim with
 * `backend_log_release`.
 *
 * Returns 0, without a claim, if no record waits or a claim is held: by another thread, or by an
 * outer call of this one, when a log handler of the program calls this library. A forked child
 * begins without a claim.
 */
size_t backend_log_claim(void);

/**
 * Ends a claim of `backend_log_claim`.
 */
void backend_log_release(void);

/**
 * Returns the status that the failing call returned, or BACKEND_STATUS_NULL_POINTER if `error` is
 * NULL.
 */
BackendStatus backend_error_status(const BackendError *error);

/**
 * Returns one sentence in UTF-8: what failed, with which value, and what was expected. It lives as
 * long as `error`. Returns NULL if `error` is NULL.
 */
const char *backend_error_message(const BackendError *error);

/**
 * Frees an error. NULL does nothing.
 */
void backend_error_free(BackendError *error);

/**
 * Returns the name of a status, for example "BACKEND_STATUS_TIMEOUT", or "unknown status" for any
 * other number. The text is static: never free it.
 */
const char *backend_status_name(int32_t status);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PYTHEUS_BACKEND_RS_H */
