"""Reads the metrics of a pytheus registry.

pytheus' `generate_metrics` asks the backend class for the samples of all collectors at once. They come
from the store in one go, so they include what only other processes have counted. Metrics that count
elsewhere (`load_backend` was called again after they were made) are read where they count.
"""

from __future__ import annotations

import json
import time
from collections.abc import ItemsView, Iterable
from typing import TYPE_CHECKING, Any

from pytheus_backend_rs import _custom
from pytheus_backend_rs._engine import Engine, Series, engines
from pytheus_backend_rs._errors import BackendError
from pytheus_backend_rs._labels import joint_labels, labels_json
from pytheus_backend_rs._logging import logger

if TYPE_CHECKING:
    from pytheus.metrics import Sample, _Metric, _MetricCollector
    from pytheus.registry import Collector, Registry

#: How long a scrape waits, in all, for other engines of this process to send what they have, in seconds.
_OTHER_ENGINES_SECONDS = 1.0

#: Names of families that could not be read, so that each is reported once.
_reported: set[str] = set()


class Samples(dict["Collector", "list[Sample]"]):
    """The samples of a registry's collectors, in registry order.

    Within a collector the metrics are sorted by their labels JSON, and a histogram's samples are its
    buckets, `_count`, `_sum`: the order of pytheus' own Redis backend.

    `items()` is what pytheus' `generate_metrics` walks, and gives what that needs to write the same text
    as for pytheus' own metrics: metrics in the order of their creation, `_sum` before `_count`, and
    stand-ins for the collectors, which pytheus would otherwise ask again where it got no samples.
    """

    def __init__(self) -> None:
        super().__init__()
        self._exposed: list[tuple[Any, list[Sample]]] = []

    def add(self, collector: Any, by_labels: dict[str, list[Sample]], known: Iterable[str]) -> None:
        """Adds a collector of pytheus: the samples of each of its metrics, by labels JSON. `known` are
        those of this process, in the order of their creation."""
        self[collector] = [sample for key in sorted(by_labels) for sample in by_labels[key]]
        order = [key for key in known if key in by_labels]
        order += sorted(by_labels.keys() - set(order))
        exposed = [sample for key in order for sample in _sum_before_count(by_labels[key])]
        stand_in = _Collected(collector.name, collector.description, collector.type_, exposed)
        self._exposed.append((stand_in, exposed))

    def add_samples(self, collector: Any, samples: list[Sample]) -> None:
        """Adds a collector that makes its own samples."""
        self._put(collector, samples)
        stand_in = _Collected(collector.name, collector.description, collector.type_, samples)
        self._exposed.append((stand_in, samples))

    def add_custom(self, collector: Any, metrics: list[Any]) -> None:
        """Adds a custom collector with the metrics that it has made."""
        self._put(collector, [sample for metric in metrics for sample in metric._collector.collect()])
        self._exposed.append((_CollectedCustom(metrics), []))

    def items(self) -> ItemsView[Collector, list[Sample]]:  # type: ignore[override]
        """The pairs that pytheus' `generate_metrics` writes."""
        return self._exposed  # type: ignore[return-value]

    def _put(self, collector: Any, samples: list[Sample]) -> None:
        try:
            self[collector] = samples
        except TypeError:
            # A custom collector may be unhashable; then it is only in the text.
            pass


class _Collected:
    """Stands in for a collector whose samples have been read."""

    def __init__(self, name: str, description: str, type_: Any, samples: list[Sample]) -> None:
        self.name = name
        self.description = description
        self.type_ = type_
        self._samples = samples

    def collect(self) -> Iterable[Sample]:
        return self._samples


class _CollectedCustom:
    """Stands in for a custom collector that has run: running it twice could count twice."""

    def __init__(self, metrics: list[Any]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Any]:
        return self._metrics


class _Reading:
    """What one engine is asked: the collectors whose metrics it has, in one go."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.collectors: list[_MetricCollector[Any]] = []
        self.families: list[Any] = []

    def want(self, collector: _MetricCollector[Any]) -> None:
        try:
            family = self.engine.family(collector)
        except (BackendError, ValueError) as error:
            # It is refused for its own sake (a conflict, a bad bucket): the others must be shown.
            report(collector.name, error)
            return
        self.collectors.append(collector)
        self.families.append(family)

    def run(self) -> dict[int, list[Series]]:
        """The series of each collector, by its id."""
        series: dict[int, list[Series]] = {id(collector): [] for collector in self.collectors}
        for one in self.engine.read(self.families):
            series[id(self.collectors[one.family_index])].append(one)
        return series


def samples_of(engine: Engine, collector: _MetricCollector[Any]) -> list[Sample]:
    """The samples of one collector whose metrics count in several places; `engine` was loaded last."""
    if not engine.is_shared:
        return list(collector.collect())
    ((_, samples),) = scrape(engine, [collector]).items()
    return samples


def scrape(engine: Engine, collectors: Iterable[Any]) -> Samples:
    """The samples of the collectors of a registry; `engine` is the one that was loaded last."""
    from pytheus.metrics import _MetricCollector

    collectors = list(collectors)
    own = [collector for collector in collectors if isinstance(collector, _MetricCollector)]
    readings = _plan(engine, own)
    flush_others(engine)
    series = [reading.run() for reading in readings if reading.engine is engine]
    series += [found for reading in readings if reading.engine is not engine for found in _try(reading)]
    samples = Samples()
    for collector in collectors:
        if isinstance(collector, _MetricCollector):
            known = _known_metrics(collector)
            by_labels = {
                one.labels: _samples(collector, one, known.get(one.labels))
                # What was loaded last comes last, and so wins.
                for found in reversed(series)
                for one in found.get(id(collector), ())
            }
            _add_local(by_labels, known)
            samples.add(collector, by_labels, known)
        elif hasattr(collector, "description"):
            samples.add_samples(collector, list(collector.collect()))
        else:
            with _custom.collecting():
                samples.add_custom(collector, list(collector.collect()))
    return samples


def _plan(engine: Engine, collectors: list[_MetricCollector[Any]]) -> list[_Reading]:
    """Which engine is asked for what: the last one for everything, others for metrics that count there.
    Engines with the same store have the same values, so one of them is enough."""
    readings = {engine.store: _Reading(engine)}
    for collector in collectors:
        readings[engine.store].want(collector)
        others = {other.store: other for other in map(_shared_engine_of, observable(collector)) if other is not None}
        for store, other in others.items():
            if store != engine.store:
                readings.setdefault(store, _Reading(other)).want(collector)
    return list(readings.values())


def flush_others(engine: Engine) -> None:
    """Has all engines but this one send what they have, before it is read: they may have the same store."""
    give_up_at = time.monotonic() + _OTHER_ENGINES_SECONDS
    for other in list(engines):
        left = give_up_at - time.monotonic()
        if other is not engine and other.is_shared and left > 0:
            try:
                other.flush(left)
            except BackendError:
                # Its server is lost: the engine has logged that, and keeps the changes.
                continue


def _try(reading: _Reading) -> list[dict[int, list[Series]]]:
    try:
        return [reading.run()]
    except BackendError as error:
        # A store that was replaced by another may be gone for good.
        report(repr(reading.engine), error)
        return []


def report(name: str, error: Exception) -> None:
    """Logs, once for each name, that scrapes lack it."""
    if name not in _reported:
        _reported.add(name)
        logger.error("%s is left out of scrapes: %s", name, error)


def observable(collector: _MetricCollector[Any]) -> list[_Metric]:
    """The metrics of a collector that count."""
    metrics = list(collector._labeled_metrics.values())
    if collector._metric._can_observe:
        metrics.insert(0, collector._metric)
    return metrics


def _view(metric: Any) -> Any:
    """The backend object that has the metric's value, or its sum."""
    return metric._sum if metric.type_ in ("histogram", "summary") else metric._metric_value_backend


def engine_of(metric: Any) -> Engine | None:
    """The engine in which a metric counts, if it is one of ours."""
    family = getattr(_view(metric), "_family", None)
    return None if family is None else family.engine


def _shared_engine_of(metric: Any) -> Engine | None:
    """The engine of a metric whose values are read there in one go: not one in memory."""
    engine = engine_of(metric)
    return engine if engine is not None and engine.is_shared else None


def _known_metrics(collector: _MetricCollector[Any]) -> dict[str, tuple[_Metric, dict[str, str]]]:
    """The metrics of this process with their labels, by labels JSON, in the order of their creation."""
    labelled = ((metric, joint_labels(metric)) for metric in observable(collector))
    return {labels_json(labels): (metric, labels) for metric, labels in labelled}


def _add_local(
    by_labels: dict[str, list[Sample]], known: dict[str, tuple[_Metric, dict[str, str]]]
) -> None:
    """Adds what no store was asked for: metrics whose values are in this process."""
    for key, (metric, _) in known.items():
        if key not in by_labels and _shared_engine_of(metric) is None and _view(metric) is not None:
            # pytheus has the sum before the count.
            by_labels[key] = _sum_before_count(list(metric.collect()))


def _samples(
    collector: _MetricCollector[Any], series: Series, known: tuple[_Metric, dict[str, str]] | None
) -> list[Sample]:
    from pytheus.metrics import Sample

    labels = json.loads(series.labels) if known is None else known[1]
    values = iter(series.values)
    samples = []
    if collector.type_ == "histogram":
        for bound in collector._metric._upper_bounds:
            samples.append(Sample("_bucket", {**labels, "le": str(bound)}, next(values)))
    suffixes = ("_count", "_sum") if collector.type_ in ("histogram", "summary") else ("",)
    for suffix in suffixes:
        samples.append(Sample(suffix, dict(labels) or None, next(values)))
    return samples


def _sum_before_count(samples: list[Sample]) -> list[Sample]:
    """The samples of one metric with the last two exchanged, if it has them."""
    if len(samples) < 2:
        return samples
    *buckets, last, very_last = samples
    return [*buckets, very_last, last]
