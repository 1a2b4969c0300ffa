"""The text of a scrape as prometheus_client spells it, without its objects for samples: `generate_latest` of
both formats.

What is not plain goes through prometheus_client's own function: infos and enums, custom collectors, gauges
with a function, exemplars, names in other scripts, and registries of another class.
"""

from __future__ import annotations

import functools
import json
import math
import re
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pytheus_backend_rs import _snapshot
from pytheus_backend_rs._engine import Engine, Family
from pytheus_backend_rs._snapshot import Entry, Layout, ReadFamily
from pytheus_backend_rs._text import plain_text
from pytheus_backend_rs.prometheus import binding, internals, scrape, store
from pytheus_backend_rs.prometheus.internals import Metric, bound_text
from pytheus_backend_rs.prometheus.values import with_exemplars

#: The types whose series have lines of numbers alone.
_TYPES = ("counter", "gauge", "untyped", "summary", "histogram")

#: The types whose series have a time of creation.
_CREATED_TYPES = ("counter", "summary", "histogram")

#: A name that text needs no quotes for, and that no escaping but that of dots changes. In OpenMetrics,
#: prometheus_client also replaces colons in the names of samples.
_plain = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*").fullmatch

#: The escaping that changes every name.
_DOTS = "dots"

#: The label values of the series of each family in the last scrape, by their labels JSON.
_values: weakref.WeakKeyDictionary[Family, dict[str, tuple[str | None, ...]]] = weakref.WeakKeyDictionary()


class _Collected:
    """Metrics in the place of a registry."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def generator(original: Callable[..., bytes], *, is_open_metrics: bool) -> Callable[..., bytes]:
    """Makes `generate_latest` of a format."""

    def generate_latest(registry: Any = internals.DEFAULT_REGISTRY, *options: Any, **named: Any) -> bytes:
        engine = store.engine()
        is_plain = internals.is_registry(registry) and _DOTS not in (*options, *named.values())
        if engine is None or engine.is_closed or not is_plain:
            return original(registry, *options, **named)
        end = b"# EOF\n" if is_open_metrics else b""

        def foreign(metrics: Iterable[Metric]) -> str:
            text = original(_Collected(metrics), *options, **named)
            return text[: len(text) - len(end)].decode()

        try:
            return "".join(_pieces(registry, engine, foreign, is_open_metrics)).encode() + end
        finally:
            binding.deliver()

    return functools.wraps(original)(generate_latest)


def _pieces(
    registry: Any, engine: Engine, foreign: Callable[[Iterable[Metric]], str], is_open_metrics: bool
) -> list[str]:
    """Returns the text of each collector of a registry. Custom collectors run before the store is read,
    because they may change metrics. The store is read twice if there are families whose text is made in C and
    others, so a scrape may show the others a moment later."""
    collectors, target = scrape.collectors_of(registry)
    plain: dict[Any, Family] = {}
    others: dict[Any, list[Family]] = {}
    for collector in collectors:
        families = scrape.families_to_read(collector)
        if scrape.is_ours(collector) and families and _is_plain(families[0], is_open_metrics):
            plain[collector] = families[0]
        else:
            others[collector] = families
    custom = {
        collector: list(collector.collect())
        for collector, families in others.items()
        if not families and not scrape.is_ours(collector) and not internals.is_multi_process(collector)
    }
    entries = _read_plain(plain)
    pieces = [] if target is None else [foreign([target])]
    with scrape.read_once([family for families in others.values() for family in families]):
        for collector in collectors:
            text = None
            if collector in plain:
                text = _own_text(collector, plain[collector], entries[collector], is_open_metrics)
            elif internals.is_multi_process(collector):
                text = _store_text(engine, foreign, is_open_metrics)
            if text is None:
                text = foreign(custom[collector] if collector in custom else collector.collect())
            pieces.append(text)
    return pieces


def _is_plain(family: Family, is_open_metrics: bool) -> bool:
    definition = family.definition
    if is_open_metrics and (definition.exemplars or family in with_exemplars):
        return False
    return definition.type_ in _TYPES and all(map(_plain, (definition.name, *definition.label_names)))


def _read_plain(families: dict[Any, Family]) -> dict[Any, list[Entry]]:
    """Reads families, and returns the series of each collector."""
    found: dict[Any, list[Entry]] = {}
    by_engine: dict[Engine, list[tuple[Any, Family]]] = {}
    for collector, family in families.items():
        by_engine.setdefault(family.engine, []).append((collector, family))
    for engine, pairs in by_engine.items():
        snapshot = _snapshot.take(engine, [family for _, family in pairs])
        layouts = tuple([_layout_of(family) for _, family in pairs])
        found.update(zip([collector for collector, _ in pairs], _snapshot.series_of(snapshot, layouts)))
    return found


def _layout_of(family: Family) -> Layout:
    definition = family.definition
    name = internals.shown_name(definition.name, definition.type_)
    return _layout(name, definition.type_, definition.bounds, is_of_registry=True)


@functools.lru_cache(maxsize=4096)
def _layout(name: str, type_: str, bounds: tuple[float, ...], is_of_registry: bool) -> Layout:
    """Returns which values of a series have lines, in the order of prometheus_client: that of a metric of a
    registry, or that of `MultiProcessCollector`, which has the sum first and no `_created`."""
    created = f"{name}_created" if is_of_registry and type_ in _CREATED_TYPES else None
    if type_ == "counter":
        return "", ((0, f"{name}_total", ""),), created
    if type_ == "summary":
        return "", ((0, f"{name}_count", ""), (1, f"{name}_sum", "")), created
    if type_ == "histogram":
        buckets = tuple(
            [
                (index, f"{name}_bucket", f'le="{bound_text(bound)}"')
                for index, bound in enumerate([*bounds, math.inf])
            ]
        )
        count = (len(buckets), f"{name}_count", "")
        total = (len(buckets) + 1, f"{name}_sum", "")
        if not is_of_registry:
            return "le", (total, *buckets, count), created
        # A sum of values below 0 may fall, so prometheus_client does not show it.
        has_sum = not bounds or bounds[0] >= 0
        return "le", (*buckets, count, total) if has_sum else (*buckets, count), created
    return "", ((0, name, ""),), created


def _head(metric: Metric, is_open_metrics: bool, suffix: str | None = None) -> str:
    """Returns the lines above the samples of a family, or above those with a suffix that text has as a
    gauge."""
    help_text = metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
    name, type_ = metric.name, metric.type
    if is_open_metrics:
        help_text = help_text.replace('"', r"\"")
    elif suffix is not None:
        name, type_ = name + suffix, "gauge"
    elif type_ == "counter":
        name += "_total"
    elif type_ == "unknown":
        type_ = "untyped"
    unit = f"# UNIT {name} {metric.unit}\n" if is_open_metrics and metric.unit else ""
    return f"# HELP {name} {help_text}\n# TYPE {name} {type_}\n{unit}"


def _own_text(metric: Any, family: Family, entries: Sequence[Entry], is_open_metrics: bool) -> str | None:
    """Returns the text of a metric of a registry; None if some of its samples are not plain."""
    if not all(len(entry) == 5 for entry in entries):
        return None
    names = internals.label_names(metric)
    known = _values.get(family, {})
    if len(known) > 2 * len(entries):
        # Most of them have been removed.
        known = {}
    _values[family] = known
    by_values: dict[tuple[str | None, ...], list[Entry]] = {}
    for entry in entries:
        key = entry[0]
        values = known.get(key)
        if values is None:
            labels = json.loads(key)
            values = known[key] = tuple([labels.get(name) for name in names])
        by_values.setdefault(values, []).append(entry)
    found, is_shared = internals.new_metric(metric), family.engine.is_shared
    has_created = family.definition.type_ in _CREATED_TYPES and internals.shows_created()
    head = _head(found, is_open_metrics)
    lines: list[str] = []
    created: list[str] = []
    behind = lines if is_open_metrics else created
    for values, child in internals.children_of(metric):
        if internals.computes_its_value(child):
            return None
        # The texts in the store are plain, so values that are found there are, too.
        read = by_values.pop(values, None) or by_values.pop(tuple(map(plain_text, values)), None)
        if read is None and scrape.counts_alone(child, family.definition.gauge_mode):
            return None
        for one in read or ():
            lines.append(one[3])
            if has_created:
                behind.append(one[4] if is_shared and one[4] else _created_line(found.name, one, child))
    lines += [one[3] for read in by_values.values() for one in read]
    if created:
        created.insert(0, _head(found, is_open_metrics, "_created"))
    return "".join([head, *lines, *created])


def _created_line(name: str, entry: Entry, child: Any) -> str:
    """Returns the line that says when a series began, if this process knows it better than the store."""
    labels = f"{{{entry[2]}}}" if entry[2] else ""
    return f"{name}_created{labels} {internals.spell(internals.created_of(child) or entry[1])}\n"


def _store_text(
    engine: Engine, foreign: Callable[[Iterable[Metric]], str], is_open_metrics: bool
) -> str | None:
    """Returns the text of all families of the store; None if some labels are not plain."""
    snapshot = _snapshot.take(engine, None)
    families = _snapshot.families_of(snapshot)
    layouts = tuple(map(_store_layout, families))
    pieces = []
    for family, layout, entries in zip(families, layouts, _snapshot.series_of(snapshot, layouts)):
        if layout is None:
            family.series.extend(map(_snapshot.series_from, entries))
            pieces.append(foreign([scrape.stored_metric(family)]))
        elif all(len(entry) == 5 for entry in entries):
            pieces.append(_head(scrape.metric_for(family), is_open_metrics))
            pieces += [entry[3] for entry in entries]
        else:
            return None
    return "".join(pieces)


def _store_layout(family: ReadFamily) -> Layout:
    if family.type_ not in _TYPES or not _plain(family.name):
        return None
    name = internals.shown_name(family.name, family.type_)
    return _layout(name, family.type_, tuple(family.bounds), is_of_registry=False)
