"""Gives the metrics of prometheus_client their values in the store.

Whatever the store refuses (a name of another type, bounds that are equal) counts in this process alone, as
prometheus_client counts by itself. It is logged, and never raised, because prometheus_client accepts it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pytheus_backend_rs import _logging
from pytheus_backend_rs._engine import Definition, Engine, Family
from pytheus_backend_rs._text import plain_text
from pytheus_backend_rs.prometheus import internals, native_methods, store
from pytheus_backend_rs.prometheus.values import Cell, Record

#: What was logged before, and what is to be logged.
_reported: set[str] = set()
_waiting: list[str] = []


#: The metrics whose children are being made, the innermost last. Each thread and each greenlet has its own.
_parents: ContextVar[tuple[Any, ...]] = ContextVar("parents", default=())


@contextmanager
def making_child_of(parent: Any) -> Iterator[None]:
    """Within: the metrics that are made may be children of `parent`."""
    token = _parents.set((*_parents.get(), parent))
    try:
        yield
    finally:
        _parents.reset(token)


def init(metric: Any) -> None:
    """Gives a new counter, gauge, summary or histogram its value: prometheus_client's `_metric_init`."""
    parents = _parents.get()
    owner = metric
    if internals.label_values(metric) and parents and internals.is_child_of(metric, parents[-1]):
        owner = parents[-1]
    if not bind(metric, owner):
        native_methods.remove(metric)
        internals.original_init(metric)
    if not parents:
        deliver()


def bind(metric: Any, owner: Any) -> bool:
    """Gives a metric its value in the store. `owner` is the metric whose child it is, or itself. Returns
    False if the store does not take it."""
    engine = store.engine()
    if engine is None or engine.is_closed:
        return False
    try:
        family = family_of(engine, owner)
        record = Record(metric, family, _labels(metric))
    except Exception as error:
        report(metric, error)
        return False
    _give_cells(metric, record)
    return True


def family_of(engine: Engine, owner: Any) -> Family:
    """Returns the family of a metric in the engine, and declares it at first use."""
    family = engine.known_family(owner)
    if family is None:
        type_ = internals.type_of(owner)
        assert type_ is not None
        parts = internals.family_of(owner, type_)
        exemplars = type_ in ("counter", "histogram") and engine.keeps_exemplars(parts["name"])
        family = engine.family(owner, Definition(**parts, utf8=True, exemplars=exemplars))
    return family


def record_of(metric: Any) -> Record | None:
    """Returns the native metric of a metric; None if its value is in this process alone."""
    if internals.is_parent(metric):
        return None
    part = internals.parts_of(metric)[0]
    return part.record if isinstance(part, Cell) else None


def report(metric: Any, error: Exception) -> None:
    """Notes, once for each reason, that a metric counts in this process alone. `deliver` logs it."""
    text = f"{metric} counts in this process alone: {error}"
    if text not in _reported:
        if len(_reported) < 1000:
            _reported.add(text)
        _waiting.append(text)


def deliver() -> None:
    """Logs what is waiting. prometheus_client makes a child while it holds the lock of its parent, and a
    handler of the program may count with the same metric. So this is called after the lock is free."""
    while _waiting:
        try:
            _logging.logger.error("%s", _waiting.pop(0))
        except IndexError:
            # Another thread has taken it.
            break
    _logging.deliver()


def _labels(metric: Any) -> dict[str, str]:
    names, values = internals.label_names(metric), internals.label_values(metric)
    return dict(zip(names, map(plain_text, values)))


def _give_cells(metric: Any, record: Record) -> None:
    type_ = record.family.definition.type_
    total = Cell(record, 0)
    if type_ in ("counter", "gauge"):
        internals.give_number(metric, total)
    elif type_ == "summary":
        internals.give_observed(metric, total, Cell(record, 1), None)
    else:
        count = len(internals.bounds_of(metric))
        internals.give_observed(metric, total, None, [Cell(record, 1 + index) for index in range(count)])
    if type_ != "gauge":
        internals.give_created(metric, time.time())
