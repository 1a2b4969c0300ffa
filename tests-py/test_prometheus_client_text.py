"""The text that this package makes of the store is that of prometheus_client's own functions, byte by byte."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary, exposition
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import exposition as open_metrics
from pytheus_backend_rs import prometheus
from pytheus_backend_rs._callables import is_portable

from programs import run_program

pytestmark = pytest.mark.skipif(
    is_portable(), reason="without a compiled module, prometheus_client makes the text"
)

NUMBERS = (
    *(0, 1, 9, 10, 123, 99_999, 999_999, 1_000_000, 1_234_567, 10_000_001, 4_294_967_296, 2**53),
    *(0.1, 0.5, 1 / 3, 123_456.789, 999_999.5, 1_000_000.5, 1e15, 1e16, 1.5e16, 1e22, 1.5e300),
    *(1e-5, 1e-7, 5e-324, -0.0, -1, -1_234_567, -1e-7, math.inf, -math.inf, math.nan),
)

#: Label values; the last ones are not plain.
TEXTS = (
    "",
    "x",
    "a b",
    'quo"te',
    "back\\slash",
    "line\nbreak",
    "tab\t",
    "\r",
    "é",
    "日本",
    "{}",
    ",",
    "\x01",
    "\x7f",
)


@pytest.fixture(params=["memory", "file"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CollectorRegistry]:
    store = "memory:" if request.param == "memory" else str(tmp_path / "metrics.shm")
    prometheus.install(store, process_metrics=False)
    yield CollectorRegistry()
    prometheus.uninstall()


def compare(registry: Any) -> None:
    """Compares the text of both formats with that of prometheus_client's functions."""
    for module in (exposition, open_metrics):
        own: Any = module.generate_latest
        assert own(registry).decode() == own.__wrapped__(registry).decode()


def compare_plain(registry: Any) -> None:
    """Does so, and holds that no object of prometheus_client was made for a sample."""
    compare(registry)
    with mock.patch.object(Metric, "add_sample", side_effect=AssertionError):
        for module in (exposition, open_metrics):
            module.generate_latest(registry)


def test_numbers_are_spelled_as_prometheus_client_spells_them(registry: CollectorRegistry) -> None:
    gauge = Gauge("g", "help", ["number"], multiprocess_mode="max", registry=registry)
    for number in NUMBERS:
        gauge.labels(repr(number)).set(number)
    compare_plain(registry)


def test_labels_are_spelled_as_prometheus_client_spells_them(registry: CollectorRegistry) -> None:
    counter = Counter("c", 'He said "\\" and\nleft.', ["text"], registry=registry)
    for text in TEXTS[:-2]:
        counter.labels(text).inc()
        compare_plain(registry)
    for text in TEXTS[-2:]:
        counter.labels(text).inc()
        compare(registry)


@pytest.mark.parametrize("names", [[], ["a"], ["a", "z"], ["z", "a"], ["l", "level", "lea"], ["leg"], ["zz"]])
def test_the_label_of_a_bucket_stands_in_its_order(registry: CollectorRegistry, names: list[str]) -> None:
    histogram = Histogram("h", "help", names, buckets=(0.1, 1, 2_500_000), registry=registry)
    below = Histogram("below", "help", names, buckets=(-1, 1), registry=registry)
    for metric in (histogram, below):
        child = metric.labels(*map(str.upper, names)) if names else metric
        for value in (0.05, 0.5, 3, 1e7):
            child.observe(value)
    compare_plain(registry)
    everything = CollectorRegistry()
    MultiProcessCollector(everything)
    compare_plain(everything)


def test_every_type_is_as_prometheus_client_shows_it(registry: CollectorRegistry) -> None:
    class Custom:
        def collect(self) -> list[Metric]:
            return [prometheus_client.metrics_core.GaugeMetricFamily("custom", "help", value=3)]

    Counter("c", "help", ["b", "a"], unit="bytes", registry=registry).labels("2", "1").inc(3)
    Counter("no_children", "help", ["a"], registry=registry)
    registry.register(Custom())
    Summary("s_seconds", "help", unit="seconds", registry=registry).observe(0.1)
    Info("i", "help", registry=registry).info({"version": "1"})
    Histogram("h", "help", registry=registry).observe(0.1)
    Enum("e", "help", states=["on", "off"], registry=registry).state("off")
    Gauge("computed", "help", registry=registry).set_function(lambda: 7)
    Gauge("every", "help", registry=registry).set(1)
    for order in ("zyx", "abc"):
        gauge = Gauge(f"g_{order}", "help", ["a"], multiprocess_mode="sum", registry=registry)
        for text in order:
            gauge.labels(text).set(1)
    compare(registry)
    Counter("traced", "help", registry=registry).inc(1, {"trace": "1"})
    compare(registry)
    # The engine refuses equal bounds, so these count in this process.
    Histogram("equal", "help", buckets=(1, 1), registry=registry).observe(1)
    compare(registry)
    compare(registry.restricted_registry(["c_bytes_total", "h_count"]))
    everything = CollectorRegistry()
    MultiProcessCollector(everything)
    compare(everything)


def test_the_functions_of_both_modules_are_one(registry: CollectorRegistry) -> None:
    assert exposition.generate_latest is prometheus_client.generate_latest
    assert exposition.choose_encoder("")[0] is exposition.generate_latest


def test_series_of_other_processes_are_shown(tmp_path: Path) -> None:
    store = str(tmp_path / "metrics.shm")
    prometheus.install(store, process_metrics=False)
    try:
        registry = CollectorRegistry()
        counter = Counter("c", "help", ["a"], registry=registry)
        gauge = Gauge("g", "help", registry=registry)
        gauge.set(1)
        counter.labels("own").inc()
        run_program(
            """
            import os
            import pytheus_backend_rs.prometheus
            pytheus_backend_rs.prometheus.install(config["store"], process_metrics=False)
            from prometheus_client import Counter, Gauge
            Counter("c", "help", ["a"]).labels("other").inc(2)
            Gauge("g", "help").set(2)
            """,
            {"store": store},
            prelude="import json, os\nconfig = json.loads(os.environ['TEST_CONFIG'])\n",
        )
        compare_plain(registry)
        text = prometheus_client.generate_latest(registry).decode()
        assert 'c_total{a="own"} 1.0\nc_total{a="other"} 2.0\n' in text
        assert text.count("\ng{pid=") == 2
        counter.remove("other")
        compare_plain(registry)
        assert "other" not in prometheus_client.generate_latest(registry).decode()
    finally:
        prometheus.uninstall()
