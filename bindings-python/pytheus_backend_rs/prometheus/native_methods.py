"""Puts native methods on the instances of prometheus_client's classes, so that no Python runs between a
program and the engine.

A native method takes plain numbers, and the label values of children that exist. It hands every other call
to the method of the class: an exemplar, a wrong amount, a new child, a metric that another process has
removed.
Only prometheus_client's own methods are replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytheus_backend_rs._callables import callables, is_callable_of_engine
from pytheus_backend_rs.prometheus import internals

if TYPE_CHECKING:
    from pytheus_backend_rs.prometheus.values import Record

#: The names of the methods, and what makes them, by type.
_METHODS: dict[str, tuple[tuple[str, Any], ...]] = {
    "counter": (("inc", callables.client_counter_inc),),
    "gauge": (
        ("inc", callables.client_gauge_inc),
        ("dec", callables.client_gauge_dec),
        ("set", callables.client_gauge_set),
    ),
    "summary": (("observe", callables.client_summary_observe),),
    "histogram": (("observe", callables.client_histogram_observe),),
}


def install(metric: Any, record: Record) -> None:
    """Puts the methods that count on a metric with a value. They replace those for an earlier native
    metric."""
    owner, _ = record.native
    definition = record.family.definition
    address, keep = callables.address_of(owner), (owner, record.family)
    for name, bind in _METHODS[definition.type_]:
        # prometheus_client refuses to add to a gauge that shows the most recent value.
        is_refused = name != "set" and (definition.gauge_mode or "").endswith("mostrecent")
        if not is_refused and _is_free(metric, name):
            vars(metric)[name] = bind(metric, address, keep)


def install_labels(metric: Any) -> None:
    """Puts the method that finds a child on a metric that has children."""
    if "labels" not in vars(metric):
        keep = (internals.label_names(metric), internals.CHILDREN)
        vars(metric)["labels"] = callables.client_labels(metric, keep)


def remove(metric: Any) -> None:
    """Takes the native methods of a metric away."""
    for name in ("inc", "dec", "set", "observe", "labels"):
        if is_callable_of_engine(vars(metric).get(name)):
            del vars(metric)[name]


def _is_free(metric: Any, name: str) -> bool:
    """Tells whether this package may put a method on the metric: the program has put none of its own there,
    and has not replaced that of the class."""
    there = vars(metric).get(name)
    return internals.has_own_method(metric, name) and (there is None or is_callable_of_engine(there))
