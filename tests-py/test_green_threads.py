"""gevent and eventlet, which replace `threading` and the blocking calls of the standard library. The package
has no thread of Python's for them to replace, so loading, counting, logging and scraping work after the patch
as before.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from http_client import get
from programs import HANG, PRELUDE, run_program
from redis_server import Server
from server_process import ServerProcess
from shared_stores import SOURCE, SharedStore
from waiting import wait_until

PATCHES = {
    "gevent": "from gevent import monkey; monkey.patch_all(); import gevent; spawn, wait = gevent.spawn, gevent.joinall",
    "eventlet": """\
import eventlet; eventlet.monkey_patch()
spawn, wait = eventlet.spawn, lambda started: [one.wait() for one in started]""",
}


@pytest.mark.parametrize("library", PATCHES)
def test_a_patched_program_counts_and_scrapes(store: SharedStore, library: str) -> None:
    output = run_program(
        """
        def work():
            for _ in range(10):
                count("green")
                time.sleep(0)  # lets the other green threads run
        wait([spawn(work) for _ in range(10)])
        print(generate_metrics())
        """,
        store.config(),
        prelude=PATCHES[library] + "\n" + SOURCE,
    )
    assert '\nrequests_total{who="green"} 100.0\n' in output


@pytest.mark.parametrize("library", PATCHES)
def test_a_patched_program_logs_the_loss_of_its_store(own_server: Server, library: str) -> None:
    """Green threads deliver the records, also while the handler of one of them yields to the others."""
    output = run_program(
        """
        class Yielding(logging.StreamHandler):
            def emit(self, record):
                time.sleep(0.01)
                super().emit(record)
                if "lost" in record.getMessage():
                    lost.append(record)
        lost = []
        logging.getLogger().addHandler(Yielding(sys.stdout))
        load_backend(RedisBackend, config)
        counter = Counter("requests_total", "help")
        os.kill(int(os.environ["SERVER"]), 9)
        def work():
            while not lost:
                counter.inc()
                time.sleep(0.001)
        wait([spawn(work) for _ in range(5)])
        print("the end", flush=True)
        os._exit(0)
        """,
        own_server.config,
        prelude=PATCHES[library] + "\n" + PRELUDE,
        environment={"SERVER": str(own_server.pid)},
    )
    assert output.count("the store is lost") == 1, output
    assert output.endswith("the end\n")


WORKERS = 2

APPLICATION = f"""{SOURCE}
logging.getLogger("pytheus_backend_rs").setLevel(logging.INFO)
print(os.getpid(), "has loaded", flush=True)
def application(environ, start_response):
    count("worker")
    body = generate_metrics().encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def test_gunicorn_with_gevent_workers_answers_and_ends(store: SharedStore, tmp_path: Path) -> None:
    """gunicorn would wait for a worker longer than the test does."""
    (tmp_path / "application.py").write_text(APPLICATION, encoding="utf-8")
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gevent", "--workers", str(WORKERS)]
    command += ["--graceful-timeout", str(2 * int(HANG)), "--bind", "127.0.0.1:0", "application"]
    environment = {**os.environ, "TEST_CONFIG": json.dumps(store.config())}
    server = ServerProcess(command, tmp_path, tmp_path / "gunicorn.log", environment)
    try:

        def loaded() -> list[str]:
            # A worker that is patching the standard library drops a SIGTERM: it has the handler of its parent.
            assert server.process.poll() is None, server.text
            if server.text.count("has loaded") < WORKERS:
                return []
            return re.findall(r"Listening at: http://127\.0\.0\.1:(\d+)", server.text)

        port = int(wait_until(loaded, "the workers of gunicorn have loaded")[0])
        for _ in range(20):
            assert get(port, "/").status == 200
        server.stop()
    finally:
        server.close()
    assert store.counted()["total"] == 20
