"""Measures start-up: the import, and a whole program that starts, counts once and ends.

Both are times of whole processes. The floor is an interpreter that imports nothing, or the same program with
a metric that does nothing.
"""

from __future__ import annotations

import subprocess
import tempfile
import time

from peer_process import command_line
from worker import COUNT_ONCE

TOPIC = "start-up"
IMPORT, PROGRAM = "import", "start, count once, end"


def measure(rounds) -> None:
    peers = [peer for peer in rounds.peers if not (peer.is_floor and peer.options["kind"] == "c")]
    broken = set()
    for _ in rounds.numbers("start-up"):
        for peer in peers:
            if peer.name not in broken and not _measure_one(rounds, peer):
                broken.add(peer.name)


def _measure_one(rounds, peer) -> bool:
    python = rounds.python_of(peer)
    with tempfile.TemporaryDirectory() as folder:
        worker, environment = command_line(peer, python, folder, rounds.redis_ports.get(peer.name))
        for work, command in ((IMPORT, [python, "-c", peer.imports]), (PROGRAM, [*worker, COUNT_ONCE])):
            start = time.perf_counter()
            done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            took = time.perf_counter() - start
            if done.returncode != 0:
                rounds.fail(TOPIC, peer.name, done.stderr.decode(errors="replace").strip()[-1000:])
                return False
            rounds.figures.add(TOPIC, work, peer.name, took * 1000, "ms")
    return True
