"""What series and processes take of the server's memory, in bytes."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import linear_fit
from profiles import IDLE


@dataclass(frozen=True)
class MemoryCosts:
    series: float
    #: The entry of one process in one family.
    entry: float
    #: A connection that sends nothing, and one that sends: its buffers.
    idle_connection: float
    sending_connection: float

    @classmethod
    def of(cls, stocks: list[dict[str, Any]], windows: list[dict[str, Any]], families: int) -> MemoryCosts:
        """Computes the costs from servers with more or fewer series, and from fleets of several sizes."""
        profiles = {window["profile"] for window in windows}
        connection = {profile: _each(windows, profile, "connections bytes") for profile in profiles}
        return cls(
            statistics.median(stock["bytes"] / stock["series"] for stock in stocks),
            _each(windows, IDLE, "entries bytes") / families,
            connection[IDLE],
            max(connection.values()),
        )


def _each(windows: list[dict[str, Any]], profile: str, what: str) -> float:
    """Returns what each process adds."""
    own = [window for window in windows if window["profile"] == profile]
    return linear_fit.slope([window["processes"] for window in own], [window[what] for window in own])
