"""Reads the metrics of a pytheus registry from a store that processes share.

pytheus' `generate_metrics` asks the backend class for the samples of all collectors at once. They come
from the store in one go, so they include what only other processes have counted.
"""

from __future__ import annotations

import json
import threading
from collections.abc import ItemsView, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytheus_backend_rs._engine import Engine, Series, engines
from pytheus_backend_rs._errors import BackendError
from pytheus_backend_rs._labels import joint_labels, labels_json

if TYPE_CHECKING:
    from pytheus.metrics import Sample, _MetricCollector
    from pytheus.registry import Collector, Registry

#: How long a scrape waits for another engine of this process to send what it has, in seconds.
_OTHER_ENGINE_SECONDS = 1.0

_state = threading.local()


def is_collecting_custom() -> bool:
    """Whether this thread is inside a custom collector's `collect`, for a scrape."""
    return getattr(_state, "is_collecting_custom", False)


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

    def add(self, collector: _MetricCollector[Any], series: Iterable[Series]) -> None:
        """Adds a collector of this process with what the store has of it."""
        known = _known_labels(collector)
        by_labels = {one.labels: _samples(collector, one, known.get(one.labels)) for one in series}
        self[collector] = [sample for samples in by_labels.values() for sample in samples]
        order = [key for key in known if key in by_labels] + [key for key in by_labels if key not in known]
        exposed = [sample for key in order for sample in _sum_before_count(by_labels[key])]
        stand_in = _Collected(collector.name, collector.description, collector.type_, exposed)
        self._exposed.append((stand_in, exposed))

    def add_custom(self, collector: Any, metrics: list[Any]) -> None:
        """Adds a custom collector with the metrics that it has made."""
        self[collector] = [sample for metric in metrics for sample in metric._collector.collect()]
        self._exposed.append((_CollectedCustom(metrics), []))

    def items(self) -> ItemsView[Collector, list[Sample]]:
        """The pairs that pytheus' `generate_metrics` writes."""
        return self._exposed  # type: ignore[return-value]


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


def scrape(engine: Engine, registry: Registry) -> Samples:
    """The samples of all collectors of a registry."""
    _flush_other_engines(engine)
    collectors = list(registry.collect())
    own = [collector for collector in collectors if hasattr(collector, "description")]
    series: dict[int, list[Series]] = {}
    for one in engine.read([engine.family(collector) for collector in own]):
        series.setdefault(one.family_index, []).append(one)
    indexes = {id(collector): index for index, collector in enumerate(own)}
    samples = Samples()
    for collector in collectors:
        index = indexes.get(id(collector))
        if index is None:
            with _collecting_custom():
                samples.add_custom(collector, list(collector.collect()))
        else:
            samples.add(collector, series.get(index, ()))
    return samples


@contextmanager
def _collecting_custom() -> Iterator[None]:
    _state.is_collecting_custom = True
    try:
        yield
    finally:
        _state.is_collecting_custom = False


def _flush_other_engines(engine: Engine) -> None:
    """`load_backend` may have been called again: metrics that were made before count in an engine of
    their own, and a scrape shows those too."""
    for other in list(engines):
        if other is not engine and other.blocks:
            try:
                other.flush(_OTHER_ENGINE_SECONDS)
            except BackendError:
                # Its store is another one, and lost: the engine has logged that, and keeps the changes.
                continue


def _known_labels(collector: _MetricCollector[Any]) -> dict[str, dict[str, str]]:
    """The labels of the collector's metrics in this process, by their JSON, in the order in which pytheus
    shows them."""
    metrics = list(collector._labeled_metrics.values())
    if collector._metric._can_observe:
        metrics.insert(0, collector._metric)
    labels = [joint_labels(metric) for metric in metrics]
    return {labels_json(one): one for one in labels}


def _samples(
    collector: _MetricCollector[Any], series: Series, known: dict[str, str] | None
) -> list[Sample]:
    from pytheus.metrics import Sample

    labels = (json.loads(series.labels) if known is None else known) or None
    values = iter(series.values)
    samples = []
    if collector.type_ == "histogram":
        for bound in collector._metric._upper_bounds:
            samples.append(Sample("_bucket", {**(labels or {}), "le": str(bound)}, next(values)))
    suffixes = ("_count", "_sum") if collector.type_ in ("histogram", "summary") else ("",)
    for suffix in suffixes:
        samples.append(Sample(suffix, dict(labels) if labels else None, next(values)))
    return samples


def _sum_before_count(samples: list[Sample]) -> list[Sample]:
    if len(samples) < 2:
        return samples
    *buckets, count, total = samples
    return [*buckets, total, count]
