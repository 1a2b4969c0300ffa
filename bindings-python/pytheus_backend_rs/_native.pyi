# Written by native_stub.py from include/pytheus_backend_rs.cffi.h: do not edit.
#
# The name of an opaque type or a struct stands for a pointer to it: a `Backend` is a `Backend *` in C.
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, SupportsInt, TypeVar, overload

_T = TypeVar("_T")

class Pointer(Generic[_T]):
    """A pointer to a value, or an array of values."""

    def __getitem__(self, index: int, /) -> _T: ...
    def __setitem__(self, index: int, value: _T, /) -> None: ...
    def __len__(self) -> int: ...

class Buffer:
    """The memory behind a pointer. Slices of it are copies."""

    def __getitem__(self, index: slice, /) -> bytes: ...
    def __len__(self) -> int: ...

class Backend: ...
class BackendError: ...
class Metric: ...
class MetricFamily: ...
class MetricsForeign: ...
class MetricsServer: ...
class MetricsSnapshot: ...
class MetricsText: ...

class MetricFamilyOptions:
    size: int
    name: Pointer[bytes]
    help: Pointer[bytes]
    metric_type: int
    lifetime: int
    label_names: Pointer[Pointer[bytes]]
    label_count: int
    buckets: Pointer[float]
    bucket_count: int
    unit: Pointer[bytes]
    names: int
    states: Pointer[Pointer[bytes]]
    state_count: int
    native: int
    native_resolution: int
    native_size: int
    gauge_mode: int
    series_ttl: float
    exemplars: int

class MetricsRenderOptions:
    size: int
    accept: Pointer[bytes]
    name_prefix: Pointer[bytes]
    families: Pointer[MetricFamily]
    family_count: int
    others: int
    foreign: MetricsForeign
    formats: int
    query: Pointer[bytes]
    created_samples: int

class MetricsSeries:
    family_index: int
    family: Pointer[bytes]
    labels: Pointer[bytes]
    values: Pointer[float]
    value_count: int

class MetricsExemplar:
    labels: Pointer[bytes]
    value: float
    timestamp: float

class MetricsSnapshotFamily:
    size: int
    name: Pointer[bytes]
    help: Pointer[bytes]
    unit: Pointer[bytes]
    buckets: Pointer[float]
    bucket_count: int
    states: Pointer[Pointer[bytes]]
    state_count: int
    metric_type: int
    gauge_mode: int

class MetricsForeignFamily:
    size: int
    name: Pointer[bytes]
    help: Pointer[bytes]
    unit: Pointer[bytes]
    metric_type: int
    names: int
    position: int

class MetricsForeignSample:
    size: int
    suffix: Pointer[bytes]
    label_names: Pointer[Pointer[bytes]]
    label_values: Pointer[Pointer[bytes]]
    label_count: int
    value: float

class MetricsServeOptions:
    size: int
    address: Pointer[bytes]
    name_prefix: Pointer[bytes]
    max_connections: int
    read_timeout: float
    write_timeout: float
    port: int
    allowed_hosts: Pointer[bytes]
    created_samples: int

class BackendStatistics:
    size: int
    batches_sent: int
    batches_resent: int
    batches_refused: int
    operations_sent: int
    metrics_pending: int
    metrics_held_back: int
    scrapes: int
    scrape_errors: int
    last_flush_timestamp: float
    batches_replayed: int
    losses: int

class Lib:
    BACKEND_VERSION_MAJOR: int
    BACKEND_VERSION_MINOR: int
    BACKEND_VERSION_PATCH: int
    BACKEND_ABI_VERSION: int
    BACKEND_STATUS_OK: int
    BACKEND_STATUS_NULL_POINTER: int
    BACKEND_STATUS_INVALID_ARGUMENT: int
    BACKEND_STATUS_CONFIGURATION: int
    BACKEND_STATUS_CONFLICT: int
    BACKEND_STATUS_WRONG_TYPE: int
    BACKEND_STATUS_NOT_FOUND: int
    BACKEND_STATUS_UNAVAILABLE: int
    BACKEND_STATUS_TIMEOUT: int
    BACKEND_STATUS_STORE: int
    BACKEND_STATUS_PANIC: int
    BACKEND_LOG_LEVEL_ERROR: int
    BACKEND_LOG_LEVEL_WARNING: int
    BACKEND_LOG_LEVEL_INFO: int
    BACKEND_LOG_LEVEL_DEBUG: int
    METRIC_TYPE_COUNTER: int
    METRIC_TYPE_GAUGE: int
    METRIC_TYPE_HISTOGRAM: int
    METRIC_TYPE_SUMMARY: int
    METRIC_TYPE_UNTYPED: int
    METRIC_TYPE_INFO: int
    METRIC_TYPE_STATE_SET: int
    METRIC_TYPE_GAUGE_HISTOGRAM: int
    METRIC_LIFETIME_BACKEND: int
    METRIC_LIFETIME_HANDLE: int
    METRIC_NAMES_LEGACY: int
    METRIC_NAMES_UTF8: int
    METRIC_NATIVE_NONE: int
    METRIC_NATIVE_ALONE: int
    METRIC_NATIVE_BOTH: int
    METRIC_GAUGE_MODE_SHARED: int
    METRIC_GAUGE_MODE_ALL: int
    METRIC_GAUGE_MODE_LIVE_ALL: int
    METRIC_GAUGE_MODE_MIN: int
    METRIC_GAUGE_MODE_LIVE_MIN: int
    METRIC_GAUGE_MODE_MAX: int
    METRIC_GAUGE_MODE_LIVE_MAX: int
    METRIC_GAUGE_MODE_SUM: int
    METRIC_GAUGE_MODE_LIVE_SUM: int
    METRIC_GAUGE_MODE_MOST_RECENT: int
    METRIC_GAUGE_MODE_LIVE_MOST_RECENT: int
    METRIC_EXEMPLARS_NONE: int
    METRIC_EXEMPLARS_KEPT: int
    METRICS_OTHERS_NONE: int
    METRICS_OTHERS_APPEND: int
    METRICS_FORMATS_TEXT: int
    METRICS_FORMATS_ALL: int
    METRICS_CREATED_SAMPLES_HIDDEN: int
    METRICS_CREATED_SAMPLES_SHOWN: int

    def backend_version(self, /) -> Pointer[bytes]: ...
    def backend_abi_version(self, /) -> int: ...
    def backend_close_all(self, /) -> None: ...
    def backend_panic(self, error: Pointer[BackendError], /) -> int: ...
    def backend_string_free(self, text: Pointer[bytes], /) -> None: ...
    def backend_new(
        self,
        url: bytes | Pointer[bytes],
        backend: Pointer[Backend],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def backend_close(self, backend: Backend, error: Pointer[BackendError], /) -> int: ...
    def backend_flush(
        self,
        backend: Backend,
        timeout_seconds: float,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def backend_process_metrics(
        self,
        backend: Backend,
        prefix: bytes | Pointer[bytes],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def backend_free(self, backend: Backend, /) -> None: ...
    def metric_family_new(
        self,
        backend: Backend,
        options: MetricFamilyOptions,
        family: Pointer[MetricFamily],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metric_family_set_info(
        self,
        family: MetricFamily,
        label_values: Pointer[Pointer[bytes]],
        label_count: int,
        info_names: Pointer[Pointer[bytes]],
        info_values: Pointer[Pointer[bytes]],
        info_count: int,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metric_family_clear(self, family: MetricFamily, error: Pointer[BackendError], /) -> int: ...
    def metric_family_free(self, family: MetricFamily, /) -> None: ...
    def metric_new(
        self,
        family: MetricFamily,
        label_values: Pointer[Pointer[bytes]],
        label_count: int,
        metric: Pointer[Metric],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metric_free(self, metric: Metric, /) -> None: ...
    def metric_inc(self, metric: Metric, amount: float, /) -> int: ...
    def metric_inc_and_get(
        self,
        metric: Metric,
        amount: float,
        value: Pointer[float],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metric_inc_with_exemplar(
        self,
        metric: Metric,
        amount: float,
        label_names: Pointer[Pointer[bytes]],
        label_values: Pointer[Pointer[bytes]],
        label_count: int,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metric_dec(self, metric: Metric, amount: float, /) -> int: ...
    def metric_set(self, metric: Metric, value: float, /) -> int: ...
    def metric_observe(self, metric: Metric, value: float, /) -> int: ...
    def metric_observe_with_exemplar(
        self,
        metric: Metric,
        value: float,
        label_names: Pointer[Pointer[bytes]],
        label_values: Pointer[Pointer[bytes]],
        label_count: int,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metric_keep_exemplar(
        self,
        metric: Metric,
        value: float,
        label_names: Pointer[Pointer[bytes]],
        label_values: Pointer[Pointer[bytes]],
        label_count: int,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metric_takes_exemplar(self, metric: Metric, value: float, /) -> int: ...
    def metric_unobserve(self, metric: Metric, value: float, /) -> int: ...
    def metric_set_state(self, metric: Metric, state: bytes | Pointer[bytes], is_on: int, /) -> int: ...
    def metric_choose_state(self, metric: Metric, state: bytes | Pointer[bytes], /) -> int: ...
    def metric_get_state(
        self,
        metric: Metric,
        state: bytes | Pointer[bytes],
        is_on: Pointer[int],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metric_cell_add(self, metric: Metric, index: int, amount: float, /) -> int: ...
    def metric_cell_set(self, metric: Metric, index: int, value: float, /) -> int: ...
    def metric_get_cell(
        self,
        metric: Metric,
        index: int,
        value: Pointer[float],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metric_is_live(self, metric: Metric, /) -> int: ...
    def metric_get(self, metric: Metric, value: Pointer[float], error: Pointer[BackendError], /) -> int: ...
    def metric_get_sum(
        self,
        metric: Metric,
        value: Pointer[float],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metric_get_count(
        self,
        metric: Metric,
        value: Pointer[float],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metric_get_bucket(
        self,
        metric: Metric,
        upper_bound: float,
        value: Pointer[float],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metric_remove(
        self,
        family: MetricFamily,
        label_values: Pointer[Pointer[bytes]],
        label_count: int,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metrics_render(
        self,
        backend: Backend,
        options: MetricsRenderOptions,
        text: Pointer[MetricsText],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metrics_text_data(self, text: MetricsText, /) -> Pointer[bytes]: ...
    def metrics_text_length(self, text: MetricsText, /) -> int: ...
    def metrics_text_content_type(self, text: MetricsText, /) -> Pointer[bytes]: ...
    def metrics_text_free(self, text: MetricsText, /) -> None: ...
    def metrics_collect(
        self,
        backend: Backend,
        text: Pointer[Pointer[bytes]],
        length: Pointer[int],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metrics_accepts_gzip(self, accept_encoding: bytes | Pointer[bytes], /) -> int: ...
    def metrics_snapshot_new(
        self,
        backend: Backend,
        families: Pointer[MetricFamily],
        family_count: int,
        snapshot: Pointer[MetricsSnapshot],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metrics_snapshot_next(self, snapshot: MetricsSnapshot, series: MetricsSeries, /) -> int: ...
    def metrics_snapshot_created(
        self,
        snapshot: MetricsSnapshot,
        created: Pointer[float],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metrics_snapshot_exemplar(
        self,
        snapshot: MetricsSnapshot,
        index: int,
        exemplar: MetricsExemplar,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metrics_snapshot_family(
        self,
        snapshot: MetricsSnapshot,
        index: int,
        family: MetricsSnapshotFamily,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metrics_snapshot_free(self, snapshot: MetricsSnapshot, /) -> None: ...
    def metrics_foreign_new(
        self,
        foreign: Pointer[MetricsForeign],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metrics_foreign_family(
        self,
        foreign: MetricsForeign,
        family: MetricsForeignFamily,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metrics_foreign_sample(
        self,
        foreign: MetricsForeign,
        sample: MetricsForeignSample,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metrics_collect_callback(
        self,
        backend: Backend,
        callback: Any,
        user_data: Any,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metrics_foreign_free(self, foreign: MetricsForeign, /) -> None: ...
    def metrics_serve(
        self,
        backend: Backend,
        options: MetricsServeOptions,
        server: Pointer[MetricsServer],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def metrics_server_port(self, server: MetricsServer, /) -> int: ...
    def metrics_server_address(self, server: MetricsServer, /) -> Pointer[bytes]: ...
    def metrics_server_free(self, server: MetricsServer, /) -> None: ...
    def backend_statistics(
        self,
        backend: Backend,
        statistics: BackendStatistics,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def backend_log_callback(self, callback: Any, user_data: Any, max_level: int, /) -> int: ...
    def backend_log_queue(self, max_level: int, /) -> int: ...
    def backend_log_next(
        self,
        timeout_seconds: float,
        level: Pointer[int],
        time: Pointer[float],
        message: Pointer[Pointer[bytes]],
        /,
    ) -> int: ...
    def backend_log_waiting(self, /) -> Pointer[int]: ...
    def backend_log_claim(self, /) -> int: ...
    def backend_log_release(self, /) -> None: ...
    def backend_error_status(self, error: BackendError, /) -> int: ...
    def backend_error_message(self, error: BackendError, /) -> Pointer[bytes]: ...
    def backend_error_free(self, error: BackendError, /) -> None: ...
    def backend_status_name(self, status: int, /) -> Pointer[bytes]: ...

    # These release the GIL.
    def released_backend_new(
        self,
        url: bytes | Pointer[bytes],
        backend: Pointer[Backend],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_backend_close(self, backend: Backend, error: Pointer[BackendError], /) -> int: ...
    def released_backend_close_all(self, /) -> None: ...
    def released_backend_flush(
        self,
        backend: Backend,
        timeout_seconds: float,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_backend_free(self, backend: Backend, /) -> None: ...
    def released_backend_process_metrics(
        self,
        backend: Backend,
        prefix: bytes | Pointer[bytes],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_backend_statistics(
        self,
        backend: Backend,
        statistics: BackendStatistics,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_metric_family_new(
        self,
        backend: Backend,
        options: MetricFamilyOptions,
        family: Pointer[MetricFamily],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_metric_family_clear(self, family: MetricFamily, error: Pointer[BackendError], /) -> int: ...
    def released_metric_family_set_info(
        self,
        family: MetricFamily,
        label_values: Pointer[Pointer[bytes]],
        label_count: int,
        info_names: Pointer[Pointer[bytes]],
        info_values: Pointer[Pointer[bytes]],
        info_count: int,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_metric_new(
        self,
        family: MetricFamily,
        label_values: Pointer[Pointer[bytes]],
        label_count: int,
        metric: Pointer[Metric],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_metric_remove(
        self,
        family: MetricFamily,
        label_values: Pointer[Pointer[bytes]],
        label_count: int,
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_metric_get(
        self,
        metric: Metric,
        value: Pointer[float],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_metric_get_sum(
        self,
        metric: Metric,
        value: Pointer[float],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_metric_get_count(
        self,
        metric: Metric,
        value: Pointer[float],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_metric_get_bucket(
        self,
        metric: Metric,
        upper_bound: float,
        value: Pointer[float],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_metric_get_cell(
        self,
        metric: Metric,
        index: int,
        value: Pointer[float],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_metric_get_state(
        self,
        metric: Metric,
        state: bytes | Pointer[bytes],
        is_on: Pointer[int],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_metrics_snapshot_new(
        self,
        backend: Backend,
        families: Pointer[MetricFamily],
        family_count: int,
        snapshot: Pointer[MetricsSnapshot],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_metrics_render(
        self,
        backend: Backend,
        options: MetricsRenderOptions,
        text: Pointer[MetricsText],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_metrics_serve(
        self,
        backend: Backend,
        options: MetricsServeOptions,
        server: Pointer[MetricsServer],
        error: Pointer[BackendError],
        /,
    ) -> int: ...
    def released_metrics_server_free(self, server: MetricsServer, /) -> None: ...

class FFI:
    NULL: Any
    @overload
    def new(self, c_type: Literal["Backend **"], /) -> Pointer[Backend]: ...
    @overload
    def new(self, c_type: Literal["Backend *[]"], init: Sequence[Backend], /) -> Pointer[Backend]: ...
    @overload
    def new(self, c_type: Literal["BackendError **"], /) -> Pointer[BackendError]: ...
    @overload
    def new(
        self,
        c_type: Literal["BackendError *[]"],
        init: Sequence[BackendError],
        /,
    ) -> Pointer[BackendError]: ...
    @overload
    def new(self, c_type: Literal["Metric **"], /) -> Pointer[Metric]: ...
    @overload
    def new(self, c_type: Literal["Metric *[]"], init: Sequence[Metric], /) -> Pointer[Metric]: ...
    @overload
    def new(self, c_type: Literal["MetricFamily **"], /) -> Pointer[MetricFamily]: ...
    @overload
    def new(
        self,
        c_type: Literal["MetricFamily *[]"],
        init: Sequence[MetricFamily],
        /,
    ) -> Pointer[MetricFamily]: ...
    @overload
    def new(self, c_type: Literal["MetricsForeign **"], /) -> Pointer[MetricsForeign]: ...
    @overload
    def new(
        self,
        c_type: Literal["MetricsForeign *[]"],
        init: Sequence[MetricsForeign],
        /,
    ) -> Pointer[MetricsForeign]: ...
    @overload
    def new(self, c_type: Literal["MetricsServer **"], /) -> Pointer[MetricsServer]: ...
    @overload
    def new(
        self,
        c_type: Literal["MetricsServer *[]"],
        init: Sequence[MetricsServer],
        /,
    ) -> Pointer[MetricsServer]: ...
    @overload
    def new(self, c_type: Literal["MetricsSnapshot **"], /) -> Pointer[MetricsSnapshot]: ...
    @overload
    def new(
        self,
        c_type: Literal["MetricsSnapshot *[]"],
        init: Sequence[MetricsSnapshot],
        /,
    ) -> Pointer[MetricsSnapshot]: ...
    @overload
    def new(self, c_type: Literal["MetricsText **"], /) -> Pointer[MetricsText]: ...
    @overload
    def new(
        self,
        c_type: Literal["MetricsText *[]"],
        init: Sequence[MetricsText],
        /,
    ) -> Pointer[MetricsText]: ...
    @overload
    def new(
        self,
        c_type: Literal["MetricFamilyOptions *"],
        init: Mapping[str, Any] = ...,
        /,
    ) -> MetricFamilyOptions: ...
    @overload
    def new(
        self,
        c_type: Literal["MetricsRenderOptions *"],
        init: Mapping[str, Any] = ...,
        /,
    ) -> MetricsRenderOptions: ...
    @overload
    def new(self, c_type: Literal["MetricsSeries *"], init: Mapping[str, Any] = ..., /) -> MetricsSeries: ...
    @overload
    def new(
        self,
        c_type: Literal["MetricsExemplar *"],
        init: Mapping[str, Any] = ...,
        /,
    ) -> MetricsExemplar: ...
    @overload
    def new(
        self,
        c_type: Literal["MetricsSnapshotFamily *"],
        init: Mapping[str, Any] = ...,
        /,
    ) -> MetricsSnapshotFamily: ...
    @overload
    def new(
        self,
        c_type: Literal["MetricsForeignFamily *"],
        init: Mapping[str, Any] = ...,
        /,
    ) -> MetricsForeignFamily: ...
    @overload
    def new(
        self,
        c_type: Literal["MetricsForeignSample *"],
        init: Mapping[str, Any] = ...,
        /,
    ) -> MetricsForeignSample: ...
    @overload
    def new(
        self,
        c_type: Literal["MetricsServeOptions *"],
        init: Mapping[str, Any] = ...,
        /,
    ) -> MetricsServeOptions: ...
    @overload
    def new(
        self,
        c_type: Literal["BackendStatistics *"],
        init: Mapping[str, Any] = ...,
        /,
    ) -> BackendStatistics: ...
    @overload
    def new(self, c_type: Literal["char **"], /) -> Pointer[Pointer[bytes]]: ...
    @overload
    def new(self, c_type: Literal["char[]"], init: bytes, /) -> Pointer[bytes]: ...
    @overload
    def new(
        self,
        c_type: Literal["char *[]"],
        init: Sequence[Pointer[bytes]],
        /,
    ) -> Pointer[Pointer[bytes]]: ...
    @overload
    def new(self, c_type: Literal["double *"], init: float = ..., /) -> Pointer[float]: ...
    @overload
    def new(self, c_type: Literal["double[]"], init: Sequence[float] | int, /) -> Pointer[float]: ...
    @overload
    def new(self, c_type: Literal["int32_t *"], init: int = ..., /) -> Pointer[int]: ...
    @overload
    def new(self, c_type: Literal["int32_t[]"], init: Sequence[int] | int, /) -> Pointer[int]: ...
    @overload
    def new(self, c_type: Literal["size_t *"], init: int = ..., /) -> Pointer[int]: ...
    @overload
    def new(self, c_type: Literal["size_t[]"], init: Sequence[int] | int, /) -> Pointer[int]: ...
    @overload
    def cast(self, c_type: Literal["Backend *"], address: int, /) -> Backend: ...
    @overload
    def cast(self, c_type: Literal["BackendError *"], address: int, /) -> BackendError: ...
    @overload
    def cast(self, c_type: Literal["Metric *"], address: int, /) -> Metric: ...
    @overload
    def cast(self, c_type: Literal["MetricFamily *"], address: int, /) -> MetricFamily: ...
    @overload
    def cast(self, c_type: Literal["MetricsForeign *"], address: int, /) -> MetricsForeign: ...
    @overload
    def cast(self, c_type: Literal["MetricsServer *"], address: int, /) -> MetricsServer: ...
    @overload
    def cast(self, c_type: Literal["MetricsSnapshot *"], address: int, /) -> MetricsSnapshot: ...
    @overload
    def cast(self, c_type: Literal["MetricsText *"], address: int, /) -> MetricsText: ...
    @overload
    def cast(self, c_type: Literal["uintptr_t"], pointer: object, /) -> SupportsInt: ...
    def sizeof(self, struct: Literal[
        "MetricFamilyOptions",
        "MetricsRenderOptions",
        "MetricsSeries",
        "MetricsExemplar",
        "MetricsSnapshotFamily",
        "MetricsForeignFamily",
        "MetricsForeignSample",
        "MetricsServeOptions",
        "BackendStatistics",
    ], /) -> int: ...
    def gc(self, handle: _T, destructor: Callable[[_T], None]) -> _T: ...
    def release(self, handle: object) -> None: ...
    def string(self, text: Pointer[bytes]) -> bytes: ...
    def unpack(self, values: Pointer[_T], length: int) -> list[_T]: ...
    def buffer(self, data: Pointer[bytes], size: int) -> Buffer: ...

ffi: FFI
lib: Lib
