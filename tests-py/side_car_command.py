"""The side-car through the installed package, as tests run it: `python -m pytheus_backend_rs serve | dump | top | check`.

It looks at what real processes count, in a metrics file or on a real redis-server.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from programs import HANG, Program, running
from redis_server import Server
from waiting import wait_until

COMMAND = [sys.executable, "-m", "pytheus_backend_rs"]


COMMANDS = ["serve", "dump", "top", "check", "migrate", "push"]


#: Counts three requests, and one more for each line that it reads. Each is an observation of 0.5, too.
APPLICATION = """
import pytheus_backend_rs
load_backend(getattr(pytheus_backend_rs, config.pop("class")), config)
requests = Counter("http_requests_total", "Requests served.", required_labels=["path"])
seconds = Histogram("http_request_seconds", "How long they took.", buckets=[0.25, 1])
level = Gauge("level", "Of water.")
level.set(7.5)

def count():
    requests.labels(path="/").inc()
    seconds.observe(0.5)
    print("counted", flush=True)

for _ in range(3):
    count()
for line in sys.stdin:
    count()
"""


#: Counts without end, seven requests to one observation.
BUSY_APPLICATION = """
import pytheus_backend_rs
load_backend(getattr(pytheus_backend_rs, config.pop("class")), config)
requests = Counter("http_requests_total", "Requests served.", required_labels=["path"])
seconds = Histogram("http_request_seconds", "How long they took.", buckets=[0.1, 1])
counter = requests.labels(path="/busy")
Gauge("level", "Of water.").set(7.5)
print("ready", flush=True)
while True:
    counter.inc(7)
    seconds.observe(0.05)
    time.sleep(0.001)
"""


#: Of a certification authority whose key is gone.
CERTIFICATE = """
-----BEGIN CERTIFICATE-----
MIIBdTCCARqgAwIBAgITR0w8+0DyLcez6RFJ/QNdvpxIPjAKBggqhkjOPQQDAjAP
MQ0wCwYDVQQDDAR0ZXN0MCAXDTI2MTEyODExMTgwOFoYDzIxMjYxMTA0MTExODA4
WjAPMQ0wCwYDVQQDDAR0ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEbq2K
CIqF8gHoPJm6NVkhQao56q1EeqRDjAROBZcbEogqRPHkJzYo0qDWiQiy1ZMqWTsB
mypo6bHwC6RswypsSqNTMFEwHQYDVR0OBBYEFO2XoD3uMsx69rybDQTiSLj+Bgfj
MB8GA1UdIwQYMBaAFO2XoD3uMsx69rybDQTiSLj+BgfjMA8GA1UdEwEB/wQFMAMB
Af8wCgYIKoZIzj0EAwIDSQAwRgIhANYON4WAkshwb+/YP8MwBBDBWQqoF+1FwJ0a
4gs7H41IAiEAqZH49hT711JfpTebollGT9YcX/4ATNNR4ZTiCqLXno8=
-----END CERTIFICATE-----
"""


#: A family is there as soon as it has a metric: that with labels comes last.
METRICS = [
    "# HELP http_request_seconds How long they took.",
    "# TYPE http_request_seconds histogram",
    'http_request_seconds_bucket{le="0.25"} 0',
    'http_request_seconds_bucket{le="1"} 3',
    'http_request_seconds_bucket{le="+Inf"} 3',
    "http_request_seconds_sum 1.5",
    "http_request_seconds_count 3",
    "# HELP level Of water.",
    "# TYPE level gauge",
    "level 7.5",
    "# HELP http_requests_total Requests served.",
    "# TYPE http_requests_total counter",
    'http_requests_total{path="/"} 3',
]


class Store:
    """A store for an application and for the side-car that looks at it."""

    def __init__(self, backend_class: str, config: dict[str, object], url: str) -> None:
        self.config = {"class": backend_class, **config}
        self.url = url


def file_store(path: Path) -> Store:
    return Store("SharedMemoryBackend", {"path": str(path)}, f"shm://{path}")


def redis_store(server: Server) -> Store:
    return Store("RedisBackend", server.config, f"redis://127.0.0.1:{server.port}")


#: The kinds of stores: see `store_of`.
KINDS = ["shared memory", "redis"]


def store_of(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Returns a store of the kind that the fixture asks for."""
    if request.param == "shared memory":
        return file_store(tmp_path / "metrics")
    return redis_store(request.getfixturevalue("server"))


def side_car(*arguments: str, store: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs it to its end; `store` is for the environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHEUS_BACKEND_RS_STORE"}
    if store is not None:
        environment["PYTHEUS_BACKEND_RS_STORE"] = store
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=HANG, env=environment
    )


@contextlib.contextmanager
def counting(store: Store, source: str = APPLICATION) -> Iterator[Program]:
    """An application that has counted, as the side-car sees it, and still runs."""
    with running(source, store.config) as application:
        application.line()
        if source is APPLICATION:
            wait_until(
                lambda: 'http_requests_total{path="/"} 3\n' in side_car("dump", "--store", store.url).stdout,
                "the store has what was counted",
            )
        yield application


@contextlib.contextmanager
def serving(*arguments: str, url: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A side-car that serves, and the URL of its metrics, which it prints."""
    command = [*COMMAND, "serve", "--store", url, "--listen", "127.0.0.1:0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.fullmatch(r"serving (\S+) on (http://127\.0\.0\.1:\d+/metrics)\n", line)
        assert match, (line, process.poll())
        yield process, match[2]
    finally:
        process.kill()
        process.communicate()


def scrape(url: str) -> tuple[int, str]:
    """The status and the body of an answer."""
    try:
        with urllib.request.urlopen(url, timeout=HANG) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def assert_one_sentence(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    assert done.returncode == code, (done.stdout, done.stderr)
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("pytheus-backend-rs: "), done.stderr
    for part in parts:
        assert part in done.stderr


@contextlib.contextmanager
def serving_at_a_path(path: Path, *arguments: str, url: str) -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, "serve", "--store", url, "--listen", f"unix:{path}", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"serving {url} on unix:{path}\n"
        yield process
    finally:
        process.kill()
        process.communicate()


#: Counts once under a name of its own, and stays until its input ends.
OTHER_APPLICATION = """
import pytheus_backend_rs
load_backend(getattr(pytheus_backend_rs, config.pop("class")), config)
Counter("mails_total", "Mails sent.").inc(2)
generate_metrics()
print("counted", flush=True)
sys.stdin.readline()
"""
