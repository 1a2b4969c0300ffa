"""gunicorn with `--preload`: the backend is loaded once, before the workers are forked, and each of them
counts.

The application counts a request under the process id of its worker, and shows the metrics at /metrics.
Nothing keeps a connection alive, so the workers share the requests among them.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from programs import HANG
from server_process import ServerProcess
from shared_stores import LAZY, SOURCE, SharedStore
from waiting import wait_until

WORKERS = 4
CLIENTS = 8

APPLICATION = f"""{SOURCE}
def application(environ, start_response):
    worker = str(os.getpid())
    if environ["PATH_INFO"] == "/metrics":
        body = generate_metrics().encode()
    elif environ["PATH_INFO"].startswith("/shown/"):
        body = str(is_shown(int(environ["PATH_INFO"][len("/shown/"):]), generate_metrics())).encode()
    else:
        if environ["PATH_INFO"] == "/":
            count(worker)
        body = b"ok"
    start_response("200 OK", [("Content-Length", str(len(body))), ("X-Worker", worker)])
    return [body]
"""


class Gunicorn(ServerProcess):
    """A running gunicorn on a free port."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        (directory / "application.py").write_text(APPLICATION, encoding="utf-8")
        command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", str(WORKERS)]
        command += ["--bind", "127.0.0.1:0", "--timeout", "600", "--graceful-timeout", "60", "application"]
        environment = {**os.environ, "TEST_CONFIG": json.dumps(config)}
        super().__init__(command, directory, directory / "gunicorn.log", environment)
        try:
            self.port = int(wait_until(self._chosen_port, f"gunicorn listens; see {self._log}"))
        except BaseException:
            self.close()
            raise

    def get(self, path: str) -> tuple[str, str]:
        """Returns the worker that answered, and its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200, self.text
            return str(response.headers["X-Worker"]), response.read().decode()
        finally:
            connection.close()

    def serve(self, requests: int) -> set[str]:
        """Sends requests from several threads and returns the workers that answered."""
        workers: set[str] = set()
        problems: list[BaseException] = []

        def client() -> None:
            try:
                for _ in range(requests // CLIENTS):
                    workers.add(self.get("/")[0])
            except BaseException as problem:
                problems.append(problem)

        clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        assert not problems, f"{problems[0]!r}\n{self.text}"
        return workers

    def all_workers(self) -> set[str]:
        """Waits until all workers answer and returns them."""
        workers: set[str] = set()
        started = re.compile(r"Booting worker with pid: (\d+)")

        def all_have_answered() -> bool:
            workers.add(self.get("/who")[0])
            return len(workers) == WORKERS

        wait_until(lambda: len(started.findall(self.text)) >= WORKERS, "all workers have started")
        wait_until(all_have_answered, "all workers answer")
        return workers

    def reload(self) -> None:
        """Replaces all workers."""
        before = self.text.count("Booting worker")
        exits = self.text.count("Worker exiting")
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.text.count("Booting worker") >= before + WORKERS, "new workers have started")
        wait_until(lambda: self.text.count("Worker exiting") >= exits + WORKERS, "the old workers have ended")

    def _chosen_port(self) -> str:
        assert self.process.poll() is None, self.text
        found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", self.text)
        return found.group(1) if found else ""


@contextlib.contextmanager
def gunicorn(directory: Path, config: dict[str, Any]) -> Iterator[Gunicorn]:
    running = Gunicorn(directory, config)
    try:
        yield running
    finally:
        running.close()


def test_every_request_to_preloaded_workers_is_counted(store: SharedStore, tmp_path: Path) -> None:
    with gunicorn(tmp_path, store.config()) as server:
        workers = server.all_workers()
        assert server.serve(2_000) == workers
        # Every worker shows all requests: in shared memory at once, in Redis when the others have sent them.
        shown: set[str] = set()

        def shown_by_all() -> bool:
            worker, text = server.get("/metrics")
            total = counted_total(text)
            assert total <= 2_000 and (store.is_redis or total == 2_000), text
            if total == 2_000:
                shown.add(worker)
            return shown == workers

        wait_until(shown_by_all, f"each of {workers} shows 2,000 requests")
        server.stop()
    counted = store.counted()
    assert counted["total"] == 2_000
    assert counted.keys() - {"total"} == workers


def test_workers_that_are_replaced_lose_no_count(store: SharedStore, tmp_path: Path) -> None:
    """The flush interval is so long that only the end of a worker sends its counts."""
    with gunicorn(tmp_path, store.config(**LAZY)) as server:
        server.all_workers()
        with concurrent.futures.ThreadPoolExecutor(1) as clients:
            serving = clients.submit(server.serve, 800)
            server.reload()
            serving.result(HANG)
        server.stop()
    assert store.counted()["total"] == 800


def test_a_killed_worker_loses_no_sent_count(store: SharedStore, tmp_path: Path) -> None:
    """A kill loses unsent counts, so the test first waits until all counts are sent."""
    with gunicorn(tmp_path, store.config()) as server:
        workers = server.all_workers()
        server.serve(400)
        wait_until(lambda: server.get("/shown/400")[1] == "True", "all that was counted is in the store")
        os.kill(int(min(workers)), signal.SIGKILL)
        server.serve(400)
        server.stop()
    assert store.counted()["total"] == 800


def counted_total(text: str) -> float:
    # Only the counter is compared, because a scrape beside counting is no snapshot across metrics.
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("requests_total{"))
