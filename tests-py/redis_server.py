"""A real redis-server for a test: on a free port of the loopback, without persistence, in a directory of
its own. It can be paused and resumed, killed, and started again on the same port; it is only ever signalled
by the process id of the server that was started here. PYTHEUS_TEST_REDIS_SERVER names another server program.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import redis

from waiting import wait_until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A running redis-server."""

    def __init__(self, *options: str, port: int | None = None) -> None:
        self._options = options
        self._directory = Path(tempfile.mkdtemp(prefix="tests-py-redis-"))
        self.socket_path = self._directory / "redis.sock"
        self.port = port or free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def config(self) -> dict[str, Any]:
        """Returns the backend configuration for this server."""
        return {"host": "127.0.0.1", "port": self.port}

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def client(self, db: int = 0) -> redis.Redis:
        return redis.Redis(port=self.port, db=db, decode_responses=True)

    def start(self) -> None:
        """Starts the server again on its port."""
        program = os.environ.get("PYTHEUS_TEST_REDIS_SERVER", "redis-server")
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--unixsocket", str(self.socket_path)]
        command += ["--appendonly", "no", "--dir", str(self._directory), *self._options]
        if "--sentinel" in self._options:
            # A Sentinel keeps what it knows in its configuration.
            configuration = self._directory / "sentinel.conf"
            configuration.touch()
            command.insert(1, str(configuration))
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until(self._answers, f"redis-server on port {self.port} answers; see {self._directory}/log")

    def pause(self) -> None:
        """Stops the process: connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kills the server, which loses its data."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()
        self._process = None

    def close(self) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server does not run"
        self._process.send_signal(number)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"redis-server ended: {(self._directory / 'log').read_text()}")
        try:
            return bool(redis.Redis(port=self.port).ping())
        except redis.AuthenticationError:
            return True
        except redis.ResponseError:
            return True
        except redis.ConnectionError:
            return False


class Sentinel(Server):
    """A running Redis Sentinel."""

    def __init__(self) -> None:
        super().__init__("--sentinel")

    def watch(self, service: str, master: Server) -> None:
        """Lets the Sentinel watch a master under the name of a service."""
        self.client().sentinel_monitor(service, "127.0.0.1", master.port, 1)
