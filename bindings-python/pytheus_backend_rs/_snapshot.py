"""A reading of a store, with the definitions of its families: those of other processes too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from pytheus_backend_rs._callables import callables
from pytheus_backend_rs._engine import GAUGE_MODES, TYPES, Engine, Family, address
from pytheus_backend_rs._errors import ErrorSlot
from pytheus_backend_rs._native import ffi, lib

_TYPE_NAMES = {number: name for name, number in TYPES.items()}
_MODE_NAMES = {number: name for name, number in GAUGE_MODES.items()}


class ReadExemplar(NamedTuple):
    """An exemplar of a series."""

    labels: dict[str, str]
    value: float
    #: In seconds since 1970.
    timestamp: float


class ReadSeries(NamedTuple):
    """The values of one metric, as `_engine.Series` has them."""

    labels: dict[str, str]
    values: list[float]
    #: When the series began, in seconds since 1970; 0 if the store does not know it.
    created: float
    #: In no order.
    exemplars: list[ReadExemplar]


class ReadFamily(NamedTuple):
    """A family with its series, sorted by their labels JSON."""

    name: str
    help: str
    type_: str
    unit: str
    #: The upper bounds of a histogram, without infinity.
    bounds: list[float]
    states: list[str]
    #: A key of `GAUGE_MODES`, or None.
    gauge_mode: str | None
    series: list[ReadSeries]


#: Which lines a series has: the name of a label that its samples have beside those of the series, or ""; for
#: each line the index of its value, the name of its sample, and the text of that label; and the name of the
#: sample that says when the series began, or None. None: no lines.
Layout = Optional[tuple[str, tuple[tuple[int, str, str], ...], Optional[str]]]

#: A series: its labels JSON, when it began, and its values; or, with a layout and plain labels, these as
#: text, the lines, and the line that says when it began.
Entry = tuple[Any, ...]


def read(engine: Engine, families: Sequence[Family] | None) -> list[ReadFamily]:
    """Reads families in one go, or all of the store; without the GIL while it waits."""
    snapshot = take(engine, families)
    found = families_of(snapshot)
    series, created = ffi.new("MetricsSeries *"), ffi.new("double *")
    while lib.metrics_snapshot_next(snapshot, series) == lib.BACKEND_STATUS_OK:
        lib.metrics_snapshot_created(snapshot, created, ffi.NULL)
        labels = json.loads(ffi.string(series.labels).decode())
        values = ffi.unpack(series.values, series.value_count)
        read_series = ReadSeries(labels, values, created[0], _exemplars(snapshot))
        found[series.family_index].series.append(read_series)
    return found


def series_from(entry: Entry) -> ReadSeries:
    """Returns a series that was read without a layout, and without its exemplars."""
    labels, created, values = entry
    return ReadSeries(json.loads(labels), values, created, [])


def take(engine: Engine, families: Sequence[Family] | None) -> Any:
    """Reads families in one go, or all of the store, without the GIL while it waits. Returns the snapshot."""
    snapshot, error = ffi.new("MetricsSnapshot **"), ErrorSlot()
    pointers, count = ffi.NULL, 0
    if families is not None:
        pointers = ffi.new("MetricFamily *[]", [family.handle for family in families])
        count = len(families)
    error.check(lib.released_metrics_snapshot_new(engine._handle, pointers, count, snapshot, error.pointer))
    return ffi.gc(snapshot[0], lib.metrics_snapshot_free)


def series_of(snapshot: Any, layouts: tuple[Layout, ...]) -> list[list[Entry]]:
    """Returns the series of each family of a snapshot, sorted by their labels JSON. It can be called once. A
    family behind the layouts is left out."""
    found: list[list[Entry]] = callables.read_series(address(snapshot), layouts)
    return found


def _exemplars(snapshot: Any) -> list[ReadExemplar]:
    """Returns the exemplars of the series that was read last."""
    found: list[ReadExemplar] = []
    one = ffi.new("MetricsExemplar *")
    while lib.metrics_snapshot_exemplar(snapshot, len(found), one, ffi.NULL) == lib.BACKEND_STATUS_OK:
        labels = json.loads(ffi.string(one.labels).decode())
        found.append(ReadExemplar(labels, one.value, one.timestamp))
    return found


def families_of(snapshot: Any) -> list[ReadFamily]:
    """Returns the families of a snapshot, without their series."""
    found: list[ReadFamily] = []
    family = ffi.new("MetricsSnapshotFamily *")
    family.size = ffi.sizeof("MetricsSnapshotFamily")
    while lib.metrics_snapshot_family(snapshot, len(found), family, ffi.NULL) == lib.BACKEND_STATUS_OK:
        found.append(
            ReadFamily(
                _text(family.name),
                _text(family.help),
                _TYPE_NAMES[family.metric_type],
                "" if family.unit == ffi.NULL else _text(family.unit),
                ffi.unpack(family.buckets, family.bucket_count) if family.bucket_count else [],
                [_text(family.states[index]) for index in range(family.state_count)],
                _MODE_NAMES.get(family.gauge_mode),
                [],
            )
        )
    return found


def _text(pointer: Any) -> str:
    return ffi.string(pointer).decode()
