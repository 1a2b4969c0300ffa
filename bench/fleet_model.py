"""The model of docs/scaling.md: what a fleet of processes costs a Redis server, from measured costs.

A process sends now and then. One send is one exchange with the server. It has a batch for each family with changes, and
a batch has the changed series of its family.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

from memory_costs import MemoryCosts
from profiles import FEW, IDLE, PROFILES, REQUESTS, REQUESTS_PER_SECOND
from scrape_costs import ScrapeCosts
from send_costs import SendCosts
from work import Work

#: The default pace of a process that changes something now and then, and of one that always does
#: (src/store/redis/pace.rs).
FLUSH_SECONDS, MAX_FLUSH_SECONDS = 0.005, 0.25


@dataclass(frozen=True)
class Shape:
    """What each process of the fleet has."""

    families: int
    #: Series of each family.
    series: int
    #: How many families a request changes.
    request_families: int
    #: How many series of each family change in the profile "few".
    few: int


@dataclass(frozen=True)
class Model:
    shape: Shape
    send: SendCosts
    scrape: ScrapeCosts
    memory: MemoryCosts
    #: The start of a process, until its series exist on the server.
    start_us: float
    start_calls: float
    start_bytes: float
    #: Processor time of the engine in each process in a second, by profile.
    process_us: dict[str, float]

    @classmethod
    def of(cls, measured: dict[str, Any], most_processes: int) -> Model:
        """Makes a model of fleets with at most so many processes."""
        shape = Shape(**measured["shape"])
        windows = [w for w in measured["fleets"] if w["processes"] <= most_processes and not w["options"]]
        # A short window of a busy machine may have no send.
        sending = [window for window in windows if window["batches"] > 0]
        starts = [start for start in measured["starts"] if start["processes"] <= most_processes]
        return cls(
            shape=shape,
            send=SendCosts.of(measured["flushes"], measured["idle connections"], sending),
            scrape=ScrapeCosts.of(measured["scrapes"], shape.families),
            memory=MemoryCosts.of(measured["series"], windows, shape.families),
            start_us=statistics.median(start["server us"] / start["processes"] for start in starts),
            start_calls=statistics.median(start["calls"] / start["processes"] for start in starts),
            start_bytes=statistics.median(start["bytes in"] / start["processes"] for start in starts),
            process_us={
                profile: statistics.median(
                    window["engine us"] / window["processes"]
                    for window in windows
                    if window["profile"] == profile
                )
                for profile in PROFILES
            },
        )

    def work(self, profile: str, interval: float | None = None) -> Work:
        """Returns what a process sends at most, if the machine has time for it.

        `interval` in seconds is `flush_interval_ms`, if that is set.
        """
        shape = self.shape
        if profile == IDLE:
            return Work(0, 0, 0)
        if profile == REQUESTS:
            # The requests come at random times. An interval without one sends nothing.
            seconds = interval or FLUSH_SECONDS
            requests = REQUESTS_PER_SECOND * seconds
            sends = (1 - math.exp(-requests)) / seconds
            # Requests of one interval may change the same series.
            changed = shape.series * (1 - math.exp(-requests / shape.series))
            return Work(sends, shape.request_families * sends, shape.request_families * changed / seconds)
        sends = 1 / max(interval or 0, MAX_FLUSH_SECONDS)
        series = shape.few if profile == FEW else shape.series
        return Work(sends, sends * shape.families, sends * shape.families * series)

    def server_cores(self, processes: int, profile: str, interval: float | None = None) -> float:
        return self.send.cpu_us(processes, self.work(profile, interval)) / 1e6

    def most_processes(self, profile: str, cores: float, interval: float | None = None) -> int:
        """Returns how many processes keep the server busy for this part of a core."""
        none, one = (self.server_cores(processes, profile, interval) for processes in (0, 1))
        return int((cores - none) / (one - none))

    def entries_bytes(self, processes: int) -> float:
        return processes * self.shape.families * self.memory.entry

    def connections_bytes(self, processes: int, profile: str) -> float:
        each = self.memory.idle_connection if profile == IDLE else self.memory.sending_connection
        return processes * each

    def all_series(self, processes: int, have_own_labels: bool) -> int:
        """Returns how many series the server holds."""
        return (processes if have_own_labels else 1) * self.shape.families * self.shape.series
