"""Measures what a million calls send to a Redis server, and when the server has received everything.

Peers that send a command for each call make fewer calls; the figures are per million. They come from the
server: `INFO commandstats`, which also counts each call that a script makes, and the bytes received.
"""

from __future__ import annotations

import time

import calls
import redis_server

TOPIC = "Redis"
MILLION = 1_000_000
#: Calls per round, for each kind of peer.
CALLS = {"ours": MILLION, "others": 50_000, "slow": 2_000}
ROUNDS = 3


def measure(rounds) -> None:
    peers = [peer for peer in rounds.peers if peer.store == "redis"]
    with rounds.processes(__name__, peers) as processes:
        for process in processes:
            rounds.ask(process, work=calls.INC, count=10)
        for _ in rounds.numbers("Redis traffic", ROUNDS):
            for work in (calls.INC, calls.OBSERVE):
                for process in processes:
                    _measure_one(rounds, process, work)


def _measure_one(rounds, process, work: str) -> None:
    peer = process.peer
    count = CALLS["slow" if peer.is_slow else "ours" if peer.is_ours else "others"]
    before = redis_server.traffic(process.redis_port)
    start = time.perf_counter()
    if not rounds.tell(process, work=work, count=count) or rounds.hear(process, quiet_seconds=0.5) is None:
        return
    seconds = process.delivered_at - start
    after = redis_server.traffic(process.redis_port)
    per_million = MILLION / count
    for what in ("commands", "bytes"):
        rounds.figures.add(
            TOPIC, f"{work} {what}", peer.name, (after[what] - before[what]) * per_million, what
        )
    rounds.figures.add(TOPIC, f"{work} seconds", peer.name, seconds * per_million, "s")


def in_peer(client, work: str, count: int) -> dict:
    if not hasattr(client, "bench_metrics"):
        client.bench_metrics = calls.Metrics(client)
    calls.LOOPS[work](client.bench_metrics, count)
    return {}
