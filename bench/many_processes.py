"""Measures a scrape after many processes, living and dead, have counted in all series.

`SharedMemoryBackend` reads one file for any number of processes; prometheus_client's multi-process mode reads
the files of every process that ever ran. The processes here are forks that count once in each series and end.
"""

from __future__ import annotations

import os
import time

from peers import CLIENT_FILES, CLIENT_HERE_SHARED, SHARED

TOPIC = "scrape after many processes"
SERIES = 10_000
PROCESSES = (1, 10, 100)


def measure(rounds) -> None:
    peers = [peer for peer in rounds.peers if peer.name in (SHARED, CLIENT_FILES, CLIENT_HERE_SHARED)]
    with rounds.processes(__name__, peers) as processes:
        before = 0
        for count in PROCESSES[:-1] if rounds.is_quick else PROCESSES:
            rounds.progress(f"scrape after many processes: {count} count in {SERIES:,} series")
            for process in processes:
                rounds.ask(process, do="count", processes=count - before)
            before = count
            for _ in rounds.numbers(f"scrape after {count} processes"):
                for process in processes:
                    for way, milliseconds in (
                        rounds.ask(process, do="scrape", expected=count * SERIES) or {}
                    ).items():
                        who = f"{process.peer.name}: {way}"
                        rounds.figures.add(TOPIC, f"{count} processes", who, milliseconds, "ms")


def in_peer(client, do: str, **arguments) -> dict:
    return {"count": count, "scrape": scrape}[do](client, **arguments)


def count(client, processes: int) -> dict:
    """Lets that many processes count, one after the other."""
    if not hasattr(client, "bench_counter"):
        client.bench_counter = client.counter("bench_requests_total", ("path",))
    for _ in range(processes):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for number in range(SERIES):
                    client.bench_counter.labels(path=f"/path/{number}").inc()
                status = 0
            finally:
                os._exit(status)
        if os.waitpid(pid, 0)[1] != 0:
            raise RuntimeError("a process that should have counted has failed")
    return {}


def scrape(client, expected: int) -> dict:
    """Returns the time of each way to scrape, in ms, after checking that it shows what was counted."""
    times = {}
    for way, make_text in client.scrapes().items():
        start = time.perf_counter()
        text = make_text()
        times[way] = (time.perf_counter() - start) * 1000
        lines = (text if isinstance(text, str) else text.decode()).splitlines()
        total = sum(
            float(line.rpartition(" ")[2]) for line in lines if line.startswith("bench_requests_total{")
        )
        if total != expected:
            raise RuntimeError(f"{way} shows {total:,.0f}, expected {expected:,}")
    return times
