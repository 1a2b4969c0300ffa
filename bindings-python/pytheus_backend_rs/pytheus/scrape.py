"""Reads the metrics of a pytheus registry: as text, and as the samples that pytheus asks a backend class for.

The engine renders the families that it has, without the GIL. This module decides which those are, and
collects the others: custom collectors, and metrics that count elsewhere because they were made before the
backend was loaded, or before `load_backend` was called again with another store.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pytheus_backend_rs import _logging
from pytheus_backend_rs._engine import Engine, Family, LastingFamily, Rendered, Series, open_engines
from pytheus_backend_rs._errors import BackendError, ConflictError
from pytheus_backend_rs._foreign import ForeignFamilies
from pytheus_backend_rs._labels import labels_json
from pytheus_backend_rs.pytheus import custom, internals
from pytheus_backend_rs.pytheus.backends import Backend, loaded_engine
from pytheus_backend_rs.pytheus.children import collect

if TYPE_CHECKING:
    from pytheus.metrics import Sample, _Metric, _MetricCollector
    from pytheus.registry import Collector, Registry

#: How long a scrape waits, in all, for other engines of this process to send what they have, in seconds.
_OTHER_ENGINES_SECONDS = 1.0

#: The collectors and engines that a scrape left out, so that each is logged once.
_reported: set[str] = set()


def generate_metrics(registry: Registry | None = None, *, include_others: bool | None = None) -> str:
    """Returns the metrics of a registry (by default pytheus' `REGISTRY`) as Prometheus text 0.0.4.

    A replacement for `pytheus.exposition.generate_metrics`: the same families with the same values, many
    times faster, and without holding the GIL while the store is read and the text is written.

    With `include_others`, the families follow that other processes of the service have declared in the store
    and this process has not. The default is to include them in a scrape of `REGISTRY`.

    Raises `UnavailableError` or `BackendTimeoutError` if the store cannot be read.
    """
    registry, engine, include_others = _chosen(registry, include_others)
    if engine is None:
        return _rendered_by_pytheus(registry)
    try:
        families, foreign = _prepared(engine, registry)
        return engine.render_text(families, foreign, registry.prefix, include_others)
    finally:
        _logging.deliver()


def render(
    registry: Registry | None,
    accept: str | None,
    query: bytes,
    include_others: bool | None,
    created_samples: bool = False,
) -> Rendered:
    """Renders a registry for a scraper that sends this `Accept` header and this query."""
    registry, engine, include_others = _chosen(registry, include_others)
    if engine is None:
        from pytheus.exposition import PROMETHEUS_CONTENT_TYPE

        return Rendered(PROMETHEUS_CONTENT_TYPE, _rendered_by_pytheus(registry).encode())
    try:
        families, foreign = _prepared(engine, registry)
        return engine.render(
            families, foreign, accept, query, registry.prefix, include_others, created_samples
        )
    finally:
        _logging.deliver()


def _chosen(registry: Registry | None, include_others: bool | None) -> tuple[Registry, Engine | None, bool]:
    """Returns what to render: the registry, the loaded engine, and whether the families of others follow."""
    default = internals.default_registry()
    chosen = default if registry is None else registry
    return chosen, loaded_engine(), chosen is default if include_others is None else include_others


def _rendered_by_pytheus(registry: Registry) -> str:
    """Renders a registry whose backend is not one of this package."""
    from pytheus import exposition

    return str(exposition.generate_metrics(registry))


def _prepared(engine: Engine, registry: Registry) -> tuple[list[Family | LastingFamily], ForeignFamilies]:
    """Returns the families to render, after the other engines have sent what they have. Families that the
    program has declared without pytheus belong to a scrape of `REGISTRY`."""
    families, foreign = _families(engine, registry)
    _flush_others(engine)
    if registry is internals.default_registry():
        return [*families, *engine.lasting_families()], foreign
    return [*families], foreign


def _families(engine: Engine, registry: Registry) -> tuple[list[Family], ForeignFamilies]:
    """Returns the families of a registry that the engine has, and those that stand between them."""
    families: list[Family] = []
    foreign = ForeignFamilies()
    for collector in internals.collectors_of(registry):
        if internals.is_custom_collector(collector):
            # As in pytheus, these have no prefix.
            for metric, samples in _run_custom(collector):
                _add_foreign(foreign, len(families), internals.collector_of(metric), None, samples)
        elif not _is_plain(collector):
            _add_foreign(foreign, len(families), collector, registry.prefix, _run(collector))
        else:
            family = _family(engine, collector)
            if family is not None and _has_all(engine, family, collector):
                families.append(family)
            elif samples := _read(engine, [collector])[collector]:
                _add_foreign(foreign, len(families), collector, registry.prefix, samples)
    return families, foreign


def _is_plain(collector: Any) -> bool:
    """Tells whether a collector shows the values of its metrics and nothing else."""
    return internals.is_metric_collector(collector) and not internals.has_own_samples(collector)


def _add_foreign(
    foreign: ForeignFamilies,
    position: int,
    collector: Any,
    prefix: str | None,
    samples: Iterable[Sample] | None,
) -> None:
    """Adds a collector with its samples; None, if they could not be collected, adds nothing."""
    if samples is None:
        return
    name = f"{prefix}_{collector.name}" if prefix else collector.name
    try:
        foreign.add_family(name, collector.description, str(collector.type_), position)
    except Exception as error:
        _report(name, error)
        return
    for one in samples:
        # A program made the sample, so anything may be wrong with it. It must cost nothing else.
        try:
            foreign.add_sample(one.suffix, one.labels or {}, one.value)
        except Exception as error:
            _report(f"a sample of {name}", error)


def _run_custom(collector: Any) -> list[tuple[Any, list[Sample]]]:
    """Returns the metrics that a custom collector makes for this scrape, with their samples; none if it
    raises."""
    try:
        with custom.collecting():
            made = list(collector.collect())
        return [(metric, internals.samples_of(internals.collector_of(metric))) for metric in made]
    except Exception as error:
        _report(type(collector).__name__, error)
        return []


def _run(collector: Any) -> list[Sample] | None:
    """Returns the samples that a collector makes itself; None if it raises."""
    try:
        return internals.samples_of(collector)
    except Exception as error:
        _report(collector.name, error)
        return None


def _family(engine: Engine, collector: _MetricCollector[Any]) -> Family | None:
    """Returns the family of a collector; None, which is logged, if the engine refuses it."""
    family = engine.known_family(collector)
    if family is not None:
        return family
    try:
        return engine.family(collector, internals.definition_of(collector, engine))
    except AttributeError:
        # Another thread is still constructing it.
        return None
    except ConflictError:
        # It counts in this process alone, which was logged when its first metric was made.
        return None
    except (BackendError, ValueError) as error:
        _report(collector.name, error)
        return None


def _report(name: str, error: Exception) -> None:
    """Logs, once for each name and kind of error, that scrapes leave it out."""
    key = f"{name} {type(error).__name__}"
    if key not in _reported:
        _reported.add(key)
        is_own = isinstance(error, (BackendError, ValueError))
        # The traceback shows where a program's collector failed.
        _logging.logger.error(
            "%s is left out of scrapes: %r", name, error, exc_info=None if is_own else error
        )


def samples(engine: Engine, registry: Registry) -> dict[Collector, list[Sample]]:
    """Returns the samples of the collectors of a registry; `engine` is the one that was loaded last.

    There is one order, that of pytheus' own Redis backend: collectors as in the registry, the metrics of each
    sorted by their labels JSON, and the samples of a histogram by bound, then `_count`, then `_sum`.
    """
    collectors = internals.collectors_of(registry)
    return _collected(collectors, _read(engine, [one for one in collectors if _is_plain(one)]))


def samples_in_memory(registry: Registry) -> dict[Collector, list[Sample]]:
    """Returns the samples of a registry whose values are in this process, in the order in which pytheus has
    them."""
    collectors = internals.collectors_of(registry)
    plain = [one for one in collectors if _is_plain(one)]
    return _collected(collectors, {one: internals.samples_of(one, collect) for one in plain})


def _collected(collectors: list[Any], read: dict[Any, list[Sample]]) -> dict[Collector, list[Sample]]:
    """Returns the samples of collectors in their order; those that are in `read` have been read."""
    found: dict[Any, list[Sample]] = {}
    for collector in collectors:
        if internals.is_custom_collector(collector):
            made = _run_custom(collector)
            metrics = [metric for metric, _ in made]
            found[_Collected(collector, metrics)] = [sample for _, own in made for sample in own]
        else:
            own = read[collector] if _is_plain(collector) else _run(collector)
            if own is not None:
                found[_Collected(collector, own)] = own
    return found


class _Collected:
    """A key of the mapping that stands for a collector which has been collected, and equals it.

    pytheus calls `collect` of a key if its list is empty, or if it is a custom collector. The collector's own
    `collect` must not run again: it could count twice, or wait for a store that has just failed.
    """

    def __init__(self, collector: Any, collected: Iterable[Any]) -> None:
        self._collector_itself = collector
        self._collected = collected

    def collect(self) -> Iterable[Any]:
        return self._collected

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collector_itself, name)

    def __eq__(self, other: object) -> bool:
        return other is self or bool(other == self._collector_itself)

    def __hash__(self) -> int:
        try:
            return hash(self._collector_itself)
        except TypeError:
            # An unhashable collector cannot be looked up in the mapping.
            return id(self)


def _read(engine: Engine, collectors: list[Any]) -> dict[Any, list[Sample]]:
    """Reads the metrics of collectors wherever they count."""
    whole = _whole_families(engine, collectors)
    readings = _plan(engine, [one for one in collectors if one not in whole])
    if whole:
        readings.setdefault(engine.store, _Reading(engine)).families.update(whole)
    _flush_others(engine)
    # The engine that was loaded last comes last, so its values replace those of the others.
    series = [found for one in readings.values() if one.engine is not engine for found in _try(one)]
    series += [one.run() for one in readings.values() if one.engine is engine]
    samples = {}
    for collector in collectors:
        if collector in whole:
            samples[collector] = _samples_of_family(collector, whole[collector], series[-1][collector])
            continue
        known = {labels_json(labels): labels for labels in map(internals.labels_of, _complete(collector))}
        by_labels = {
            one.labels: _samples_of_series(collector, [(one, _shown(known, one.labels))])
            for found in series
            for one in found.get(collector, ())
        }
        _add_local(by_labels, collector)
        samples[collector] = [sample for key in sorted(by_labels) for sample in by_labels[key]]
    return samples


def _whole_families(engine: Engine, collectors: list[Any]) -> dict[Any, Family]:
    """Returns the families of those collectors of which the engine, which is shared, has all metrics."""
    whole: dict[Any, Family] = {}
    if engine.is_shared:
        for collector in collectors:
            family = _family(engine, collector)
            if family is not None and _has_all(engine, family, collector):
                whole[collector] = family
    return whole


def _samples_of_family(
    collector: _MetricCollector[Any], family: Family, series: list[Series]
) -> list[Sample]:
    """Returns the samples of a collector of which the engine has all metrics. The series are sorted.

    The family keeps the labels of its metrics by their JSON, because making all the JSON takes long.
    """
    known = family.labels_as_shown
    if any(one.labels not in known for one in series):
        known = {labels_json(labels): labels for labels in map(internals.labels_of, _complete(collector))}
        family.labels_as_shown = known
    return _samples_of_series(collector, [(one, _shown(known, one.labels)) for one in series])


def _shown(known: dict[str, dict[str, str]], labels: str) -> dict[str, str]:
    """Returns labels in the order of this process, or, if it has no such metric, in that of their JSON."""
    shown = known.get(labels)
    if shown is None:
        shown = known[labels] = json.loads(labels)
    return shown


class _Reading:
    """The collectors whose metrics one engine has, to be read in one go."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.families: dict[Any, Family] = {}

    def want(self, collector: _MetricCollector[Any]) -> None:
        family = _family(self.engine, collector)
        if family is not None:
            self.families[collector] = family

    def run(self) -> dict[Any, list[Series]]:
        """Returns the series of each collector."""
        collectors = list(self.families)
        series: dict[Any, list[Series]] = {collector: [] for collector in collectors}
        for one in self.engine.read(list(self.families.values())):
            series[collectors[one.family_index]].append(one)
        return series


def _plan(engine: Engine, collectors: list[_MetricCollector[Any]]) -> dict[object, _Reading]:
    """Decides which engine, by its store, is asked for which collectors.

    The engine that was loaded last is asked for all, because other processes may have counted there. Engines
    with the same store have the same values, so one of them is enough. Values in memory are read metric by
    metric.
    """
    readings = {engine.store: _Reading(engine)} if engine.is_shared else {}
    for collector in collectors:
        engines = {engine.store: engine} if engine.is_shared else {}
        for value in internals.values_of(collector):
            other = _engine_of(value)
            if other is not None and other.is_shared:
                engines.setdefault(other.store, other)
        for store, one in engines.items():
            readings.setdefault(store, _Reading(one)).want(collector)
    return readings


def _flush_others(engine: Engine) -> None:
    """Makes all engines but this one send what they have before it is read, as they may have the same
    store."""
    give_up_at = time.monotonic() + _OTHER_ENGINES_SECONDS
    for other in open_engines():
        left = give_up_at - time.monotonic()
        if other is not engine and other.is_shared and left > 0:
            try:
                other.flush(left)
            except BackendError:
                # Its server is lost. The engine has logged that, and keeps the changes.
                continue


def _try(reading: _Reading) -> list[dict[Any, list[Series]]]:
    """Reads a store that is not the loaded one: it may be gone for good, and must not fail the scrape
    then."""
    try:
        return [reading.run()]
    except BackendError as error:
        _report(repr(reading.engine), error)
        return []


def _engine_of(value: Any) -> Engine | None:
    """Returns the engine in which the metric of a backend object counts, if it is one of this package."""
    return value._family.engine if isinstance(value, Backend) else None


def _has_all(engine: Engine, family: Family, collector: _MetricCollector[Any]) -> bool:
    """Tells whether the engine has the values of all metrics of a collector.

    The family remembers that it has, so a scrape does not look at each metric again. `Backend` tells it when
    a metric may have begun to count elsewhere. A program that replaces the backend object of a metric by its
    private name is noticed when the replaced object is deleted.
    """
    changes = family.changes
    if family.whole_at == changes:
        return True
    values = internals.values_of(collector)
    if not all(_counts_in(engine, value) for value in values):
        return False
    # A metric that another thread is still constructing may turn out to count elsewhere.
    if all(value is not None for value in values):
        family.whole_at = changes
    return True


def _counts_in(engine: Engine, value: Any) -> bool:
    """Tells whether the engine has the values of a backend object.

    It may have them through another engine with the same store.
    """
    if value is None:
        # Another thread is still constructing the metric.
        return True
    found = _engine_of(value)
    return found is engine or (found is not None and found.store == engine.store)


def _complete(collector: _MetricCollector[Any]) -> list[_Metric]:
    return [metric for metric in internals.observable_metrics(collector) if internals.is_complete(metric)]


def _add_local(by_labels: dict[str, list[Sample]], collector: _MetricCollector[Any]) -> None:
    """Adds the metrics whose values are in this process alone, so no store was asked for them."""
    for metric in _complete(collector):
        engine = _engine_of(internals.value_of(metric))
        if engine is None or not engine.is_shared:
            key = labels_json(internals.labels_of(metric))
            if key not in by_labels:
                by_labels[key] = _count_before_sum(list(collect(metric)))


def _samples_of_series(
    collector: _MetricCollector[Any], series: list[tuple[Series, dict[str, str]]]
) -> list[Sample]:
    """Returns the samples of metrics, given with the labels that are shown."""
    from pytheus.metrics import Sample

    type_ = str(collector.type_)
    if type_ not in internals.OBSERVED_TYPES:
        return [Sample("", dict(labels) or None, one.values[0]) for one, labels in series]
    bounds = internals.bounds_as_shown(collector) if type_ == "histogram" else []
    samples = []
    for one, labels in series:
        samples += [
            Sample("_bucket", {**labels, "le": bound}, value) for bound, value in zip(bounds, one.values)
        ]
        count, total = one.values[-2:]
        samples.append(Sample("_count", dict(labels) or None, count))
        samples.append(Sample("_sum", dict(labels) or None, total))
    return samples


def _count_before_sum(samples: list[Sample]) -> list[Sample]:
    """Exchanges the last two samples of a histogram or summary, which pytheus collects in the other order."""
    if len(samples) < 2:
        return samples
    *buckets, total, count = samples
    return [*buckets, count, total]
