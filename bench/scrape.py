"""Measures a scrape: the time to render it, and how long an asyncio program stands still meanwhile.

Each peer renders in each of its ways (`Client.scrapes`); this project's backends render with pytheus'
generate_metrics and with their own. The stall is the longest time between two turns of a coroutine that wants
one every millisecond.
"""

from __future__ import annotations

import asyncio
import time

TOPIC = "scrape"
#: Name: (counters, histograms). 2,700 histograms with 11 bounds each are about 38,000 lines.
SIZES = {
    "1,000 counters": (1_000, 0),
    "10,000 counters": (10_000, 0),
    "100,000 counters": (100_000, 0),
    "2,700 histograms": (0, 2_700),
    "10,000 counters, 2,000 histograms": (10_000, 2_000),
}
#: 12,000 children, 38,000 lines.
MIXED = "10,000 counters, 2,000 histograms"
STALL_SIZE = "2,700 histograms"
STALL = "longest stall of the event loop"
IDLE = "nothing but the ticking coroutine"
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


def measure(rounds) -> None:
    peers = [peer for peer in rounds.peers if not peer.is_floor]
    for size, (counters, histograms) in SIZES.items():
        if rounds.is_quick and counters == 100_000:
            continue
        with rounds.processes(__name__, peers) as processes:
            rounds.progress(f"scrape of {size}: counting in them")
            for process in processes:
                rounds.tell(process, do="fill", counters=counters, histograms=histograms)
            ways = {process: rounds.hear(process) or {} for process in processes}
            for _ in rounds.numbers(f"scrape of {size}", rounds.count if counters < 100_000 else 3):
                _measure_round(rounds, size, processes, ways)


def _measure_round(rounds, size: str, processes: list, ways: dict) -> None:
    for process in processes:
        for way in ways[process].get("scrapes", ()):
            answer = rounds.ask(process, do="scrape", way=way)
            if answer:
                who = f"{process.peer.name}: {way}"
                rounds.figures.add(TOPIC, size, who, answer["ms"], "ms")
                rounds.figures.add(f"{TOPIC} text", size, who, answer["lines"], "lines")
    if size == STALL_SIZE:
        for process in processes:
            for way in ways[process].get("asgi_scrapes", ()):
                answer = rounds.ask(process, do="stall", way=way)
                if answer:
                    rounds.figures.add(TOPIC, STALL, f"{process.peer.name}: {way}", answer["ms"], "ms")
                    # It is the same for all peers, so one is enough.
                    if process is processes[0]:
                        rounds.figures.add(TOPIC, STALL, IDLE, answer["idle ms"], "ms")


def in_peer(client, do: str, **arguments) -> dict:
    return {"fill": fill, "scrape": scrape, "stall": stall}[do](client, **arguments)


def fill(client, counters: int, histograms: int) -> dict:
    requests = client.counter("bench_requests_total", ("path",))
    for number in range(counters):
        requests.labels(path=f"/path/{number}").inc(number)
    seconds = client.histogram("bench_request_seconds", ("path",), BOUNDS)
    for number in range(histograms):
        seconds.labels(path=f"/path/{number}").observe(0.3)
    return {"scrapes": list(client.scrapes()), "asgi_scrapes": list(client.asgi_scrapes())}


def scrape(client, way: str) -> dict:
    make_text = client.scrapes()[way]
    start = time.perf_counter()
    text = make_text()
    took = time.perf_counter() - start
    return {"ms": took * 1000, "lines": text.count("\n" if isinstance(text, str) else b"\n")}


def stall(client, way: str) -> dict:
    return asyncio.run(_stall(client.asgi_scrapes()[way]))


async def _stall(scrape) -> dict:
    # A program that has run for a while has started its threads already.
    await asyncio.to_thread(time.perf_counter)
    ticker = Ticker()
    ticking = asyncio.create_task(ticker.tick())
    await asyncio.sleep(0.05)
    idle, ticker.longest = ticker.longest, 0.0
    await scrape()
    # Includes the turn that a blocking scrape delays.
    await asyncio.sleep(0.002)
    ticking.cancel()
    return {"ms": ticker.longest * 1000, "idle ms": idle * 1000}


class Ticker:
    """Asks for a turn every millisecond and records the longest delay."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def tick(self) -> None:
        wanted = 0.001
        while True:
            start = time.perf_counter()
            await asyncio.sleep(wanted)
            self.longest = max(self.longest, time.perf_counter() - start - wanted)
