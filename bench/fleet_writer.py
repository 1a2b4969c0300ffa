"""One process of a fleet: counts on a Redis server as bench/redis_fleet.py tells it to.

It has `FAMILIES` counters with labels. Each of them has the same number of series.
"""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from pytheus.backends import load_backend
from pytheus.metrics import Counter
from pytheus_backend_rs import RedisBackend, generate_metrics

FAMILIES = 20
SERIES = 50
#: How many families a request changes.
FAMILIES_OF_A_REQUEST = 3
#: A process that always changes something changes a few of its series each time.
TICK_SECONDS = 0.002
#: Each of its series changes once in this time, so once in each interval between two sends.
TURN_SECONDS = 0.2


@dataclass(frozen=True)
class Setting:
    """What a process counts, and where."""

    port: int
    #: Options of the backend.
    options: dict[str, Any]
    #: Whether the label sets are those of this process alone.
    has_own_labels: bool = False
    #: Label sets of each family.
    series: int = SERIES


def family_name(family: int) -> str:
    return f"bench_requests_of_kind_{family:02}_total"


def labels(process: int, series: int) -> dict[str, str]:
    """Returns a label set. All have the same length."""
    path = f"/api/v1/resources/{series:05}"
    return {"method": "GET", "path": path, "process": f"{process:06}", "status": "200"}


def run(connection: Connection, number: int, setting: Setting) -> None:
    """Answers each command: the name of a method, and its arguments. Ends when told `None`."""
    writer = Writer(number, setting)
    connection.send(None)
    # The program that asks may end before it says so.
    with contextlib.suppress(EOFError):
        while (command := connection.recv()) is not None:
            method, arguments = command
            connection.send(getattr(writer, method)(**arguments))
    RedisBackend.close()


class Writer:
    def __init__(self, number: int, setting: Setting) -> None:
        load_backend(RedisBackend, {"host": "127.0.0.1", "port": setting.port, **setting.options})
        self._random = random.Random(number)
        #: Processes that begin at the same time would also send at the same times.
        self._delay = self._random.random() * setting.options.get("flush_interval_ms", 250) / 1000
        process = number if setting.has_own_labels else 0
        names = list(labels(0, 0))
        self._families = []
        order = list(range(setting.series))
        for family in range(FAMILIES):
            counter = Counter(family_name(family), "Counted by the benchmark.", required_labels=names)
            # In memory of the server, series are seldom in the order of their labels, in which a scrape asks for them.
            random.Random(family).shuffle(order)
            self._families.append([counter.labels(labels(process, series)) for series in order])
        RedisBackend.flush()

    def change(self, families: int, series: int, times: int) -> None:
        """Changes some series of some families and sends them, again and again."""
        for _ in range(times):
            for family in self._families[:families]:
                for metric in family[:series]:
                    metric.inc()
            RedisBackend.flush()

    def change_always(self, series: int, seconds: float) -> None:
        """Changes some series of each family all the time, one after the other."""
        metrics = [metric for family in self._families for metric in family[:series]]
        time.sleep(self._delay)
        start = time.monotonic()
        done = 0
        while (passed := time.monotonic() - start) < seconds:
            # After a pause of the machine, one turn is enough.
            due = int(passed / TURN_SECONDS * len(metrics))
            for place in range(max(done, due - len(metrics)), due):
                metrics[place % len(metrics)].inc()
            done = due
            time.sleep(TICK_SECONDS)

    def serve_requests(self, rate: float, seconds: float) -> None:
        """Changes one series of each of three families, at random times."""
        time.sleep(self._delay)
        now = time.monotonic()
        end = now + seconds
        families = self._families[:FAMILIES_OF_A_REQUEST]
        while (now := now + self._random.expovariate(rate)) < end:
            if (left := now - time.monotonic()) > 0:
                time.sleep(left)
            for family in families:
                self._random.choice(family).inc()

    def rest(self) -> None:
        """Counts nothing."""

    def scrape(self) -> int:
        """Returns the length of a scrape."""
        return len(generate_metrics())
