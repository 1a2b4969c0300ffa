"""`dump` of the side-car: the metrics of a store, once, as text, in JSON or into a file."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from programs import HANG
from side_car_command import (
    APPLICATION,
    COMMAND,
    KINDS,
    METRICS,
    Store,
    assert_one_sentence,
    counting,
    file_store,
    side_car,
    store_of,
)
from terminal import Terminal


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return store_of(request, tmp_path)


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


def test_dump_replaces_the_file_behind_a_symbolic_link(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    (tmp_path / "real").mkdir()
    file, link = tmp_path / "real" / "shop.prom", tmp_path / "shop.prom"
    file.write_text("old")
    link.symlink_to(file)
    with counting(store):
        assert side_car("dump", "--store", store.url, "--output", str(link)).returncode == 0
    assert link.is_symlink() and file.read_text("utf-8").splitlines() == METRICS
    assert [path.name for path in file.parent.iterdir()] == ["shop.prom"]


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
