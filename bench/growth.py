"""Measures how costs grow: with the number of series, of threads and of processes, without Python.

`engines/c/growth.c` measures all curves in one run. Each run is a round. Values are processor time, because there may
be more threads and processes than processors.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from environment import ROOT

TOPIC = "growth"
ROUNDS = 3
SOURCE = Path("bench/engines/c/growth.c")
BUILD = Path("build/bench/engines/c")
#: The most series, threads and processes.
MOST, QUICK_MOST = (1_000_000, 8, 200), (100_000, 4, 20)

FIRST_USE = "first use of a label set"
SCRAPE = "scrape of counters"
ATTACH = "first series of a new process"
LOOK_UP, NEW_FAMILY = "look-up of a series in a file", "new family in a file"
THREADS_INC, THREADS_OBSERVE = (
    "metric_inc of one counter, threads",
    "metric_observe of one histogram, threads",
)
PROCESSES_INC, PROCESSES_SCRAPE = (
    "metric_inc of one counter, processes",
    "scrape of 1,000 counters, processes",
)


def work(curve: str, number: int) -> str:
    """The name of one point of a curve."""
    return f"{curve}: {number:,}"


def points(figures, curve: str, engine: str) -> list:
    """Returns the points of a curve that were measured, as (number, median)."""
    found = []
    for name in figures.works(TOPIC):
        a_curve, _, number = name.rpartition(": ")
        median = figures.median(TOPIC, name, engine)
        if a_curve == curve and median is not None:
            found.append((int(number.replace(",", "")), median))
    return sorted(found)


def curves(figures) -> list:
    return list(dict.fromkeys(name.rpartition(": ")[0] for name in figures.works(TOPIC)))


def engines(figures, curve: str) -> list:
    return [engine for engine in figures.peers(TOPIC) if points(figures, curve, engine)]


def measure(rounds) -> None:
    rounds.progress(f"building {SOURCE}")
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    library = (ROOT / target / "release" / "libpytheus_backend_rs.a").resolve()
    (ROOT / BUILD).mkdir(parents=True, exist_ok=True)
    compiler = ["cc", "-O2", "-Wall", "-Iinclude", SOURCE, "-o", BUILD / "growth", library]
    if _output(rounds, [*compiler, "-lpthread", "-ldl", "-lm"]) is None:
        return
    most = [str(number) for number in (QUICK_MOST if rounds.is_quick else MOST)]
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    for _ in rounds.numbers("growth with series, threads and processes", 1 if rounds.is_quick else ROUNDS):
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            output = _output(rounds, [ROOT / BUILD / "growth", folder, *most])
        for line in (output or "").splitlines():
            curve, engine, number, value, unit = line.split("\t")
            rounds.figures.add(TOPIC, work(curve, int(number)), engine, float(value), unit)


def _output(rounds, command: list) -> str | None:
    """Returns what the command prints, or None if it fails."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout
    rounds.fail(TOPIC, str(command[0]), f"it ended with {done.returncode}: {done.stderr.strip()[-1000:]}")
    return None
