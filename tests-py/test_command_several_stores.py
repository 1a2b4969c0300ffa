"""Several stores that the side-car reads as one."""

from __future__ import annotations

import subprocess
from pathlib import Path

from redis_server import Server
from side_car_command import (
    COMMAND,
    METRICS,
    OTHER_APPLICATION,
    counting,
    file_store,
    redis_store,
    scrape,
    side_car,
)


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
