"""Takes series out of the store: `remove`, `remove_by_labels` and `clear` of the metrics, and `reset`."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import Any

from pytheus_backend_rs import _snapshot
from pytheus_backend_rs._engine import Family
from pytheus_backend_rs._errors import BackendError, NotFoundError
from pytheus_backend_rs._text import plain_text
from pytheus_backend_rs.prometheus import binding, internals, store

_Method = Callable[..., None]


def reset() -> None:
    """Empties the store, as between two tests: every metric of this process begins at 0.

    No other thread may count in the meantime.
    """
    engine = store.engine()
    if engine is None:
        return
    # Metrics of the last test may be garbage in reference cycles.
    gc.collect()
    engine.clear()
    for owner in engine.owners():
        if internals.type_of(owner) not in ("info", "stateset"):
            for _, child in internals.children_of(owner):
                record = binding.record_of(child)
                if record is not None:
                    record.renew()
    binding.deliver()


def remove(original: _Method) -> _Method:
    """Makes the method that removes one series."""

    def remove(self: Any, *labelvalues: Any) -> None:
        """Remove the given labelset from the metric."""
        before = _children(self)
        _quietly(original, self, *labelvalues)
        values = tuple(str(value) for value in labelvalues)
        _erase(self, values, before.get(values))

    return remove


def remove_by_labels(original: _Method) -> _Method:
    """Makes the method that removes the series with some labels."""

    def remove_by_labels(self: Any, labels: dict[str, str]) -> None:
        """Remove all series whose labelset partially matches the given labels."""
        before = _children(self)
        _quietly(original, self, labels)
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
        _quietly(original, self)
        family = _family(self) if internals.is_parent(self) else None
        if family is not None:
            _forget(before.values())
            _try(self, family.clear)

    return clear


def _quietly(original: _Method, *arguments: Any) -> None:
    """Calls prometheus_client's method without its warning that the multi-process mode does not remove."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        original(*arguments)


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
