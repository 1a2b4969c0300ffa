"""The backend classes that pytheus loads: where the value of a metric lives.

pytheus makes one object for a counter or gauge, and for a histogram or summary one each for the sum, the
count and every bucket. All objects of one metric are views of one native metric. An observation reaches the
engine once, through the sum; the engine derives the count and the buckets, so adding to those does nothing.

A program has a view or more for each label set and rarely looks at one, so a view holds no more than it needs
to be found. The rest is worked out at first use.
"""

from __future__ import annotations

import functools
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pytheus_backend_rs import _config, _logging
from pytheus_backend_rs._engine import Engine, Family, Statistics, find_loaded_engine_by, metric_of
from pytheus_backend_rs._errors import ConflictError, ErrorSlot, exception_class
from pytheus_backend_rs._exporter import running_servers
from pytheus_backend_rs._labels import labels_json
from pytheus_backend_rs._native import ffi, lib
from pytheus_backend_rs.pytheus import custom, internals, native_methods

if TYPE_CHECKING:
    from pytheus.metrics import Sample, _Metric, _MetricCollector
    from pytheus.registry import Collector, Registry


class _Loaded(NamedTuple):
    """What `load_backend` has loaded."""

    config: Mapping[str, Any]
    engine: Engine


#: The locks of `_opening`, by process.
_locks: dict[int, threading.RLock] = {}


def _opening() -> threading.RLock:
    """Returns the lock to hold while an engine is opened or loaded.

    It belongs to one process: a thread that does not exist in a forked child may have held its parent's. It
    is reentrant, because the garbage collector may run a `__del__` there that makes a metric.
    """
    return _locks.setdefault(os.getpid(), threading.RLock())


class _Calls(NamedTuple):
    """The native metric of a view, and what changes it."""

    handle: Any
    add: Callable[..., int]
    subtract: Callable[..., int]
    replace: Callable[..., int]


class Backend:
    """The part that all classes share: a view of one native metric."""

    #: Whether the values are shared with other processes, so that reading them may wait.
    _IS_SHARED: ClassVar[bool] = False
    #: The store, as in the scheme of its URL.
    _STORE: ClassVar[str] = "memory"
    #: What `load_backend` loaded last. One attribute, so that other threads see engine and configuration
    #: change together.
    _loaded: ClassVar[_Loaded | None] = None
    #: The open engines of the class, by their options.
    _opened: ClassVar[weakref.WeakValueDictionary[tuple[Any, ...], Engine]]
    #: The family in the engine.
    _family: Family
    #: The object that frees the native metric.
    _owner: Any
    #: What the hot methods call: see `_choose_calls`. None until one is called.
    _calls: _Calls | None = None
    #: The part of a histogram or summary.
    histogram_bucket: str | None = None

    def __init_subclass__(cls) -> None:
        # Each class of this package has its engines to itself. A program's subclass uses those of its base.
        if cls.__module__ == __name__:
            cls._opened = weakref.WeakValueDictionary()

    def __init__(
        self, config: Mapping[str, Any], metric: _Metric, histogram_bucket: str | None = None
    ) -> None:
        """Makes the value of `metric`, or of one part of a histogram or summary.

        `histogram_bucket` names the part: "sum", "count", or the upper bound of a bucket.
        """
        collector = internals.collector_of(metric)
        self.config = config
        self.metric = metric
        self.histogram_bucket = histogram_bucket
        engine = self._engine_for(config, metric)
        total = internals.value_of(metric)
        if type(total) is type(self) and total._family.engine is engine:
            # pytheus makes the sum first, then the other parts: all are views of its native metric.
            self._family, self._owner = total._family, total._owner
        else:
            self._find_metric(engine)
            self._tell_loaded_engine(engine, collector)
        # Tells whether there is such a part.
        _reading(self._family.definition.type_, histogram_bucket, engine.is_shared)
        is_called = histogram_bucket in (None, "sum")
        if is_called and _config.native_methods(config) and self._is_plain():
            native_methods.install(self)

    def _find_metric(self, engine: Engine) -> None:
        collector = internals.collector_of(self.metric)
        labels = internals.labels_of(self.metric)
        self._family = family_in(engine, collector)
        missing = [label for label in self._family.label_names if label not in labels]
        if missing:
            raise ValueError(f"metric {collector.name!r} has no value for the labels {', '.join(missing)}")
        self._owner = self._family.metric(labels)

    @property
    def key_name(self) -> str:
        """The name of the metric, with the part of a histogram or summary."""
        name = internals.collector_of(self.metric).name
        return name if self.histogram_bucket is None else f"{name}:{self.histogram_bucket}"

    @property
    def labels_hash(self) -> str | None:
        """The labels as JSON; None without labels."""
        labels = internals.labels_of(self.metric)
        return labels_json(labels) if labels else None

    @staticmethod
    def _tell_loaded_engine(engine: Engine, collector: _MetricCollector[Any]) -> None:
        """Tells the engine that is scraped if a metric of its family counts in another one."""
        loaded = loaded_engine()
        family = None if loaded is None or loaded is engine else loaded.known_family(collector)
        if family is not None:
            family.changes += 1

    def __del__(self) -> None:
        # The metric may have another backend object now, if it is not gone as well.
        family = getattr(self, "_family", None)
        if family is not None and self.histogram_bucket in (None, "sum"):
            family.changes += 1

    def inc(self, value: float) -> None:
        """Adds `value`; for the sum of a histogram or summary, observes it."""
        calls = self._calls or self._choose_calls()
        try:
            status = calls.add(calls.handle, value)
        except (TypeError, OverflowError) as error:
            raise self._no_number("inc", value, error) from None
        if status:
            self._refuse(status, "inc", value)
        _logging.deliver()

    def dec(self, value: float) -> None:
        """Subtracts `value` from a gauge."""
        calls = self._calls or self._choose_calls()
        try:
            status = calls.subtract(calls.handle, value)
        except (TypeError, OverflowError) as error:
            raise self._no_number("dec", value, error) from None
        if status:
            self._refuse(status, "dec", value)
        _logging.deliver()

    def set(self, value: float) -> None:
        """Sets a gauge to `value`."""
        calls = self._calls or self._choose_calls()
        try:
            status = calls.replace(calls.handle, value)
        except (TypeError, OverflowError) as error:
            raise self._no_number("set", value, error) from None
        if status:
            self._refuse(status, "set", value)
        _logging.deliver()

    def get(self) -> float:
        """Returns the value in the store, after sending what this process has pending. It may wait for a
        server."""
        family = self._family
        read, part = _reading(family.definition.type_, self.histogram_bucket, family.engine.is_shared)
        value = ffi.new("double *")
        error = ErrorSlot()
        error.check(read(metric_of(self._owner), *part, value, error.pointer))
        _logging.deliver()
        result: float = value[0]
        return result

    @property
    def _value(self) -> float:
        return self.get()

    @classmethod
    def statistics(cls) -> Statistics:
        """Returns what this backend has sent and served in this process, since `load_backend` loaded it
        last."""
        return cls._engine().statistics()

    @classmethod
    def flush(cls, timeout: float = 10.0) -> None:
        """Sends what this process has counted, and waits until the store has it, for at most `timeout`
        seconds.

        Raises `UnavailableError` or `BackendTimeoutError`; nothing is lost then. Only a server has to be
        waited for: a file and memory have every change at once.
        """
        cls._engine().flush(timeout)

    @classmethod
    def close(cls) -> None:
        """Sends what this process has counted, for at most the option `shutdown_timeout`, and ends the
        threads of the store.

        Operations on the metrics of a closed backend are discarded. `load_backend` opens the store anew.
        """
        for engine in list(cls._base()._opened.values()):
            engine.close()

    @classmethod
    def _engine(cls) -> Engine:
        """Returns the engine that `load_backend` loaded last."""
        loaded = cls._base()._loaded
        if loaded is None:
            raise RuntimeError(f"{cls.__name__} is not loaded: call load_backend first")
        return loaded.engine

    @classmethod
    def _initialize(cls, config: Mapping[str, Any]) -> None:
        """pytheus' hook: `load_backend` was called with this configuration."""
        internals.warn_if_untested()
        base = cls._base()
        try:
            with _opening():
                # The same store is not opened twice: metrics that exist would be cut off from one that is
                # reset.
                engine = (base._find(config) if cls._IS_SHARED else None) or cls._open(config)
                cls._tell_options(engine, config)
                base._loaded = _Loaded(config, engine)
            # Metrics may have been made with another class since this engine was loaded before.
            for family in engine.families():
                family.changes += 1
            base._announce()
            _warn_of_left_behind(engine)
        finally:
            _logging.deliver()

    @classmethod
    def _announce(cls) -> None:
        """Logs that the backend is loaded."""

    @classmethod
    def _generate_samples(cls, registry: Registry) -> Mapping[Collector, list[Sample]]:
        """pytheus' hook: returns the samples of a registry's collectors, in pytheus' own order.

        pytheus would walk over metrics that other threads are still constructing, and raise.
        """
        # Imported here, because a scrape needs the classes.
        from pytheus_backend_rs.pytheus import scrape

        return scrape.samples_in_memory(registry)

    @classmethod
    def _url(cls, config: Mapping[str, Any]) -> str:
        raise NotImplementedError

    @classmethod
    def _open(cls, config: Mapping[str, Any]) -> Engine:
        """Opens an engine. The caller holds the lock, so that two threads do not open one store."""
        # Records are not delivered here: pytheus may be constructing a metric, which a log handler could not
        # render.
        _logging.start()
        _config.refuse_misspelled(config, cls._STORE)
        engine = Engine(cls._url(_config.engine_options(config)), cls._IS_SHARED)
        cls._tell_options(engine, config)
        cls._base()._opened[_fingerprint(config)] = engine
        return engine

    @staticmethod
    def _tell_options(engine: Engine, config: Mapping[str, Any]) -> None:
        """Tells an engine what it is to declare for pytheus' metrics."""
        engine.is_native = _config.native_histograms(config)
        engine.keeps_exemplars = _config.exemplars(config)
        engine.gauge_modes = _config.gauge_modes(config)
        engine.metric_ttls = _config.metric_ttls(config)

    @classmethod
    def _find(cls, config: Mapping[str, Any]) -> Engine | None:
        """Returns the open engine for a configuration."""
        engine = cls._base()._opened.get(_fingerprint(config))
        return None if engine is None or engine.is_closed else engine

    @classmethod
    def _engine_for(cls, config: Mapping[str, Any], metric: _Metric) -> Engine:
        """Returns the engine for a configuration, and opens it if `load_backend` was not called with it."""
        loaded = cls._base()._loaded
        if loaded is not None and config is loaded.config:
            return loaded.engine
        with _opening():
            return cls._find(config) or cls._open(config)

    @classmethod
    def _base(cls) -> type[Backend]:
        return next(base for base in cls.__mro__ if base.__module__ == __name__)

    @classmethod
    def _view(cls, config: Mapping[str, Any], metric: _Metric, part: str | None, family: Family) -> Any:
        """Returns what the constructor makes, for a metric of this family; it has no owner yet."""
        view = cls.__new__(cls)
        view.config = config
        view.metric = metric
        if part is not None:
            view.histogram_bucket = part
        view._family = family
        return view

    def _sibling(self, part: str) -> Any:
        """Returns the view of another part of the same histogram or summary."""
        view = self._view(self.config, self.metric, part, self._family)
        view._owner = self._owner
        return view

    @classmethod
    def _is_plain(cls) -> bool:
        """Tells whether a program's subclass has left the hot methods alone, so native ones may replace
        them."""
        return all(getattr(cls, name) is getattr(Backend, name) for name in ("inc", "dec", "set"))

    def _choose_calls(self) -> _Calls:
        """Binds the native calls of this view, so that the hot methods have nothing to decide."""
        add: Callable[..., int] = lib.metric_inc
        if self._family.definition.type_ in internals.OBSERVED_TYPES:
            add = lib.metric_observe if self.histogram_bucket == "sum" else _do_nothing
        self._calls = _Calls(metric_of(self._owner), add, lib.metric_dec, lib.metric_set)
        return self._calls

    def _no_number(self, operation: str, value: Any, error: Exception) -> Exception:
        what = self._called(operation)
        if isinstance(error, OverflowError):
            return OverflowError(f"{what}: the amount is too large for a double")
        return TypeError(f"{what}({value!r}): expected a number, not {type(value).__name__}")

    def _called(self, operation: str) -> str:
        """Returns the name of the method that the program has called for an operation of this view."""
        return "observe" if self.histogram_bucket == "sum" else operation

    def _refuse(self, status: int, operation: str, value: float) -> None:
        what = f"{self._called(operation)}({value!r}) on {self.metric.type_} {self.key_name!r}"
        if status == lib.BACKEND_STATUS_INVALID_ARGUMENT:
            raise exception_class(status)(f"{what}: expected an amount >= 0")
        raise exception_class(status)(f"{what}: this type has no such operation")


def loaded_engine() -> Engine | None:
    """Returns the engine that pytheus' `load_backend` loaded; None if its class is not one of this
    package."""
    loaded = internals.loaded_class()
    if not (isinstance(loaded, type) and issubclass(loaded, Backend)):
        return None
    found = loaded._base()._loaded
    return None if found is None else found.engine


find_loaded_engine_by(loaded_engine)


class SingleProcessBackend(Backend):
    """Values in this process, changed by compare-and-swap, as in `SingleProcessAtomicBackend`."""

    @classmethod
    def _url(cls, config: Mapping[str, Any]) -> str:
        return _config.with_options("memory:?cell=mutex", config)


class SingleProcessAtomicBackend(Backend):
    """Values in this process, changed by compare-and-swap."""

    @classmethod
    def _url(cls, config: Mapping[str, Any]) -> str:
        return _config.with_options("memory:", config)


class _SharedBackend(Backend):
    """The part that `RedisBackend` and `SharedMemoryBackend` share: values of several processes."""

    _IS_SHARED = True

    @classmethod
    def _engine_for(cls, config: Mapping[str, Any], metric: _Metric) -> Engine:
        engine = super()._engine_for(config, metric)
        collector = internals.collector_of(metric)
        if not engine.knows(collector) and custom.is_collecting() and not internals.is_registered(collector):
            # A metric that a custom collector makes for one scrape is a value of this process, not a shared
            # one.
            return values_of_this_process()
        return engine

    @classmethod
    def _generate_samples(cls, registry: Registry) -> Mapping[Collector, list[Sample]]:
        """pytheus' hook: returns the samples of a registry's collectors, those of other processes
        included."""
        # Imported here, because a scrape needs the classes.
        from pytheus_backend_rs.pytheus import scrape

        try:
            return scrape.samples(cls._engine(), registry)
        finally:
            _logging.deliver()


class RedisBackend(_SharedBackend):
    """Values on a Redis or Valkey server, shared by all processes that use it.

    `inc`, `dec` and `set` never touch the network and never fail because of it: the engine gathers
    changes and sends them after `flush_interval_ms` to `max_flush_interval_ms`. `get` and a scrape
    first send what is pending.

    The place of the server is `host` (127.0.0.1) and `port` (6379), by TLS with `ssl` (False), or
    `unix_socket_path`, or `url`, or `sentinels`, a list of pairs of host and port, and
    `service_name`, the name of the master there. With `cluster` (False) it is a node of a cluster, or
    `startup_nodes` is a list of some. Options:

    - `db` (0): the number of the logical database, unless the path of the URL gives it
    - `username`: the user to log in as, unless the URL gives it before the host
    - `password`: the password to log in with, unless the URL gives it before the host
    - `sentinel_username`: with redis-sentinel://: the user to log in as at the Sentinels
    - `sentinel_password`: with redis-sentinel://: the password to log in with at the Sentinels
    - `sentinel_ssl`: with redis-sentinel://: whether the Sentinels speak TLS, unless they do if the
      servers do
    - `client_name`: the name of the connections in CLIENT LIST, instead of program:host:pid
    - `key_prefix`: text that precedes the name of each key, followed by a dash
    - `expire_key_time` (3600): how many seconds after its last write or scrape a key expires, or
      never (or 0) to keep all keys
    - `flush_interval_ms` (5): how many milliseconds changes are gathered before they are sent, while
      there are few
    - `max_flush_interval_ms` (250): how many milliseconds changes are gathered at most, by a process
      that always has some to send; no effect below flush_interval_ms
    - `connect_timeout` or `socket_connect_timeout` (5): how many seconds connecting may take,
      from the look-up of the host to the login
    - `socket_timeout` (5): how many seconds the server may take to answer
    - `collect_timeout` (10): how many seconds a scrape may take altogether
    - `shutdown_timeout` (2): how many seconds the end of the process may take to send what is
      pending
    - `pipeline_threads` (4): how many threads serve scrapes, each with a connection while it reads
    - `replicas` (auto): how many replicas must have a batch before the process forgets it, or auto
      for as many as the server has; 0 for none
    - `read_from_replicas` (False): whether scrapes read values from a replica, if one has all that
      the master has
    - `replay_log_mb` (16): how many megabytes of memory may hold batches that the server has
      confirmed and could still lose; 0 for none
    - `required` (True): whether a server that cannot be reached is an error when the store is
      opened (true), or is connected to as soon as it can be (false)
    - `read_only` (False): for a program that only reads: do not check that the server takes
      what counting needs
    - `ssl_ca_certs`: with rediss://: a file of PEM certificates to trust instead of those of the
      system
    - `ssl_ca_data`: with rediss://: PEM certificates to trust instead of those of the system, as
      text
    - `ssl_pinned_certfile`: with rediss://: a file of PEM certificates, one of which the server must
      show; neither its issuer nor its dates are verified
    - `ssl_certfile`: with rediss://: the PEM certificate to show to the server
    - `ssl_keyfile`: with rediss://: the PEM private key of that certificate, unless it is in the
      same file
    - `ssl_cert_reqs` (required): with rediss://: whether the certificate of the server is verified
    - `ssl_check_hostname` (True): with rediss://: whether the certificate must be for the name of
      the host
    - `tls_server_name`: with rediss://: the name that the certificate must have, instead of that of
      the host
    - `socket_keepalive` (False): whether TCP keep-alive is on
    - `self_metrics` (False): show the statistics of the backend as metrics of the backend, too
    - `series_ttl`: end a series when no process has used it for so many seconds, unless its family says
      otherwise
    - `native_methods` (True): make `inc`, `dec`, `set`, `observe` and `labels` native on each metric
    - `native_histograms` (False): whether histograms get native buckets beside those of pytheus; or a
      list of their names
    - `exemplars` (False): whether counters and histograms keep exemplars; or a list of their names
    - `gauge_modes`: the gauges of which every process has its own value: a dict of their names and modes
      (not in Redis)
    - `metric_ttls`: the metrics whose series end, and after how many seconds: a dict
    """

    _STORE = "redis"

    @classmethod
    def _url(cls, config: Mapping[str, Any]) -> str:
        return _config.redis_url(config)

    @classmethod
    def _announce(cls) -> None:
        """Logs the lines of pytheus-backend-rs 0.0.9, which users look for."""
        for index in range(_config.pipeline_threads(cls._engine().url)):
            _logging.logger.info("Starting pipeline thread....%d", index)
        _logging.logger.info("Starting BackendAction thread....")
        _logging.logger.info("RedisBackend initialized")


class SharedMemoryBackend(_SharedBackend):
    """Values in a file that all processes of a service on this machine have mapped: no server to run.

    An `inc` changes the value in place, visible to all at once: nothing has to be sent, and a process that
    is killed has lost nothing.

    `path` is the file, or `url` names it. Without one, all processes that descend from one program by fork or
    by `multiprocessing` find one file by themselves. Options:

    - `size_limit` (67108864): how large a new file may grow
    - `start` (continue): continue with what the file holds, reset it to an empty one, or attach to
      a file that others have made and only read it
    - `mode` (0600): the permissions of a new file, in octal
    - `parent`: without a path: an ancestor of this process that belongs to the same service, though
      it has started this process by exec
    - `required`: with start=attach: whether a file that cannot be read is an error when the store
      is opened (true), or an error of each scrape until the file is there (false)
    - `self_metrics` (False): show the statistics of the backend as metrics of the backend, too
    - `series_ttl`: end a series when no process has used it for so many seconds, unless its family says
      otherwise
    - `native_methods` (True): as for `RedisBackend`
    - `native_histograms` (False): as for `RedisBackend`
    - `exemplars` (False): as for `RedisBackend`
    - `gauge_modes`: the gauges of which every process has its own value: a dict of their names and modes
    - `metric_ttls`: the metrics whose series end, and after how many seconds: a dict
    """

    _STORE = "shm"

    @classmethod
    def _url(cls, config: Mapping[str, Any]) -> str:
        return _config.shared_memory_url(config)


@functools.cache
def values_of_this_process() -> Engine:
    """Returns the engine of values that are not shared: those of one scrape, and those that no store
    takes."""
    return Engine("memory:", is_shared=False)


def family_in(engine: Engine, collector: _MetricCollector[Any]) -> Family:
    """Returns the family of a collector in an engine, or in this process if the name has another type
    there."""
    definition = internals.definition_of(collector, engine)
    is_known = engine.has_refused(collector)
    try:
        return engine.family(collector, definition)
    except ConflictError as error:
        # pytheus allows this, so the import of a program must not fail.
        if not is_known:
            _logging.logger.error("metric %r counts in this process alone: %s", definition.name, error)
        return values_of_this_process().family(collector, definition)


def _warn_of_left_behind(engine: Engine) -> None:
    """Logs what still uses another store after `load_backend`: pytheus does not move it."""
    if not engine.is_shared:
        return
    elsewhere = [
        collector.name
        for collector in internals.collectors_of(internals.default_registry())
        if internals.is_metric_collector(collector) and not _is_in(engine, collector)
    ]
    if elsewhere:
        _logging.logger.warning(
            "these metrics were made before load_backend and keep counting where they were made: %s; make "
            "metrics after load_backend",
            ", ".join(sorted(elsewhere)),
        )
    for server in running_servers():
        if server.engine is not engine:
            _logging.logger.warning("%s still serves the store that was loaded before", server.url)


def _is_in(engine: Engine, collector: _MetricCollector[Any]) -> bool:
    """Tells whether all metrics of a collector count in the engine's store."""
    views = [internals.value_of(metric) for metric in internals.observable_metrics(collector)]
    return all(
        isinstance(view, Backend) and view._family.engine.store == engine.store
        for view in views
        if view is not None
    )


@functools.lru_cache(maxsize=1024)
def _reading(type_: str, part: str | None, is_shared: bool) -> tuple[Callable[..., int], tuple[float, ...]]:
    """Returns the native call that reads a part of a metric, and the bound of the bucket if it is one."""
    bound: tuple[float, ...] = ()
    name = "metric_get"
    if type_ in internals.OBSERVED_TYPES:
        if part in ("sum", "count"):
            name = f"metric_get_{part}"
        else:
            name, bound = "metric_get_bucket", (_bound(part),)
    return getattr(lib, "released_" + name if is_shared else name), bound


def _bound(part: str | None) -> float:
    try:
        return float(part or "")
    except ValueError:
        raise ValueError(f"histogram_bucket is {part!r}: expected 'sum', 'count' or a number") from None


def _fingerprint(config: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(sorted((name, repr(value)) for name, value in _config.engine_options(config).items()))


def _do_nothing(_handle: Any, _value: float) -> int:
    return 0
