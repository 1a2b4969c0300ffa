/* pytheus_backend_rs: a metrics engine behind a C interface. Generated from src/ffi by cbindgen: do not
 * edit.
 *
 * OWNERSHIP. A handle (Backend, MetricFamily, Metric, MetricsSnapshot, MetricsText, MetricsServer,
 * BackendError) is made by one call (_new, metrics_render, metrics_serve, or one that fails), and freed once
 * by its _free call; freeing NULL does nothing. The doc comment of a call that allocates names the call that
 * frees: never use free(). What a call is given it copies, or uses only until it returns.
 *
 * ERRORS. A call that can fail returns a BackendStatus; 0 is success. It writes its results only on
 * success, and never before all its pointers have been checked. The last parameter of most is a
 * BackendError **: if it is not NULL, a failing call writes an error there, which the caller frees with
 * backend_error_free; a successful one leaves it alone.
 *
 * THREADS. All handles but MetricsSnapshot may be used by any number of threads at once. Freeing a
 * handle while another thread uses it is the caller's to prevent. metric_inc, metric_inc_one, metric_dec,
 * metric_set and metric_observe are one atomic operation on each value that they change, and never wait for
 * a store. (With a server, the first change of a metric after it was sent also puts the metric on a queue.)
 *
 * FORK AND EXIT. Handles made before a fork work in the child as they are, but for a MetricsServer: the parent
 * serves on, and the child holds nothing of it and frees the handle, if it likes, to no effect. A process that
 * returns from main or calls exit stops its servers and sends what is pending, as backend_close does; one that
 * ends by _exit, exec or a signal loses what was not sent.
 *
 * POINTERS. Strings are NUL-terminated UTF-8. A pointer argument is NULL or points to what its type says,
 * for as long as the call lasts; NULL where it must not be is BACKEND_STATUS_NULL_POINTER. Enums are
 * passed as int32_t, and other values than the constants are BACKEND_STATUS_INVALID_ARGUMENT.
 */


#ifndef PYTHEUS_BACKEND_RS_H
#define PYTHEUS_BACKEND_RS_H

#include <stddef.h>
#include <stdint.h>

#define BACKEND_VERSION "0.1.0"
#define BACKEND_VERSION_MAJOR 0
#define BACKEND_VERSION_MINOR 1
#define BACKEND_VERSION_PATCH 0

/* The number in the SONAME; backend_abi_version() tells the library's. */
#define BACKEND_ABI_VERSION 1

/**
 * What a call came to. 0 is success.
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
   * A metric family of this name exists with another definition.
   */
  BACKEND_STATUS_CONFLICT = 4,
  /**
   * The type of the metric has no such operation.
   */
  BACKEND_STATUS_WRONG_TYPE = 5,
  /**
   * What was asked for does not exist, or there is no more of it.
   */
  BACKEND_STATUS_NOT_FOUND = 6,
  /**
   * The store cannot be reached, refuses to serve, or is closed; or an address cannot be listened at.
   */
  BACKEND_STATUS_UNAVAILABLE = 7,
  /**
   * The store did not answer before the deadline.
   */
  BACKEND_STATUS_TIMEOUT = 8,
  /**
   * The store answered, but a key holds something that is not ours.
   */
  BACKEND_STATUS_STORE = 9,
  /**
   * A defect in this library; the error and the log tell more. The call did nothing more.
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
   * Something is lost, or will be if nobody acts.
   */
  BACKEND_LOG_LEVEL_ERROR = 1,
  /**
   * Something is odd.
   */
  BACKEND_LOG_LEVEL_WARNING = 2,
  /**
   * Threads that start, a store that is back.
   */
  BACKEND_LOG_LEVEL_INFO = 3,
  /**
   * For those who look for a defect.
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
   * As a gauge, without saying so.
   */
  METRIC_TYPE_UNTYPED = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum MetricType MetricType;
#else
typedef int32_t MetricType;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How long a metric family lives, and who finds it.
 */
enum MetricLifetime
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Until its backend is freed. Declaring the same definition again gives the same family.
   */
  METRIC_LIFETIME_BACKEND = 0,
  /**
   * As long as a handle of it or of one of its metrics. Every declaration is a family of its own, even of
   * the same name: in memory `metrics_collect` shows the first that is alive, and `metrics_snapshot_new`
   * and `metrics_render` those that they are asked for. For wrappers whose own objects decide what
   * exists.
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
 * Which names a metric family may have.
 */
enum MetricNames
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Those that every version of Prometheus knows: `[a-zA-Z_:][a-zA-Z0-9_:]*`, without `:` for labels.
   */
  METRIC_NAMES_LEGACY = 0,
  /**
   * Any text that is not empty, as Prometheus 3 has it. A scraper that does not ask for such names gets
   * them escaped.
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
 * Which metric families `metrics_render` shows besides those that it is asked for.
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
   * Behind them, those of the store that this process has not declared: other processes have.
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
 * An open store, and the metric families that are declared in it.
 */
typedef struct Backend Backend;

/**
 * Why a call failed. Made by the calls that take an `error` out-parameter; free it with
 * `backend_error_free`.
 */
typedef struct BackendError BackendError;

/**
 * One label set of a metric family: the object that a program counts with.
 */
typedef struct Metric Metric;

/**
 * A declared metric family: it makes metrics, one for each label set.
 */
typedef struct MetricFamily MetricFamily;

/**
 * Metric families whose samples the program brings, for values that are computed when a scrape asks for
 * them. `metrics_foreign_new` makes one; free it with `metrics_foreign_free`. Fill it, name it in the
 * `foreign` of MetricsRenderOptions, and free it when `metrics_render` has returned; or keep it and
 * render it again. Threads must not share it while one of them fills it.
 */
typedef struct MetricsForeign MetricsForeign;

/**
 * An HTTP server that shows the metrics of a backend. Made by `metrics_serve`; free it with
 * `metrics_server_free`.
 */
typedef struct MetricsServer MetricsServer;

/**
 * The values of some metric families at one time, to be walked series by series. Made by
 * `metrics_snapshot_new`; free it with `metrics_snapshot_free`. Not to be shared between threads.
 */
typedef struct MetricsSnapshot MetricsSnapshot;

/**
 * A rendered exposition. Made by `metrics_render`; free it with `metrics_text_free`.
 */
typedef struct MetricsText MetricsText;

/**
 * Receives the `user_data` that was registered with it. It must not unwind or jump out.
 */
typedef void (*BackendRestartCallback)(void *user_data);

/**
 * What `metric_family_new` declares. Set it to zeros and `size` to `sizeof(MetricFamilyOptions)` first:
 * later versions may add fields behind the last.
 */
typedef struct {
  /**
   * `sizeof(MetricFamilyOptions)` of the header that the program was compiled with.
   */
  size_t size;
  /**
   * The name: `[a-zA-Z_:][a-zA-Z0-9_:]*`, or see `names`.
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
   * `label_count` label names: `[a-zA-Z_][a-zA-Z0-9_]*`, or see `names`; not beginning with `__`; NULL for
   * none.
   */
  const char *const *label_names;
  /**
   * The number of label names.
   */
  size_t label_count;
  /**
   * `bucket_count` upper bounds of a histogram, finite and increasing, `+Inf` implied; NULL for the
   * default: .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10.
   */
  const double *buckets;
  /**
   * The number of bucket bounds.
   */
  size_t bucket_count;
  /**
   * The unit, as in "seconds", or NULL for none. The name must end with it: `_seconds`, and
   * `_seconds_total` for a counter.
   */
  const char *unit;
  /**
   * A MetricNames.
   */
  int32_t names;
} MetricFamilyOptions;

/**
 * What `metrics_foreign_family` adds. Set it to zeros and `size` to `sizeof(MetricsForeignFamily)` first:
 * later versions may add fields behind the last.
 */
typedef struct {
  /**
   * `sizeof(MetricsForeignFamily)` of the header that the program was compiled with.
   */
  size_t size;
  /**
   * The name: `[a-zA-Z_:][a-zA-Z0-9_:]*`, or see `names`. It is shown as it is: the `name_prefix` of
   * MetricsRenderOptions is not put in front of it. A counter's name ends with `_total`.
   */
  const char *name;
  /**
   * The help text, or NULL for none.
   */
  const char *help;
  /**
   * The unit, as in MetricFamilyOptions, or NULL for none.
   */
  const char *unit;
  /**
   * A MetricType.
   */
  int32_t metric_type;
  /**
   * A MetricNames, for the names of the family and its labels.
   */
  int32_t names;
  /**
   * The number of `families` in MetricsRenderOptions that stand before this family. It stands behind
   * all of them if there are fewer, or if the scrape shows the whole store. Foreign families of
   * one position are shown in the order in which they were added.
   */
  size_t position;
} MetricsForeignFamily;

/**
 * What `metrics_foreign_sample` adds. Set it to zeros and `size` to `sizeof(MetricsForeignSample)` first:
 * later versions may add fields behind the last.
 */
typedef struct {
  /**
   * `sizeof(MetricsForeignSample)` of the header that the program was compiled with.
   */
  size_t size;
  /**
   * What follows the name of the family; NULL or "" for nothing. Counter: nothing or `_created`. Gauge and
   * untyped: nothing. Summary: nothing with the label `quantile`, or `_sum`, `_count`, `_created`.
   * Histogram: `_bucket` with the label `le` and the cumulative count, or `_sum`, `_count`, `_created`.
   */
  const char *suffix;
  /**
   * `label_count` label names, which are shown in this order; NULL for none.
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
 * Receives a log record: its BackendLogLevel, its text (UTF-8, valid during the call), and the
 * `user_data` that was registered with it. It may be called by any thread, also by several at once,
 * and may itself call this library. It must not unwind or jump out.
 */
typedef void (*BackendLogCallback)(int32_t level, const char *message, void *user_data);

/**
 * What `metrics_render` renders, and how. Set it to zeros and `size` to `sizeof(MetricsRenderOptions)`
 * first: later versions may add fields behind the last.
 */
typedef struct {
  /**
   * `sizeof(MetricsRenderOptions)` of the header that the program was compiled with.
   */
  size_t size;
  /**
   * The `Accept` header of the HTTP request, which decides on the format: text 0.0.4 or 1.0.0, or
   * OpenMetrics 1.0.0 or 0.0.1, and how names beyond `[a-zA-Z_:][a-zA-Z0-9_:]*` are written. NULL, or one
   * that asks for nothing of these: text 0.0.4.
   */
  const char *accept;
  /**
   * Stands in front of the name of each family, with an underscore; NULL for none.
   */
  const char *name_prefix;
  /**
   * `family_count` families, in the order in which they are to be shown; NULL for all of the store.
   */
  const MetricFamily *const *families;
  /**
   * The number of families.
   */
  size_t family_count;
  /**
   * A MetricsOthers. It has no meaning if `families` is NULL.
   */
  int32_t others;
  /**
   * NULL, or room for `family_count` numbers: where the text of each of `families` ends, in bytes. What
   * follows the last are the others and, in OpenMetrics, `# EOF`.
   */
  size_t *family_ends;
  /**
   * Families whose samples the program brings, shown with the others; NULL for none.
   */
  const MetricsForeign *foreign;
} MetricsRenderOptions;

/**
 * One metric of a snapshot. What it points to lives as long as the snapshot. This struct never grows: what a
 * later version has to say about a series comes by calls of its own.
 */
typedef struct {
  /**
   * The position of its family: in the list that was asked for, or among all families.
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
   * Its sample values. Counter, gauge, untyped: the value. Summary: count, sum. Histogram: the
   * cumulative buckets, in the order of their bounds, `+Inf` last; then count, sum.
   */
  const double *values;
  /**
   * The number of values.
   */
  size_t value_count;
} MetricsSeries;

/**
 * How `metrics_serve` serves. Set it to zeros and `size` to `sizeof(MetricsServeOptions)` first: later
 * versions may add fields behind the last.
 */
typedef struct {
  /**
   * `sizeof(MetricsServeOptions)` of the header that the program was compiled with.
   */
  size_t size;
  /**
   * The IPv4 or IPv6 address to listen at, as in "::1"; "0.0.0.0" for all that are IPv4, "::" for all. NULL:
   * "127.0.0.1", which is reached from this machine only.
   */
  const char *address;
  /**
   * Stands in front of the name of each family, with an underscore; NULL for none.
   */
  const char *name_prefix;
  /**
   * The most connections at a time; 0: 64. Others wait until one ends; meanwhile none is kept open for a
   * next request.
   */
  size_t max_connections;
  /**
   * Seconds that a client may take to send the headers of a request, from when it has connected or its last
   * answer was sent, and so also how long an idle connection is kept open; 0: 30.
   */
  double read_timeout;
  /**
   * Seconds that a client may take to read an answer; 0: 30.
   */
  double write_timeout;
  /**
   * The port to listen at; 0: a free one, which `metrics_server_port` tells.
   */
  uint16_t port;
} MetricsServeOptions;

/**
 * What a backend has done in this process so far; a forked child begins at zero. A store that sends nothing
 * (in memory, in shared memory) has only scrapes and scrape errors. Set `size` to
 * `sizeof(BackendStatistics)` first: later versions may add fields behind the last.
 */
typedef struct {
  /**
   * `sizeof(BackendStatistics)` of the header that the program was compiled with.
   */
  size_t size;
  /**
   * Batches that the server has confirmed.
   */
  uint64_t batches_sent;
  /**
   * How often a batch was sent again because its answer was lost.
   */
  uint64_t batches_resent;
  /**
   * How often the server refused a batch. It is kept, and tried again.
   */
  uint64_t batches_refused;
  /**
   * Operations in the batches that the server has confirmed.
   */
  uint64_t operations_sent;
  /**
   * Metrics with changes that the server has not confirmed. One that has changed again while its last
   * changes are on their way counts twice.
   */
  uint64_t metrics_pending;
  /**
   * Scrapes, those that failed included.
   */
  uint64_t scrapes;
  /**
   * Scrapes that failed.
   */
  uint64_t scrape_errors;
  /**
   * When the server last confirmed what was sent, or a flush found nothing left to send: in seconds since
   * 1970; 0 if it never has.
   */
  double last_flush_timestamp;
} BackendStatistics;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of this library, as in "0.1.0". Static: never free it.
 */
const char *backend_version(void);

/**
 * The number of the binary interface, which is also in the SONAME: compare it with
 * BACKEND_ABI_VERSION, which the program was compiled with.
 */
uint32_t backend_abi_version(void);

/**
 * Opens the store that `url` names and writes a handle to `*backend`; free it with `backend_free`.
 *
 * The URL is one of these, and its query sets options (`?option=value&option=value`). The default of an
 * option stands in parentheses.
 *
 * `memory:`: the values are in this process only.
 *
 * - `cell` (atomic): accepted for programs written for 0.0.9; both values mean atomic operations
 *
 * `shm:///path/of/a/file`: a file that all processes of a service on this machine map.
 *
 * - `size_limit` (67108864): how large a new file may grow
 * - `start` (continue): continue with what the file holds, reset it to an empty one, or attach to
 *   a file that others have made and only read it
 * - `mode` (0600): the permissions of a new file, in octal
 * - `required`: with start=attach: whether a file that cannot be read is an error when the store
 *   is opened (true), or an error of each scrape until the file is there (false)
 *
 * `redis://[user[:password]@]host[:port][/db]` or `redis+unix:///path/of/a/socket`: a Redis or Valkey
 * server.
 *
 * - `db` (0): the number of the logical database, unless the path of the URL gives it
 * - `username`: the user to log in as, unless the URL gives it before the host
 * - `password`: the password to log in with, unless the URL gives it before the host
 * - `client_name`: the name of the connections in CLIENT LIST
 * - `key_prefix`: text that precedes the name of each key, followed by a dash
 * - `expire_key_time` (3600): how many seconds after its last write or scrape a key expires
 * - `flush_interval_ms` (5): how many milliseconds changes are gathered before they are sent
 * - `connect_timeout` or `socket_connect_timeout` (5): how many seconds connecting may take,
 *   including the login
 * - `socket_timeout` (5): how many seconds the server may take to answer
 * - `collect_timeout` (10): how many seconds a scrape may take altogether
 * - `shutdown_timeout` (2): how many seconds the end of the process may take to send what is
 *   pending
 * - `pipeline_threads` (4): how many threads, each with a connection of its own, serve scrapes
 * - `required` (true): whether a server that cannot be reached is an error when the store is
 *   opened (true), or is connected to as soon as it can be (false)
 * - `socket_keepalive` (false): whether TCP keep-alive is on
 *
 * Every store:
 *
 * - `self_metrics` (false): show the statistics of the backend as metrics of the backend, too
 *
 * BACKEND_STATUS_CONFIGURATION: the URL or an option is not understood.
 * BACKEND_STATUS_UNAVAILABLE or BACKEND_STATUS_TIMEOUT: the server cannot be reached.
 * BACKEND_STATUS_STORE: the file cannot be used; the error names it and the reason.
 */
BackendStatus backend_new(const char *url,
                          Backend **backend,
                          BackendError **error);

/**
 * Sends what is pending, for at most the store's `shutdown_timeout`, and ends the store's threads.
 * Families and metrics of this backend stay valid, but nothing of them is sent any more. Closing twice does
 * nothing.
 *
 * BACKEND_STATUS_UNAVAILABLE: not all could be sent; the error says how much is lost.
 */
BackendStatus backend_close(const Backend *backend,
                            BackendError **error);

/**
 * Stops what `metrics_serve` has started, and closes all backends of this process at the same time, each as
 * `backend_close` does. What could not be sent is told to the log. A process that ends normally does this by itself; a runtime with an end of its
 * own (an interpreter) does it there.
 */
void backend_close_all(void);

/**
 * Closes the backend as `backend_close` does, unless it is closed, and frees the handle. What could not
 * be sent is told to the log. Families and metrics stay valid until they are freed themselves. NULL does
 * nothing.
 */
void backend_free(Backend *backend);

/**
 * Sends what is pending, and waits until the store has it, for at most `timeout_seconds`. Stores in
 * memory have nothing pending. After a failure nothing is lost: it is sent later.
 *
 * BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT: the store does not have all of it.
 * BACKEND_STATUS_STORE: the store refuses a key; the error names it.
 * BACKEND_STATUS_INVALID_ARGUMENT: the timeout is not from 0 to 1000000.
 */
BackendStatus backend_flush(const Backend *backend, double timeout_seconds, BackendError **error);

/**
 * Has `callback` called whenever a forked child starts a store's threads anew, which it does when it first
 * uses the store; NULL for nothing. The thread whose call started them calls it, before that call returns.
 * For bindings that need threads of their own then, as for log records.
 */
void backend_restart_callback(BackendRestartCallback callback,
                              void *user_data);

/**
 * Panics within the library, and returns BACKEND_STATUS_PANIC: for a program that wants to see what
 * it would do with a defect. It has no other use.
 */
BackendStatus backend_panic(BackendError **error);

/**
 * Frees a text that this library has allocated. NULL does nothing.
 */
void backend_string_free(char *text);

/**
 * The status that the failing call returned; BACKEND_STATUS_NULL_POINTER if `error` is NULL.
 */
BackendStatus backend_error_status(const BackendError *error);

/**
 * The sentence: what was wrong, with which value, and what was expected. UTF-8; it lives as long as
 * `error`. NULL if `error` is NULL.
 */
const char *backend_error_message(const BackendError *error);

/**
 * Frees an error. NULL does nothing.
 */
void backend_error_free(BackendError *error);

/**
 * Declares a metric family and writes a handle to `*family`; free it with `metric_family_free`. The
 * strings are copied.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: a name, label, bound, type, lifetime or size is not acceptable.
 * BACKEND_STATUS_CONFLICT: the name is declared already, in another way.
 */
BackendStatus metric_family_new(const Backend *backend,
                                const MetricFamilyOptions *options,
                                MetricFamily **family,
                                BackendError **error);

/**
 * Removes all metrics of the family from the store, those of other processes too. Handles of its
 * metrics stay valid, but what they count is not in the store any more; `metric_new` makes new ones. It
 * never waits for a server: the store does it before whatever this process counts next.
 */
BackendStatus metric_family_clear(const MetricFamily *family,
                                  BackendError **error);

/**
 * Frees the handle. The family and its values stay, unless its lifetime is METRIC_LIFETIME_HANDLE.
 * NULL does nothing.
 */
void metric_family_free(MetricFamily *family);

/**
 * Makes an empty list of foreign families and writes its handle to `*foreign`; free it with
 * `metrics_foreign_free`.
 */
BackendStatus metrics_foreign_new(MetricsForeign **foreign, BackendError **error);

/**
 * Adds a family without samples; `metrics_foreign_sample` gives it samples. The strings are copied. After a
 * failure `metrics_foreign_sample` fails, too, until a family is added.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: a name, unit, type or size is not acceptable.
 */
BackendStatus metrics_foreign_family(MetricsForeign *foreign,
                                     const MetricsForeignFamily *family,
                                     BackendError **error);

/**
 * Adds a sample to the family that was added last. The strings are copied. Samples are shown in the order in
 * which they are added; add those of one label set one after the other. A sample that fails is
 * left out, and the family keeps its others.
 *
 * A format that cannot show a sample leaves it out: text has no `_created`, and OpenMetrics no negative
 * counters or sums, no counts that are not whole numbers, and no histogram whose buckets do not increase up to
 * `+Inf`.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the type has no such suffix; a label name is not acceptable or given
 * twice; `le` or `quantile` is missing or no number; the family has this sample already; or there is no
 * family.
 */
BackendStatus metrics_foreign_sample(MetricsForeign *foreign,
                                     const MetricsForeignSample *sample,
                                     BackendError **error);

/**
 * Frees the families and their samples. NULL does nothing.
 */
void metrics_foreign_free(MetricsForeign *foreign);

/**
 * Sends log records up to `max_level` (a BackendLogLevel) of all backends to `callback` from now on;
 * NULL stops logging. A call that is under way in another thread may still use the former callback.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: no such level.
 */
BackendStatus backend_log_callback(BackendLogCallback callback,
                                   void *user_data,
                                   int32_t max_level);

/**
 * Keeps log records up to `max_level` (a BackendLogLevel) of all backends in a queue of at most 1,000
 * from now on, to be read by `backend_log_next`. When it is full, records are dropped and counted.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: no such level.
 */
BackendStatus backend_log_queue(int32_t max_level);

/**
 * Waits until the queue has a record, for at most `timeout_seconds`, and leaves it there.
 *
 * BACKEND_STATUS_NOT_FOUND: it has none, or records go to a callback meanwhile.
 * BACKEND_STATUS_INVALID_ARGUMENT: the timeout is not from 0 to 1000000.
 */
BackendStatus backend_log_wait(double timeout_seconds);

/**
 * Takes the next record from the queue, waiting for it for at most `timeout_seconds`, and writes its
 * level to `*level` and its text to `*message`; free that with `backend_string_free`.
 *
 * BACKEND_STATUS_NOT_FOUND: there was none, or records go to a callback meanwhile.
 * BACKEND_STATUS_INVALID_ARGUMENT: the timeout is not from 0 to 1000000.
 */
BackendStatus backend_log_next(double timeout_seconds,
                               int32_t *level,
                               char **message);

/**
 * Writes the metric of `family` with these label values (in the order of the declared names) to
 * `*metric`; free it with `metric_free`. A metric that does not exist is made, with the value 0.
 * Ask once and keep the handle: this looks it up, the calls on a handle do not.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: not the declared number of labels, or not UTF-8.
 */
BackendStatus metric_new(const MetricFamily *family,
                         const char *const *label_values,
                         size_t label_count,
                         Metric **metric,
                         BackendError **error);

/**
 * Frees the handle. The metric and its value stay, unless its family's lifetime is
 * METRIC_LIFETIME_HANDLE. NULL does nothing.
 */
void metric_free(Metric *metric);

/**
 * Adds `amount` to a counter, gauge or untyped metric. It never waits for a store.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: a counter, and the amount is negative or NaN.
 * BACKEND_STATUS_WRONG_TYPE: a histogram or summary.
 */
BackendStatus metric_inc(const Metric *metric, double amount);

/**
 * Adds 1 to a counter, gauge or untyped metric: `metric_inc(metric, 1)`, for callers to which an argument costs
 * something. It never waits for a store.
 *
 * BACKEND_STATUS_WRONG_TYPE: a histogram or summary.
 */
BackendStatus metric_inc_one(const Metric *metric);

/**
 * Takes `amount` from a gauge or untyped metric. It never waits for a store.
 *
 * BACKEND_STATUS_WRONG_TYPE: of another type.
 */
BackendStatus metric_dec(const Metric *metric, double amount);

/**
 * Sets a gauge or untyped metric to `value`. It never waits for a store.
 *
 * BACKEND_STATUS_WRONG_TYPE: of another type.
 */
BackendStatus metric_set(const Metric *metric, double value);

/**
 * Counts `value` in a histogram or summary; NaN counts in the `+Inf` bucket. It never waits for a
 * store.
 *
 * BACKEND_STATUS_WRONG_TYPE: of another type.
 */
BackendStatus metric_observe(const Metric *metric, double value);

/**
 * Writes the value of a counter, gauge or untyped metric to `*value`: the value in the store, after
 * what this process had pending was sent. With a server it waits for it.
 *
 * BACKEND_STATUS_WRONG_TYPE: a histogram or summary.
 * BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT, BACKEND_STATUS_STORE: it could not be read.
 */
BackendStatus metric_get(const Metric *metric, double *value, BackendError **error);

/**
 * Writes the sum of what a histogram or summary has observed to `*value`; otherwise as `metric_get`.
 */
BackendStatus metric_get_sum(const Metric *metric,
                             double *value,
                             BackendError **error);

/**
 * Writes the number of observations of a histogram or summary to `*value`; otherwise as `metric_get`.
 */
BackendStatus metric_get_count(const Metric *metric,
                               double *value,
                               BackendError **error);

/**
 * Writes the cumulative count of the histogram bucket with this upper bound (`INFINITY` for the last)
 * to `*value`; otherwise as `metric_get`.
 *
 * BACKEND_STATUS_NOT_FOUND: no such bucket.
 */
BackendStatus metric_get_bucket(const Metric *metric,
                                double upper_bound,
                                double *value,
                                BackendError **error);

/**
 * Removes the metric with these label values from the store. Handles of it stay valid, but what they count is
 * not in the store any more; `metric_new` makes a new one. Other processes that count with it bring it back
 * on a server; in a shared file they must ask `metric_new` again. It never waits for a server.
 *
 * BACKEND_STATUS_NOT_FOUND: there is no such metric; on a server: this process has none.
 * BACKEND_STATUS_INVALID_ARGUMENT: not the declared number of labels, or not UTF-8.
 */
BackendStatus metric_remove(const MetricFamily *family,
                            const char *const *label_values,
                            size_t label_count,
                            BackendError **error);

/**
 * Renders all metric families of the store as Prometheus text 0.0.4 and writes it to `*text`, and its
 * length in bytes, without the final NUL, to `*length` (which may be NULL); free the text with
 * `backend_string_free`. It shows every change that happened before in this process, and with a server
 * it waits for it, for at most the store's `collect_timeout`.
 *
 * BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT: the store could not be read.
 */
BackendStatus metrics_collect(const Backend *backend,
                              char **text,
                              size_t *length,
                              BackendError **error);

/**
 * Renders metric families as text and writes it to `*text`; free it with `metrics_text_free`. It shows every
 * change that happened before in this process, and with a server it waits for it, for at most the store's
 * `collect_timeout`. `options` may be NULL: all families as text 0.0.4.
 *
 * A family without metrics is shown by its comments alone. One whose names, as the format has them, an
 * earlier one has taken (a counter `x_count` behind a histogram `x`; the same family twice) is left out, and
 * reported to the log: Prometheus would refuse all of the text, or mix them up.
 *
 * BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT: the store could not be read.
 * BACKEND_STATUS_INVALID_ARGUMENT: a family of another backend, or a wrong option.
 */
BackendStatus metrics_render(const Backend *backend,
                             const MetricsRenderOptions *options,
                             MetricsText **text,
                             BackendError **error);

/**
 * The text: UTF-8, with a NUL behind its end and none inside. It lives as long as `text`. NULL if `text` is
 * NULL.
 */
const char *metrics_text_data(const MetricsText *text);

/**
 * The length of the text in bytes, without the NUL. 0 if `text` is NULL.
 */
size_t metrics_text_length(const MetricsText *text);

/**
 * The value of the HTTP header `Content-Type`, which says what format was chosen. It lives as long as
 * `text`. NULL if `text` is NULL.
 */
const char *metrics_text_content_type(const MetricsText *text);

/**
 * Frees a text. NULL does nothing.
 */
void metrics_text_free(MetricsText *text);

/**
 * Whether the HTTP header `Accept-Encoding` allows gzip: 1 or 0. NULL, for a request without it, is 0.
 */
int32_t metrics_accepts_gzip(const char *accept_encoding);

/**
 * Reads `families` (`family_count` handles) in one go, or all families of the store if `families` is NULL,
 * and writes the result to `*snapshot`. A family whose key the store refuses has no series, and is reported
 * to the log. It waits as `metrics_collect` does.
 *
 * BACKEND_STATUS_UNAVAILABLE, BACKEND_STATUS_TIMEOUT: the store could not be read.
 * BACKEND_STATUS_INVALID_ARGUMENT: a family of another backend.
 */
BackendStatus metrics_snapshot_new(const Backend *backend,
                                   const MetricFamily *const *families,
                                   size_t family_count,
                                   MetricsSnapshot **snapshot,
                                   BackendError **error);

/**
 * Writes the next series of the snapshot to `*series`: family by family, sorted by labels within each.
 *
 * BACKEND_STATUS_NOT_FOUND: that was the last.
 */
BackendStatus metrics_snapshot_next(MetricsSnapshot *snapshot,
                                    MetricsSeries *series);

/**
 * Frees a snapshot and all that its series point to. NULL does nothing.
 */
void metrics_snapshot_free(MetricsSnapshot *snapshot);

/**
 * Serves the metrics of `backend` by HTTP from now on, by threads of its own, and writes a handle to `*server`;
 * free it with `metrics_server_free`. `options` may be NULL: a free port of 127.0.0.1.
 *
 * It answers GET and HEAD of `/metrics` with what `metrics_render` shows of all families, in the format that the
 * client asks for, gzipped if it asks for that; of `/` with a page for people; and of `/-/healthy` with 200,
 * whatever the store does. A store that cannot be read is 503, with the reason as text; so is a backend that was closed or freed. The server ends with the
 * process; a forked child has none, and may start one of its own.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the address, a limit or the size is not acceptable.
 * BACKEND_STATUS_UNAVAILABLE: the address cannot be listened at; the error says why.
 */
BackendStatus metrics_serve(const Backend *backend,
                            const MetricsServeOptions *options,
                            MetricsServer **server,
                            BackendError **error);

/**
 * The port at which the server listens; 0 if `server` is NULL.
 */
uint16_t metrics_server_port(const MetricsServer *server);

/**
 * The address and port at which the server listens, as in `127.0.0.1:9464` or `[::1]:9464`. It lives as long as
 * `server`. NULL if `server` is NULL.
 */
const char *metrics_server_address(const MetricsServer *server);

/**
 * Closes the port, gives requests in flight a second to be answered, and frees the handle. It takes two seconds
 * at most. In a forked child the parent's server is not touched. NULL does nothing.
 */
void metrics_server_free(MetricsServer *server);

/**
 * Fills `*statistics`, whose `size` the caller has set. It never waits for a store.
 *
 * BACKEND_STATUS_INVALID_ARGUMENT: the size is none that this library knows.
 */
BackendStatus backend_statistics(const Backend *backend,
                                 BackendStatistics *statistics,
                                 BackendError **error);

/**
 * The name of a status, as in "BACKEND_STATUS_TIMEOUT"; "unknown status" for any other number. The
 * text is static: never free it.
 */
const char *backend_status_name(int32_t status);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PYTHEUS_BACKEND_RS_H */
