"""Runs the rounds: starts the peers' processes, asks them in turn, and records failures."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time

from figures import Figures, spread
from peer_process import PeerFailed, PeerProcess
from peers import PEERS


class Rounds:
    def __init__(
        self, python: str, missing: dict, redis_ports: dict, count: int, seconds: float, is_quick: bool
    ) -> None:
        self.figures = Figures()
        #: Failures, as (topic, peer, reason).
        self.failures: list[tuple] = []
        #: The number of rounds of a topic, and the length of one measurement in it.
        self.count = count
        self.seconds = seconds
        self.is_quick = is_quick
        #: Times of one fixed loop, in ms. Their spread is the noise of the machine.
        self.calibrations: list[float] = []
        self.redis_ports = redis_ports
        self.peers = [peer for peer in PEERS if not any(name in missing for name in peer.packages)]
        self._peers_python = python
        self._start = time.perf_counter()
        for peer in PEERS:
            for name in set(peer.packages) & set(missing):
                self.fail("set-up", peer.name, missing[name])

    def python_of(self, peer) -> str:
        return self._peers_python if peer.packages else sys.executable

    @contextlib.contextmanager
    def processes(self, module: str, peers=None):
        """Yields a process for each peer, which runs the function `in_peer` of a module when it is asked."""
        with contextlib.ExitStack() as stack:
            processes = []
            for peer in self.peers if peers is None else peers:
                processes.append(PeerProcess(peer, module, self.python_of(peer), self.redis_ports))
                stack.callback(processes[-1].end)
            yield processes

    def seconds_for(self, peer) -> float:
        """Returns how long one measurement of calls takes."""
        return self.seconds / 6 if peer.is_queueing else self.seconds

    def numbers(self, title: str, count: int | None = None):
        """Yields the numbers of the rounds and prints the progress."""
        count = count or self.count
        for number in range(1, count + 1):
            self.progress(f"{title}: round {number}/{count}")
            self.calibrate()
            yield number

    def ask(self, process: PeerProcess, **command):
        """Returns the answer of a peer, or None if it failed. A failed peer is not asked again."""
        if self.tell(process, **command):
            return self.hear(process)
        return None

    def tell(self, process: PeerProcess, **command) -> bool:
        """Sends a question whose answer is fetched with `hear`, so that several peers can prepare at once."""
        if process.has_failed:
            return False
        with self._noticing_failure(process):
            process.send(**command)
        return not process.has_failed

    def hear(self, process: PeerProcess, **how):
        if not process.has_failed:
            with self._noticing_failure(process):
                return process.receive(**how)
        return None

    def calibrate(self) -> None:
        """Times a loop that never changes."""
        start = time.perf_counter()
        total = 0
        for number in range(300_000):
            total += number
        self.calibrations.append((time.perf_counter() - start) * 1000)

    def noise(self) -> dict:
        times = self.calibrations
        return {
            "what": "one fixed Python loop, timed at the start of each round",
            "median ms": round(statistics.median(times), 2),
            "interquartile range / median": round(spread(times) or 0, 3),
            "slowest / fastest": round(max(times) / min(times), 2),
        }

    def progress(self, text: str) -> None:
        print(f"  {time.perf_counter() - self._start:5.0f} s  {text}", flush=True)

    def fail(self, topic: str, who: str, why: str) -> None:
        self.failures.append((topic, who, why))
        print(f"  COULD NOT BE RUN: {topic}, {who}: {why}", flush=True)

    @contextlib.contextmanager
    def _noticing_failure(self, process: PeerProcess):
        try:
            yield
        except PeerFailed as failure:
            process.has_failed = True
            self.fail(process.module, process.peer.name, str(failure))
