"""Measures a scrape: the time to render it, and how long an asyncio program stands still meanwhile.

Each peer renders in each of its ways (`Client.scrapes`); this project's backends render with pytheus'
generate_metrics and with their own. The stall is the longest time between two turns of a coroutine that wants
one every millisecond. Beside it stands how long a scrape has the interpreter's lock, and what a scrape of a Redis
server takes when all series have changed.
"""

from __future__ import annotations

import asyncio
import sys
import threading
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
#: The sizes at which is measured how long a scrape has the interpreter's lock.
HELD_SIZES = (MIXED, "100,000 counters")
HELD = "interpreter's lock held by a scrape"
ALL_CHANGED = "scrape after all series have changed"
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
    if size in HELD_SIZES:
        _measure_held(rounds, size, processes, ways)
    if size == MIXED:
        _measure_all_changed(rounds, processes, ways)
    if size == STALL_SIZE:
        for process in processes:
            for way in ways[process].get("asgi_scrapes", ()):
                answer = rounds.ask(process, do="stall", way=way)
                if answer:
                    rounds.figures.add(TOPIC, STALL, f"{process.peer.name}: {way}", answer["ms"], "ms")
                    # It is the same for all peers, so one is enough.
                    if process is processes[0]:
                        rounds.figures.add(TOPIC, STALL, IDLE, answer["idle ms"], "ms")


def _measure_held(rounds, size: str, processes: list, ways: dict) -> None:
    for process in processes:
        # Peers that render in Python hold the lock all the time.
        for way in ways[process].get("scrapes", ()) if process.peer.is_ours else ():
            answer = rounds.ask(process, do="held", way=way)
            if answer:
                rounds.figures.add(
                    TOPIC, f"{HELD}: {size}", f"{process.peer.name}: {way}", answer["ms"], "ms"
                )


def _measure_all_changed(rounds, processes: list, ways: dict) -> None:
    for process in processes:
        if process.peer.store != "redis" or process.peer.is_slow:
            continue
        for way in ways[process].get("scrapes", ()):
            # The server has what was changed when nothing has come for half a second.
            if rounds.tell(process, do="change_all") and rounds.hear(process, quiet_seconds=0.5) is not None:
                answer = rounds.ask(process, do="scrape", way=way)
                if answer:
                    rounds.figures.add(TOPIC, ALL_CHANGED, f"{process.peer.name}: {way}", answer["ms"], "ms")


def in_peer(client, do: str, **arguments) -> dict:
    actions = {"fill": fill, "change_all": change_all, "scrape": scrape, "held": held, "stall": stall}
    return actions[do](client, **arguments)


def fill(client, counters: int, histograms: int) -> dict:
    requests = client.counter("bench_requests_total", ("path",))
    seconds = client.histogram("bench_request_seconds", ("path",), BOUNDS)
    client.children = (
        [requests.labels(path=f"/path/{number}") for number in range(counters)],
        [seconds.labels(path=f"/path/{number}") for number in range(histograms)],
    )
    change_all(client)
    return {"scrapes": list(client.scrapes()), "asgi_scrapes": list(client.asgi_scrapes())}


def change_all(client) -> dict:
    counters, histograms = client.children
    for number, counter in enumerate(counters):
        counter.inc(number)
    for histogram in histograms:
        histogram.observe(0.3)
    return {}


def scrape(client, way: str) -> dict:
    make_text = client.scrapes()[way]
    start = time.perf_counter()
    text = make_text()
    took = time.perf_counter() - start
    return {"ms": took * 1000, "lines": text.count("\n" if isinstance(text, str) else b"\n")}


def held(client, way: str) -> dict:
    """Returns for how long a scrape keeps another thread from running Python: the sum of that thread's pauses."""
    make_text = client.scrapes()[way]
    interval = sys.getswitchinterval()
    # The scrape waits for the lock this long each time that it comes back from the engine.
    sys.setswitchinterval(1e-5)
    watch = Watch()
    try:
        watch.start()
        watch.wait_until_it_runs()
        make_text()
    finally:
        watch.stop()
        sys.setswitchinterval(interval)
    return {"ms": watch.paused * 1000}


class Watch(threading.Thread):
    """Reads the clock again and again, and adds up the times between two readings that are longer than usual."""

    USUAL = 10e-6

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.paused = 0.0
        self._runs, self._stops = threading.Event(), False

    def run(self) -> None:
        last = time.perf_counter()
        self._runs.set()
        while not self._stops:
            now = time.perf_counter()
            if now - last > self.USUAL:
                self.paused += now - last
            last = now

    def wait_until_it_runs(self) -> None:
        self._runs.wait()

    def stop(self) -> None:
        self._stops = True
        self.join()


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
