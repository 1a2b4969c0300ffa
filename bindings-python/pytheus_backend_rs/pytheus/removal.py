"""Takes series out of the store: one, all of a metric, or all that this process has declared."""

from __future__ import annotations

import functools
import gc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytheus_backend_rs import metrics
from pytheus_backend_rs._engine import Engine
from pytheus_backend_rs._errors import ConfigurationError, NotFoundError
from pytheus_backend_rs.pytheus import internals, native_methods
from pytheus_backend_rs.pytheus.backends import Backend, family_in, loaded_engine, values_of_this_process

if TYPE_CHECKING:
    from pytheus.metrics import _Metric, _MetricCollector


def remove(metric: _Metric, labels: Mapping[str, Any]) -> bool:
    """Removes the series of a metric that has these labels, default labels included, from the store.

    Returns False if the store has none. `metric.labels(…)` makes a new one, which begins at 0. A child that
    the program has kept goes on counting, but what it counts is not in the store.
    """
    collector = internals.collector_of(metric)
    family = family_in(_engine(), collector)
    complete = internals.complete_labels(collector, labels)
    missing = set(family.label_names).symmetric_difference(complete)
    if missing:
        raise ValueError(f"metric {collector.name!r}: wrong or missing labels: {', '.join(sorted(missing))}")
    internals.forget_child(collector, complete)
    try:
        family.remove(complete)
    except NotFoundError:
        return False
    return True


def clear(metric: _Metric) -> None:
    """Removes all series of a metric from the store, those of other processes too.

    A metric without labels begins at 0 again. No other thread may count with it in the meantime.
    """
    collector = internals.collector_of(metric)
    family_in(_engine(), collector).clear()
    internals.forget_children(collector)
    _renew(collector)


def reset() -> None:
    """Empties the loaded store, as between two tests: every metric of this process begins at 0.

    It removes all series of the families that this process has ever declared, those of other processes too.
    No other thread may count in the meantime. A bound method that the program has kept (`inc = counter.inc`)
    counts nothing any more.
    """
    engine = _engine()
    # Metrics of the last test may be garbage in reference cycles.
    gc.collect()
    for one in (engine, values_of_this_process()):
        one.clear()
        metrics.renew(one)
        for collector in one.owners():
            _renew(collector)


def _engine() -> Engine:
    engine = loaded_engine()
    if engine is None:
        raise ConfigurationError("no backend of this package is loaded: call load_backend first")
    return engine


def _renew(collector: _MetricCollector[Any]) -> None:
    """Gives the metrics of a collector new values in the store."""
    for metric in internals.observable_metrics(collector):
        view = internals.value_of(metric)
        if isinstance(view, Backend):
            native_methods.uninstall(metric)
            internals.renew(metric, functools.partial(type(view), view.config, metric))
