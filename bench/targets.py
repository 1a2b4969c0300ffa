"""Compares the results with the project's targets, as ratios.

The benchmark reports; it does not fail on a figure.
"""

from __future__ import annotations

from dataclasses import dataclass

import calls
import engine_calls
import growth
import many_processes
import scrape
import series
from peers import (
    ATOMIC,
    CLIENT,
    CLIENT_FILES,
    CLIENT_HERE_SHARED,
    EMPTY_PYTHON,
    PYTHEUS,
    PYTHEUS_REDIS,
    REDIS,
    SHARED,
    V009_ATOMIC,
    V009_REDIS,
)
from timing import ALONE, BESIDE_BUSY

OURS = (ATOMIC, SHARED, REDIS)
BETTER_THAN = {
    calls.INC: {PYTHEUS: 4, V009_ATOMIC: 2, CLIENT: 4},
    calls.OBSERVE: {PYTHEUS: 20, V009_ATOMIC: 9, CLIENT: 7},
    calls.LABELS: {PYTHEUS: 3, V009_ATOMIC: 3, CLIENT: 2},
}

#: The most microseconds that the first use of a label set takes, and the most bytes that it leaves.
SERIES = {"counter": (6, 900), "histogram": (12, 2000)}


@dataclass
class Result:
    what: str
    needed: str
    #: None if it could not be measured.
    measured: str | None
    is_met: bool | None
    remark: str = ""


def results(figures) -> list:
    return [
        *_against_peers(figures),
        *_client_here(figures),
        *_redis(figures),
        *_beside_busy(figures),
        *_from_c(figures),
        *_growth(figures),
        *_scrape(figures),
        *_stall(figures),
        *_series(figures),
    ]


def _against_peers(figures):
    for work, peers in BETTER_THAN.items():
        for peer, needed in peers.items():
            yield _faster(figures, work, ATOMIC, peer, needed)


#: How many times as fast prometheus_client in shared memory must be as it is by itself, in one process.
CLIENT_HERE_FASTER = {calls.INC: 8, calls.OBSERVE: 15, calls.LABELS: 8}


def _client_here(figures):
    for work, needed in CLIENT_HERE_FASTER.items():
        yield _faster(figures, work, CLIENT_HERE_SHARED, CLIENT, needed)
    ways = f"{CLIENT}: generate_latest", f"{CLIENT_HERE_SHARED}: generate_latest"
    ratio = figures.ratio(*((scrape.TOPIC, scrape.STALL_SIZE, way) for way in ways))
    yield _at_least(f"scrape of 38,000 lines: {CLIENT} / {CLIENT_HERE_SHARED}", ratio, 25)
    ways = f"{CLIENT_FILES}: MultiProcessCollector", f"{CLIENT_HERE_SHARED}: MultiProcessCollector"
    for count, needed in ((many_processes.PROCESSES[0], 25), (many_processes.PROCESSES[-1], 100)):
        work = f"{count} processes"
        ratio = figures.ratio(*((many_processes.TOPIC, work, way) for way in ways))
        what = f"scrape after {count} processes: {CLIENT_FILES} / {CLIENT_HERE_SHARED}"
        yield _at_least(what, ratio, needed)


def _redis(figures):
    ratio = _calls_ratio(figures, calls.INC, REDIS, ATOMIC)
    yield _at_most(f"inc(): {REDIS} / {ATOMIC}", ratio, 1.3, _by_cpu(figures, calls.INC, REDIS, ATOMIC))
    yield _faster(figures, calls.INC, REDIS, V009_REDIS, 4)
    yield _faster(figures, calls.INC, REDIS, PYTHEUS_REDIS, 1000)


def _beside_busy(figures):
    """Judges what a call adds to the cost of a busy thread.

    By the wall clock any code takes twice as long beside a busy thread, because it has the interpreter's lock
    half of the time. So the ratio of the call is divided by that of an empty Python method, and the processor
    time counts too.
    """
    least = _busy_ratio(figures, EMPTY_PYTHON, "")
    for peer in OURS:
        wall, cpu = _busy_ratio(figures, peer, ""), _busy_ratio(figures, peer, ", CPU")
        if None in (wall, cpu, least):
            yield Result(f"inc() beside a busy thread / alone, {peer}", "<= 2x", None, None)
            continue
        worse = max(wall / least, cpu)
        remark = f"wall {wall:.2f}x (an empty Python method: {least:.2f}x), processor time {cpu:.2f}x"
        yield _at_most(f"inc() beside a busy thread / alone, {peer}", worse, 2, remark)


def _from_c(figures):
    ratio = figures.ratio(_engine(engine_calls.OURS_C), _engine(engine_calls.CHECKED_C))
    yield _at_most(f"metric_inc: {engine_calls.OURS_C} / {engine_calls.CHECKED_C}", ratio, 1.1)
    for ours in (engine_calls.OURS_C, engine_calls.OURS_SHARED_LIBRARY):
        ratio = figures.ratio(_engine(ours), _engine(engine_calls.BARE_CAS_C))
        yield _at_most(f"metric_inc: {ours} / {engine_calls.BARE_CAS_C}", ratio, 1.5)
    for others, remark in (
        (engine_calls.FLOAT_COUNTERS, "it keeps an f64, as this engine does"),
        (engine_calls.INTEGER_COUNTERS, "it counts whole numbers only: one fetch_add"),
    ):
        for other in others:
            ratio = figures.ratio(_engine(engine_calls.OURS_C), _engine(other))
            yield _at_most(f"metric_inc: {engine_calls.OURS_C} / {other}", ratio, 1, remark)


#: Two threads at one metric, from C: the most ns that a call takes.
COLLIDING = {growth.THREADS_INC: 15, growth.THREADS_OBSERVE: 30}


#: The series in the file in which a series is looked up and a family is made.
FILE_SERIES = 10_000


def _growth(figures):
    for curve, most in COLLIDING.items():
        for engine in growth.engines(figures, curve):
            measured = dict(growth.points(figures, curve, engine)).get(2)
            yield _not_more(f"{curve}: 2, {engine}", measured, most, "ns", "processor time")
    for engine in growth.engines(figures, growth.ATTACH) or ["shared memory"]:
        largest = max(growth.points(figures, growth.ATTACH, engine), default=(0, None))
        what = f"{growth.ATTACH}, in a file of {largest[0]:,}"
        yield _not_more(what, largest[1], 50, "ms", "processor time")
    for curve in (growth.LOOK_UP, growth.NEW_FAMILY):
        for engine in growth.engines(figures, curve):
            measured = dict(growth.points(figures, curve, engine)).get(FILE_SERIES)
            yield _not_more(f"{curve} of {FILE_SERIES:,} series", measured, 50, "µs", "processor time")


#: The most ms that a scrape of 38,000 lines takes, and how many times as long pytheus must take. With Redis nothing
#: has changed since the last scrape.
MIXED_SCRAPE = {ATOMIC: (2.5, 40), SHARED: (4, 25), REDIS: (3, None)}


def _scrape(figures):
    theirs = (scrape.TOPIC, scrape.STALL_SIZE, f"{PYTHEUS}: pytheus' generate_metrics")
    for peer, way, remark in _our_ways(figures, scrape.STALL_SIZE, "its own generate_metrics"):
        ratio = figures.ratio(theirs, (scrape.TOPIC, scrape.STALL_SIZE, way))
        yield _at_least(f"scrape of 38,000 lines: pytheus' own / {peer}", ratio, 20, remark)
    theirs = (scrape.TOPIC, scrape.MIXED, f"{PYTHEUS}: pytheus' generate_metrics")
    for peer, way, remark in _our_ways(figures, scrape.MIXED, "its own generate_metrics"):
        most, least = MIXED_SCRAPE[peer]
        what = f"scrape of 12,000 children: {peer}"
        yield _not_more(what, figures.median(scrape.TOPIC, scrape.MIXED, way), most, "ms", remark)
        if least is not None:
            ratio = figures.ratio(theirs, (scrape.TOPIC, scrape.MIXED, way))
            yield _at_least(f"scrape of 12,000 children: pytheus' own / {peer}", ratio, least, remark)
    way = f"{REDIS}: pytheus' generate_metrics"
    taken = figures.median(scrape.TOPIC, scrape.MIXED, way)
    yield _not_more(f"scrape of 12,000 children: {way}", taken, 120, "ms")
    for peer, way, remark in _our_ways(figures, scrape.ALL_CHANGED, "its own generate_metrics"):
        taken = figures.median(scrape.TOPIC, scrape.ALL_CHANGED, way)
        yield _not_more(f"{scrape.ALL_CHANGED}, 12,000 children: {peer}", taken, 12, "ms", remark)
    for size in scrape.HELD_SIZES:
        work = f"{scrape.HELD}: {size}"
        for peer, way, remark in _our_ways(figures, work, "its own generate_metrics"):
            yield _not_more(f"{work}: {peer}", figures.median(scrape.TOPIC, work, way), 0.3, "ms", remark)


def _stall(figures):
    for peer, way, remark in _our_ways(figures, scrape.STALL, "its own make_asgi_app"):
        longest = figures.median(scrape.TOPIC, scrape.STALL, way)
        yield Result(f"{scrape.STALL}, {peer}", "< 5 ms", f"{longest:.1f} ms", longest < 5, remark)


def _series(figures):
    for kind, (microseconds, size) in SERIES.items():
        for peer in (ATOMIC, SHARED):
            for work, most, unit in (
                (series.registering(kind), microseconds, "µs"),
                (series.memory_of(kind), size, "bytes"),
            ):
                measured = figures.median(series.TOPIC, work, peer)
                yield _not_more(f"{work}: {peer}", measured, most, unit)


def _our_ways(figures, work: str, wanted: str):
    """Yields for each of our backends the renderer that is judged: its own where it has one."""
    for peer in OURS:
        ways = [who for who in figures.peers(scrape.TOPIC, work) if who.startswith(f"{peer}: ")]
        own = [way for way in ways if way.endswith(wanted)]
        for way in own or ways[:1]:
            yield peer, way, f"by {way.partition(': ')[2]}"


def _faster(figures, work: str, ours: str, peer: str, needed: float) -> Result:
    ratio = _calls_ratio(figures, work, peer, ours)
    return _at_least(f"{work}: {peer} / {ours}", ratio, needed, _by_cpu(figures, work, peer, ours))


def _calls_ratio(figures, work: str, one: str, other: str, clock: str = "") -> float | None:
    work = f"{work}, {ALONE}{clock}"
    return figures.ratio((calls.TOPIC, work, one), (calls.TOPIC, work, other))


def _by_cpu(figures, work: str, one: str, other: str) -> str:
    ratio = _calls_ratio(figures, work, one, other, ", CPU")
    return "" if ratio is None else f"by processor time {ratio:.2f}x"


def _busy_ratio(figures, peer: str, clock: str) -> float | None:
    busy, alone = f"{calls.INC}, {BESIDE_BUSY}{clock}", f"{calls.INC}, {ALONE}{clock}"
    return figures.ratio((calls.TOPIC, busy, peer), (calls.TOPIC, alone, peer))


def _engine(who: str) -> tuple:
    return engine_calls.TOPIC, engine_calls.INC, who


def _not_more(what: str, measured: float | None, most: float, unit: str, remark: str = "") -> Result:
    shown = None if measured is None else f"{measured:,.1f} {unit}"
    return Result(what, f"<= {most:,} {unit}", shown, None if measured is None else measured <= most, remark)


def _at_least(what: str, ratio: float | None, needed: float, remark: str = "") -> Result:
    met = None if ratio is None else ratio >= needed
    return Result(what, f">= {needed:,g}x", None if ratio is None else f"{ratio:,.2f}x", met, remark)


def _at_most(what: str, ratio: float | None, needed: float, remark: str = "") -> Result:
    met = None if ratio is None else ratio <= needed
    return Result(what, f"<= {needed:,g}x", None if ratio is None else f"{ratio:,.2f}x", met, remark)
