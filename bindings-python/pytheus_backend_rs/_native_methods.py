"""Native methods on the instances of pytheus' classes: where a program calls, there is no Python between it and the
engine.

pytheus' own methods cost many times what the engine does (`Histogram.observe` walks over all buckets). So a backend
object that pytheus makes for a metric puts `inc` or `observe` on that metric, `labels` on the metric that has it as
a child, and for a gauge `inc`, `dec` and `set` on itself. They do what the methods of the class do, and
hand over to those whatever is not plainly right: nothing is decided here that pytheus decides otherwise.

Only what is pytheus' own is replaced, and nothing with the option `native_methods` off. Nothing here may import
pytheus at module level, as everywhere in this package.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

from pytheus_backend_rs._callables import callables as _bind
from pytheus_backend_rs._engine import address

if TYPE_CHECKING:
    from pytheus.metrics import _Metric, _MetricCollector

_OBSERVED = ("histogram", "summary")

#: pytheus' classes, by metric type, and the method of each that is replaced.
_METHODS = {"counter": ("Counter", "inc"), "histogram": ("Histogram", "observe"), "summary": ("Summary", "observe")}


def install(view: Any) -> None:
    """Puts the native methods where the backend object `view`, which is just being made, has its value."""
    metric = view.metric
    if not _is_made_by_pytheus(view):
        return
    metric_address, keep = address(view._handle), (view._owner, view._family)
    type_ = str(metric._collector.type_)
    if type_ == "gauge":
        # pytheus' own methods stay: tests replace the backend of a gauge.
        for name, bind in (("inc", _bind.view_inc), ("dec", _bind.view_dec), ("set", _bind.view_set)):
            setattr(view, name, bind(view, metric_address, keep))
    elif type_ in _METHODS and _is_pytheus_own(metric, *_METHODS[type_]):
        bind = _bind.counter_inc if type_ == "counter" else _bind.observe
        setattr(metric, _METHODS[type_][1], bind(metric, metric_address, keep))
    if metric._collector._required_labels:
        _install_labels(metric._collector)


def _is_made_by_pytheus(view: Any) -> bool:
    """Whether `view` will be the value of its metric, or its sum: it is made in the metric's `__init__`, by
    pytheus itself and not by a backend that stands around ours."""
    from pytheus.backends.base import get_backend_class

    metric, part = view.metric, view.histogram_bucket
    is_observed = str(metric._collector.type_) in _OBSERVED
    place = "_sum" if is_observed else "_metric_value_backend"
    return (
        part == ("sum" if is_observed else None)
        and getattr(metric, "_can_observe", False)
        and getattr(metric, place, view) is None
        and get_backend_class() is type(view)
    )


def _is_pytheus_own(metric: _Metric, owner: str, name: str) -> bool:
    """Whether `metric.name(…)` is the method that pytheus gives the class `owner`: not one of a subclass, of the
    instance, or of a tool that has patched the class."""
    from pytheus import metrics

    def is_own(owner: str, name: str) -> bool:
        function = getattr(type(metric), name, None)
        return (
            type(function) is FunctionType
            and function is getattr(metrics, owner).__dict__.get(name)
            and function.__globals__ is metrics.__dict__
            and getattr(getattr(metric, name), "__func__", None) is function
        )

    # The check that every method begins with is not made again by the native ones.
    return is_own(owner, name) and is_own("_Metric", "_raise_if_cannot_observe")


def _install_labels(collector: _MetricCollector[Any]) -> None:
    root = collector._metric
    names = sorted(collector._required_labels or ())
    # These names cannot be keywords of pytheus' method.
    if {"self", "pytheus_labels_"}.isdisjoint(names) and _is_pytheus_own(root, "_Metric", "labels"):
        setattr(root, "labels", _bind.labels(root, (collector, tuple(names))))
