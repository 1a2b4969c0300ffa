"""Web servers with several worker processes, as tests start them: a command that serves the module `app` on a
free port of the loopback.

Each answer has the process id of its worker in the header `X-Worker`. Connections are closed after one request,
so the workers share the requests among them.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from programs import HANG, python_path
from server_process import ServerProcess
from waiting import wait_until

SCRIPTS = Path(sys.executable).parent

#: How many requests `WebServer.serve` has under way.
CLIENTS = 8

#: The end of a module `app`, which begins with a function `answer` that returns the body for a path.
APPLICATIONS = """
def headers(body):
    return [("Content-Length", str(len(body))), ("X-Worker", str(os.getpid())), ("Connection", "close")]

def application(environ, start_response):
    body = answer(environ["PATH_INFO"])
    start_response("200 OK", headers(body))
    return [body]

async def asgi(scope, receive, send):
    if scope["type"] != "http":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    body = answer(scope["path"])
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers(body)]
    await send({"type": "http.response.start", "status": 200, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
"""


class WebServer(ServerProcess):
    """A running server of several workers, on a port of its own."""

    def __init__(self, command: list[str], directory: Path, environment: dict[str, str], port: int) -> None:
        super().__init__(command, directory, directory / "log", environment)
        self.port = port

    def get(self, path: str) -> tuple[str, str]:
        """Returns the worker that answers, and its answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANG)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read().decode()
            assert response.status == 200, f"{path}: {response.status}\n{body}\n{self.text}"
            return str(response.headers["X-Worker"]), body
        finally:
            connection.close()

    def answers(self) -> bool:
        assert self.process.poll() is None, self.text
        # A worker that is starting may refuse.
        with contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
            return bool(self.get("/metrics"))
        return False

    def serve(self, requests: int, path: str) -> set[str]:
        """Sends requests from several threads, and returns the workers that have answered."""
        with ThreadPoolExecutor(CLIENTS) as clients:
            return {worker for worker, _ in clients.map(self.get, [path] * requests)}

    def two_workers(self, path: str) -> set[str]:
        """Sends requests until two workers or more have answered, and returns them."""
        workers: set[str] = set()

        def have_answered() -> bool:
            workers.update(self.serve(CLIENTS, path))
            return len(workers) > 1

        wait_until(have_answered, f"two workers answer; see {self._log}")
        return workers

    def kill(self, worker: str) -> None:
        """Kills a worker and waits until it runs no more."""
        os.kill(int(worker), signal.SIGKILL)
        wait_until(lambda: not _runs(worker), f"worker {worker} has ended")


def _runs(pid: str) -> bool:
    """Tells whether a process, or a thread of it, has not ended. Its sockets are open until the last one has."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return False
    return state not in "ZX" or len(threads) > 1


@contextlib.contextmanager
def serving(
    command: str, directory: Path, workers: int, environment: dict[str, str] | None = None
) -> Iterator[WebServer]:
    """Runs a server in a directory with a module `app`. The command has `{workers}` and `{port}` in it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program, *arguments = command.format(workers=workers, port=port).split()
    variables = {
        **os.environ,
        "PATH": os.pathsep.join([str(SCRIPTS), os.environ["PATH"]]),
        "PYTHONPATH": python_path(directory),
        "PYTHONWARNINGS": "ignore",
        **(environment or {}),
    }
    server = WebServer([str(SCRIPTS / program), *arguments], directory, variables, port)
    try:
        wait_until(server.answers, f"{program} answers; see {directory / 'log'}")
        yield server
    finally:
        # How servers end is tested elsewhere. What they leave is removed by the next service.
        server.close()
