"""`make bench-redis` in a tiny form: it runs, and what it measures is what the processes did."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    results = tmp_path_factory.mktemp("bench") / "redis_fleet.json"
    command = [
        sys.executable,
        str(BENCH / "redis_fleet.py"),
        "--tiny",
        "--no-page",
        "--results",
        str(results),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    found: dict[str, Any] = json.loads(results.read_text("utf-8"))
    return found


def test_costs_are_found_in_their_sums() -> None:
    sys.path.insert(0, str(BENCH))
    try:
        import linear_fit
    finally:
        sys.path.pop(0)
    sums = {
        (1.0, 1.0, 1.0): 111.0,
        (1.0, 20.0, 20.0): 320.0,
        (1.0, 20.0, 1000.0): 1300.0,
        (1.0, 1.0, 50.0): 160.0,
    }
    assert linear_fit.costs(list(sums), list(sums.values())) == pytest.approx([100.0, 10.0, 1.0])
    assert linear_fit.slope([1, 3, 10], [7, 11, 25]) == pytest.approx(2.0)


def test_a_batch_is_one_command_and_two_calls_for_each_changed_series(measured: dict[str, Any]) -> None:
    for flush in measured["flushes"]:
        batches, changes = flush["families"], flush["families"] * flush["series"]
        # The process also writes its definitions again, now and then.
        assert flush["calls"] == pytest.approx(7 * batches + 2 * changes, rel=0.05), flush
        assert flush["bytes in"] > 100 * changes, flush


def test_idle_processes_send_nothing_and_each_has_one_connection(measured: dict[str, Any]) -> None:
    idle = [fleet for fleet in measured["fleets"] if fleet["profile"] == "idle"]
    assert [(fleet["processes"], fleet["connections"]) for fleet in idle] == [(1, 1), (2, 2), (3, 3)]
    assert all(fleet["calls"] == fleet["bytes in"] == 0 for fleet in idle), idle


@pytest.mark.parametrize("profile", ["requests", "few", "all"])
def test_processes_that_change_something_send_batches(measured: dict[str, Any], profile: str) -> None:
    sending = [fleet for fleet in measured["fleets"] if fleet["profile"] == profile]
    # One short window on a busy machine may have no send.
    assert sum(fleet["batches"] for fleet in sending) > 0, sending
    assert all(fleet["changes"] >= fleet["batches"] for fleet in sending), sending


def test_a_scrape_reads_only_what_has_changed(measured: dict[str, Any]) -> None:
    calls = {(scrape["stock"], scrape["families"]): round(scrape["calls"]) for scrape in measured["scrapes"]}
    stock = measured["shape"]["series"]
    assert calls[stock, 0] < calls[stock, 1] < calls[stock, measured["shape"]["families"]]
