"""What this package knows about the inside of pytheus. When pytheus changes, edit this module.

pytheus documents how a backend class is loaded and constructed. An adapter needs more than that: which
collector a metric belongs to, its labels, its children, its bucket bounds, and where it keeps its backend
objects. Those are private names, which any release may change. No other module uses them.

The functions expect objects that another thread may be constructing: pytheus registers a collector before its
metric is complete, and adds children while a scrape walks over them.
"""

from __future__ import annotations

import copy
import functools
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from pytheus_backend_rs._engine import NATIVE, Definition, Engine
from pytheus_backend_rs._logging import logger
from pytheus_backend_rs._text import plain_text

if TYPE_CHECKING:
    from pytheus.metrics import Sample, _Metric, _MetricCollector
    from pytheus.registry import Registry

#: The versions of pytheus that the tests cover: from the first one up to, but not including, the second one.
TESTED_VERSIONS = ((0, 6), (0, 7))

#: The private names that this module uses, by the class of pytheus that has them. A test looks up each one.
PRIVATE_NAMES = {
    "_MetricCollector": (
        "_required_labels",
        "_default_labels",
        "_labeled_metrics",
        "_metric",
        "_registry",
        "_validate_labels",
    ),
    "_Metric": (
        "_collector",
        "_labels",
        "_can_observe",
        "_metric_value_backend",
        "_registry",
        "_check_can_observe",
        "_raise_if_cannot_observe",
    ),
    "Histogram": ("_upper_bounds", "_buckets", "_sum", "_count"),
    "Summary": ("_sum", "_count"),
}

#: The attribute of a collector that holds its labelled metrics, by their label values sorted by label name.
CHILDREN = "_labeled_metrics"

#: The class of pytheus and the method of it that native methods replace, by metric type.
HOT_METHODS = {
    "counter": ("Counter", "inc"),
    "histogram": ("Histogram", "observe"),
    "summary": ("Summary", "observe"),
}

#: The types whose metrics have one backend object for the sum, one for the count and one for each bucket.
OBSERVED_TYPES = ("histogram", "summary")

#: The class of pytheus for each metric type.
_CLASSES = {"counter": "Counter", "gauge": "Gauge", "histogram": "Histogram", "summary": "Summary"}

#: The attributes that pytheus gives every metric, and those of some types.
_ATTRIBUTES = frozenset(
    ("name", "description", "_labels", "_registry", "_metric_value_backend", "_collector", "_can_observe")
)
_MORE_ATTRIBUTES = {
    "histogram": frozenset(("_upper_bounds", "_buckets", "_sum", "_count")),
    "summary": frozenset(("_sum", "_count")),
}

#: How often a walk over a registry starts again because another thread registered a collector meanwhile.
_WALKS = 1000


@functools.cache
def warn_if_untested() -> None:
    """Logs a warning, once, if the installed pytheus is older or newer than what the tests cover."""
    installed = _installed_version()
    oldest, too_new = TESTED_VERSIONS
    if not _is_tested(installed):
        logger.warning(
            "pytheus %s is installed, but pytheus-backend-rs is tested with pytheus>=%s,<%s only: "
            "install a tested version of pytheus, or a newer pytheus-backend-rs",
            installed,
            _dotted(oldest),
            _dotted(too_new),
        )


def _is_tested(version: str | None) -> bool:
    if version is None:
        return True
    oldest, too_new = TESTED_VERSIONS
    return oldest <= tuple(int(part) for part in version.split(".")[:2] if part.isdecimal()) < too_new


@functools.cache
def _is_installed_tested() -> bool:
    return _is_tested(_installed_version())


def _installed_version() -> str | None:
    """Returns the version of pytheus from the name of its metadata folder. A frozen program may have none.

    `importlib.metadata` would import forty modules at the first load. A child that another thread forks in
    the meantime would inherit a module lock that nothing releases.
    """
    (package, *_) = sys.modules["pytheus"].__path__
    try:
        names = os.listdir(os.path.dirname(package))
    except OSError:
        # It was not imported from a folder.
        return None
    for name in names:
        found = re.fullmatch(r"pytheus-(\d[^-]*)\.(dist|egg)-info", name)
        if found is not None:
            return found.group(1)
    return None


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def collector_of(metric: _Metric) -> _MetricCollector[Any]:
    """Returns the collector of a metric."""
    return metric._collector


def definition_of(collector: _MetricCollector[Any], engine: Engine) -> Definition:
    """Returns what the engine needs to know about a collector. The engine tells by the name which histograms
    get native buckets beside those of pytheus, which metrics keep exemplars, which gauges have a mode, and
    which series end.

    Raises AttributeError while another thread is still constructing the collector's histogram.
    """
    type_ = str(collector.type_)
    bounds = collector._metric._upper_bounds if type_ == "histogram" else ()
    return Definition(
        collector.name,
        collector.description,
        type_,
        tuple(sorted(collector._required_labels or ())),
        tuple(float(bound) for bound in bounds),
        native=NATIVE if type_ == "histogram" and engine.is_native(collector.name) else None,
        gauge_mode=engine.gauge_modes.get(collector.name) if type_ == "gauge" else None,
        series_ttl=engine.metric_ttls.get(collector.name, 0.0),
        exemplars=type_ in ("counter", "histogram") and engine.keeps_exemplars(collector.name),
    )


def bounds_as_shown(collector: _MetricCollector[Any]) -> list[str]:
    """Returns the bucket bounds of a histogram as pytheus writes them."""
    return [str(bound) for bound in collector._metric._upper_bounds]


def labels_of(metric: _Metric) -> dict[str, str]:
    """Returns the labels of a metric with their values as text, default labels first, as pytheus shows
    them."""
    return complete_labels(metric._collector, metric._labels or {})


def complete_labels(collector: _MetricCollector[Any], labels: Mapping[str, Any]) -> dict[str, str]:
    """Returns labels with their values as text, and with the default labels that they leave out."""
    complete: dict[str, Any] = {**(collector._default_labels or {}), **labels}
    return {name: plain_text(value) for name, value in complete.items()}


def forget_child(collector: _MetricCollector[Any], labels: dict[str, str]) -> None:
    """Makes pytheus construct a new metric the next time that these labels are used."""
    for key, metric in list(collector._labeled_metrics.items()):
        if labels_of(metric) == labels:
            collector._labeled_metrics.pop(key, None)


def forget_children(collector: _MetricCollector[Any]) -> None:
    """Makes pytheus construct new metrics for all labels."""
    collector._labeled_metrics.clear()


def renew(metric: Any, make: Callable[[str | None], Any]) -> None:
    """Gives a metric new backend objects, as pytheus does when it constructs one. `make` takes the part."""
    if str(metric.type_) not in OBSERVED_TYPES:
        metric._metric_value_backend = None
        metric._metric_value_backend = make(None)
        return
    metric._sum = None
    metric._sum, metric._count = make("sum"), make("count")
    if str(metric.type_) == "histogram":
        metric._buckets = [make(str(bound)) for bound in metric._upper_bounds]


def observable_metrics(collector: _MetricCollector[Any]) -> list[_Metric]:
    """Returns the metrics of a collector that have a value."""
    metrics: list[_Metric] = list(collector._labeled_metrics.values())
    if getattr(collector._metric, "_can_observe", False):
        metrics.insert(0, collector._metric)
    return metrics


def value_of(metric: Any) -> Any:
    """Returns the backend object that has the metric's value or sum; None while the metric is being
    constructed."""
    return getattr(metric, _place(metric), None)


def values_of(collector: _MetricCollector[Any]) -> list[Any]:
    """Returns `value_of` for all metrics of a collector that have a value.

    A scrape walks over all of them, so this looks at the type only once.
    """
    place = _place(collector)
    return [getattr(metric, place, None) for metric in observable_metrics(collector)]


def _place(metric: Any) -> str:
    return "_sum" if str(metric.type_) in OBSERVED_TYPES else "_metric_value_backend"


def buckets_of(metric: Any) -> Any:
    """Returns what holds the backend objects of a histogram's buckets; None for other metrics."""
    return getattr(metric, "_buckets", None)


def with_buckets(metric: Any, buckets: list[Any]) -> Any:
    """Returns a copy of a histogram that has other backend objects for its buckets."""
    other = copy.copy(metric)
    other._buckets = buckets
    return other


def is_complete(metric: Any) -> bool:
    """Tells whether pytheus has constructed all backend objects of a metric."""
    if str(metric.type_) not in OBSERVED_TYPES:
        return value_of(metric) is not None
    if getattr(metric, "_count", None) is None:
        return False
    return str(metric.type_) == "summary" or len(metric._buckets) == len(metric._upper_bounds)


def is_made_by_pytheus(view: Any) -> bool:
    """Tells whether the backend object `view` is about to become the value or sum of its metric.

    This is so while pytheus constructs the metric, and only if `view` is not wrapped by another backend.
    """
    from pytheus.backends.base import get_backend_class

    metric = view.metric
    place = _place(metric)
    return (
        view.histogram_bucket == ("sum" if place == "_sum" else None)
        and getattr(metric, "_can_observe", False)
        and getattr(metric, place, view) is None
        and get_backend_class() is type(view)
    )


def is_pytheus_method(metric: _Metric, owner: str, name: str) -> bool:
    """Tells whether `metric.name(…)` is the method that pytheus gives the class `owner`.

    It is not if a subclass, the instance, or a tool that patches classes has replaced it.
    """
    # Every method first calls this check, which native methods leave out.
    return _is_own(metric, owner, name) and _is_own(metric, "_Metric", "_raise_if_cannot_observe")


def _is_own(metric: _Metric, owner: str, name: str) -> bool:
    from pytheus import metrics

    function = getattr(type(metric), name, None)
    return (
        type(function) is FunctionType
        and function is getattr(metrics, owner).__dict__.get(name)
        and function.__globals__ is metrics.__dict__
        and getattr(getattr(metric, name), "__func__", None) is function
    )


class Pattern(NamedTuple):
    """What the labelled metrics of one collector have in common, whatever their labels."""

    collector: Any
    class_: Any
    name: str
    description: str
    registry: Any
    #: None unless it is a histogram. pytheus makes a list for each metric, which nothing changes.
    upper_bounds: list[Any] | None
    #: What pytheus would call to make a metric.
    functions: tuple[Any, ...]
    #: The modules `pytheus.metrics` and `pytheus.backends.base`. Importing them for each metric would take
    #: longer than making it.
    metrics: Any
    backends: Any

    def is_current(self, view_class: type, config: Mapping[str, Any]) -> bool:
        """Tells whether pytheus would still make a metric in the same way, and its backend objects by this
        class with this configuration."""
        backends = self.backends
        return (
            backends.BACKEND_CLASS is view_class
            and backends.BACKEND_CONFIG is config
            and _making_functions(self.metrics, self.class_) == self.functions
        )

    def new(self, labels: dict[str, Any]) -> Any:
        """Returns a metric with these labels that lacks its backend objects. The attributes come in the order
        in which pytheus sets them, so that all metrics share one table of names."""
        metric: Any = self.class_.__new__(self.class_)
        metric.name = self.name
        metric.description = self.description
        metric._labels = labels
        metric._registry = self.registry
        metric._metric_value_backend = None
        metric._collector = self.collector
        metric._can_observe = True
        if self.upper_bounds is not None:
            metric._upper_bounds = self.upper_bounds
        return metric


def pattern_of(collector: _MetricCollector[Any]) -> Pattern | None:
    """Returns the pattern of a collector's labelled metrics, taken from one that pytheus has made.

    None if there is none, or if it is not exactly what this module knows about pytheus.
    """
    from pytheus import metrics
    from pytheus.backends import base

    root, type_ = collector._metric, str(collector.type_)
    class_ = type(root)
    functions = _making_functions(metrics, class_)
    try:
        made = next(iter(collector._labeled_metrics.values()), None)
    except RuntimeError:
        # Another thread adds a child.
        return None
    attributes = _ATTRIBUTES | _MORE_ATTRIBUTES.get(type_, frozenset())
    if not (
        made is not None
        and _is_installed_tested()
        and class_ is type(made) is getattr(metrics, _CLASSES[type_])
        and type(collector) is metrics._MetricCollector
        and all(_is_of_pytheus(function) for function in functions)
        and vars(made).keys() - {"inc", "observe"} == attributes
        and made.name == root.name
        and made.description == root.description
        and made._registry is root._registry
        and made._collector is collector
        and made._can_observe is True
        and is_complete(made)
    ):
        return None
    bounds = made._upper_bounds if type_ == "histogram" else None
    return Pattern(
        collector, class_, root.name, root.description, root._registry, bounds, functions, metrics, base
    )


def _making_functions(metrics: Any, class_: Any) -> tuple[Any, ...]:
    return (
        metrics.get_backend,
        metrics._MetricCollector._validate_labels,
        metrics._Metric.__init__,
        class_.labels,
        class_.__init__,
        class_._check_can_observe,
        class_._raise_if_cannot_observe,
        class_.observe if hasattr(class_, "observe") else class_.inc,
    )


def _is_of_pytheus(function: Any) -> bool:
    """Tells whether a function is defined in pytheus, and not in a program that has replaced it."""
    from pytheus import metrics
    from pytheus.backends import base

    return type(function) is FunctionType and (
        function.__globals__ is metrics.__dict__
        or (function.__globals__ is base.__dict__ and function is base.__dict__.get(function.__name__))
    )


def give_value(metric: Any, view: Any, inc: Any) -> None:
    """Gives a counter or gauge its backend object, and a counter its native method."""
    if inc is not None:
        metric.inc = inc
    metric._metric_value_backend = view


def give_parts(metric: Any, buckets: Any, total: Any, count: Any, observe: Any) -> None:
    """Gives a histogram or summary its backend objects and its native method."""
    if buckets is not None:
        metric._buckets = buckets
    metric._sum, metric._count = total, count
    metric.observe = observe


def add_child(collector: _MetricCollector[Any], values: tuple[Any, ...], metric: Any) -> Any:
    """Makes a metric the one with these label values, and returns it, unless another thread was first: then
    it returns that thread's."""
    return collector._labeled_metrics.setdefault(values, metric)


def root_of(collector: _MetricCollector[Any]) -> Any:
    """Returns the metric on which a program calls `labels`."""
    return collector._metric


def is_metric_collector(collector: Any) -> bool:
    """Tells whether a collector is one that pytheus makes for a metric."""
    from pytheus.metrics import _MetricCollector

    return isinstance(collector, _MetricCollector)


def is_custom_collector(collector: Any) -> bool:
    """Tells whether a collector makes metrics in its `collect`: pytheus looks whether it has a
    description."""
    return not hasattr(collector, "description")


def has_own_samples(collector: _MetricCollector[Any]) -> bool:
    """Tells whether a program's subclass says what the collector shows, instead of pytheus' own classes."""
    from pytheus.metrics import _MetricCollector

    return not (
        type(collector).collect is _MetricCollector.collect
        and type(collector._metric).collect.__module__ == _MetricCollector.__module__
    )


def _collect(metric: Any) -> Iterable[Sample]:
    samples: Iterable[Sample] = metric.collect()
    return samples


def samples_of(collector: Any, collect: Callable[[Any], Iterable[Sample]] = _collect) -> list[Sample]:
    """Returns the samples of a collector, as its own `collect` makes them. `collect` does it for one
    metric."""
    if not is_metric_collector(collector) or has_own_samples(collector):
        return list(collector.collect())
    # As pytheus does, but safe while other threads add children.
    return [
        sample
        for metric in observable_metrics(collector)
        if is_complete(metric)
        for sample in collect(metric)
    ]


def is_registered(collector: _MetricCollector[Any]) -> bool:
    """Tells whether a collector is in its registry, and so belongs to the program and not to one scrape."""
    registry = collector._registry
    return registry is not None and any(known is collector for known in collectors_of(registry))


def collectors_of(registry: Registry) -> list[Any]:
    """Returns the collectors of a registry."""
    for _ in range(_WALKS):
        try:
            return list(registry.collect())
        except RuntimeError:
            # pytheus walks over a dict; another thread has added a collector to it.
            continue
    return list(registry.collect())


def default_registry() -> Registry:
    """Returns pytheus' `REGISTRY`."""
    from pytheus.registry import REGISTRY

    return REGISTRY


def loaded_class() -> Any:
    """Returns the backend class that pytheus has loaded."""
    from pytheus.backends.base import get_backend_class

    return get_backend_class()


def is_registering() -> bool:
    """Tells whether this thread is inside the `register` of a pytheus registry.

    pytheus calls a custom collector's `collect` there without saying why, so this looks at the stack.
    """
    from pytheus.registry import CollectorRegistry

    code = getattr(CollectorRegistry.register, "__code__", None)
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
