"""Measures many series: the time to make them, and the memory that they take.

A series is one label set: a counter, or a histogram with the default buckets. Each round has fresh processes.
Memory is the growth of the resident set, so it includes the allocator's reserve and the pages of a shared
file.
"""

from __future__ import annotations

import gc
import os
import resource
import time

TOPIC = "series"
SERIES = 10_000
#: For peers that ask a server several times for each series.
FEW_SERIES = 500
KINDS = ("counter", "histogram")
ROUNDS = 3


def registering(kind: str) -> str:
    """The name of the figure for the first use of a label set."""
    return f"register a {kind}"


def memory_of(kind: str) -> str:
    return f"memory of a {kind}"


def measure(rounds) -> None:
    peers = [peer for peer in rounds.peers if not peer.is_floor]
    count = SERIES // 10 if rounds.is_quick else SERIES
    for _ in rounds.numbers(f"{count:,} series", ROUNDS):
        for kind in KINDS:
            for peer in peers:
                with rounds.processes(__name__, [peer]) as [process]:
                    answer = rounds.ask(process, kind=kind, count=FEW_SERIES if peer.is_slow else count)
                if answer:
                    rounds.figures.add(TOPIC, registering(kind), peer.name, answer["us"], "µs")
                    rounds.figures.add(TOPIC, memory_of(kind), peer.name, answer["bytes"], "bytes")


def in_peer(client, kind: str, count: int) -> dict:
    family = getattr(client, kind)(f"bench_many_{kind}s", ("number",))
    family.labels(number="first")
    numbers = [str(number) for number in range(count)]
    gc.collect()
    memory, start = resident_bytes(), time.perf_counter()
    for number in numbers:
        family.labels(number=number)
    took = time.perf_counter() - start
    gc.collect()
    return {"us": took * 1e6 / count, "bytes": max(0, resident_bytes() - memory) / count}


def resident_bytes() -> int:
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        # Other systems report only the maximum.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
