"""The private names of prometheus_client that this package uses: no other module knows them.

They are the same in the versions from `TESTED[0]` to `TESTED[1]`.
"""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import prometheus_client
from prometheus_client import (
    exposition,
    gc_collector,
    metrics,
    multiprocess,
    platform_collector,
    process_collector,
    registry,
)
from prometheus_client.metrics import Counter, Enum, Gauge, Histogram, Info, MetricWrapperBase, Summary
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

__all__ = ["Exemplar", "Metric"]

#: The oldest and the newest version that are tested.
TESTED = ((0, 17), (0, 26))

#: The classes whose values are numbers, with their types in the engine.
NUMBERS: dict[type, str] = {Counter: "counter", Gauge: "gauge", Summary: "summary", Histogram: "histogram"}

#: The classes whose values are labels or states.
TEXTS: dict[type, str] = {Info: "info", Enum: "stateset"}

BASE: Any = MetricWrapperBase
REGISTRY: Any = registry.CollectorRegistry
MULTI_PROCESS: Any = multiprocess.MultiProcessCollector
_spell: Any = floatToGoString
DEFAULT_REGISTRY: Any = registry.REGISTRY
MODULES: tuple[Any, ...] = (metrics, multiprocess, registry)

#: The modules that have the function `generate_latest`: those of the text, and that of OpenMetrics.
TEXT_MODULES: tuple[Any, ...] = (prometheus_client, exposition)
OPEN_METRICS_MODULE: Any = openmetrics_exposition

#: The collectors of what the system and Python say about the process.
PROCESS: dict[type, str] = {
    process_collector.ProcessCollector: "process",
    gc_collector.GCCollector: "gc",
    platform_collector.PlatformCollector: "platform",
}

#: The attribute in which a metric has its children, by their label values.
CHILDREN = "_metrics"

#: What the classes do by themselves.
ORIGINAL_INIT: dict[type, Callable[[Any], None]] = {
    kind: vars(kind)["_metric_init"] for kind in (*NUMBERS, *TEXTS)
}
ORIGINAL_COLLECT: Callable[[Any], Iterable[Metric]] = MetricWrapperBase.collect
_ORIGINAL_PROCESS_COLLECT: dict[type, Any] = {kind: vars(kind)["collect"] for kind in PROCESS}


def spell(number: float) -> str:
    """Returns a number as prometheus_client spells it."""
    text: str = _spell(number)
    return text


def has_short_exponents() -> bool:
    """Tells whether this version spells large numbers as series_text.c does. Older ones write `1e+010`."""
    return spell(1e10) == "1e+10"


#: Returns the bound of a bucket as prometheus_client spells it.
bound_text = functools.lru_cache(maxsize=4096)(spell)


def version() -> str:
    """Returns the version of prometheus_client; "unknown" if it was installed without its metadata."""
    try:
        return importlib.metadata.version("prometheus-client")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def is_tested() -> bool:
    """Tells whether the adapter was tested with this version."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version())[:2])
    return TESTED[0] <= numbers <= TESTED[1]


def type_of(metric: Any) -> str | None:
    """Returns the type of a metric in the engine; None for what is none of prometheus_client's classes."""
    for known in (NUMBERS, TEXTS):
        for kind, name in known.items():
            if isinstance(metric, kind):
                return name
    return None


def has_own_method(metric: Any, name: str) -> bool:
    """Tells whether `metric.name` is a method of prometheus_client: neither a subclass nor a tool that
    patches classes has replaced it."""
    return is_original(getattr(type(metric), name, None))


def is_original(function: Any) -> bool:
    """Tells whether this is a function of prometheus_client's metrics."""
    # The wrapper of a tool may have the name and the module of what it wraps, but not its globals.
    return getattr(function, "__globals__", None) is vars(metrics)


def original_init(metric: Any) -> None:
    """Gives a metric values in this process, as prometheus_client does; an info or enum its first value."""
    next(init for kind, init in ORIGINAL_INIT.items() if isinstance(metric, kind))(metric)


def store_name(metric: Any, type_: str) -> str:
    """Returns the name of a metric's family in the store."""
    name: str = metric._name
    return f"{name}_total" if type_ == "counter" else name


def shown_name(name: str, type_: str) -> str:
    """Returns the name of prometheus_client's `Metric` for a family of the store."""
    suffix = {"counter": "_total", "info": "_info"}.get(type_, "")
    return name[: -len(suffix)] if suffix and name.endswith(suffix) else name


def family_of(metric: Any, type_: str) -> dict[str, Any]:
    """Returns the parts of a metric's definition."""
    return {
        "name": store_name(metric, type_),
        "help": str(metric._documentation),
        "type_": type_,
        "label_names": tuple(sorted(metric._labelnames)),
        "bounds": tuple(metric._upper_bounds[:-1]) if type_ == "histogram" else (),
        "unit": str(metric._unit) if metric._unit and type_ not in ("info", "stateset") else None,
        "states": tuple(metric._states) if type_ == "stateset" else (),
        "gauge_mode": metric._multiprocess_mode if type_ == "gauge" else None,
    }


def bounds_of(metric: Any) -> list[float]:
    """Returns the bounds of a histogram, the last of which is infinity."""
    bounds: list[float] = metric._upper_bounds
    return bounds


def label_names(metric: Any) -> tuple[str, ...]:
    """Returns the label names in their declared order."""
    names: tuple[str, ...] = tuple(metric._labelnames)
    return names


def label_values(metric: Any) -> tuple[str, ...]:
    """Returns the label values of a child."""
    values: tuple[str, ...] = metric._labelvalues
    return values


def is_parent(metric: Any) -> bool:
    """Tells whether a metric has children instead of a value."""
    return bool(metric._is_parent())


def is_child_of(metric: Any, parent: Any) -> bool:
    """Tells whether `parent` may be making this metric."""
    return type(metric) is type(parent) and (metric._name, metric._labelnames) == (
        parent._name,
        parent._labelnames,
    )


def all_metrics() -> Iterator[Any]:
    """Returns the metrics of this process that are no children: those of all registries and of none."""
    for found in gc.get_objects():
        # The class of the object, and not `isinstance`: a proxy would load what it stands for.
        if issubclass(type(found), BASE) and not vars(found).get("_labelvalues", True):
            yield found


def children_of(metric: Any) -> list[tuple[tuple[str, ...], Any]]:
    """Returns label values and metric of each child; of a metric without labels, the metric itself."""
    if not metric._is_parent():
        return [((), metric)]
    with metric._lock:
        return list(metric._metrics.items())


def known_child(metric: Any, values: tuple[object, ...], named: dict[str, object]) -> Any:
    """Returns the child with these label values, if it exists and they are plain texts; otherwise None.

    Other values are converted to texts by `labels` itself: a text that is also an enum may look like another.
    """
    children = vars(metric).get(CHILDREN)
    if not children:
        return None
    if named:
        names = metric._labelnames
        if values or len(named) != len(names):
            return None
        try:
            values = tuple([named[name] for name in names])
        except KeyError:
            return None
    for value in values:
        if type(value) is not str:
            return None
    return children.get(values)


def give_number(metric: Any, value: Any) -> None:
    """Gives a counter or gauge its value."""
    metric._value = value


def give_observed(metric: Any, total: Any, count: Any, buckets: list[Any] | None) -> None:
    """Gives a summary its sum and its count, or a histogram its sum and its buckets."""
    metric._sum = total
    if buckets is None:
        metric._count = count
    else:
        metric._buckets = buckets


def give_created(metric: Any, created: float) -> None:
    """Notes when a metric was made."""
    metric._created = created


def created_of(metric: Any) -> float | None:
    """Returns when a metric was made."""
    created: float | None = getattr(metric, "_created", None)
    return created


def parts_of(metric: Any) -> list[Any]:
    """Returns the objects of a metric's values, by their places in the engine: the value, or the sum and the
    counts."""
    if isinstance(metric, (Counter, Gauge)):
        return [metric._value]
    counts = [metric._count] if isinstance(metric, Summary) else list(metric._buckets)
    return [metric._sum, *counts]


def info_of(metric: Any) -> dict[str, str]:
    """Returns the labels of an info."""
    found: dict[str, str] = metric._value
    return found


def was_set(metric: Any) -> bool:
    """Tells whether an info or enum has another value than at first."""
    return bool(metric._value)


def state_of(metric: Any) -> str:
    """Returns the state of an enum."""
    state: str = metric._states[metric._value]
    return state


def shows_created() -> bool:
    """Tells whether scrapes have samples `_created`."""
    return bool(getattr(metrics, "_use_created", True))


def computes_its_value(metric: Any) -> bool:
    """Tells whether the program has given a gauge a function, or a metric other samples."""
    return "_child_samples" in vars(metric)


def new_metric(metric: Any) -> Metric:
    """Returns an empty `Metric` for the samples of a metric."""
    empty: Metric = metric._get_metric()
    return empty


def samples_of_child(metric: Any) -> Iterator[Any]:
    """Returns the samples that a metric without children makes by itself."""
    return iter(metric._child_samples())


def process_part(collector: Any) -> str | None:
    """Returns what a collector shows of the process that is scraped, a value of `PROCESS`; None for a
    collector of another process, with other names, or of another class."""
    part = PROCESS.get(type(collector))
    if part == "process":
        defaults = type(collector).__init__.__defaults__ or ()
        places = collector._prefix, collector._proc
        if places != ("process_", "/proc") or collector._pid not in defaults:
            return None
    return part


def original_collect(collector: Any) -> Iterable[Metric]:
    """Returns what a collector of `PROCESS` shows by itself."""
    found: Iterable[Metric] = _ORIGINAL_PROCESS_COLLECT[type(collector)](collector)
    return found


def is_registry(found: Any) -> bool:
    """Tells whether this is a registry without a `collect` of its own."""
    return isinstance(found, REGISTRY) and type(found).collect is REGISTRY.collect


def is_multi_process(collector: Any) -> bool:
    """Tells whether a collector shows the whole store."""
    return type(collector) is MULTI_PROCESS


def collectors_of(found: Any) -> tuple[list[Any], Metric | None]:
    """Returns the collectors of a registry, and the metric of its target."""
    with found._lock:
        target = found._target_info_metric() if getattr(found, "_target_info", None) else None
        return list(found._collector_to_names), target
