"""Metrics that a program declares in the loaded store by itself, with what pytheus does not know: units,
names in any script, gauges of each process, native histograms, infos, state sets and gauge histograms.

    from pytheus.backends import load_backend
    from pytheus_backend_rs import SharedMemoryBackend
    from pytheus_backend_rs.metrics import Counter, Info

    load_backend(SharedMemoryBackend)
    Counter("sent_bytes_total", "Sent.", unit="bytes").inc(512)
    Info("build", "The running program.").info({"version": "1.2"})

All classes take a name, a help text and label names. `utf8=True` allows any text as a name; a scraper that
does not ask for such names gets them escaped. `unit` is the end of the name. A mistake in a declaration is an
`InvalidArgumentError`, and a name that is declared with another definition a `ConflictError`; both are also a
`ValueError`. Counting never fails because of the store.

The metrics belong to the store that was loaded last when they were declared. A scrape of pytheus' `REGISTRY`
by this package shows them behind the metrics of the registry; pytheus' own `generate_metrics` does not.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

from pytheus_backend_rs import _engine, _exemplars, _logging
from pytheus_backend_rs._engine import GAUGE_MODES, NATIVE, Definition, Engine, Family, Native, metric_of
from pytheus_backend_rs._errors import (
    ConfigurationError,
    ErrorSlot,
    InvalidArgumentError,
    NotFoundError,
    exception_class,
)
from pytheus_backend_rs._native import ffi, lib
from pytheus_backend_rs._text import is_plain, plain_text

__all__ = ["Counter", "Gauge", "GaugeHistogram", "Histogram", "Info", "StateSet", "Summary"]

_M = TypeVar("_M", bound="_Metric")

#: References to all metrics that were declared here, by identity. A dict, because a walk over a copy of its
#: values is atomic.
_declared: dict[int, weakref.ref[_Metric]] = {}


def renew(engine: Engine) -> None:
    """Gives the metrics of an engine new values, after the engine was cleared."""
    for metric in _all_declared():
        if metric._family.engine is engine:
            metric._bind()
            for child in list(metric._children.values()):
                child._bind()


def _all_declared() -> Iterator[_Metric]:
    for reference in list(_declared.values()):
        metric = reference()
        if metric is not None:
            yield metric


class _Metric:
    """What all types share."""

    _TYPE: ClassVar[str]
    #: The engine, if it need not be the loaded one.
    _engine: Engine | None = None
    _family: Family
    #: In the order of the declaration.
    _label_names: tuple[str, ...]
    #: The metrics with labels, by their label values.
    _children: dict[tuple[str, ...], Any]
    #: The labels of this metric; None if it needs some first.
    _given: dict[str, str] | None
    _owner: Any = None
    #: The native metric; NULL if this one needs labels first.
    _handle: Any = ffi.NULL
    #: When this metric looks for a span; None if it keeps no exemplars.
    _looks: _exemplars.Looks | None = None

    def __init__(
        self,
        name: str,
        help: str = "",
        labels: Iterable[str] = (),
        *,
        unit: str | None = None,
        utf8: bool = False,
        series_ttl: float | None = None,
    ) -> None:
        self._declare(name, help, labels, unit=unit, utf8=utf8, series_ttl=series_ttl)

    @classmethod
    def of_engine(cls: type[_M], engine: Engine, name: str, help: str, labels: Iterable[str] = ()) -> _M:
        """Declares a metric in an engine that need not be the loaded one. For this package."""
        metric = cls.__new__(cls)
        metric._engine = engine
        metric._declare(name, help, labels, utf8=False)
        return metric

    def _declare(
        self,
        name: str,
        help_text: str,
        labels: Iterable[str],
        *,
        utf8: bool,
        unit: str | None = None,
        bounds: Iterable[float] = (),
        states: Iterable[str] = (),
        native: Native | None = None,
        gauge_mode: str | None = None,
        series_ttl: float | None = None,
        exemplars: bool = False,
    ) -> None:
        engine = self._engine or _engine.loaded_engine()
        if engine is None:
            raise ConfigurationError("no backend of this package is loaded: call load_backend first")
        if isinstance(labels, str) or isinstance(states, str):
            raise TypeError(f"metric {name!r}: expected a list of names, not a text")
        self._label_names, states = tuple(labels), tuple(states)
        for text in (name, *self._label_names, *states, unit or ""):
            if not is_plain(text):
                raise InvalidArgumentError(
                    f"metric {name!r}: {text!r} contains a NUL character or half of a surrogate pair"
                )
        if series_ttl is not None and not series_ttl:
            # To the engine, 0 means the option of the store.
            raise InvalidArgumentError(
                f"metric {name!r}: the series_ttl is {series_ttl!r}: expected 1 second or more"
            )
        definition = Definition(
            name,
            help_text,
            self._TYPE,
            tuple(sorted(self._label_names)),
            tuple(float(bound) for bound in bounds),
            unit,
            states,
            utf8,
            native,
            gauge_mode,
            0.0 if series_ttl is None else float(series_ttl),
            bool(exemplars),
        )
        try:
            self._family = engine.declare(definition)
            self._children = {}
            self._given = None if self._label_names else {}
            self._bind()
        finally:
            _logging.deliver()
        key = id(self)
        _declared[key] = weakref.ref(self, lambda _: _declared.pop(key, None))

    def labels(self: _M, *values: object, **named: object) -> _M:
        """Returns the metric with these label values: by position in the order of the declaration, or by
        name."""
        key = self._values(values, named)
        child = self._children.get(key)
        if child is None:
            child = copy.copy(self)
            child._children = {}
            child._label_names = ()
            child._given = dict(zip(self._label_names, key))
            child._bind()
            child = self._children.setdefault(key, child)
            _logging.deliver()
        found: _M = child
        return found

    def remove(self, *values: object, **named: object) -> bool:
        """Removes the series with these label values from the store. Returns False if there is none.

        What a metric that the program has kept counts afterwards does not reach the store.
        """
        key = self._values(values, named)
        self._children.pop(key, None)
        try:
            self._family.remove(dict(zip(self._label_names, key)))
        except NotFoundError:
            return False
        finally:
            _logging.deliver()
        return True

    def clear(self) -> None:
        """Removes all series from the store, those of other processes too. A metric without labels begins at
        0 again."""
        try:
            self._family.clear()
            engine, name = self._family.engine, self._family.definition.name
            for metric in _all_declared():
                family = metric._family
                if family.engine is engine and family.definition.name == name:
                    metric._children = {}
                    metric._bind()
        finally:
            _logging.deliver()

    def __repr__(self) -> str:
        labels = f" {self._given}" if self._given else ""
        return f"<{type(self).__name__} {self._family.definition.name}{labels}>"

    def _bind(self) -> None:
        """Gets the native metric, if all labels are known."""
        if self._given is not None:
            self._owner = self._family.metric(self._given)
            self._handle = metric_of(self._owner)
            self._looks = _exemplars.Looks() if self._family.definition.exemplars else None

    def _values(self, values: tuple[object, ...], named: dict[str, object]) -> tuple[str, ...]:
        names = self._label_names
        if values and not named and len(values) == len(names):
            return tuple(map(plain_text, values))
        if not values and named.keys() == set(names) and names:
            return tuple(plain_text(named[name]) for name in names)
        given = list(values) or list(named)
        raise InvalidArgumentError(f"{self!r} takes values for the labels {list(names)}, not {given}")

    def _check(self, status: int, operation: str, value: object, reason: str = "") -> None:
        """Ends a hot call: raises its error, and delivers log records."""
        if status:
            self._refuse(status, f"{operation}({value!r})", reason)
        _logging.deliver()

    def _refuse(self, status: int, call: str, reason: str) -> None:
        if self._given is None:
            raise InvalidArgumentError(f"{self!r}: call labels() before {call}")
        raise exception_class(status)(f"{self!r}: {call} is not possible{reason}")

    def _count_with_exemplar(self, operation: str, value: float, exemplar: Mapping[str, str] | None) -> bool:
        """Counts with an exemplar, or with that of the current span. Returns False if there is none, and
        counts nothing then."""
        if not exemplar:
            has_counted = self._looks is not None and self._looks.count(operation, self._handle, value)
            if has_counted:
                _logging.deliver()
            return has_counted
        if self._given is None:
            raise InvalidArgumentError(f"{self!r}: call labels() before {operation}({value!r})")
        try:
            _exemplars.count(operation, self._handle, value, exemplar)
        finally:
            _logging.deliver()
        return True

    def _number(self, function: Any, *arguments: Any) -> float:
        return float(self._read(ffi.new("double *"), function, *arguments))

    def _read(self, place: Any, function: Any, *arguments: Any) -> Any:
        if self._given is None:
            raise InvalidArgumentError(f"{self!r}: call labels() before reading a value")
        error = ErrorSlot()
        try:
            error.check(function(self._handle, *arguments, place, error.pointer))
        finally:
            _logging.deliver()
        return place[0]


class Counter(_Metric):
    """Only goes up. With a unit the name ends with `_<unit>_total`.

    `exemplars=True` makes each series keep an exemplar: an addition with labels that lead to its trace.
    """

    _TYPE = "counter"

    def __init__(
        self,
        name: str,
        help: str = "",
        labels: Iterable[str] = (),
        *,
        exemplars: bool = False,
        unit: str | None = None,
        utf8: bool = False,
        series_ttl: float | None = None,
    ) -> None:
        self._declare(name, help, labels, unit=unit, utf8=utf8, series_ttl=series_ttl, exemplars=exemplars)

    def inc(self, amount: float = 1.0, exemplar: Mapping[str, str] | None = None) -> None:
        """Adds `amount`, which must not be negative.

        `exemplar` is a dict of label names and values, at most 128 characters together. Without one it is
        `trace_id` and `span_id` of OpenTelemetry's current span, if the family keeps exemplars and the span
        is sampled. An exemplar that is a tenth of a second old is replaced.
        """
        if (exemplar is not None or self._looks is not None) and self._count_with_exemplar(
            "inc", amount, exemplar
        ):
            return
        reason = ": a counter only goes up, so the amount is 0 or more"
        self._check(lib.metric_inc(self._handle, amount), "inc", amount, reason)

    def get(self) -> float:
        """Reads the value from the store, which may have to wait for a server."""
        return self._number(lib.released_metric_get)


class Gauge(_Metric):
    """Goes up and down. With a unit the name ends with `_<unit>`, as for all types below.

    With a `multiprocess_mode` every process has its own value, which it reads with `get`, and a scrape merges
    them: "all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent" or
    "livemostrecent", as in prometheus_client. Only in shared memory are there several processes.
    """

    _TYPE = "gauge"

    def __init__(
        self,
        name: str,
        help: str = "",
        labels: Iterable[str] = (),
        *,
        multiprocess_mode: str | None = None,
        unit: str | None = None,
        utf8: bool = False,
        series_ttl: float | None = None,
    ) -> None:
        if multiprocess_mode is not None and multiprocess_mode not in GAUGE_MODES:
            known = ", ".join(GAUGE_MODES)
            raise InvalidArgumentError(
                f"metric {name!r}: the mode is {multiprocess_mode!r}: expected one of {known}"
            )
        self._declare(
            name, help, labels, unit=unit, utf8=utf8, series_ttl=series_ttl, gauge_mode=multiprocess_mode
        )

    def inc(self, amount: float = 1.0) -> None:
        """Adds `amount`."""
        self._check(lib.metric_inc(self._handle, amount), "inc", amount)

    def dec(self, amount: float = 1.0) -> None:
        """Subtracts `amount`."""
        self._check(lib.metric_dec(self._handle, amount), "dec", amount)

    def set(self, value: float) -> None:
        """Replaces the value."""
        self._check(lib.metric_set(self._handle, value), "set", value)

    def get(self) -> float:
        """Reads the value from the store, which may have to wait for a server."""
        return self._number(lib.released_metric_get)


class _Observed(_Metric):
    """What summaries and histograms share."""

    def observe(self, value: float) -> None:
        """Counts `value`."""
        self._check(lib.metric_observe(self._handle, value), "observe", value)

    def sum(self) -> float:
        """Reads the sum of the observations from the store, which may have to wait for a server."""
        return self._number(lib.released_metric_get_sum)

    def count(self) -> float:
        """Reads the number of observations from the store, which may have to wait for a server."""
        return self._number(lib.released_metric_get_count)


class Summary(_Observed):
    """Counts and sums observations."""

    _TYPE = "summary"


class Histogram(_Observed):
    """Counts observations in buckets, and sums them.

    `buckets` are increasing upper bounds; the last one, infinity, may be left out. The default is that of
    `metric_family_new` in the C header: 0.005 to 10.

    `native=True` makes a native histogram, which needs no bounds: it has `native_resolution` buckets from
    each power of two to the next (1, 2, 4, … 256), so with 8 a quantile is off by at most 9 %. A series has
    room for `native_size` buckets (16 to 4096), 8 bytes each; when a third of them are in use, further values
    get buckets of half the resolution, and so on. With `buckets` it has classic ones too, otherwise none.
    Prometheus scrapes native buckets by protobuf, if it is told to.

    `exemplars=True` makes each series keep up to four exemplars: observations with labels that lead to their
    traces.
    """

    _TYPE = "histogram"

    def __init__(
        self,
        name: str,
        help: str = "",
        labels: Iterable[str] = (),
        *,
        buckets: Iterable[float] | None = None,
        native: bool = False,
        native_resolution: int = NATIVE.resolution,
        native_size: int = NATIVE.size,
        exemplars: bool = False,
        unit: str | None = None,
        utf8: bool = False,
        series_ttl: float | None = None,
    ) -> None:
        for option, number, default in (
            ("native_resolution", native_resolution, NATIVE.resolution),
            ("native_size", native_size, NATIVE.size),
        ):
            if not native and number != default:
                raise InvalidArgumentError(f"metric {name!r}: {option} needs native=True")
            # The engine knows the range. To the C interface, 0 means the default.
            if type(number) is not int or not 0 < number < 2**31:
                raise InvalidArgumentError(
                    f"metric {name!r}: {option} is {number!r}: expected an int above 0"
                )
        bounds = _bounds(name, buckets)
        options = Native(buckets is not None, native_resolution, native_size) if native else None
        self._declare(
            name,
            help,
            labels,
            unit=unit,
            utf8=utf8,
            series_ttl=series_ttl,
            bounds=bounds,
            native=options,
            exemplars=exemplars,
        )

    def observe(self, value: float, exemplar: Mapping[str, str] | None = None) -> None:
        """Counts `value`. `exemplar` is as in `Counter.inc`; a value that is not finite counts without it."""
        if (exemplar is not None or self._looks is not None) and self._count_with_exemplar(
            "observe", value, exemplar
        ):
            return
        super().observe(value)

    def bucket(self, upper_bound: float) -> float:
        """Reads the number of observations up to a bound from the store; `math.inf` is the last one."""
        return self._number(lib.released_metric_get_bucket, upper_bound)


class GaugeHistogram(Histogram):
    """The distribution of what exists at present, such as the ages of waiting jobs: a histogram whose counts
    also go down. It has no native buckets."""

    _TYPE = "gaugehistogram"

    def __init__(
        self,
        name: str,
        help: str = "",
        labels: Iterable[str] = (),
        *,
        buckets: Iterable[float] | None = None,
        unit: str | None = None,
        utf8: bool = False,
        series_ttl: float | None = None,
    ) -> None:
        self._declare(
            name, help, labels, unit=unit, utf8=utf8, series_ttl=series_ttl, bounds=_bounds(name, buckets)
        )

    def unobserve(self, value: float) -> None:
        """Takes an observation of `value` out again, because what it describes has ended."""
        self._check(lib.metric_unobserve(self._handle, value), "unobserve", value)


def _bounds(name: str, buckets: Iterable[float] | None) -> tuple[float, ...]:
    bounds = () if buckets is None else tuple(buckets)
    if buckets is not None and not bounds:
        # To the engine, no bounds mean its default ones.
        raise InvalidArgumentError(f"metric {name!r} needs at least one bucket bound")
    return bounds


class StateSet(_Metric):
    """Named states, each of which is on or off; at most 52.

    All processes declare the same states in the same order. In shared memory, processes that switch different
    states lose nothing; on a server, all states as one process knows them replace all others.
    """

    _TYPE = "stateset"

    def __init__(
        self,
        name: str,
        help: str = "",
        labels: Iterable[str] = (),
        *,
        states: Iterable[str],
        utf8: bool = False,
        series_ttl: float | None = None,
    ) -> None:
        self._declare(name, help, labels, utf8=utf8, series_ttl=series_ttl, states=states)

    @property
    def states(self) -> tuple[str, ...]:
        """The states in their declared order."""
        return self._family.definition.states

    def set(self, state: str, on: bool = True) -> None:
        """Switches one state on or off, and leaves the others as they are."""
        status = lib.metric_set_state(self._handle, self._text(state), bool(on))
        self._check(status, "set", state)

    def state(self, state: str) -> None:
        """Switches one state on and all others off."""
        self._check(lib.metric_choose_state(self._handle, self._text(state)), "state", state)

    def is_on(self, state: str) -> bool:
        """Reads from the store whether a state is on, which may have to wait for a server."""
        text = ffi.new("char[]", self._text(state))
        return bool(self._read(ffi.new("int32_t *"), lib.released_metric_get_state, text))

    def _text(self, state: str) -> bytes:
        if self._given is not None and state not in self.states:
            raise InvalidArgumentError(
                f"{self!r} has no state {state!r}: expected one of {list(self.states)}"
            )
        return state.encode("utf-8", "replace")


class Info(_Metric):
    """Labels that describe something, such as the version of a program. A scrape shows those that any process
    has set last, with the value 1 and a name that ends with `_info`."""

    _TYPE = "info"

    def __init__(
        self,
        name: str,
        help: str = "",
        labels: Iterable[str] = (),
        *,
        utf8: bool = False,
        series_ttl: float | None = None,
    ) -> None:
        self._declare(name, help, labels, utf8=utf8, series_ttl=series_ttl)

    def info(self, labels: Mapping[str, object]) -> None:
        """Sets names and values of labels, in place of those that were set before."""
        if self._given is None:
            raise InvalidArgumentError(f"{self!r}: call labels() before info()")
        try:
            self._family.set_info(self._given, labels)
        finally:
            _logging.deliver()

    def _bind(self) -> None:
        """An info has no native metric."""
