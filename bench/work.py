"""What one process of a fleet sends to the server in a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Work:
    #: Exchanges with the server.
    sends: float
    #: A batch has the changes of one family.
    batches: float
    #: Changed series in all batches.
    changes: float

    @classmethod
    def of_window(cls, window: dict[str, Any]) -> Work:
        """Returns what a process of a measured fleet has sent."""
        count = window["processes"]
        batches, changes = window["batches"] / count, window["changes"] / count
        return cls(batches / window["batches per send"], batches, changes)
