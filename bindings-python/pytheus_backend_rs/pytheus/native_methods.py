"""Puts native methods on the instances of pytheus' classes, so that no Python runs between a program and the
engine.

pytheus' own methods cost many times what the engine does (`Histogram.observe` walks over all buckets). When
pytheus constructs a backend object, that object puts `inc` or `observe` on its metric, `labels` on the metric
that has it as a child, and for a gauge `inc`, `dec` and `set` on itself. A native method accepts plain
numbers and known label values; it hands every other call to the method of the class, so pytheus still makes
all decisions and raises all errors. `inc` and `observe` also take the keyword `exemplar`, which pytheus does
not have, and in families that keep exemplars they look for OpenTelemetry's current span.

Only pytheus' own methods are replaced. The option `native_methods` turns this off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytheus_backend_rs import _exemplars  # noqa: F401 - the callables need it
from pytheus_backend_rs._callables import callables, is_callable_of_engine
from pytheus_backend_rs.pytheus import internals
from pytheus_backend_rs.pytheus.children import Children

if TYPE_CHECKING:
    from pytheus.metrics import _Metric, _MetricCollector

#: What makes a native method, by its name and whether the family keeps exemplars.
_BINDS = {
    ("inc", False): callables.counter_inc,
    ("inc", True): callables.sampled_inc,
    ("observe", False): callables.observe,
    ("observe", True): callables.sampled_observe,
}


def install(view: Any) -> None:
    """Puts the native methods in place for the backend object `view`, which pytheus is constructing."""
    if not internals.is_made_by_pytheus(view):
        return
    metric = view.metric
    metric_address, keep = callables.address_of(view._owner), (view._owner, view._family)
    type_ = view._family.definition.type_
    if type_ == "gauge":
        # They stand on the backend object and not on the gauge: tests of programs replace the backend of a
        # gauge.
        for name, bind in (
            ("inc", callables.view_inc),
            ("dec", callables.view_dec),
            ("set", callables.view_set),
        ):
            setattr(view, name, bind(view, metric_address, keep))
    elif type_ in internals.HOT_METHODS:
        owner, name = internals.HOT_METHODS[type_]
        if internals.is_pytheus_method(metric, owner, name):
            bind = _BINDS[name, view._family.definition.exemplars]
            setattr(metric, name, bind(metric, metric_address, keep))
    if view._family.label_names:
        _install_labels(internals.collector_of(metric), view)


def uninstall(metric: _Metric) -> None:
    """Takes the native method off a metric whose backend object is about to be replaced."""
    for _, name in internals.HOT_METHODS.values():
        if is_callable_of_engine(vars(metric).get(name)):
            del vars(metric)[name]


def _install_labels(collector: _MetricCollector[Any], view: Any) -> None:
    root, names = internals.root_of(collector), view._family.label_names
    # One that is there makes children of an earlier backend.
    is_installed = is_callable_of_engine(vars(root).get("labels"))
    # pytheus' method has parameters of these names, so they cannot be labels given as keywords.
    if is_installed or (
        {"self", "pytheus_labels_"}.isdisjoint(names)
        and internals.is_pytheus_method(root, "_Metric", "labels")
    ):
        make = Children(collector, view).make
        root.labels = callables.labels(root, (collector, names, internals.CHILDREN, make))
