"""Times calls alone, beside a busy thread, and from four threads. Runs in the process of a peer.

A loop is a function of (metrics, calls) that makes the call that many times. The figures include the cost of
the loop; the floors in `peers/empty.py` show how much that is.
"""

from __future__ import annotations

import threading
import time

THREADS = 4


def time_calls(loop, metrics, situation: str, calls: int) -> dict:
    """Returns ns per call, by the wall clock and by the processor time of the calling threads."""
    return SITUATIONS[situation](loop, metrics, calls)


def calls_for(loop, metrics, situation: str, seconds: float) -> int:
    """Returns how many calls take about `seconds`. It also warms everything up."""
    calls, enough = 1, seconds / 10
    while True:
        # The best of three, so that a pause of the machine does not look like a slow call.
        took = min(time_calls(loop, metrics, situation, calls)["wall"] for _ in range(3)) * calls / 1e9
        if took >= enough:
            return max(1, int(calls * seconds / took))
        calls = min(calls * 8, int(calls * enough / took) + 1)


def _alone(loop, metrics, calls: int) -> dict:
    cpu, wall = time.thread_time_ns(), time.perf_counter_ns()
    loop(metrics, calls)
    wall, cpu = time.perf_counter_ns() - wall, time.thread_time_ns() - cpu
    return {"wall": wall / calls, "cpu": cpu / calls}


def _beside_busy(loop, metrics, calls: int) -> dict:
    """Times calls while another thread computes.

    Both threads want the interpreter's lock, which changes hands every 5 ms, so twice the cost alone is the
    least possible by the wall clock. The processor time is that of the calling thread.
    """
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(100))

    busy = threading.Thread(target=compute)
    busy.start()
    try:
        return _alone(loop, metrics, calls)
    finally:
        stop.set()
        busy.join()


def _four_threads(loop, metrics, calls: int) -> dict:
    """Returns ns per call of all threads together. The processor time is that of the whole process."""
    share = -(-calls // THREADS)
    together = threading.Barrier(THREADS + 1)

    def call() -> None:
        together.wait()
        loop(metrics, share)

    threads = [threading.Thread(target=call) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    cpu, wall = time.process_time_ns(), time.perf_counter_ns()
    together.wait()
    for thread in threads:
        thread.join()
    wall, cpu = time.perf_counter_ns() - wall, time.process_time_ns() - cpu
    return {"wall": wall / (share * THREADS), "cpu": cpu / (share * THREADS)}


ALONE, BESIDE_BUSY, FOUR_THREADS = "alone", "beside a busy thread", f"{THREADS} threads"
SITUATIONS = {ALONE: _alone, BESIDE_BUSY: _beside_busy, FOUR_THREADS: _four_threads}
