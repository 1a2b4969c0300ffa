"""What `inc()` costs in Python, alone and beside a busy thread, as ratios of one run.

Absolute times depend on the machine; the ratio between the two does not depend on it much. It shows
whether a call keeps the interpreter's lock: one that gives it away has to win it back from the busy
thread, which takes a thousand times as long as the call itself.
"""

import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from pytheus.backends import load_backend
from pytheus.backends.base import SingleProcessBackend as PytheusBackend
from pytheus.metrics import Counter

import pytheus_backend_rs
from pytheus_backend_rs import (
    RedisBackend,
    SharedMemoryBackend,
    SingleProcessAtomicBackend,
    SingleProcessBackend,
)
from pytheus_backend_rs._engine import engines

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "python"))
from local_redis import local_redis  # noqa: E402

ROUNDS = 7
CALLS = 200_000
CALLS_BESIDE_BUSY = 100_000


def main() -> int:
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, ", end="")
    print(f"pytheus_backend_rs {pytheus_backend_rs.__version__}")
    print(f"Counter.inc(): median of {ROUNDS} interleaved rounds, in ns per call\n")
    with local_redis() as port, tempfile.TemporaryDirectory() as folder:
        results = measure(make_counters(port, os.path.join(folder, "metrics")))
        # The server is about to end: what is pending goes to it before.
        for engine in list(engines):
            engine.close()
    return report(results)


def make_counters(port: int, path: str) -> dict:
    backends = {
        "pytheus (Python, mutex)": (PytheusBackend, {}),
        "SingleProcessBackend": (SingleProcessBackend, {}),
        "SingleProcessAtomicBackend": (SingleProcessAtomicBackend, {}),
        "SharedMemoryBackend": (SharedMemoryBackend, {"path": path}),
        "RedisBackend": (RedisBackend, {"host": "127.0.0.1", "port": port}),
    }
    counters = {}
    for number, (name, (backend_class, config)) in enumerate(backends.items()):
        load_backend(backend_class, config)
        counters[name] = Counter(f"bench_{number}_total", "Counted by the benchmark.", registry=None)
    return counters


def measure(counters: dict) -> dict:
    """Per counter: the times alone, and beside a busy thread."""
    results = {name: ([], []) for name in counters}
    for round_number in range(ROUNDS):
        print(f"  round {round_number + 1} of {ROUNDS}", file=sys.stderr)
        for name, counter in counters.items():
            results[name][0].append(time_calls(counter.inc, CALLS))
        with busy_thread():
            for name, counter in counters.items():
                results[name][1].append(time_calls(counter.inc, CALLS_BESIDE_BUSY))
    return results


def time_calls(call, count: int) -> float:
    """Time per call, in ns, by the wall clock: what it takes to win the interpreter's lock back is part
    of what a call costs. (Beside a busy thread half of the time is the other thread's, so the best ratio
    is about 2.)"""
    start = time.perf_counter_ns()
    for _ in range(count):
        call()
    return (time.perf_counter_ns() - start) / count


class busy_thread:
    """A second thread that does nothing but compute."""

    def __enter__(self):
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._compute)
        self._thread.start()

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _compute(self):
        while not self._stop.is_set():
            sum(range(100))


def report(results: dict) -> int:
    print(f"{'backend':<28} {'alone':>7} {'min':>7} {'max':>7} {'beside busy':>12} {'ratio':>7}")
    is_right = True
    for name, (alone, busy) in results.items():
        ratio = statistics.median(busy) / statistics.median(alone)
        is_right = is_right and (name.startswith("pytheus") or ratio < 5)
        print(
            f"{name:<28} {statistics.median(alone):>7.0f} {min(alone):>7.0f} {max(alone):>7.0f}"
            f" {statistics.median(busy):>12.0f} {ratio:>7.2f}"
        )
    atomic, shared = (statistics.median(results[name][0]) for name in ("SingleProcessAtomicBackend", "SharedMemoryBackend"))
    print(f"\nSharedMemoryBackend / SingleProcessAtomicBackend: {shared / atomic:.2f}")
    print("\nThe promise: beside a busy thread a call costs less than 5 times what it costs alone.")
    print("It holds." if is_right else "It does NOT hold in this run.")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
