"""What sending costs the server: a sum over exchanges, batches and changed series, and something for each connection."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import linear_fit
from work import Work


@dataclass(frozen=True)
class SendCosts:
    #: Processor time in microseconds.
    exchange_us: float
    batch_us: float
    change_us: float
    #: Processor time in a second: of the server on its own, and for each idle connection.
    server_us: float
    connection_us: float
    #: Bytes to the server, and from it.
    batch_bytes: float
    change_bytes: float
    reply_bytes: float
    #: Commands as the server counts them: with those that the script calls.
    batch_calls: float
    change_calls: float

    @classmethod
    def of(
        cls, flushes: list[dict[str, Any]], idle: list[dict[str, Any]], sending: list[dict[str, Any]]
    ) -> SendCosts:
        """Computes the costs from flushes of one process, from a server without and with idle connections, and from
        fleets."""
        none, many = idle
        server_us = none["server us"]
        connection_us = max(0.0, (many["server us"] - server_us) / many["connections"])
        batches = [(float(f["families"]), float(f["families"] * f["series"])) for f in flushes]
        sends = [(1.0, *batch) for batch in batches]
        cpu = [f["server us"] for f in flushes]
        for window in sending:
            work = Work.of_window(window)
            own = window["server us"] - server_us - connection_us * window["processes"]
            sends.append((1.0, work.batches / work.sends, work.changes / work.sends))
            cpu.append(own / window["processes"] / work.sends)
        exchange_us, batch_us, change_us = linear_fit.costs(sends, cpu)
        batch_bytes, change_bytes = linear_fit.costs(batches, [f["bytes in"] for f in flushes])
        batch_calls, change_calls = linear_fit.costs(batches, [f["calls"] for f in flushes])
        return cls(
            exchange_us=exchange_us,
            batch_us=batch_us,
            change_us=change_us,
            server_us=server_us,
            connection_us=connection_us,
            batch_bytes=batch_bytes,
            change_bytes=change_bytes,
            reply_bytes=statistics.median(f["bytes out"] / f["families"] for f in flushes),
            batch_calls=batch_calls,
            change_calls=change_calls,
        )

    def cpu_us(self, processes: int, work: Work) -> float:
        """Returns the server's processor time in a second."""
        each = work.sends * self.exchange_us + work.batches * self.batch_us + work.changes * self.change_us
        return self.server_us + processes * (self.connection_us + each)

    def calls(self, work: Work) -> float:
        return work.batches * self.batch_calls + work.changes * self.change_calls

    def bytes_in(self, work: Work) -> float:
        return work.batches * self.batch_bytes + work.changes * self.change_bytes

    def bytes_out(self, work: Work) -> float:
        return work.batches * self.reply_bytes
