"""Reads metrics for a scrape: one reading of the store for all metrics of a registry.

The samples of a metric come in the order in which this process has made its children, and behind them those
that only other processes have.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from pytheus_backend_rs import _snapshot
from pytheus_backend_rs._engine import Engine, Family
from pytheus_backend_rs._native import lib
from pytheus_backend_rs._snapshot import ReadFamily, ReadSeries
from pytheus_backend_rs._text import plain_text
from pytheus_backend_rs.prometheus import binding, internals, processes, store, texts
from pytheus_backend_rs.prometheus.internals import Exemplar, Metric, bound_text
from pytheus_backend_rs.prometheus.values import Cell

#: A suffix, labels, value and exemplar.
Part = tuple[str, dict[str, str], float, Any]


#: What the present scrape has read, by family. Each thread and each greenlet has its own.
_reading: ContextVar[dict[Family, ReadFamily] | None] = ContextVar("reading", default=None)


def collect(metric: Any) -> Iterable[Metric]:
    """Returns the samples of a metric with those of other processes: `MetricWrapperBase.collect`."""
    family = _family_to_read(metric)
    if family is None:
        return internals.ORIGINAL_COLLECT(metric)
    found = internals.new_metric(metric)
    name = found.name
    for suffix, labels, value, exemplar in _parts(metric, _read_one(family)):
        found.add_sample(name + suffix, labels, value, None, exemplar)
    return [found]


def collect_process(collector: Any) -> Iterable[Metric]:
    """Returns the metrics of all processes: `collect` of the collectors of `internals.PROCESS`."""
    families = processes.families_for(collector)
    if not families:
        return internals.original_collect(collector)
    with read_once(families):
        return [stored_metric(_read_one(family)) for family in families]


def collect_registry(registry: Any) -> Iterator[Metric]:
    """Returns the metrics of a registry: `CollectorRegistry.collect`.

    Custom collectors run before the store is read, because they may change metrics.
    """
    collectors, target = collectors_of(registry)
    families = {collector: read for collector in collectors if (read := families_to_read(collector))}
    others = {
        id(collector): list(collector.collect())
        for collector in collectors
        if collector not in families and not is_ours(collector)
    }
    found = [] if target is None else [target]
    with read_once([family for read in families.values() for family in read]):
        for collector in collectors:
            found += others[id(collector)] if id(collector) in others else collector.collect()
    return iter(found)


def collectors_of(registry: Any) -> tuple[list[Any], Metric | None]:
    """Returns the collectors of a registry that a scrape asks, and the metric of its target."""
    collectors, target = internals.collectors_of(registry)
    if any(isinstance(collector, internals.MULTI_PROCESS) for collector in collectors):
        # It shows the whole store, with the metrics of all processes.
        collectors = [collector for collector in collectors if not processes.families_for(collector)]
    return collectors, target


def collect_store(engine: Engine) -> list[Metric]:
    """Returns all families of the store: `MultiProcessCollector.collect`."""
    try:
        families = _snapshot.read(engine, None)
    finally:
        binding.deliver()
    return [stored_metric(family) for family in families]


def stored_metric(family: ReadFamily) -> Metric:
    """Returns a family of the store, whatever this process has of it."""
    metric = metric_for(family)
    name = metric.name
    for one in family.series:
        # As prometheus_client shows its files: the sum of a histogram first, whatever its bounds are.
        parts = list(_series_parts(family, one))
        if family.type_ == "histogram":
            parts = [part for part in parts if part[0] != "_sum"]
            parts.insert(0, ("_sum", one.labels, one.values[-1], None))
        for suffix, labels, value, _ in parts:
            metric.add_sample(name + suffix, labels, value)
    return metric


def metric_for(family: ReadFamily) -> Metric:
    """Returns an empty `Metric` for the samples of a family of the store."""
    name = internals.shown_name(family.name, family.type_)
    return Metric(name, family.help, "unknown" if family.type_ == "untyped" else family.type_)


def families_to_read(collector: Any) -> list[Family]:
    """Returns the families that `collect` of a collector reads; none for one that reads no store."""
    if not is_ours(collector):
        return processes.families_for(collector)
    family = _family_to_read(collector)
    return [] if family is None else [family]


def is_ours(collector: Any) -> bool:
    """Tells whether a collector is a metric of prometheus_client, without a `collect` of its own."""
    return internals.type_of(collector) is not None and type(collector).collect is internals.BASE.collect


def _family_to_read(metric: Any) -> Family | None:
    """Returns the family of a metric, if the store has values of it."""
    type_ = internals.type_of(metric)
    engine = store.engine()
    if type_ is None or engine is None or internals.label_values(metric) or engine.has_refused(metric):
        return None
    if type_ in ("info", "stateset"):
        return texts.shared_family(metric)
    if not internals.is_parent(metric) and binding.record_of(metric) is None:
        return None
    try:
        return binding.family_of(engine, metric)
    except Exception as error:
        binding.report(metric, error)
        return None


@contextmanager
def read_once(families: list[Family]) -> Iterator[None]:
    """Within: metrics of these families are collected from one reading, taken now."""
    outer = _reading.get()
    if outer is not None and all(family in outer for family in families):
        yield
        return
    read: dict[Family, ReadFamily] = {}
    by_engine: dict[Engine, list[Family]] = {}
    for family in families:
        by_engine.setdefault(family.engine, []).append(family)
    token = None
    try:
        for engine, own in by_engine.items():
            read.update(zip(own, _snapshot.read(engine, own)))
        token = _reading.set(read)
        yield
    finally:
        if token is not None:
            _reading.reset(token)
        binding.deliver()


def _read_one(family: Family) -> ReadFamily:
    reading = _reading.get()
    found = None if reading is None else reading.get(family)
    return _snapshot.read(family.engine, [family])[0] if found is None else found


def _parts(metric: Any, family: ReadFamily) -> Iterator[Part]:
    names = internals.label_names(metric)
    series: dict[tuple[str | None, ...], list[ReadSeries]] = {}
    for one in family.series:
        series.setdefault(tuple([one.labels.get(name) for name in names]), []).append(one)
    for values, child in internals.children_of(metric):
        read = series.pop(tuple(map(plain_text, values)), [])
        own = dict(zip(names, values))
        if family.type_ in ("info", "stateset"):
            is_local = not any(any(one.values) for one in read)
        else:
            is_local = internals.computes_its_value(child) or (
                not read and counts_alone(child, family.gauge_mode)
            )
        if is_local:
            for suffix, labels, value, _, exemplar, *_ in internals.samples_of_child(child):
                yield suffix, {**own, **labels}, value, exemplar
            continue
        for one in read:
            yield from _series_parts(family, one, child)
    for left in series.values():
        for one in left:
            yield from _series_parts(family, one)


def _series_parts(family: ReadFamily, series: ReadSeries, child: Any = None) -> Iterator[Part]:
    """Returns the samples of a series. With the metric of this process, those of a registry: they have
    exemplars and the time of creation."""
    labels, values, type_ = series.labels, series.values, family.type_
    if type_ == "counter":
        yield "_total", labels, values[0], _exemplars([math.inf], series, child)[-1]
    elif type_ == "info":
        yield "_info", labels, 1.0, None
    elif type_ == "stateset":
        states = values if any(values) else [1.0, *values[1:]]
        for state, is_on in zip(family.states, states):
            yield "", {**labels, family.name: state}, is_on, None
    elif type_ == "summary":
        yield "_count", labels, values[0], None
        yield "_sum", labels, values[1], None
    elif type_ in ("histogram", "gaugehistogram"):
        bounds = [*family.bounds, math.inf]
        exemplars = _exemplars(bounds, series, child)
        for bound, value, exemplar in zip(bounds, values, exemplars):
            yield "_bucket", {**labels, "le": bound_text(bound)}, value, exemplar
        count, total = values[-2:]
        gauge = "g" if type_ == "gaugehistogram" else ""
        yield f"_{gauge}count", labels, count, None
        if bounds[0] >= 0 or gauge:
            yield f"_{gauge}sum", labels, total, None
    else:
        yield "", labels, values[0], None
    if child is not None and type_ in ("counter", "summary", "histogram") and internals.shows_created():
        yield "_created", labels, _created(series, child), None


def counts_alone(child: Any, gauge_mode: str | None) -> bool:
    """Tells whether a child without a series counts in this process: the store has refused it, or cannot hold
    it yet. A gauge may have no value of this process yet."""
    record = binding.record_of(child)
    return record is None or (
        gauge_mode is None and not record.is_removed and bool(lib.metric_is_live(record.native[1]))
    )


def _created(series: ReadSeries, child: Any) -> float:
    """Returns when a series began. In memory, this process knows it better than the store."""
    own = internals.created_of(child)
    record = binding.record_of(child)
    is_shared = record is not None and record.family.engine.is_shared
    return series.created if own is None or (is_shared and series.created) else own


def _exemplars(bounds: Sequence[float], series: ReadSeries, child: Any) -> list[Any]:
    """Returns the exemplar of each bucket, or of a counter: the newest one of those in the store and that of
    this process. The store does not take each: one in a tenth of a second, and four for all buckets."""
    parts: Sequence[Any] = () if child is None else internals.parts_of(child)[-len(bounds) :]
    found = [part.get_exemplar() if isinstance(part, Cell) else None for part in parts]
    if len(found) != len(bounds):
        found = [None] * len(bounds)
    for one in sorted(series.exemplars, key=lambda exemplar: exemplar.timestamp):
        place = bisect_left(bounds, one.value)
        own = found[place]
        if own is None or (own.timestamp or 0) <= one.timestamp:
            found[place] = Exemplar(*one)
    return found
