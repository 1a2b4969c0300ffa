"""prometheus_client on the engine in web servers with four workers: every request is counted once, and each
worker shows the requests of all, those of a killed one included.

The store is the file that the processes of one service find by themselves.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from waiting import wait_until
from web_servers import APPLICATIONS, serving

WORKERS = 4

INSTALL = """
import pytheus_backend_rs.prometheus
pytheus_backend_rs.prometheus.install()
"""

PROGRAM = (
    """
import os
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

REQUESTS = Counter("requests", "Requests.")
SECONDS = Histogram("seconds", "Seconds.", ["path"], buckets=[1])
WORKERS = Gauge("workers", "Workers that have answered.", multiprocess_mode="livesum")

def answer(path):
    if path == "/metrics":
        return generate_latest(REGISTRY)
    WORKERS.set(1)
    if path == "/":
        REQUESTS.inc()
        SECONDS.labels(path).observe(0.5)
    return b"ok"
"""
    + APPLICATIONS
)

GUNICORN = "gunicorn --workers {workers} --bind 127.0.0.1:{port} app:application"
UVICORN = "uvicorn --workers {workers} --port {port} app:asgi"
GRANIAN = "granian --respawn-failed-workers --workers {workers} --port {port} --interface"
UWSGI = "uwsgi --master --die-on-term --processes {workers} --http-socket 127.0.0.1:{port} -w app:application"

#: Programs that call `install` at their beginning.
SERVERS = {
    "gunicorn sync": f"{GUNICORN} --worker-class sync",
    "gunicorn sync --preload": f"{GUNICORN} --worker-class sync --preload",
    "gunicorn gthread": f"{GUNICORN} --worker-class gthread --threads 4",
    "gunicorn gthread --preload": f"{GUNICORN} --worker-class gthread --threads 4 --preload",
    "gunicorn gevent": f"{GUNICORN} --worker-class gevent",
    "gunicorn gevent --preload": f"{GUNICORN} --worker-class gevent --preload",
    "uvicorn": UVICORN,
    "granian asgi": f"{GRANIAN} asgi app:asgi",
    "granian wsgi": f"{GRANIAN} wsgi app:application",
    "hypercorn": "hypercorn --workers {workers} --bind 127.0.0.1:{port} app:asgi",
    "uwsgi": UWSGI,
    "uwsgi --lazy-apps": f"{UWSGI} --lazy-apps",
}

#: Servers whose other workers end with a killed one.
ENDS_WITH_ONE = ("hypercorn",)

RUN = "python -m pytheus_backend_rs run -- "

#: Programs that do not name this package.
UNCHANGED = {
    "gunicorn": RUN + GUNICORN,
    "gunicorn --preload": f"{RUN}{GUNICORN} --preload",
    "uvicorn": RUN + UVICORN,
    "uwsgi": RUN + UWSGI,
}


def count(command: str, program: str, directory: Path, *, survives: bool) -> None:
    """Sends 100 requests to a server, most of which outlive a worker."""
    (directory / "app.py").write_text(program, encoding="utf-8")
    with serving(command, directory, WORKERS) as server:
        workers = server.two_workers("/who")
        workers |= server.serve(60, "/")
        killed = min(workers)
        if survives:
            server.kill(killed)
            workers.discard(killed)
        workers |= server.serve(40, "/")
        shown: set[str] = set()

        def two_have_shown() -> bool:
            worker, text = server.get("/metrics")
            assert "\nrequests_total 100.0\n" in text, f"{worker} shows\n{text}\n{server.text}"
            assert '\nseconds_count{path="/"} 100.0\n' in text, text
            assert f"\nworkers {float(len(workers))}\n" in text, text
            shown.add(worker)
            return len(shown) > 1

        wait_until(two_have_shown, "two workers have shown the requests of all")


@pytest.mark.parametrize("name", SERVERS)
def test_every_request_is_counted(name: str, tmp_path: Path) -> None:
    count(SERVERS[name], INSTALL + PROGRAM, tmp_path, survives=name not in ENDS_WITH_ONE)


@pytest.mark.parametrize("name", UNCHANGED)
def test_every_request_to_an_unchanged_program_is_counted(name: str, tmp_path: Path) -> None:
    count(UNCHANGED[name], PROGRAM, tmp_path, survives=True)
