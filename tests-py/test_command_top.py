"""`top` of the side-car, looked at as a person would, on the screen of a terminal."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from redis_server import Server
from side_car_command import (
    BUSY_APPLICATION,
    COMMAND,
    KINDS,
    Store,
    counting,
    file_store,
    redis_store,
    side_car,
    store_of,
)
from terminal import Terminal
from waiting import wait_until


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return store_of(request, tmp_path)


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
