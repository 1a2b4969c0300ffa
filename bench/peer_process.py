"""Starts, asks and ends the process of a peer: the benchmark's side of the pipe to worker.py."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path

import redis_server
from peers import Peer

HERE = Path(__file__).parent
ANSWER_SECONDS = 300


class PeerFailed(Exception):
    """A peer that could not be started, crashed, did not answer or answered with an error."""


class PeerProcess:
    """The process of one peer, with an empty store of its own."""

    def __init__(self, peer: Peer, module: str, python: str, redis_ports: dict) -> None:
        self.peer = peer
        #: The module whose function `in_peer` answers.
        self.module = module
        self.has_failed = False
        self.redis_port = redis_ports.get(peer.name)
        #: When the server received the last change (`time.perf_counter`).
        self.delivered_at = 0.0
        self._folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
        self._log = tempfile.TemporaryFile()
        command, environment = command_line(peer, python, self._folder.name, self.redis_port)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
        )

    def send(self, **command) -> None:
        try:
            self.process.stdin.write(json.dumps({"module": self.module, **command}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise PeerFailed(f"its process ended: {self._last_words()}") from None

    def receive(self, quiet_seconds: float = 0.05) -> dict:
        """Returns the answer to what was sent. The peer's server has received everything by then and is
        idle."""
        line = self._read_line()
        answer = json.loads(line)
        if isinstance(answer, dict) and "failed" in answer:
            raise PeerFailed(answer["failed"].strip())
        if self.redis_port is not None:
            self.delivered_at = redis_server.wait_until_quiet(
                self.redis_port, self.process.pid, quiet_seconds
            )
        return answer

    def end(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            # Sending pending changes at the end may take a while.
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._log.close()
        self._folder.cleanup()

    def _read_line(self) -> bytes:
        line = b""
        give_up_at = time.monotonic() + ANSWER_SECONDS
        descriptor = self.process.stdout.fileno()
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([descriptor], [], [], max(0, give_up_at - time.monotonic()))
            if not readable:
                self.process.kill()
                raise PeerFailed(f"no answer for {ANSWER_SECONDS} s")
            piece = os.read(descriptor, 65536)
            if not piece:
                raise PeerFailed(f"its process ended with {self.process.wait()}: {self._last_words()}")
            line += piece
        return line

    def _last_words(self) -> str:
        self._log.seek(0)
        return self._log.read()[-2000:].decode(errors="replace").strip()


def command_line(peer: Peer, python: str, folder: str, redis_port: int | None) -> tuple:
    """Returns the command that starts a peer's process, and its environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    store = {}
    if peer.store == "redis":
        redis_server.empty(redis_port)
        store = {"host": "127.0.0.1", "port": redis_port}
    elif peer.store == "file":
        store = {"path": os.path.join(folder, "metrics")}
    elif peer.store == "folder":
        environment["PROMETHEUS_MULTIPROC_DIR"] = folder
    arguments = json.dumps({"module": peer.module, "options": peer.options, "store": store})
    return [python, str(HERE / "worker.py"), arguments], environment
