"""Measures a call: counting, setting, observing, looking up by labels.

`measure` runs in the benchmark, `in_peer` in the process of each peer. Each call is made alone, beside a busy
thread and from four threads (timing.py). The rounds of the peers alternate call by call.
"""

from __future__ import annotations

from timing import BESIDE_BUSY, SITUATIONS, calls_for, time_calls

TOPIC = "calls"
WALL, CPU = "ns", "ns of processor time"


def measure(rounds) -> None:
    with rounds.processes(__name__) as processes:
        for _ in rounds.numbers("calls"):
            for work in LOOPS:
                for situation in SITUATIONS:
                    # The busy thread takes turns of 5 ms, so a measurement needs several of them.
                    factor = 2 if situation == BESIDE_BUSY else 1
                    for process in processes:
                        seconds = rounds.seconds_for(process.peer) * factor
                        answer = rounds.ask(process, work=work, situation=situation, seconds=seconds)
                        if answer:
                            add(rounds.figures, work, situation, process.peer.name, answer)


def add(figures, work: str, situation: str, peer: str, answer: dict) -> None:
    figures.add(TOPIC, f"{work}, {situation}", peer, answer["wall"], WALL)
    figures.add(TOPIC, f"{work}, {situation}, CPU", peer, answer["cpu"], CPU)


def in_peer(client, work: str, situation: str, seconds: float) -> dict | None:
    """Runs one round of one work. Returns None for a floor that has no such call."""
    if work in getattr(client, "lacks", ()):
        return None
    if not hasattr(client, "bench_metrics"):
        client.bench_metrics, client.bench_calls = Metrics(client), {}
    loop, metrics = LOOPS[work], client.bench_metrics
    if (work, situation) not in client.bench_calls:
        client.bench_calls[work, situation] = calls_for(loop, metrics, situation, seconds)
    return time_calls(loop, metrics, situation, client.bench_calls[work, situation])


class Metrics:
    """One metric of each type to count with."""

    def __init__(self, client) -> None:
        self.counter = client.counter("bench_events_total")
        self.gauge = client.gauge("bench_level")
        self.histogram = client.histogram("bench_seconds")
        self.labelled = client.counter("bench_requests_total", ("a", "b"))


def inc(metrics: Metrics, calls: int) -> None:
    counter = metrics.counter
    for _ in range(calls):
        counter.inc()


def inc_bound(metrics: Metrics, calls: int) -> None:
    inc = metrics.counter.inc
    for _ in range(calls):
        inc()


def inc_by(metrics: Metrics, calls: int) -> None:
    counter = metrics.counter
    for _ in range(calls):
        counter.inc(2.5)


def set_gauge(metrics: Metrics, calls: int) -> None:
    gauge = metrics.gauge
    for _ in range(calls):
        gauge.set(2.5)


def observe(metrics: Metrics, calls: int) -> None:
    histogram = metrics.histogram
    for _ in range(calls):
        histogram.observe(0.3)


def labels_inc(metrics: Metrics, calls: int) -> None:
    labelled = metrics.labelled
    for _ in range(calls):
        labelled.labels(a="one", b="two").inc()


INC, INC_BOUND, INC_BY, SET, OBSERVE, LABELS = (
    "inc()",
    "inc(), looked up once",
    "inc(2.5)",
    "set(2.5)",
    "observe(0.3)",
    "labels(a=…, b=…).inc()",
)
LOOPS = {INC: inc, INC_BOUND: inc_bound, INC_BY: inc_by, SET: set_gauge, OBSERVE: observe, LABELS: labels_inc}
