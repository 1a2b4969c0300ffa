"""A reading of a store, with the definitions of its families: those of other processes too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from pytheus_backend_rs._engine import GAUGE_MODES, TYPES, Engine, Family
from pytheus_backend_rs._errors import ErrorSlot
from pytheus_backend_rs._native import ffi, lib

_TYPE_NAMES = {number: name for name, number in TYPES.items()}
_MODE_NAMES = {number: name for name, number in GAUGE_MODES.items()}


class ReadSeries(NamedTuple):
    """The values of one metric, as `_engine.Series` has them."""

    labels: dict[str, str]
    values: list[float]
    #: When the series began, in seconds since 1970; 0 if the store does not know it.
    created: float


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


def read(engine: Engine, families: Sequence[Family] | None) -> list[ReadFamily]:
    """Reads families in one go, or all of the store; without the GIL while it waits."""
    snapshot, error = ffi.new("MetricsSnapshot **"), ErrorSlot()
    pointers, count = ffi.NULL, 0
    if families is not None:
        pointers = ffi.new("MetricFamily *[]", [family.handle for family in families])
        count = len(families)
    error.check(lib.released_metrics_snapshot_new(engine._handle, pointers, count, snapshot, error.pointer))
    owner = ffi.gc(snapshot[0], lib.metrics_snapshot_free)
    found = _families(owner)
    series, created = ffi.new("MetricsSeries *"), ffi.new("double *")
    while lib.metrics_snapshot_next(owner, series) == lib.BACKEND_STATUS_OK:
        lib.metrics_snapshot_created(owner, created, ffi.NULL)
        labels = json.loads(ffi.string(series.labels).decode())
        values = ffi.unpack(series.values, series.value_count)
        found[series.family_index].series.append(ReadSeries(labels, values, created[0]))
    return found


def _families(snapshot: Any) -> list[ReadFamily]:
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
