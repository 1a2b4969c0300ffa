"""The model of docs/scaling.md: what a fleet of processes costs a Redis server, from measured constants.

A process sends now and then. One send is one exchange with the server. It has a batch for each family with changes, and
a batch has the changed series of its family. So the server's work is a sum of costs: per exchange, per batch, and
per changed series. Memory is a sum per series, per process and family, and per connection.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

import linear_fit

#: The default pace of a process that changes something now and then, and of one that always does (src/store/redis).
FLUSH_SECONDS, MAX_FLUSH_SECONDS = 0.005, 0.25
REQUESTS_PER_SECOND = 50.0
#: The most series that a scrape reads with one command once it knows their names (src/store/redis/outline.rs).
PIECE = 4_000
IDLE, REQUESTS, FEW, ALL = "idle", "requests", "few", "all"


@dataclass(frozen=True)
class Work:
    """What one process sends in a second."""

    sends: float
    batches: float
    changes: float

    @classmethod
    def of_window(cls, window: dict[str, Any]) -> Work:
        """Returns what a process of a measured fleet has sent."""
        count = window["processes"]
        batches, changes = window["batches"] / count, window["changes"] / count
        return cls(batches / window["batches per send"], batches, changes)


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
    #: Processor time of the server, in microseconds.
    exchange_us: float
    batch_us: float
    change_us: float
    #: By how much the worst measurement differs from these three costs, as a ratio.
    worst_residual: float
    #: Processor time of the server in a second: on its own, and for each idle connection.
    server_us: float
    connection_us: float
    #: Bytes to the server.
    batch_bytes: float
    change_bytes: float
    #: Bytes from the server.
    reply_bytes: float
    #: Commands as the server counts them, those of the script included.
    batch_calls: float
    change_calls: float
    #: By how many seconds a send is later than the interval.
    lateness: float
    #: Bytes of memory: a series, an entry of one process in one family, a connection that sends nothing, and one that sends.
    series_bytes: float
    entry_bytes: float
    idle_connection_bytes: float
    connection_bytes: float
    #: The start of a process: what it sends until its series exist on the server.
    start_us: float
    start_calls: float
    start_bytes: float
    #: Processor time of a process' own engine in a second, by profile.
    process_us: dict[str, float]
    #: A scrape: processor time of the server for itself, for a family that has changed, and for each series of it.
    scrape_us: float
    scrape_family_us: float
    scrape_series_us: float
    scrape_series_bytes: float
    #: How long the server does nothing else, for each series that one command of a scrape reads, in microseconds.
    pause_series_us: float
    #: Commands of a scrape, and more of them for each family that has changed.
    scrape_calls: float
    scrape_family_calls: float

    @classmethod
    def of(cls, measured: dict[str, Any], most_processes: int) -> Model:
        """Computes the constants from measurements of fleets with at most so many processes."""
        shape = Shape(**measured["shape"])
        windows = [w for w in measured["fleets"] if w["processes"] <= most_processes and not w["options"]]
        idle = [window for window in windows if window["profile"] == IDLE]
        # A short window of a busy machine may have no send.
        sending = [window for window in windows if window["batches"] > 0]
        counts = [window["processes"] for window in idle]
        connection_us = max(0.0, linear_fit.slope(counts, [window["server us"] for window in idle]))
        server_us = statistics.mean(w["server us"] - connection_us * w["processes"] for w in idle)
        rows, costs = [], []
        for flush in measured["flushes"]:
            rows.append((1.0, float(flush["families"]), float(flush["families"] * flush["series"])))
            costs.append(flush["server us"])
        for window in sending:
            work = Work.of_window(window)
            net = window["server us"] - server_us - connection_us * window["processes"]
            rows.append((1.0, work.batches / work.sends, work.changes / work.sends))
            costs.append(net / window["processes"] / work.sends)
        exchange_us, batch_us, change_us = linear_fit.costs(rows, costs)
        batches = [(float(f["families"]), float(f["families"] * f["series"])) for f in measured["flushes"]]
        batch_bytes, change_bytes = linear_fit.costs(batches, [f["bytes in"] for f in measured["flushes"]])
        batch_calls, change_calls = linear_fit.costs(batches, [f["calls"] for f in measured["flushes"]])
        reply_bytes = statistics.median(f["bytes out"] / f["families"] for f in measured["flushes"])
        starts = [start for start in measured["starts"] if start["processes"] <= most_processes]
        scrapes = measured["scrapes"]
        scrape_rows = [(1.0, float(s["families"]), float(s["families"] * s["series"])) for s in scrapes]
        scrape_us, family_us, series_us = linear_fit.costs(scrape_rows, [s["server us"] for s in scrapes])
        largest = max(scrapes, key=lambda s: s["families"] * s["series"])
        smallest = next(s for s in scrapes if s["families"] == shape.families)
        unchanged = next(s for s in scrapes if s["families"] == 0)
        model = cls(
            shape=shape,
            exchange_us=exchange_us,
            batch_us=batch_us,
            change_us=change_us,
            worst_residual=max(
                abs(exchange_us * row[0] + batch_us * row[1] + change_us * row[2] - cost) / cost
                for row, cost in zip(rows, costs)
            ),
            server_us=server_us,
            connection_us=connection_us,
            batch_bytes=batch_bytes,
            change_bytes=change_bytes,
            reply_bytes=reply_bytes,
            batch_calls=batch_calls,
            change_calls=change_calls,
            lateness=statistics.median(
                1 / Work.of_window(w).sends - MAX_FLUSH_SECONDS for w in sending if w["profile"] in (FEW, ALL)
            ),
            series_bytes=statistics.median(grown["bytes"] / grown["series"] for grown in measured["series"]),
            entry_bytes=linear_fit.slope(counts, [w["entries bytes"] for w in idle]) / shape.families,
            idle_connection_bytes=linear_fit.slope(counts, [w["connections bytes"] for w in idle]),
            connection_bytes=max(
                linear_fit.slope(counts, [w["connections bytes"] for w in windows if w["profile"] == profile])
                for profile in (REQUESTS, FEW, ALL)
            ),
            start_us=statistics.median(s["server us"] / s["processes"] for s in starts),
            start_calls=statistics.median(s["calls"] / s["processes"] for s in starts),
            start_bytes=statistics.median(s["bytes in"] / s["processes"] for s in starts),
            process_us={
                profile: statistics.median(
                    w["engine us"] / w["processes"] for w in windows if w["profile"] == profile
                )
                for profile in (IDLE, REQUESTS, FEW, ALL)
            },
            scrape_us=scrape_us,
            scrape_family_us=family_us,
            scrape_series_us=series_us,
            scrape_series_bytes=(_bytes(largest) - _bytes(unchanged))
            / (largest["families"] * largest["series"]),
            pause_series_us=largest["pause us"] / largest["series"],
            scrape_calls=unchanged["calls"],
            scrape_family_calls=(smallest["calls"] - unchanged["calls"]) / smallest["families"],
        )
        return model

    def work(self, profile: str, interval: float | None = None) -> Work:
        """Returns what a process sends. `interval` in seconds is `flush_interval_ms`, if that is set."""
        shape = self.shape
        if profile == IDLE:
            return Work(0, 0, 0)
        if profile == REQUESTS:
            # The requests come at random times. An interval without one sends nothing.
            gathered = interval or FLUSH_SECONDS
            seconds = gathered + self.lateness
            requests = REQUESTS_PER_SECOND * seconds
            sends = (1 - math.exp(-requests)) / seconds
            # Requests of one interval may change the same series.
            changed = shape.series * (1 - math.exp(-requests / shape.series))
            return Work(sends, shape.request_families * sends, shape.request_families * changed / seconds)
        sends = 1 / ((interval or MAX_FLUSH_SECONDS) + self.lateness)
        series = shape.few if profile == FEW else shape.series
        return Work(sends, sends * shape.families, sends * shape.families * series)

    def send_us(self, work: Work) -> float:
        """Returns the server's processor time for what a process sends in a second."""
        return work.sends * self.exchange_us + work.batches * self.batch_us + work.changes * self.change_us

    def server_cores(self, processes: int, profile: str, interval: float | None = None) -> float:
        each = self.connection_us + self.send_us(self.work(profile, interval))
        return (self.server_us + processes * each) / 1e6

    def calls(self, work: Work) -> float:
        """Returns the commands in a second, as the server counts them."""
        return work.batches * self.batch_calls + work.changes * self.change_calls

    def bytes_in(self, work: Work) -> float:
        return work.batches * self.batch_bytes + work.changes * self.change_bytes

    def bytes_out(self, work: Work) -> float:
        return work.batches * self.reply_bytes

    def entries_bytes(self, processes: int) -> float:
        return processes * self.shape.families * self.entry_bytes

    def connections_bytes(self, processes: int, profile: str) -> float:
        return processes * (self.idle_connection_bytes if profile == IDLE else self.connection_bytes)

    def all_series(self, processes: int, have_own_labels: bool) -> int:
        """Returns how many series the server holds."""
        return (processes if have_own_labels else 1) * self.shape.families * self.shape.series

    def scrape_cost_us(self, families: int, series: int) -> float:
        """Returns the server's processor time for a scrape, when so many families with so many series in all have changed."""
        return self.scrape_us + families * self.scrape_family_us + series * self.scrape_series_us

    def pause_us(self, series_of_family: int) -> float:
        """Returns for how long the server does nothing else during a scrape, at most."""
        return min(series_of_family, PIECE) * self.pause_series_us

    def most_processes(self, profile: str, cores: float, interval: float | None = None) -> int:
        """Returns how many processes keep the server busy for this part of a core."""
        each = self.connection_us + self.send_us(self.work(profile, interval))
        return int((cores * 1e6 - self.server_us) / each)


def _bytes(scrape: dict[str, Any]) -> float:
    """Returns the bytes in both directions: a scrape sends the names that it knows, and is sent those that it does not."""
    return scrape["bytes in"] + scrape["bytes out"]
