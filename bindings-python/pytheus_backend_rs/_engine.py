"""The engine as Python objects: an open store and the metric families that are declared in it.

Opening, declaring, reading and rendering go through here. Adapters for client libraries make the hot calls
themselves.
"""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pytheus_backend_rs._callables import callables
from pytheus_backend_rs._errors import BackendError, ConflictError, ErrorSlot
from pytheus_backend_rs._native import ffi, lib
from pytheus_backend_rs._text import c_text, header_text

if TYPE_CHECKING:
    from pytheus_backend_rs._foreign import ForeignFamilies

#: The metric types by name.
TYPES = {
    "counter": lib.METRIC_TYPE_COUNTER,
    "gauge": lib.METRIC_TYPE_GAUGE,
    "histogram": lib.METRIC_TYPE_HISTOGRAM,
    "summary": lib.METRIC_TYPE_SUMMARY,
    "untyped": lib.METRIC_TYPE_UNTYPED,
    "info": lib.METRIC_TYPE_INFO,
    "stateset": lib.METRIC_TYPE_STATE_SET,
    "gaugehistogram": lib.METRIC_TYPE_GAUGE_HISTOGRAM,
}

#: How the processes' values of a gauge are merged, by the names that prometheus_client uses.
GAUGE_MODES = {
    "all": lib.METRIC_GAUGE_MODE_ALL,
    "liveall": lib.METRIC_GAUGE_MODE_LIVE_ALL,
    "min": lib.METRIC_GAUGE_MODE_MIN,
    "livemin": lib.METRIC_GAUGE_MODE_LIVE_MIN,
    "max": lib.METRIC_GAUGE_MODE_MAX,
    "livemax": lib.METRIC_GAUGE_MODE_LIVE_MAX,
    "sum": lib.METRIC_GAUGE_MODE_SUM,
    "livesum": lib.METRIC_GAUGE_MODE_LIVE_SUM,
    "mostrecent": lib.METRIC_GAUGE_MODE_MOST_RECENT,
    "livemostrecent": lib.METRIC_GAUGE_MODE_LIVE_MOST_RECENT,
}

#: References to all engines of this process, by identity. A dict, because a walk over a copy of its values is
#: atomic while other threads open engines; a WeakSet raises then.
_engines: dict[int, weakref.ref[Engine]] = {}


#: The functions that return the engines which client libraries have loaded: see `find_loaded_engine_by`.
_finders: list[Callable[[], Engine | None]] = []


def find_loaded_engine_by(find: Callable[[], Engine | None]) -> None:
    """Names the function of an adapter that returns the engine that its client library has loaded."""
    _finders.append(find)


def loaded_engine() -> Engine | None:
    """Returns the engine that the program has loaded; None without one. If it has loaded engines for several
    client libraries, that is the one of the adapter that was imported first: pytheus'."""
    return next((engine for find in _finders if (engine := find()) is not None), None)


def open_engines() -> list[Engine]:
    """Returns all engines of this process."""
    return [engine for reference in list(_engines.values()) if (engine := reference()) is not None]


def flush(timeout: float = 10.0) -> None:
    """Sends what this process has counted, and waits until every store has it, for at most `timeout` seconds.

    Raises `UnavailableError` or `BackendTimeoutError` if a store could not be reached; nothing is lost then.
    """
    give_up_at = time.monotonic() + timeout
    failure: BackendError | None = None
    for engine in open_engines():
        if not engine.is_closed:
            try:
                engine.flush(max(give_up_at - time.monotonic(), 0.0))
            except BackendError as error:
                # The other stores may be well.
                failure = failure or error
    if failure is not None:
        raise failure


def close() -> None:
    """Sends what this process has counted, and closes every store of this process, all at the same time.

    Changes that could not be sent within the option `shutdown_timeout` are logged. Operations on metrics are
    discarded from then on. A process that ends normally does this by itself.
    """
    for engine in open_engines():
        engine.is_closed = True
    lib.released_backend_close_all()


class Native(NamedTuple):
    """The native buckets of a histogram: see `metrics.Histogram`."""

    #: Whether the histogram has its classic buckets too.
    has_bounds: bool
    #: How many buckets there are from each power of two to the next.
    resolution: int
    #: How many buckets a series has room for.
    size: int


#: The native buckets of a histogram that says no more, beside its classic ones.
NATIVE = Native(True, 8, 384)


class Definition(NamedTuple):
    """What a client library declares about a metric family. `type_` is "counter", "gauge", …"""

    name: str
    help: str
    type_: str
    #: Sorted.
    label_names: tuple[str, ...]
    #: The upper bounds of a histogram's buckets.
    bounds: tuple[float, ...]
    unit: str | None = None
    #: The states of a state set.
    states: tuple[str, ...] = ()
    #: Whether the names may be any text.
    utf8: bool = False
    #: None: a histogram has classic buckets alone.
    native: Native | None = None
    #: How the processes' values of a gauge are merged, a key of `GAUGE_MODES`; None: they share one value.
    gauge_mode: str | None = None
    #: After how many seconds without use a series ends, infinity: never. 0: what the store's option says.
    series_ttl: float = 0.0
    #: Whether a counter or histogram keeps exemplars.
    exemplars: bool = False


class Series(NamedTuple):
    """The values of one metric, as the engine read them.

    `labels` is its labels JSON. `values`: the value of a counter or gauge; count and sum of a summary;
    cumulative buckets, count and sum of a histogram.
    """

    family_index: int
    labels: str
    values: list[float]


class Statistics(NamedTuple):
    """What an engine has done in this process so far. A forked child begins at zero.

    Stores that send nothing (in memory, in shared memory) have only scrapes and scrape errors.
    """

    #: Batches that the server has confirmed.
    batches_sent: int
    #: How often a batch was sent again because its answer was lost.
    batches_resent: int
    #: How often the server refused a batch. It is kept, and tried again.
    batches_refused: int
    #: Operations in the batches that the server has confirmed.
    operations_sent: int
    #: Metrics with changes that the server has not confirmed.
    metrics_pending: int
    #: Metrics that the store could not take yet. They count in this process, and the log says why.
    metrics_held_back: int
    #: Scrapes, those that failed included.
    scrapes: int
    #: Scrapes that failed.
    scrape_errors: int
    #: When the server last confirmed what was sent, in seconds since 1970; 0 if it never has.
    last_flush_timestamp: float
    #: Confirmed batches that were sent again because the server had lost them.
    batches_replayed: int
    #: How often the server lost confirmed changes of a family that could not be sent again.
    losses: int


class Rendered(NamedTuple):
    """A rendered scrape. The body is text, or binary if the content type is that of protobuf."""

    content_type: str
    body: bytes


class Engine:
    """An open store."""

    def __init__(self, url: str, is_shared: bool) -> None:
        """Opens the store that `url` names. `is_shared`: with other processes."""
        handle = ffi.new("Backend **")
        error = ErrorSlot()
        error.check(lib.released_backend_new(url.encode(), handle, error.pointer))
        self._handle: Any = handle[0]
        self._owner = callables.own_backend(address(self._handle))
        self.url = url
        self._families: weakref.WeakKeyDictionary[Any, Family] = weakref.WeakKeyDictionary()
        #: The owners whose definitions conflict with another one. They stay refused, so that all metrics of
        #: one owner count in one place.
        self._conflicts: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        #: Every definition that was accepted. A dict, because a set has no atomic copy.
        self._definitions: dict[Definition, None] = {}
        #: The families that stay until the engine closes, by name.
        self._lasting: dict[str, LastingFamily] = {}
        self.is_shared = is_shared
        #: Which histograms of the client library get native buckets: a test of the name.
        self.is_native: Callable[[str], bool] = lambda _: False
        #: The modes of the client library's gauges, by their names.
        self.gauge_modes: Mapping[str, str] = {}
        #: After how many seconds without use series of the client library end, by the names of their metrics.
        self.metric_ttls: Mapping[str, float] = {}
        #: Which counters and histograms of the client library keep exemplars: a test of the name.
        self.keeps_exemplars: Callable[[str], bool] = lambda _: False
        self.is_closed = False
        key = id(self)
        _engines[key] = weakref.ref(self, lambda _: _engines.pop(key, None))

    @property
    def store(self) -> object:
        """Equal for engines that are known to have the same values. A file may have been replaced, since it
        was opened, by another one of its name, and values in memory are each engine's own."""
        return self if self.url.startswith(("shm:", "memory:")) else self.url

    def family(self, owner: object, definition: Definition) -> Family:
        """Returns the metric family of an object of the client library, and declares it at first use.

        Raises `ConflictError` if the name has another type or other buckets in the store.
        """
        family = self.known_family(owner)
        if family is None:
            conflict = self._conflicts.get(owner)
            if conflict is not None:
                raise ConflictError(conflict)
            # Declaring releases the GIL, so several threads may get here: all of them take the first one's
            # family.
            family = self._families.setdefault(owner, self._declare(owner, definition))
            self._definitions[definition] = None
        return family

    def declare(self, definition: Definition) -> Family:
        """Declares a family that stays until the engine closes, whatever becomes of the result. The same
        definition gives the same family.

        Raises `InvalidArgumentError`, or `ConflictError` if the name has another definition.
        """
        family = Family(self, definition, lib.METRIC_LIFETIME_BACKEND)
        self._lasting.setdefault(definition.name, LastingFamily(family.handle, family._owner))
        return family

    def process_metrics(self, prefix: str) -> None:
        """Shows what the system says about the processes of the service, or updates what it says about this
        one."""
        error = ErrorSlot()
        error.check(lib.released_backend_process_metrics(self._handle, c_text(prefix), error.pointer))

    def refresh_process_metrics(self) -> None:
        """Updates what the system says about this process. It keeps the GIL, and logs nothing."""
        lib.backend_process_metrics(self._handle, ffi.NULL, ffi.NULL)

    def lasting_families(self) -> list[LastingFamily]:
        """Returns the families of `declare`."""
        return list(self._lasting.values())

    def has_refused(self, owner: object) -> bool:
        """Tells whether the definition of this object conflicts with another one."""
        return owner in self._conflicts

    def owners(self) -> list[Any]:
        """Returns the objects for which families have been declared."""
        return [owner for reference in self._families.keyrefs() if (owner := reference()) is not None]

    def families(self) -> list[Family]:
        """Returns the families of all objects that are still in use."""
        return [family for owner in self.owners() if (family := self._families.get(owner)) is not None]

    def known_family(self, owner: object) -> Family | None:
        """Returns the family that has been declared for this object."""
        return self._families.get(owner)

    def clear(self) -> None:
        """Removes all series of the families that were ever declared here, those of other processes too."""
        families = self.families()
        if self.is_shared:
            # Also those whose objects are gone: the store has their series by name.
            families += [Family(self, definition) for definition in list(self._definitions)]
        for family in families:
            family.clear()
        for lasting in self.lasting_families():
            error = ErrorSlot()
            error.check(lib.released_metric_family_clear(lasting.handle, error.pointer))

    def knows(self, owner: object) -> bool:
        """Tells whether a family has been declared for this object."""
        return owner in self._families

    def read(self, families: Sequence[Family]) -> Iterator[Series]:
        """Reads families in one go; without the GIL while it waits."""
        snapshot = ffi.new("MetricsSnapshot **")
        pointers = ffi.new("MetricFamily *[]", [family.handle for family in families])
        error = ErrorSlot()
        status = lib.released_metrics_snapshot_new(
            self._handle, pointers, len(families), snapshot, error.pointer
        )
        error.check(status)
        owner = ffi.gc(snapshot[0], lib.metrics_snapshot_free)
        series = ffi.new("MetricsSeries *")
        while lib.metrics_snapshot_next(owner, series) == lib.BACKEND_STATUS_OK:
            yield Series(
                series.family_index,
                ffi.string(series.labels).decode(),
                ffi.unpack(series.values, series.value_count),
            )

    def render(
        self,
        families: Sequence[Family | LastingFamily],
        foreign: ForeignFamilies,
        accept: str | None,
        query: bytes,
        name_prefix: str | None,
        include_others: bool,
        created_samples: bool,
    ) -> Rendered:
        """Renders families in the format that an `Accept` header asks for; without the GIL.

        Behind them, with `include_others`, come those families of the store that this process has not
        declared. If the query of a request has parameters `name[]`, they select some of all these families.
        With `created_samples`, OpenMetrics says when each counter, summary and histogram began.
        """
        text = self._render(families, foreign, accept, query, name_prefix, include_others, created_samples)
        content_type = ffi.string(lib.metrics_text_content_type(text)).decode()
        return Rendered(content_type, callables.take_text(address(text), False))

    def render_text(
        self,
        families: Sequence[Family | LastingFamily],
        foreign: ForeignFamilies,
        name_prefix: str | None,
        include_others: bool,
    ) -> str:
        """Renders families as Prometheus text 0.0.4. Otherwise it is like `render`."""
        text = self._render(families, foreign, None, b"", name_prefix, include_others, False)
        rendered: str = callables.take_text(address(text), True)
        return rendered

    def _render(
        self,
        families: Sequence[Family | LastingFamily],
        foreign: ForeignFamilies,
        accept: str | None,
        query: bytes,
        name_prefix: str | None,
        include_others: bool,
        created_samples: bool,
    ) -> Any:
        """Returns a MetricsText, which the caller gives to `take_text`."""
        # `options` only borrows: these must live until the call returns.
        pointers = ffi.new("MetricFamily *[]", [family.handle for family in families])
        options = ffi.new("MetricsRenderOptions *")
        options.size = ffi.sizeof("MetricsRenderOptions")
        header = ffi.NULL if accept is None else ffi.new("char[]", header_text(accept))
        prefix = ffi.NULL if name_prefix is None else ffi.new("char[]", name_prefix.encode())
        parameters = ffi.new("char[]", query)
        options.accept, options.name_prefix, options.query = header, prefix, parameters
        options.families, options.family_count = pointers, len(families)
        options.foreign = foreign.handle
        options.others = lib.METRICS_OTHERS_APPEND if include_others else lib.METRICS_OTHERS_NONE
        # Without an `Accept` header, the format is text 0.0.4.
        options.formats = lib.METRICS_FORMATS_ALL
        shown, hidden = lib.METRICS_CREATED_SAMPLES_SHOWN, lib.METRICS_CREATED_SAMPLES_HIDDEN
        options.created_samples = shown if created_samples else hidden
        text = ffi.new("MetricsText **")
        error = ErrorSlot()
        error.check(lib.released_metrics_render(self._handle, options, text, error.pointer))
        return text[0]

    def flush(self, timeout: float) -> None:
        """Sends what is pending, and waits for it."""
        error = ErrorSlot()
        error.check(lib.released_backend_flush(self._handle, timeout, error.pointer))

    def statistics(self) -> Statistics:
        """What this engine has done so far."""
        filled = ffi.new("BackendStatistics *")
        filled.size = ffi.sizeof("BackendStatistics")
        error = ErrorSlot()
        error.check(lib.released_backend_statistics(self._handle, filled, error.pointer))
        return Statistics(*(getattr(filled, field) for field in Statistics._fields))

    def close(self) -> None:
        """Sends what is pending, for at most `shutdown_timeout`, and ends the engine's threads."""
        self.is_closed = True
        error = ErrorSlot()
        error.check(lib.released_backend_close(self._handle, error.pointer))

    def __repr__(self) -> str:
        # Not the URL: it may hold a password.
        return f"<Engine {self.url.partition(':')[0]}>"

    def _declare(self, owner: object, definition: Definition) -> Family:
        try:
            return Family(self, definition)
        except ConflictError:
            # The family in the way may be uncollected garbage: client libraries have reference cycles.
            gc.collect()
        try:
            return Family(self, definition)
        except ConflictError as error:
            self._conflicts[owner] = str(error)
            raise


class LastingFamily(NamedTuple):
    """A family that an engine keeps: its handle, and what frees it. A `Family` would keep the engine open."""

    handle: Any
    owner: Any


class Family:
    """A metric family that is declared in an engine."""

    def __init__(
        self, engine: Engine, definition: Definition, lifetime: int = lib.METRIC_LIFETIME_HANDLE
    ) -> None:
        if definition.type_ == "info":
            # It has no metrics that could end with their handles.
            lifetime = lib.METRIC_LIFETIME_BACKEND
        # An engine closes when the last reference to it goes: a family must keep it open.
        self.engine = engine
        self.definition = definition
        self.label_names = definition.label_names
        #: Grows whenever a metric of the owner may have begun to count elsewhere. An adapter that finds all
        #: of them here remembers the number in `whole_at`, and need not look again until it grows.
        self.changes = 0
        self.whole_at: int | None = None
        #: The labels of metrics as an adapter shows them, by their JSON.
        self.labels_as_shown: dict[str, dict[str, str]] = {}
        options = ffi.new("MetricFamilyOptions *")
        # `options` only borrows: these must live until the call returns.
        name = ffi.new("char[]", definition.name.encode())
        help_text = ffi.new("char[]", c_text(definition.help))
        names = [ffi.new("char[]", label.encode()) for label in self.label_names]
        name_list = ffi.new("char *[]", names)
        options.size = ffi.sizeof("MetricFamilyOptions")
        options.name = name
        options.help = help_text
        options.metric_type = TYPES[definition.type_]
        options.lifetime = lifetime
        options.names = lib.METRIC_NAMES_UTF8 if definition.utf8 else lib.METRIC_NAMES_LEGACY
        unit = ffi.NULL if definition.unit is None else ffi.new("char[]", definition.unit.encode())
        states = [ffi.new("char[]", state.encode()) for state in definition.states]
        state_list = ffi.new("char *[]", states)
        options.unit, options.states, options.state_count = unit, state_list, len(states)
        options.label_names = name_list
        options.label_count = len(names)
        if options.metric_type in (lib.METRIC_TYPE_HISTOGRAM, lib.METRIC_TYPE_GAUGE_HISTOGRAM):
            bounds = ffi.new("double[]", definition.bounds)
            options.buckets = bounds
            options.bucket_count = len(bounds)
        native = definition.native
        if native is not None:
            options.native = lib.METRIC_NATIVE_BOTH if native.has_bounds else lib.METRIC_NATIVE_ALONE
            options.native_resolution, options.native_size = native.resolution, native.size
        if definition.gauge_mode is not None:
            options.gauge_mode = GAUGE_MODES[definition.gauge_mode]
        options.series_ttl = definition.series_ttl
        if definition.exemplars:
            options.exemplars = lib.METRIC_EXEMPLARS_KEPT
        handle = ffi.new("MetricFamily **")
        error = ErrorSlot()
        error.check(lib.released_metric_family_new(engine._handle, options, handle, error.pointer))
        self.handle: Any = handle[0]
        self.address = address(self.handle)
        self._owner = callables.own_family(self.address)

    def clear(self) -> None:
        """Removes all series of the family from the store. Metrics that exist count nothing any more."""
        error = ErrorSlot()
        error.check(lib.released_metric_family_clear(self.handle, error.pointer))

    def remove(self, labels: dict[str, str]) -> None:
        """Removes the series with these labels from the store. Raises `NotFoundError` if there is none."""
        values = [ffi.new("char[]", c_text(labels[name])) for name in self.label_names]
        error = ErrorSlot()
        status = lib.released_metric_remove(
            self.handle, ffi.new("char *[]", values), len(values), error.pointer
        )
        error.check(status)

    def set_info(self, labels: dict[str, str], info: Mapping[str, object]) -> None:
        """Sets the labels of an info, for these values of its declared labels."""
        values = [ffi.new("char[]", c_text(labels[name])) for name in self.label_names]
        names = [ffi.new("char[]", c_text(name)) for name in info]
        texts = [ffi.new("char[]", c_text(str(value))) for value in info.values()]
        error = ErrorSlot()
        status = lib.released_metric_family_set_info(
            self.handle,
            ffi.new("char *[]", values),
            len(values),
            ffi.new("char *[]", names),
            ffi.new("char *[]", texts),
            len(names),
            error.pointer,
        )
        error.check(status)

    def metric(self, labels: dict[str, str]) -> Any:
        """The owner of the native metric with these labels: see `metric_of`."""
        values = [ffi.new("char[]", c_text(labels[name])) for name in self.label_names]
        metric = ffi.new("Metric **")
        error = ErrorSlot()
        status = lib.released_metric_new(
            self.handle, ffi.new("char *[]", values), len(values), metric, error.pointer
        )
        error.check(status)
        return callables.own_metric(address(metric[0]))


def address(handle: Any) -> int:
    """The address of a native handle."""
    return int(ffi.cast("uintptr_t", handle))


def metric_of(owner: Any) -> Any:
    """The native metric that an object owns: what `Family.metric` returns, or the `__self__` of a callable of
    a child. It lives as long as the owner."""
    return ffi.cast("Metric *", callables.address_of(owner))


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Tells whether an `Accept-Encoding` header allows gzip."""
    header = ffi.NULL if accept_encoding is None else ffi.new("char[]", header_text(accept_encoding))
    return bool(lib.metrics_accepts_gzip(header))


def version() -> str:
    """The version of the engine."""
    text: str = ffi.string(lib.backend_version()).decode()
    return text
