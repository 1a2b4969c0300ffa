"""Runs the benchmark that 0.0.9 was announced with: one counter, `inc()` 1,000,000,000 times, in seconds.

By default fewer calls are made and the time is scaled up. Peers that call a server for each `inc()` are left
out.
"""

from __future__ import annotations

import time

import calls

TOPIC = "headline"
ITERATIONS = 1_000_000_000


def work_name(iterations: int) -> str:
    scale = "" if iterations == ITERATIONS else f" (scaled up from {iterations:,})"
    return f"{ITERATIONS:_} iterations{scale}"


def measure(rounds, iterations: int) -> None:
    peers = [peer for peer in rounds.peers if peer.store != "redis"]
    # The full number takes minutes for each peer, long enough for the noise to average out: one round will
    # do.
    count = 1 if iterations == ITERATIONS else rounds.count
    with rounds.processes(__name__, peers) as processes:
        for _ in rounds.numbers(f"{iterations:_} iterations", count):
            for process in processes:
                answer = rounds.ask(process, iterations=iterations)
                if answer:
                    seconds = answer["seconds"] * ITERATIONS / iterations
                    rounds.figures.add(TOPIC, work_name(iterations), process.peer.name, seconds, "s")


def in_peer(client, iterations: int) -> dict:
    if not hasattr(client, "bench_metrics"):
        client.bench_metrics = calls.Metrics(client)
        calls.inc(client.bench_metrics, 1000)
    start = time.perf_counter()
    calls.inc(client.bench_metrics, iterations)
    return {"seconds": time.perf_counter() - start}
