"""The labels of a pytheus metric as the engine spells them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytheus.metrics import _Metric


def joint_labels(metric: _Metric) -> dict[str, str]:
    """The labels of a metric, defaults included, as text, in the order in which pytheus shows them."""
    labels: dict[str, Any] = {**(metric._collector._default_labels or {}), **(metric._labels or {})}
    return {name: str(value) for name, value in labels.items()}


def labels_json(labels: Mapping[str, str]) -> str:
    """The engine's spelling, which is the key of a metric in its family: compact and sorted by name."""
    return json.dumps(labels, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
