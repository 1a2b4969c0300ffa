"""`check` and `migrate` of the side-car: what is wrong with a store, and who counts in it."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from programs import HANG
from redis_server import Server
from side_car_command import (
    KINDS,
    OTHER_APPLICATION,
    Store,
    counting,
    file_store,
    redis_store,
    serving,
    side_car,
    store_of,
)
from waiting import wait_until


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return store_of(request, tmp_path)


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
