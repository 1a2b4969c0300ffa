"""Takes series out of the store: `remove`, `remove_by_labels` and `clear` of the metrics, and `reset`."""

from __future__ import annotations

import gc
import time
import warnings
from collections.abc import Callable
from typing import Any

from pytheus_backend_rs import _snapshot, metrics, process
from pytheus_backend_rs._engine import Engine, Family
from pytheus_backend_rs._errors import BackendError, NotFoundError
from pytheus_backend_rs._text import plain_text
from pytheus_backend_rs.prometheus import binding, internals, store

_Method = Callable[..., None]


class Warnings:
    """Stands for the module `warnings` in prometheus_client's: without the warning that series cannot be
    removed in the multi-process mode. A filter would be one of all threads, and of all modules."""

    def __getattr__(self, name: str) -> Any:
        return getattr(warnings, name)

    def warn(self, message: Any, category: Any = None, stacklevel: int = 1, **more: Any) -> None:
        """Warns as `warnings.warn` does."""
        if "multi-process mode yet" not in str(message):
            warnings.warn(message, category, stacklevel + 1, **more)


def reset() -> None:
    """Empties the store, as between two tests: every metric of this process begins at 0, infos and enums
    with their first value.

    No other thread may count in the meantime.
    """
    engine = store.engine()
    if engine is None:
        return
    # Metrics of the last test may be garbage in reference cycles.
    gc.collect()
    engine.clear()
    metrics.renew(engine)
    process.show_again(engine)
    for metric in internals.all_metrics():
        for _, child in internals.children_of(metric):
            _begin_again(child, engine)
    binding.deliver()


def _begin_again(metric: Any, engine: Engine) -> None:
    """Gives a metric the value with which it was made."""
    type_ = internals.type_of(metric)
    if type_ is None:
        return
    record = None if type_ in ("info", "stateset") else binding.record_of(metric)
    if record is None:
        internals.original_init(metric)
    elif record.family.engine is engine:
        record.renew()
        for part in internals.parts_of(metric):
            part.set_exemplar(None)
        if type_ != "gauge":
            internals.give_created(metric, time.time())


def remove(original: _Method) -> _Method:
    """Makes the method that removes one series."""

    def remove(self: Any, *labelvalues: Any) -> None:
        """Remove the given labelset from the metric."""
        before = _children(self)
        original(self, *labelvalues)
        values = tuple(str(value) for value in labelvalues)
        _erase(self, values, before.get(values))

    return remove


def remove_by_labels(original: _Method) -> _Method:
    """Makes the method that removes the series with some labels."""

    def remove_by_labels(self: Any, labels: dict[str, str]) -> None:
        """Remove all series whose labelset partially matches the given labels."""
        before = _children(self)
        original(self, labels)
        if not labels:
            return
        wanted = {name: plain_text(value) for name, value in labels.items()}
        names = internals.label_names(self)
        for values in {*before, *_stored_values(self)}:
            own = dict(zip(names, map(plain_text, values)))
            if all(own[name] == value for name, value in wanted.items()):
                _erase(self, values, before.get(values))

    return remove_by_labels


def clear(original: _Method) -> _Method:
    """Makes the method that removes all series."""

    def clear(self: Any) -> None:
        """Remove all labelsets from the metric"""
        before = _children(self)
        original(self)
        family = _family(self) if internals.is_parent(self) else None
        if family is not None:
            _forget(before.values())
            _try(self, family.clear)

    return clear


def _children(metric: Any) -> dict[tuple[str, ...], Any]:
    return dict(internals.children_of(metric)) if internals.is_parent(metric) else {}


def _family(metric: Any) -> Family | None:
    engine = store.engine()
    if engine is None or internals.type_of(metric) is None:
        return None
    try:
        return binding.family_of(engine, metric)
    except Exception as error:
        binding.report(metric, error)
        return None


def _stored_values(metric: Any) -> list[tuple[str, ...]]:
    """Returns the label values of the series in the store."""
    family = _family(metric)
    if family is None:
        return []
    names = internals.label_names(metric)
    try:
        series = _snapshot.read(family.engine, [family])[0].series
    except BackendError as error:
        binding.report(metric, error)
        return []
    return [tuple(one.labels.get(name, "") for name in names) for one in series]


def _erase(metric: Any, values: tuple[str, ...], child: Any) -> None:
    family = _family(metric)
    if family is None:
        return
    labels = dict(zip(internals.label_names(metric), map(plain_text, values)))
    if child is not None:
        _forget([child])
    _try(metric, lambda: family.remove(labels))


def _forget(children: Any) -> None:
    """Notes that this process has removed children, which the program may have kept."""
    for child in children:
        record = None if internals.type_of(child) in ("info", "stateset") else binding.record_of(child)
        if record is not None:
            record.is_removed = True


def _try(metric: Any, change: Callable[[], None]) -> None:
    try:
        change()
    except NotFoundError:
        pass
    except BackendError as error:
        binding.report(metric, error)
    finally:
        binding.deliver()
