"""Series that end when no process uses them, as Python declares them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from pytheus.backends import load_backend
from pytheus.metrics import Counter as PytheusCounter
from pytheus_backend_rs import (
    ConfigurationError,
    InvalidArgumentError,
    RedisBackend,
    SharedMemoryBackend,
    SingleProcessBackend,
    generate_metrics,
)
from pytheus_backend_rs.metrics import Counter, Gauge, Histogram, Info, StateSet

from redis_server import Server
from waiting import wait_until


def shown(name: str) -> list[str]:
    return [line for line in generate_metrics().splitlines() if line.startswith(name)]


@pytest.mark.parametrize("kind", [SingleProcessBackend, SharedMemoryBackend])
def test_a_kept_metric_begins_a_new_series(kind: Any, tmp_path: Path) -> None:
    options = {"path": str(tmp_path / "metrics")} if kind is SharedMemoryBackend else {}
    load_backend(kind, options)
    counter = Counter("ttl_total", labels=["a"], series_ttl=1).labels("x")
    counter.inc(5)
    wait_until(lambda: not shown("ttl_total"), "the series has ended")
    counter.inc(2)
    assert shown("ttl_total") == ['ttl_total{a="x"} 2']


def test_a_series_on_a_server_ends(server: Server) -> None:
    load_backend(RedisBackend, {**server.config, "metric_ttls": {"short_total": 1}})
    counter = Counter("ttl_total", labels=["a"], series_ttl=1).labels("x")
    short = PytheusCounter("short_total", "", required_labels=["a"]).labels({"a": "x"})
    counter.inc(5)
    short.inc(5)
    wait_until(lambda: not shown("ttl_total") and not shown("short_total"), "the series have ended")
    counter.inc(2)
    short.inc(3)
    assert shown("ttl_total") == ['ttl_total{a="x"} 2']
    assert shown("short_total") == ['short_total{a="x"} 3']


def test_a_metric_of_pytheus_begins_a_new_series(tmp_path: Path) -> None:
    load_backend(SharedMemoryBackend, {"path": str(tmp_path / "metrics"), "metric_ttls": {"short_total": 1}})
    short = PytheusCounter("short_total", "", required_labels=["a"]).labels({"a": "x"})
    long = PytheusCounter("long_total", "")
    short.inc(5)
    long.inc(1)
    wait_until(lambda: not shown("short_total"), "the series has ended")
    short.inc(2)
    assert shown("short_total") == ['short_total{a="x"} 2']
    assert shown("long_total") == ["long_total 1"]


def test_the_option_of_the_backend_is_for_all_that_say_nothing_else() -> None:
    load_backend(SingleProcessBackend, {"series_ttl": 1, "metric_ttls": {"endless": math.inf}})
    Gauge("endless", series_ttl=math.inf).set(1)
    gauge = Gauge("short")
    gauge.set(1)
    wait_until(lambda: not shown("short"), "the series has ended")
    assert shown("endless") == ["endless 1"]


def test_mistakes_are_errors_where_they_are_made() -> None:
    load_backend(SingleProcessBackend)
    for wrong in (0, -1, 0.5, math.nan, 1e12):
        for declare in (Counter, Gauge, Histogram, Info):
            with pytest.raises(InvalidArgumentError, match="series_ttl"):
                declare("x", series_ttl=wrong)
        with pytest.raises(InvalidArgumentError, match="series_ttl"):
            StateSet("x", states=["a"], series_ttl=wrong)
        with pytest.raises(ConfigurationError, match="metric_ttls"):
            load_backend(SingleProcessBackend, {"metric_ttls": {"x": wrong}})
        with pytest.raises(ConfigurationError, match="expected a whole number of seconds"):
            load_backend(SingleProcessBackend, {"series_ttl": wrong})
    with pytest.raises(InvalidArgumentError, match="mode"):
        Gauge("x", multiprocess_mode="max", series_ttl=1)
    Gauge("x", series_ttl=math.inf)
