/* The declarations of pytheus_backend_rs.h as cffi reads them: do not edit. */


#define BACKEND_VERSION_MAJOR 0
#define BACKEND_VERSION_MINOR 1
#define BACKEND_VERSION_PATCH 0
#define BACKEND_ABI_VERSION 1

enum BackendStatus
 {
  BACKEND_STATUS_OK = 0,
  BACKEND_STATUS_NULL_POINTER = 1,
  BACKEND_STATUS_INVALID_ARGUMENT = 2,
  BACKEND_STATUS_CONFIGURATION = 3,
  BACKEND_STATUS_CONFLICT = 4,
  BACKEND_STATUS_WRONG_TYPE = 5,
  BACKEND_STATUS_NOT_FOUND = 6,
  BACKEND_STATUS_UNAVAILABLE = 7,
  BACKEND_STATUS_TIMEOUT = 8,
  BACKEND_STATUS_STORE = 9,
  BACKEND_STATUS_PANIC = 10,
};
typedef int32_t BackendStatus;

enum BackendLogLevel
 {
  BACKEND_LOG_LEVEL_ERROR = 1,
  BACKEND_LOG_LEVEL_WARNING = 2,
  BACKEND_LOG_LEVEL_INFO = 3,
  BACKEND_LOG_LEVEL_DEBUG = 4,
};
typedef int32_t BackendLogLevel;

enum MetricType
 {
  METRIC_TYPE_COUNTER = 1,
  METRIC_TYPE_GAUGE = 2,
  METRIC_TYPE_HISTOGRAM = 3,
  METRIC_TYPE_SUMMARY = 4,
  METRIC_TYPE_UNTYPED = 5,
  METRIC_TYPE_INFO = 6,
  METRIC_TYPE_STATE_SET = 7,
  METRIC_TYPE_GAUGE_HISTOGRAM = 8,
};
typedef int32_t MetricType;

enum MetricLifetime
 {
  METRIC_LIFETIME_BACKEND = 0,
  METRIC_LIFETIME_HANDLE = 1,
};
typedef int32_t MetricLifetime;

enum MetricNames
 {
  METRIC_NAMES_LEGACY = 0,
  METRIC_NAMES_UTF8 = 1,
};
typedef int32_t MetricNames;

enum MetricNative
 {
  METRIC_NATIVE_NONE = 0,
  METRIC_NATIVE_ALONE = 1,
  METRIC_NATIVE_BOTH = 2,
};
typedef int32_t MetricNative;

enum MetricGaugeMode
 {
  METRIC_GAUGE_MODE_SHARED = 0,
  METRIC_GAUGE_MODE_ALL = 1,
  METRIC_GAUGE_MODE_LIVE_ALL = 2,
  METRIC_GAUGE_MODE_MIN = 3,
  METRIC_GAUGE_MODE_LIVE_MIN = 4,
  METRIC_GAUGE_MODE_MAX = 5,
  METRIC_GAUGE_MODE_LIVE_MAX = 6,
  METRIC_GAUGE_MODE_SUM = 7,
  METRIC_GAUGE_MODE_LIVE_SUM = 8,
  METRIC_GAUGE_MODE_MOST_RECENT = 9,
  METRIC_GAUGE_MODE_LIVE_MOST_RECENT = 10,
};
typedef int32_t MetricGaugeMode;

enum MetricExemplars
 {
  METRIC_EXEMPLARS_NONE = 0,
  METRIC_EXEMPLARS_KEPT = 1,
};
typedef int32_t MetricExemplars;

enum MetricsOthers
 {
  METRICS_OTHERS_NONE = 0,
  METRICS_OTHERS_APPEND = 1,
};
typedef int32_t MetricsOthers;

enum MetricsFormats
 {
  METRICS_FORMATS_TEXT = 0,
  METRICS_FORMATS_ALL = 1,
};
typedef int32_t MetricsFormats;

enum MetricsCreatedSamples
 {
  METRICS_CREATED_SAMPLES_HIDDEN = 0,
  METRICS_CREATED_SAMPLES_SHOWN = 1,
};
typedef int32_t MetricsCreatedSamples;

typedef struct Backend Backend;

typedef struct BackendError BackendError;

typedef struct Metric Metric;

typedef struct MetricFamily MetricFamily;

typedef struct MetricsForeign MetricsForeign;

typedef struct MetricsServer MetricsServer;

typedef struct MetricsSnapshot MetricsSnapshot;

typedef struct MetricsText MetricsText;

typedef struct {
  size_t size;
  const char *name;
  const char *help;
  int32_t metric_type;
  int32_t lifetime;
  const char *const *label_names;
  size_t label_count;
  const double *buckets;
  size_t bucket_count;
  const char *unit;
  int32_t names;
  const char *const *states;
  size_t state_count;
  int32_t native;
  int32_t native_resolution;
  size_t native_size;
  int32_t gauge_mode;
  double series_ttl;
  int32_t exemplars;
} MetricFamilyOptions;

typedef struct {
  size_t size;
  const char *accept;
  const char *name_prefix;
  const MetricFamily *const *families;
  size_t family_count;
  int32_t others;
  const MetricsForeign *foreign;
  int32_t formats;
  const char *query;
  int32_t created_samples;
} MetricsRenderOptions;

typedef struct {
  size_t family_index;
  const char *family;
  const char *labels;
  const double *values;
  size_t value_count;
} MetricsSeries;

typedef struct {
  const char *labels;
  double value;
  double timestamp;
} MetricsExemplar;

typedef struct {
  size_t size;
  const char *name;
  const char *help;
  const char *unit;
  const double *buckets;
  size_t bucket_count;
  const char *const *states;
  size_t state_count;
  int32_t metric_type;
  int32_t gauge_mode;
} MetricsSnapshotFamily;

typedef struct {
  size_t size;
  const char *name;
  const char *help;
  const char *unit;
  int32_t metric_type;
  int32_t names;
  size_t position;
} MetricsForeignFamily;

typedef struct {
  size_t size;
  const char *suffix;
  const char *const *label_names;
  const char *const *label_values;
  size_t label_count;
  double value;
} MetricsForeignSample;

typedef void (*MetricsCollectCallback)(MetricsForeign *foreign, void *user_data);

typedef struct {
  size_t size;
  const char *address;
  const char *name_prefix;
  size_t max_connections;
  double read_timeout;
  double write_timeout;
  uint16_t port;
  const char *allowed_hosts;
  int32_t created_samples;
} MetricsServeOptions;

typedef struct {
  size_t size;
  uint64_t batches_sent;
  uint64_t batches_resent;
  uint64_t batches_refused;
  uint64_t operations_sent;
  uint64_t metrics_pending;
  uint64_t metrics_held_back;
  uint64_t scrapes;
  uint64_t scrape_errors;
  double last_flush_timestamp;
  uint64_t batches_replayed;
  uint64_t losses;
} BackendStatistics;

typedef void (*BackendLogCallback)(int32_t level, const char *message, void *user_data);

const char *backend_version(void);

uint32_t backend_abi_version(void);

void backend_close_all(void);

BackendStatus backend_panic(BackendError **error);

void backend_string_free(char *text);

BackendStatus backend_new(const char *url, Backend **backend, BackendError **error);

BackendStatus backend_close(const Backend *backend, BackendError **error);

BackendStatus backend_flush(const Backend *backend, double timeout_seconds, BackendError **error);

BackendStatus backend_process_metrics(const Backend *backend,
                                      const char *prefix,
                                      BackendError **error);

void backend_free(Backend *backend);

BackendStatus metric_family_new(const Backend *backend,
                                const MetricFamilyOptions *options,
                                MetricFamily **family,
                                BackendError **error);

BackendStatus metric_family_set_info(const MetricFamily *family,
                                     const char *const *label_values,
                                     size_t label_count,
                                     const char *const *info_names,
                                     const char *const *info_values,
                                     size_t info_count,
                                     BackendError **error);

BackendStatus metric_family_clear(const MetricFamily *family, BackendError **error);

void metric_family_free(MetricFamily *family);

BackendStatus metric_new(const MetricFamily *family,
                         const char *const *label_values,
                         size_t label_count,
                         Metric **metric,
                         BackendError **error);

void metric_free(Metric *metric);

BackendStatus metric_inc(const Metric *metric, double amount);

BackendStatus metric_inc_and_get(const Metric *metric,
                                 double amount,
                                 double *value,
                                 BackendError **error);

BackendStatus metric_inc_with_exemplar(const Metric *metric,
                                       double amount,
                                       const char *const *label_names,
                                       const char *const *label_values,
                                       size_t label_count,
                                       BackendError **error);

BackendStatus metric_dec(const Metric *metric, double amount);

BackendStatus metric_set(const Metric *metric, double value);

BackendStatus metric_observe(const Metric *metric, double value);

BackendStatus metric_observe_with_exemplar(const Metric *metric,
                                           double value,
                                           const char *const *label_names,
                                           const char *const *label_values,
                                           size_t label_count,
                                           BackendError **error);

BackendStatus metric_keep_exemplar(const Metric *metric,
                                   double value,
                                   const char *const *label_names,
                                   const char *const *label_values,
                                   size_t label_count,
                                   BackendError **error);

int32_t metric_takes_exemplar(const Metric *metric, double value);

BackendStatus metric_unobserve(const Metric *metric, double value);

BackendStatus metric_set_state(const Metric *metric, const char *state, int32_t is_on);

BackendStatus metric_choose_state(const Metric *metric, const char *state);

BackendStatus metric_get_state(const Metric *metric,
                               const char *state,
                               int32_t *is_on,
                               BackendError **error);

BackendStatus metric_cell_add(const Metric *metric, size_t index, double amount);

BackendStatus metric_cell_set(const Metric *metric, size_t index, double value);

BackendStatus metric_get_cell(const Metric *metric,
                              size_t index,
                              double *value,
                              BackendError **error);

int32_t metric_is_live(const Metric *metric);

BackendStatus metric_get(const Metric *metric, double *value, BackendError **error);

BackendStatus metric_get_sum(const Metric *metric, double *value, BackendError **error);

BackendStatus metric_get_count(const Metric *metric, double *value, BackendError **error);

BackendStatus metric_get_bucket(const Metric *metric,
                                double upper_bound,
                                double *value,
                                BackendError **error);

BackendStatus metric_remove(const MetricFamily *family,
                            const char *const *label_values,
                            size_t label_count,
                            BackendError **error);

BackendStatus metrics_render(const Backend *backend,
                             const MetricsRenderOptions *options,
                             MetricsText **text,
                             BackendError **error);

const char *metrics_text_data(const MetricsText *text);

size_t metrics_text_length(const MetricsText *text);

const char *metrics_text_content_type(const MetricsText *text);

void metrics_text_free(MetricsText *text);

BackendStatus metrics_collect(const Backend *backend,
                              char **text,
                              size_t *length,
                              BackendError **error);

int32_t metrics_accepts_gzip(const char *accept_encoding);

BackendStatus metrics_snapshot_new(const Backend *backend,
                                   const MetricFamily *const *families,
                                   size_t family_count,
                                   MetricsSnapshot **snapshot,
                                   BackendError **error);

BackendStatus metrics_snapshot_next(MetricsSnapshot *snapshot, MetricsSeries *series);

BackendStatus metrics_snapshot_created(const MetricsSnapshot *snapshot,
                                       double *created,
                                       BackendError **error);

BackendStatus metrics_snapshot_exemplar(const MetricsSnapshot *snapshot,
                                        size_t index,
                                        MetricsExemplar *exemplar,
                                        BackendError **error);

BackendStatus metrics_snapshot_family(const MetricsSnapshot *snapshot,
                                      size_t index,
                                      MetricsSnapshotFamily *family,
                                      BackendError **error);

void metrics_snapshot_free(MetricsSnapshot *snapshot);

BackendStatus metrics_foreign_new(MetricsForeign **foreign, BackendError **error);

BackendStatus metrics_foreign_family(MetricsForeign *foreign,
                                     const MetricsForeignFamily *family,
                                     BackendError **error);

BackendStatus metrics_foreign_sample(MetricsForeign *foreign,
                                     const MetricsForeignSample *sample,
                                     BackendError **error);

BackendStatus metrics_collect_callback(const Backend *backend,
                                       MetricsCollectCallback callback,
                                       void *user_data,
                                       BackendError **error);

void metrics_foreign_free(MetricsForeign *foreign);

BackendStatus metrics_serve(const Backend *backend,
                            const MetricsServeOptions *options,
                            MetricsServer **server,
                            BackendError **error);

uint16_t metrics_server_port(const MetricsServer *server);

const char *metrics_server_address(const MetricsServer *server);

void metrics_server_free(MetricsServer *server);

BackendStatus backend_statistics(const Backend *backend,
                                 BackendStatistics *statistics,
                                 BackendError **error);

BackendStatus backend_log_callback(BackendLogCallback callback, void *user_data, int32_t max_level);

BackendStatus backend_log_queue(int32_t max_level);

BackendStatus backend_log_next(double timeout_seconds,
                               int32_t *level,
                               double *time,
                               char **message);

const uint8_t *backend_log_waiting(void);

size_t backend_log_claim(void);

void backend_log_release(void);

BackendStatus backend_error_status(const BackendError *error);

const char *backend_error_message(const BackendError *error);

void backend_error_free(BackendError *error);

const char *backend_status_name(int32_t status);
