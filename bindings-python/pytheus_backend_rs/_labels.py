"""The labels of a metric as the engine spells them."""

from __future__ import annotations

import json
from collections.abc import Mapping


def labels_json(labels: Mapping[str, str]) -> str:
    """Returns the key of a metric in its family: compact JSON, sorted by name."""
    return json.dumps(labels, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
