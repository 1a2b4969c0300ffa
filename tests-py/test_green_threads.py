"""gevent and eventlet, which replace `threading` and the blocking calls of the standard library. The package
has no thread of Python's for them to replace, so loading, counting, logging and scraping work after the patch
as before.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from http_client import get
from programs import HANG, PRELUDE, run_program
from redis_server import Server
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


APPLICATION = f"""{SOURCE}
logging.getLogger("pytheus_backend_rs").setLevel(logging.INFO)
def application(environ, start_response):
    count("worker")
    body = generate_metrics().encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def test_gunicorn_with_gevent_workers_answers_and_ends(store: SharedStore, tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(APPLICATION, encoding="utf-8")
    log = tmp_path / "gunicorn.log"
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "gevent", "--workers", "2"]
    command += ["--bind", "127.0.0.1:0", "application"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "TEST_CONFIG": json.dumps(store.config())},
        )
    try:

        def listening() -> list[str]:
            assert process.poll() is None, log.read_text()
            return re.findall(r"Listening at: http://127\.0\.0\.1:(\d+)", log.read_text())

        port = int(wait_until(listening, "gunicorn listens")[0])
        for _ in range(20):
            assert get(port, "/").status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANG) == 0, log.read_text()
        assert "SIGKILL" not in log.read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert store.counted()["total"] == 20
