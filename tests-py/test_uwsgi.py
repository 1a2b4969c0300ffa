"""uwsgi, which forks its workers in C, without Python's fork hooks: they count, and end when they are told
to. With `--lazy-apps` each worker loads the application itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from http_client import get
from programs import HANG
from server_process import ServerProcess
from shared_stores import SOURCE, SharedStore
from waiting import wait_until

WORKERS = 2

APPLICATION = f"""{SOURCE}
logging.basicConfig(level=logging.INFO)
def application(environ, start_response):
    count(str(os.getpid()))
    body = generate_metrics().encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


class Uwsgi(ServerProcess):
    """A running uwsgi with two workers."""

    def __init__(self, directory: Path, store: SharedStore, options: list[str]) -> None:
        (directory / "application.py").write_text(APPLICATION, encoding="utf-8")
        self._is_lazy = "--lazy-apps" in options
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
            command = [
                str(Path(sys.executable).with_name("uwsgi")),
                "--http-socket",
                "fd://" + str(listener.fileno()),
            ]
            command += [
                "--master",
                "--processes",
                str(WORKERS),
                "--die-on-term",
                "--need-app",
                "--module",
                "application",
            ]
            command += ["--home", sys.prefix, *options]
            environment = {**os.environ, "TEST_CONFIG": json.dumps(store.config())}
            super().__init__(command, directory, directory / "uwsgi.log", environment, [listener.fileno()])

    def wait_for_workers(self) -> None:
        """Waits until both workers have the application and wait for requests.

        A worker that has just been forked still has the master's signal handlers. A signal that it gets then
        does not end it, and the master kills it after a minute.
        """

        def is_waiting(pid: str) -> bool:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("S")

        def are_ready() -> bool:
            assert self.process.poll() is None, self.text
            spawned = re.findall(r"spawned uWSGI worker \d+ \(pid: (\d+)", self.text)
            loaded = len(re.findall(r"WSGI app 0 .* ready in", self.text))
            has_all = len(spawned) == WORKERS and loaded == (WORKERS if self._is_lazy else 1)
            return has_all and all(map(is_waiting, spawned))

        wait_until(are_ready, f"uwsgi has {WORKERS} workers; see {self._log}")


@contextlib.contextmanager
def uwsgi(directory: Path, store: SharedStore, options: list[str]) -> Iterator[Uwsgi]:
    running = Uwsgi(directory, store, options)
    try:
        yield running
    finally:
        running.close()


@pytest.mark.parametrize(
    "options",
    [[], ["--lazy-apps"], ["--enable-threads"], ["--enable-threads", "--lazy-apps"]],
    ids=lambda options: " ".join(options) or "preloaded",
)
def test_workers_count_and_end(store: SharedStore, tmp_path: Path, options: list[str]) -> None:
    with uwsgi(tmp_path, store, options) as server:
        server.wait_for_workers()
        for _ in range(20):
            assert get(server.port, "/").status == 200, server.text
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(HANG) == 0, server.text
        # uwsgi kills a worker that does not end within a minute, and says so.
        assert "MERCY" not in server.text and "too much time to die" not in server.text, server.text
    assert store.counted()["total"] == 20
