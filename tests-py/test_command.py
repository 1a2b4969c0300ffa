"""The side-car through the installed package: `python -m pytheus_backend_rs serve | dump | top | check`.

It looks at what real processes count, in a metrics file or on a real redis-server. `top` is looked at as a
person would, on the screen of a terminal.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from http_client import get_at_path
from programs import HANG, Program, running
from redis_server import Server, free_port
from terminal import Terminal
from waiting import wait_until

COMMAND = [sys.executable, "-m", "pytheus_backend_rs"]
COMMANDS = ["serve", "dump", "top", "check", "migrate"]

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


@pytest.fixture(params=["shared memory", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "shared memory":
        return file_store(tmp_path / "metrics")
    return redis_store(request.getfixturevalue("server"))


def file_store(path: Path) -> Store:
    return Store("SharedMemoryBackend", {"path": str(path)}, f"shm://{path}")


def redis_store(server: Server) -> Store:
    return Store("RedisBackend", server.config, f"redis://127.0.0.1:{server.port}")


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


# The command line


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does_and_what_it_needs(command: str) -> None:
    done = side_car(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("--store <URL>", "PYTHEUS_BACKEND_RS_STORE", "shm:///path", "redis://", "password"):
        assert part in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_help_names_the_commands_and_the_exit_codes() -> None:
    done = side_car("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for part in (*COMMANDS, "Exit codes: 0 "):
        assert part in done.stdout


def test_the_command_has_a_script_of_its_own() -> None:
    import pytheus_backend_rs

    for command in ([str(Path(sys.executable).with_name("pytheus-backend-rs"))], COMMAND):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=HANG)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"pytheus-backend-rs {pytheus_backend_rs.__version__}\n"


def test_a_package_without_its_program_says_so(tmp_path: Path) -> None:
    source = f"import pytheus_backend_rs.__main__ as m; m.__file__ = {str(tmp_path / 'm.py')!r}; m.main()"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", source],
        capture_output=True,
        text=True,
        timeout=HANG,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert_one_sentence(done, 1, f"neither {tmp_path}", "install")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("dmp",),
        ("dump",),
        ("dump", "--bogus"),
        ("dump", "--store", "mysql://h"),
        ("dump", "--store", "redis://h?bogus=1"),
        ("dump", "--store", "no:url"),
        ("dump", "--store", "memory:"),
        ("dump", "--store", "shm:///m", "--json", "--format", "text"),
        ("serve", "--store", "shm:///m", "--listen", "nowhere"),
        ("serve", "--store", "shm:///m", "--listen", "127.0.0.1:99999"),
        ("serve", "--store", "shm:///m", "--listen", "unix:relative"),
        ("serve", "--store", "shm:///m", "--socket-mode", "rw"),
        ("dump", "--store", "shm:///m", "--store", "memory:"),
        ("top", "--store", "shm:///m", "--interval", "0"),
        ("top", "--store", "shm:///m", "--count", "0"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_exit_code_2(arguments: tuple[str, ...]) -> None:
    done = side_car(*arguments)
    assert_one_sentence(done, 2)
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["dump", "check"])
def test_a_missing_server_is_one_sentence_and_exit_code_1(command: str) -> None:
    port = free_port()
    done = side_car(command, "--store", f"redis://127.0.0.1:{port}")
    assert_one_sentence(done, 1, f"127.0.0.1:{port}", "refused")


@pytest.mark.parametrize("command", ["dump", "check"])
def test_a_missing_file_is_one_sentence_and_exit_code_1_and_is_not_created(
    command: str, tmp_path: Path
) -> None:
    done = side_car(command, "--store", f"shm://{tmp_path}/metrics")
    assert_one_sentence(done, 1, f"{tmp_path}/metrics", "there is no metrics file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("start", ["continue", "reset"])
def test_a_store_url_that_would_make_or_replace_the_file_is_refused(tmp_path: Path, start: str) -> None:
    store = file_store(tmp_path / "metrics")
    with counting(store):
        before = (tmp_path / "metrics").stat()
        assert_one_sentence(side_car("dump", "--store", f"{store.url}?start={start}"), 2, '"start"')
        assert (tmp_path / "metrics").stat().st_ino == before.st_ino


def test_a_password_is_never_shown(start_server: Callable[..., Server]) -> None:
    server = start_server("--requirepass", "s3cret")
    wrong = f"redis://user:wr0ng-s3cret@127.0.0.1:{server.port}"
    right = f"redis://:s3cret@127.0.0.1:{server.port}"
    runs = [side_car(command, "--store", wrong) for command in ("dump", "check")]
    runs += [side_car(command, store=wrong) for command in ("dump", "check")]
    runs += [side_car("top", "--interval", "0.1", "--count", "1", "--store", wrong)]
    assert [done.returncode for done in runs] == [1] * 5
    runs += [side_car(command, "--verbose", store=right) for command in ("dump", "check")]
    assert [done.returncode for done in runs[5:]] == [0, 0]
    # In the wrong place, or misspelled.
    runs += [
        side_car(*arguments)
        for arguments in (
            (right,),
            ("dump", right),
            ("dump", "--stor", right),
            (f"--store={right}", "dump"),
            ("dump", "--store", right.replace("/", "")),
            ("dump", "--store", f"{right}/x?y=z"),
            ("dump", "--store", f"redis://127.0.0.1:{server.port}?pasword=s3cret"),
            ("serve", "--listen", right, "--store", right),
            ("top", "--interval", right, "--store", right),
        )
    ]
    assert [done.returncode for done in runs[7:]] == [2] * 9
    for done in runs:
        assert "s3cret" not in done.stdout + done.stderr, done.args
    with serving("--verbose", url=wrong) as (process, url):
        status, body = scrape(url)
        assert status == 503 and "s3cret" not in body
        process.terminate()
        _, errors = process.communicate(timeout=HANG)
        assert "WRONGPASS" in errors and "s3cret" not in errors


# dump


def test_dump_prints_families_help_and_buckets_from_the_store(store: Store) -> None:
    with counting(store):
        done = side_car("dump", "--store", store.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(done.stdout.splitlines()) == sorted(METRICS)


def test_dump_finds_the_store_in_the_environment(store: Store) -> None:
    with counting(store):
        assert side_car("dump", store=store.url).stdout == side_car("dump", "--store", store.url).stdout != ""


def test_dump_prints_openmetrics_on_request(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    with counting(store):
        lines = side_car("dump", "--format", "openmetrics", "--store", store.url).stdout.splitlines()
    assert lines[-4:] == [
        "# HELP http_requests Requests served.",
        "# TYPE http_requests counter",
        'http_requests_total{path="/"} 3',
        "# EOF",
    ]


def test_dump_passes_no_escape_sequence_to_a_terminal(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    source = APPLICATION.replace(
        "for line", "requests.labels(path='/\\x1b]0;owned\\x07').inc()\nprint('made')\nfor line"
    )
    with counting(store, source) as application:
        while application.line() != "made":
            pass
        with Terminal([*COMMAND, "dump", "--store", store.url]) as terminal:
            assert terminal.wait() == 0
        assert b"\x1b]0;" not in terminal.output and rb"/\u{1b}]0;owned\u{7}" in terminal.output
        assert "\x1b]0;owned\x07" in side_car("dump", "--store", store.url).stdout, "a file gets it as it is"


@pytest.mark.parametrize("pattern", ["requests", "http_requests_*", "*_t?tal"])
def test_dump_prints_the_families_that_match_a_pattern(tmp_path: Path, pattern: str) -> None:
    store = file_store(tmp_path / "metrics")
    with counting(store):
        done = side_car("dump", "--store", store.url, "--name", pattern)
    assert done.stdout.splitlines() == METRICS[-3:]


def test_dump_prints_json_on_request(store: Store) -> None:
    with counting(store):
        done = side_car("dump", "--json", "--store", store.url)
        only = side_car("dump", "--json", "--name", "level", "--store", store.url)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    families = {family.pop("name"): family for family in json.loads(done.stdout)}
    assert families["level"] == {
        "type": "gauge",
        "help": "Of water.",
        "unit": None,
        "series": [{"labels": {}, "value": 7.5}],
    }
    (requests,) = families["http_requests_total"]["series"]
    # Not every scrape of a server has the time.
    assert requests.pop("created", 2e9) > 1e9
    assert requests == {"labels": {"path": "/"}, "value": 3}
    (seconds,) = families["http_request_seconds"]["series"]
    assert (seconds["count"], seconds["sum"]) == (3, 1.5)
    assert seconds["buckets"] == [{"le": 0.25, "count": 0}, {"le": 1, "count": 3}, {"le": "+Inf", "count": 3}]
    assert [family["name"] for family in json.loads(only.stdout)] == ["level"]


def test_dump_replaces_a_file_as_a_whole(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    folder = tmp_path / "textfile"
    folder.mkdir()
    file = folder / "shop.prom"
    dump = ("dump", "--store", store.url, "--output", str(file))
    with counting(store) as application:
        before_umask = os.umask(0o077)
        try:
            done = side_car(*dump)
        finally:
            os.umask(before_umask)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert file.read_text("utf-8").splitlines() == METRICS
        assert file.stat().st_mode & 0o777 == 0o644
        first = file.stat().st_ino
        with file.open("r", encoding="utf-8") as reader:
            application.say()
            application.line()
            assert side_car(*dump, "--name", "requests").returncode == 0
            assert reader.read().splitlines() == METRICS, "a reader of the old file reads all of it"
        assert file.stat().st_ino != first
        assert len(file.read_text("utf-8").splitlines()) == 3
    assert [path.name for path in folder.iterdir()] == ["shop.prom"]


def test_a_failed_dump_leaves_the_old_file(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    file = tmp_path / "shop.prom"
    file.write_text("old\n")
    # The store is not there.
    assert side_car("dump", "--store", store.url, "--output", str(file)).returncode == 1
    with counting(store):
        for wrong in (tmp_path, tmp_path / "nowhere" / "x.prom", Path("/dev/null")):
            done = side_car("dump", "--store", store.url, "--output", str(wrong))
            assert_one_sentence(done, 1, f"cannot write {wrong}: ")
        # No file may be longer than this.
        command = [*COMMAND, "dump", "--store", store.url, "--output", str(file)]
        limited = ["sh", "-c", 'ulimit -f 0; trap "" XFSZ; exec "$@"', "sh", *command]
        done = subprocess.run(limited, capture_output=True, text=True, timeout=HANG)
        assert_one_sentence(done, 1, f"cannot write {file}: ")
    assert file.read_text() == "old\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics", "shop.prom"]


def test_a_closed_output_pipe_is_no_failure(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    many = "[requests.labels(path=str(i)) for i in range(20000)]\nprint('many')\nfor line"
    with counting(store, APPLICATION.replace("for line", many)) as application:
        while application.line() != "many":
            pass
        command = [*COMMAND, "dump", "--store", store.url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.readline() == METRICS[0].encode() + b"\n"
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(HANG) == 0


# check


def test_check_reports_a_sound_store(store: Store) -> None:
    with counting(store):
        done = side_car("check", "--store", store.url)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    *findings, verdict = done.stdout.splitlines()
    assert verdict == "sound"
    assert "3 families" in done.stdout and "3 metrics" in done.stdout
    assert len(findings) >= 3 and not [finding for finding in findings if finding.startswith("fault")]


def test_check_reports_in_json_what_it_reports_in_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    with counting(file_store(path)):
        done = side_car("check", "--json", "--store", f"shm://{path}")
    report = json.loads(done.stdout)
    assert (done.returncode, report["sound"], report["faults"]) == (0, True, [])
    assert "3 families, 3 metrics, 0 free records" in report["facts"]
    content = path.read_bytes()
    path.write_bytes(content.replace(b'{"path":"/"}', b'{"path":"!"}'))
    done = side_car("check", "--json", "--store", f"shm://{path}")
    report = json.loads(done.stdout)
    assert (done.returncode, report["sound"], len(report["faults"])) == (1, False, 1)
    lines = side_car("check", "--store", f"shm://{path}").stdout.splitlines()
    assert lines == [*report["facts"], f"fault: {report['faults'][0]}", "not sound: 1 fault"]


def test_check_reports_the_server_its_writers_and_the_expiry(server: Server) -> None:
    store = redis_store(server)
    with counting(store):
        server.client().expire("level", 1234)
        done = side_car("check", "--store", store.url)
        # A look is no scrape.
        assert 0 < server.client().ttl("level") <= 1234
    version = server.client().info("server")["redis_version"]
    assert f"127.0.0.1:{server.port} answers: a server of version {version}" in done.stdout
    assert re.search(r"^1 writer; the last batch was made \d+ s ago$", done.stdout, re.MULTILINE)
    assert re.search(r"^the first values expire in 12\d\d s", done.stdout, re.MULTILINE)


def report_of(store: Store) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(side_car("check", "--json", "--store", store.url).stdout)
    return report


#: Has gauges of its own, and counts.
APPLICATION_WITH_GAUGES = """
import pytheus_backend_rs
from pytheus_backend_rs.process import process_metrics
load_backend(getattr(pytheus_backend_rs, config.pop("class")), config)
process_metrics()
Counter("mails_total", "Mails sent.").inc(2)
generate_metrics()
print("counted", flush=True)
sys.stdin.readline()
"""


def test_check_lists_the_processes_that_count(store: Store) -> None:
    before = int(time.time())
    with counting(store) as application, serving(url=store.url):
        (writer,) = report_of(store)["writers"]
        lines = side_car("check", "--store", store.url).stdout.splitlines()
        assert (writer["pid"], writer["alive"]) == (application.process.pid, True)
        # The start of the machine is known to the second.
        assert before - 2 <= writer["since"] <= time.time() + 2
        assert report_of(store)["leftovers"] == []
    (line,) = [line for line in lines if line.startswith("writer: ")]
    assert re.match(rf"writer: process {application.process.pid}\b.*, alive, began \d+ s ago", line)


def test_check_lists_what_killed_processes_have_left_in_a_file(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    with counting(store, APPLICATION_WITH_GAUGES) as living:
        with counting(store, APPLICATION_WITH_GAUGES) as killed:
            pids = {living.process.pid, killed.process.pid}
            report = report_of(store)
            assert {writer["pid"] for writer in report["writers"] if writer["alive"]} == pids
            assert (len(report["writers"]), report["leftovers"]) == (2, [])
            killed.process.kill()
            killed.process.wait()
        # Of a process that has ended: a draft, and the guard of the lock.
        draft = tmp_path / f".pytheus-backend-rs.{killed.process.pid}.abc"
        draft.touch()
        os.utime(draft, (1e9, 1e9))
        (tmp_path / f".pytheus-backend-rs.{living.process.pid}.abc").touch()
        namespace = os.stat("/proc/self/ns/pid").st_ino & 0x7FFFFF
        with (tmp_path / "metrics").open("r+b") as file:
            file.seek(256)
            file.write((0xA5 << 56 | namespace << 32 | killed.process.pid).to_bytes(8, "little"))
        report = report_of(store)
    alive = {writer["pid"]: writer["alive"] for writer in report["writers"]}
    assert alive == {living.process.pid: True, killed.process.pid: False}
    series, lock, left = report["leftovers"]
    assert re.match(rf"\d+ series of process {killed.process.pid}, which has ended", series)
    assert lock.startswith(f"the lock is held by process {killed.process.pid}, which has ended")
    assert left.startswith(f"{draft}: the draft of a file")
    assert (report["sound"], report["faults"]) == (True, [])


def test_check_lists_the_entries_of_processes_that_no_longer_write(server: Server) -> None:
    store = redis_store(server)
    with counting(store, OTHER_APPLICATION) as killed:
        killed.process.kill()
        killed.process.wait()
    wait_until(lambda: report_of(store)["leftovers"], "the server to note the end")
    with counting(store, OTHER_APPLICATION) as living:
        report = report_of(store)
    alive = {writer["pid"]: writer["alive"] for writer in report["writers"]}
    assert alive == {killed.process.pid: False, living.process.pid: True}
    assert all(0 <= time.time() - writer["last_batch"] < HANG for writer in report["writers"])
    (leftover,) = report["leftovers"]
    assert leftover.startswith(f"1 entry of process {killed.process.pid}, which is not connected")
    lines = side_car("check", "--store", store.url).stdout.splitlines()
    assert f"leftover: {leftover}" in lines and lines[-1] == "sound"


def test_check_counts_only_entries_of_writers_as_writers(own_server: Server) -> None:
    from pytheus import backends
    from pytheus.metrics import Gauge
    from pytheus_backend_rs import RedisBackend, generate_metrics

    backends.load_backend(RedisBackend, own_server.config)
    Gauge("level", "").set(7.5)
    generate_metrics()
    own_server.kill()
    own_server.start()
    assert "level 7.5" in generate_metrics()
    done = side_car("check", "--store", f"redis://127.0.0.1:{own_server.port}")
    assert re.search(r"^1 writer; the last batch was made \d+ s ago$", done.stdout, re.MULTILINE), done.stdout


def test_migrate_moves_a_summary_of_the_old_layout_once(server: Server) -> None:
    from pytheus import backends
    from pytheus.metrics import Summary
    from pytheus_backend_rs import RedisBackend, generate_metrics

    server.client().mset({"size_bytes:sum": "7.5", "size_bytes:count": "3", "unknown:count": "1"})
    backends.load_backend(RedisBackend, server.config)
    Summary("size_bytes", "").observe(0.5)
    generate_metrics()
    store = f"redis://127.0.0.1:{server.port}"
    checked = side_car("check", "--store", store)
    assert (checked.returncode, 'run "pytheus-backend-rs migrate"' in checked.stdout) == (1, True), (
        checked.stdout
    )
    for moved in ('"size_bytes": 1 label set moved\n', "nothing is left to be moved\n"):
        done = side_car("migrate", "--store", store)
        assert (done.returncode, moved in done.stdout) == (1, True), done.stdout
        assert 'left: Redis key "unknown:count" may be a histogram or summary' in done.stdout
        shown = generate_metrics()
        assert "size_bytes_sum 8\n" in shown and "size_bytes_count 4\n" in shown


def test_check_works_for_a_user_with_few_permissions(own_server: Server) -> None:
    store = redis_store(own_server)
    with counting(store):
        rules = ("on", ">secret", "~*", "+hgetall", "+get", "+ping")
        own_server.client().execute_command("ACL", "SETUSER", "looker", *rules)
        done = side_car("check", "--store", f"redis://looker:secret@127.0.0.1:{own_server.port}")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert (
        "of unknown version" in done.stdout
        and "3 metrics" in done.stdout
        and done.stdout.endswith("\nsound\n")
    )


def test_check_names_the_record_of_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics"
    with counting(file_store(path)):
        pass
    content = bytearray(path.read_bytes())
    at = content.index(b'{"path":"/"}')
    content[at + 2] ^= 1
    path.write_bytes(content)
    done = side_car("check", "--store", f"shm://{path}")
    assert (done.returncode, done.stderr) == (1, "")
    *findings, verdict = done.stdout.splitlines()
    assert findings[-1] == f"fault: the record at byte {at // 64 * 64 - 64} is damaged"
    assert verdict == "not sound: 1 fault"
    # What is whole is still shown.
    dump = side_car("dump", "--store", f"shm://{path}")
    assert dump.returncode == 0 and "level 7.5" in dump.stdout and "http_requests_total{" not in dump.stdout


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"not a metrics file " * 999, "it is no metrics file"), (b"", "it is empty"), (b"PYTHEUSM", "cut off")],
)
@pytest.mark.parametrize("command", ["check", "dump"])
def test_a_foreign_file_is_refused_and_left_alone(
    tmp_path: Path, command: str, content: bytes, reason: str
) -> None:
    path = tmp_path / "metrics"
    path.write_bytes(content)
    assert_one_sentence(side_car(command, "--store", f"shm://{path}"), 1, str(path), reason)
    assert path.read_bytes() == content


def test_serve_shows_the_families_that_the_query_names(store: Store) -> None:
    with counting(store), serving(url=store.url) as (_, url):
        status, text = scrape(f"{url}?name[]=http_requests_total&x=%FF")
        assert status == 200 and 'http_requests_total{path="/"} 3\n' in text
        assert text.count("# TYPE ") == 1
        assert scrape(f"{url}?name%5B%5D=nothing") == (200, "")


def test_serve_shows_when_series_began_if_it_is_asked_to(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    accept = {"Accept": "application/openmetrics-text;version=1.0.0"}

    def has_times(*arguments: str) -> bool:
        with serving(*arguments, url=store.url) as (_, url):
            request = urllib.request.Request(url, headers=accept)
            with urllib.request.urlopen(request, timeout=HANG) as answer:
                return "http_requests_created" in answer.read().decode()

    with counting(store):
        assert [has_times(), has_times("--created-samples")] == [False, True]


def test_serve_answers_503_while_the_file_is_foreign(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    (tmp_path / "metrics").write_bytes(b"not a metrics file " * 999)
    with serving(url=store.url) as (_, url):
        status, body = scrape(url)
        assert status == 503
        assert "it is no metrics file" in body
        (tmp_path / "metrics").unlink()
        with counting(store):
            assert scrape(url)[0] == 200


def test_check_reports_keys_that_scrapes_leave_out(server: Server) -> None:
    store = redis_store(server)
    with counting(store):
        client = server.client()
        client.delete("level")
        client.rpush("level", "somebody", "else's")
        client.hset("http_requests_total", '{"path":"/a"}', "many")
        client.hset("http_requests_total", "no labels", "1")
        client.hset("http_request_seconds", "{}#median", "1")
        client.hset("pytheus:families", "broken_total", '{"type":"nonsense"}')
        done = side_car("check", "--store", store.url)
    assert (done.returncode, done.stderr) == (1, "")
    faults = [line for line in done.stdout.splitlines() if line.startswith("fault: ")]
    assert done.stdout.endswith("\nnot sound: 5 faults\n") and len(faults) == 5
    for parts in [
        ('"level"', "WRONGTYPE"),
        ('"http_requests_total"', r"{\"path\":\"/a\"}", '"many" is not a number'),
        ('"http_requests_total"', '"no labels"'),
        ('"http_request_seconds"', "#median"),
        ('"broken_total"', "type"),
    ]:
        assert [fault for fault in faults if all(part in fault for part in parts)], (parts, faults)


# serve


def test_serve_shows_later_counts_of_another_process(store: Store) -> None:
    with counting(store) as application, serving(url=store.url) as (_, url):
        status, body = scrape(url)
        assert status == 200
        assert sorted(body.splitlines()) == sorted(METRICS)
        for _ in range(39):
            application.say()
        wait_until(lambda: 'http_requests_total{path="/"} 42\n' in scrape(url)[1], "all 42 requests are seen")
        assert scrape(url.replace("/metrics", "/-/healthy"))[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_serve_cleanly(store: Store, number: signal.Signals) -> None:
    with counting(store), serving(url=store.url) as (process, url):
        assert scrape(url)[0] == 200
        process.send_signal(number)
        _, errors = process.communicate(timeout=HANG)
        assert (process.returncode, errors) == (0, "")
        with pytest.raises(OSError):
            urllib.request.urlopen(url, timeout=HANG)


def test_a_signal_ends_serve_while_the_server_is_stalled(own_server: Server) -> None:
    with serving(url=redis_store(own_server).url) as (process, url):
        assert scrape(url)[0] == 200
        own_server.pause()
        process.terminate()
        process.communicate(timeout=HANG)
        assert process.returncode == 0


def test_serve_awaits_a_file_and_follows_the_one_that_replaces_it(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    with serving(url=store.url) as (process, url):
        status, body = scrape(url)
        assert status == 503
        assert f"there is no metrics file {tmp_path}/metrics" in body
        assert list(tmp_path.iterdir()) == []
        with counting(store) as application:
            assert scrape(url) == (200, "\n".join(METRICS) + "\n")
            application.say()
            wait_until(lambda: 'path="/"} 4\n' in scrape(url)[1], "the fourth is seen")
        store.config["start"] = "reset"
        with counting(store):
            assert scrape(url) == (200, "\n".join(METRICS) + "\n")
        (tmp_path / "metrics").unlink()
        assert scrape(url)[0] == 503
        process.terminate()
        _, errors = process.communicate(timeout=HANG)
    assert process.returncode == 0
    assert errors.startswith("pytheus-backend-rs: warn: there is no metrics file"), errors


def test_serve_awaits_a_server(own_server: Server) -> None:
    store = redis_store(own_server)
    own_server.kill()
    with serving(url=store.url) as (_, url):
        status, body = scrape(url)
        assert status == 503 and f"127.0.0.1:{own_server.port}" in body
        own_server.start()
        with counting(store):
            wait_until(lambda: 'path="/"} 3\n' in scrape(url)[1], "the server's values are seen")


def test_serve_is_ready_while_the_store_can_be_read(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    with serving(url=store.url) as (_, url):
        ready = url.replace("/metrics", "/-/ready")
        status, body = scrape(ready)
        assert status == 503 and f"there is no metrics file {tmp_path}/metrics" in body
        with counting(store):
            assert scrape(ready) == (200, "ready\n")


def test_a_probe_of_readiness_reads_no_values_of_a_server(server: Server) -> None:
    store = redis_store(server)
    with counting(store), serving(url=store.url) as (_, url):
        client = server.client()
        client.expire("level", 1234)
        assert scrape(url.replace("/metrics", "/-/ready")) == (200, "ready\n")
        assert 0 < client.ttl("level") <= 1234


def test_sighup_opens_the_store_again_and_no_scrape_is_refused(own_server: Server) -> None:
    store = redis_store(own_server)
    client = own_server.client()

    def connections() -> set[str]:
        return {line["id"] for line in client.client_list() if line["name"].startswith("pytheus-backend-rs:")}

    with counting(store) as application, serving("--verbose", url=store.url) as (process, url):
        wait_until(connections, "the first connection")
        before = connections()
        for _ in range(2):
            process.send_signal(signal.SIGHUP)
            assert process.stderr is not None
            for line in process.stderr:
                assert scrape(url)[0] == 200
                if "the store was opened again" in line:
                    break
            are_closed = partial(lambda old: connections().isdisjoint(old), before)
            wait_until(are_closed, "the old connections to be closed")
            assert scrape(url)[0] == 200
            before = connections()
            assert before
        application.say()
        wait_until(lambda: 'http_requests_total{path="/"} 4\n' in scrape(url)[1], "later counts are seen")


def test_sighup_keeps_the_open_store_if_it_cannot_be_opened_again(own_server: Server, tmp_path: Path) -> None:
    certificates = tmp_path / "certificates.pem"
    certificates.write_text(CERTIFICATE)
    url = f"rediss://127.0.0.1:{own_server.port}?ssl_ca_certs={certificates}"
    with serving(url=url) as (process, url):
        certificates.write_text("none")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        while "certificates.pem" not in (line := process.stderr.readline()):
            assert line
        assert line.endswith("; what is open stays open\n"), line
        assert scrape(url.replace("/metrics", "/-/healthy"))[0] == 200
        process.terminate()
        assert process.wait(HANG) == 0


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


def test_serve_listens_at_a_unix_socket_and_removes_it_at_its_end(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    path = tmp_path / "serve.sock"
    with counting(store), serving_at_a_path(path, url=store.url) as process:
        assert path.stat().st_mode & 0o777 == 0o660
        assert get_at_path(path, "/metrics") == (200, "\n".join(METRICS) + "\n")
        process.send_signal(signal.SIGHUP)
        assert get_at_path(path, "/-/ready")[0] == 200
        done = side_car("serve", "--store", store.url, "--listen", f"unix:{path}")
        assert_one_sentence(done, 1, f"cannot serve metrics on {path}: another process serves there")
        process.terminate()
        assert process.wait(HANG) == 0
    assert not path.exists()


def test_serve_replaces_the_socket_of_a_killed_process_and_no_other_file(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    path = tmp_path / "serve.sock"
    with counting(store):
        with serving_at_a_path(path, url=store.url) as process:
            process.kill()
        assert path.is_socket()
        with serving_at_a_path(path, "--socket-mode", "0600", url=store.url) as process:
            assert path.stat().st_mode & 0o777 == 0o600
            assert get_at_path(path, "/metrics")[0] == 200
            # What another process has put there stays.
            path.unlink()
            path.write_text("mine")
            process.terminate()
            assert process.wait(HANG) == 0
        done = side_car("serve", "--store", store.url, "--listen", f"unix:{path}")
        assert_one_sentence(done, 1, f"cannot serve metrics on {path}: there is a file that is no socket")
    assert path.read_text() == "mine"


#: Counts once under a name of its own, and stays until its input ends.
OTHER_APPLICATION = """
import pytheus_backend_rs
load_backend(getattr(pytheus_backend_rs, config.pop("class")), config)
Counter("mails_total", "Mails sent.").inc(2)
generate_metrics()
print("counted", flush=True)
sys.stdin.readline()
"""


def test_several_stores_are_one_scrape(server: Server, tmp_path: Path) -> None:
    one, other = file_store(tmp_path / "metrics"), redis_store(server)
    stores = ["--store", one.url, "--store", other.url]
    with counting(one), counting(other, OTHER_APPLICATION):
        expected = [*METRICS, "# HELP mails_total Mails sent.", "# TYPE mails_total counter", "mails_total 2"]
        assert side_car("dump", *stores).stdout.splitlines() == expected
        assert side_car("dump", store=f"{one.url} {other.url}").stdout.splitlines() == expected
        checked = side_car("check", *stores)
        assert checked.returncode == 0 and checked.stdout.endswith("\nsound\n"), checked.stdout
        command = [*COMMAND, "serve", "--listen", "127.0.0.1:0", *stores]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                shown, url = process.stdout.readline().removeprefix("serving ").strip().rsplit(" on ", 1)
                assert shown == f"{one.url} and {other.url}"
                assert scrape(url) == (200, "\n".join(expected) + "\n")
                assert scrape(f"{url}?name[]=mails_total")[1].splitlines() == expected[-3:]
                # Without one of them, the scrape would not be the whole truth.
                (tmp_path / "metrics").unlink()
                status, body = scrape(url)
                assert status == 503 and "there is no metrics file" in body
            finally:
                process.kill()


def test_a_name_that_two_stores_have_is_shown_of_the_first_and_an_error_names_both(tmp_path: Path) -> None:
    one, other = file_store(tmp_path / "one"), file_store(tmp_path / "other")
    stores = ["--store", one.url, "--store", other.url]
    with counting(one), counting(other) as application:
        application.say()
        application.line()
        done = side_car("dump", *stores)
        checked = side_car("check", *stores)
    assert (done.returncode, done.stdout.splitlines()) == (0, METRICS)
    clashes = [
        f'metric family "{name}" of {other.url} is left out of scrapes: {one.url} has this name, too'
        for name in ("http_request_seconds", "level", "http_requests_total")
    ]
    for clash in clashes:
        assert f"pytheus-backend-rs: error: {clash}" in done.stderr
        assert f"fault: {clash}" in checked.stdout
    assert checked.returncode == 1 and checked.stdout.endswith("\nnot sound: 3 faults\n")


def test_a_port_that_is_taken_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    with serving(url=f"shm://{tmp_path}/metrics") as (_, url):
        address = url.split("/")[2]
        done = side_car("serve", "--store", f"shm://{tmp_path}/metrics", "--listen", address)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"pytheus-backend-rs: cannot serve metrics on {address}: ")


# top


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line.strip())


def assert_is_the_table_of_a_busy_application(lines: list[str]) -> None:
    """METRIC, LABELS, VALUE, RATE/s, MEAN, P50, P99; seven requests to one observation of 0.05."""
    requests, seconds, level = (
        next(cells(line) for line in lines if line.startswith(name))
        for name in ("http_requests_total", "http_request_seconds_count", "level")
    )
    assert requests[1] == 'path="/busy"'
    value, rate = float(requests[2]), float(requests[3])
    assert value > 0 and rate > 0
    count, count_rate, mean, p50, p99 = map(float, seconds[1:])
    # One of the two may have been counted once more when they were read.
    assert abs(value - 7 * count) <= 14
    assert rate == pytest.approx(7 * count_rate, rel=0.5)
    assert (mean, p50, p99) == (0.05, 0.05, 0.099)
    assert level == ["level", "7.5", "-", "-", "-", "-"]
    assert lines.index(next(line for line in lines if line.startswith("http_requests_total"))) < lines.index(
        next(line for line in lines if line.startswith("http_request_seconds_count"))
    ), "the faster one comes first"


def test_top_prints_plain_tables_without_a_terminal(store: Store) -> None:
    with counting(store, BUSY_APPLICATION):
        wait_until(lambda: "/busy" in side_car("dump", "--store", store.url).stdout, "the store has values")
        done = side_car("top", "--store", store.url, "--interval", "0.5", "--count", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    tables = done.stdout.split("\n\n")
    assert len(tables) == 2
    for table in tables:
        assert cells(table.splitlines()[0]) == ["METRIC", "LABELS", "VALUE", "RATE/s", "MEAN", "P50", "P99"]
        assert_is_the_table_of_a_busy_application(table.splitlines())


def test_top_prints_one_table_in_json(store: Store) -> None:
    with counting(store, BUSY_APPLICATION):
        wait_until(lambda: "/busy" in side_car("dump", "--store", store.url).stdout, "the store has values")
        done = side_car("top", "--json", "--store", store.url, "--interval", "0.5")
        two = side_car("top", "--json", "--store", store.url, "--interval", "0.1", "--count", "2")
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    rows = {row.pop("series"): row for row in json.loads(done.stdout)}
    assert rows["level"] == {"value": 7.5, "rate": None, "mean": None, "p50": None, "p99": None}
    assert rows['http_requests_total{path="/busy"}']["rate"] > 0
    seconds = rows["http_request_seconds_count"]
    assert [round(seconds[name], 3) for name in ("mean", "p50", "p99")] == [0.05, 0.05, 0.099]
    assert [len(json.loads(line)) for line in two.stdout.splitlines()] == [3, 3]


def test_top_shows_live_values_and_rates_and_restores_the_terminal(store: Store) -> None:
    with (
        counting(store, BUSY_APPLICATION),
        Terminal([*COMMAND, "top", "-i", "0.5", "--store", store.url]) as top,
    ):
        top.wait_for(lambda lines: any("0.099" in line for line in lines), "rates are shown")
        first = top.lines
        assert first[0].startswith(f"pytheus-backend-rs, every 0.5 s: {store.url}"[:90])
        assert "metrics 1 to 3 of 3, by rate" in first[1]
        assert cells(first[2]) == ["METRIC", "LABELS", "VALUE", "RATE/s", "MEAN", "P50", "P99"]
        assert "q quit" in first[-1]
        assert_is_the_table_of_a_busy_application(first)
        top.wait_for(lambda lines: lines[3] != first[3], "the next values are shown")
        assert_is_the_table_of_a_busy_application(top.lines)
        assert top.is_raw and top.has_alternate_screen
        top.press("q")
        assert top.wait() == 0
        assert not top.is_raw and not top.has_alternate_screen and not top.is_cursor_hidden


def test_top_sorts_filters_pauses_and_fits_the_screen(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    source = BUSY_APPLICATION.replace(
        "print(", "[requests.labels(path=f'/{i:03}') for i in range(100)]\nprint("
    )
    with counting(store, source), Terminal([*COMMAND, "top", "-i", "0.2", "--store", store.url]) as top:
        top.wait_for(
            lambda lines: "metrics 1 to 20 of 103, by rate" in lines[1], "a page of the metrics is shown"
        )
        top.press("s", "s")
        top.wait_for(lambda lines: "by name" in lines[1] and "/018" in lines[22], "sorted by name")
        top.press("\x1b[6~")
        top.wait_for(lambda lines: "21 to 40" in lines[1] and "/019" in lines[3], "scrolled by a page")
        top.press("/", "/", "b", "u", "\r")
        top.wait_for(lambda lines: "1 to 1 of 1 of 103" in lines[1] and "/busy" in lines[3], "filtered")
        top.press("p")
        top.wait_for(lambda lines: lines[1].endswith("paused"), "paused")
        top.resize(60, 12)
        top.wait_for(
            lambda lines: len(lines) == 12 and "q quit" in lines[-1] and "/busy" in lines[3], "drawn anew"
        )
        assert "P99" not in top.lines[2]
        top.press("\x03")
        assert top.wait() == 0


def test_top_restores_the_terminal_when_a_signal_ends_it(tmp_path: Path) -> None:
    with Terminal([*COMMAND, "top", "--store", f"shm://{tmp_path}/metrics"]) as top:
        top.wait_for(
            lambda lines: "no new values: there is no metrics file" in lines[1], "the reason is shown"
        )
        assert top.is_raw
        top.process.terminate()
        assert top.wait() == 0
        assert not top.is_raw and not top.has_alternate_screen and not top.is_cursor_hidden


def test_top_shows_why_a_store_is_lost_and_continues_when_it_is_back(own_server: Server) -> None:
    store = redis_store(own_server)
    with (
        counting(store, BUSY_APPLICATION),
        Terminal([*COMMAND, "top", "-i", "0.2", "--store", store.url]) as top,
    ):
        top.wait_for(lambda lines: "by rate" in lines[1] and "/busy" in lines[3], "the values are shown")
        own_server.kill()
        top.wait_for(lambda lines: "no new values: cannot connect" in lines[1], "the reason is shown")
        assert "/busy" in top.lines[3], "the last values stay"
        own_server.start()
        top.wait_for(lambda lines: "by rate" in lines[1], "it is back")
        top.press("q")
        assert top.wait() == 0


def test_a_label_cannot_send_escape_sequences_to_the_terminal(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    source = BUSY_APPLICATION.replace('"/busy"', r'"\x1b[2J\x1b]0;owned\x07\n/busy"')
    with counting(store, source), Terminal([*COMMAND, "top", "-i", "0.2", "--store", store.url]) as top:
        top.wait_for(lambda lines: any(r"\u{1b}[2J" in line for line in lines), "the label is shown as text")
        assert b"owned\x07" not in top.output
        top.press("q")
        assert top.wait() == 0
