"""Moves metrics that were made before `install` to the store, with what they have counted."""

from __future__ import annotations

import gc
from typing import Any

from pytheus_backend_rs.prometheus import binding, internals, texts
from pytheus_backend_rs.prometheus.values import Cell


def adopt_all() -> None:
    """Adopts every metric of prometheus_client in this process: those of all registries and of none."""
    # Native methods make a cycle of a metric, and garbage is not to be adopted.
    gc.collect()
    for metric in internals.all_metrics():
        try:
            _adopt(metric)
        except Exception as error:
            binding.report(type(metric).__name__, error)


def _adopt(metric: Any) -> None:
    is_text = internals.type_of(metric) in ("info", "stateset")
    for _, child in internals.children_of(metric):
        if is_text:
            if internals.was_set(child):
                texts.share(child)
        elif internals.type_of(metric) is not None:
            _move(child, metric)


def _move(metric: Any, owner: Any) -> None:
    """Gives one metric its value in the store, and adds what it has counted."""
    is_gauge = internals.type_of(metric) == "gauge"
    counted = [_counted(part, is_gauge) for part in internals.parts_of(metric)]
    created = internals.created_of(metric)
    exemplars = [part.get_exemplar() for part in internals.parts_of(metric)]
    if not binding.bind(metric, owner):
        return
    if created is not None:
        internals.give_created(metric, created)
    for part, value, exemplar in zip(internals.parts_of(metric), counted, exemplars):
        if value:
            (part.set if is_gauge else part.inc)(value)
        if exemplar is not None:
            part.set_exemplar(exemplar)


def _counted(part: Any, is_gauge: bool) -> float:
    """Returns what this process alone has counted, or to what it has set a gauge. A counter in a shared store
    that the metric used before has what all processes have counted, so that stays there."""
    if isinstance(part, Cell) and part.record.family.engine.is_shared and not is_gauge:
        return 0.0
    counted: float = part.get()
    return counted
