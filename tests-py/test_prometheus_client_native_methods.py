"""The native methods on the metrics of prometheus_client: they count as those of its classes do, and leave to these
what is not plain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Summary
from prometheus_client.metrics import MetricWrapperBase
from pytheus_backend_rs import prometheus
from pytheus_backend_rs._callables import is_callable_of_engine

from programs import run_program


@pytest.fixture(params=["memory", "file"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CollectorRegistry]:
    prometheus.install("memory:" if request.param == "memory" else str(tmp_path / "metrics.shm"))
    yield CollectorRegistry()
    prometheus.uninstall()


def is_native(metric: Any, name: str) -> bool:
    return is_callable_of_engine(vars(metric).get(name))


def test_a_counter_takes_what_its_class_takes(registry: CollectorRegistry) -> None:
    counter = Counter("c", "help", registry=registry)
    assert is_native(counter, "inc")
    counter.inc()
    counter.inc(2)
    counter.inc(0.5)
    counter.inc(True)
    counter.inc(amount=4)
    counter.inc(8, {"trace": "1"})
    counter.inc(amount=16, exemplar=None)
    with pytest.raises(ValueError, match="non-negative"):
        counter.inc(-1)
    with pytest.raises(TypeError):
        counter.inc("1")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        counter.inc(value=1)  # type: ignore[call-arg]
    assert registry.get_sample_value("c_total") == 32.5


def test_a_gauge_takes_what_its_class_takes(registry: CollectorRegistry) -> None:
    gauge = Gauge("g", "help", multiprocess_mode="max", registry=registry)
    assert all(is_native(gauge, name) for name in ("inc", "dec", "set"))
    gauge.set(value=10)
    gauge.inc()
    gauge.inc(2)
    gauge.dec()
    gauge.dec(amount=4.5)
    assert registry.get_sample_value("g") == 7.5
    gauge.set("3")  # type: ignore[arg-type]
    assert registry.get_sample_value("g") == 3
    with gauge.track_inprogress():
        assert registry.get_sample_value("g") == 4
    recent = Gauge("recent", "help", multiprocess_mode="mostrecent", registry=registry)
    recent.set(1)
    with pytest.raises(RuntimeError, match="mostrecent"):
        recent.inc()
    assert registry.get_sample_value("recent") == 1


@pytest.mark.parametrize("kind", [Summary, Histogram])
def test_observations_are_those_of_the_class(registry: CollectorRegistry, kind: Any) -> None:
    metric = kind("seconds", "help", registry=registry)
    assert is_native(metric, "observe")
    metric.observe(1)
    metric.observe(amount=0.5)
    with metric.time():
        pass
    assert registry.get_sample_value("seconds_count") == 3
    metric.observe(math.nan)
    # A histogram of prometheus_client counts NaN in no bucket.
    assert registry.get_sample_value("seconds_count") == (4 if kind is Summary else 3)
    assert math.isnan(registry.get_sample_value("seconds_sum") or 0)


def test_labels_finds_children_by_position_and_by_name(registry: CollectorRegistry) -> None:
    counter = Counter("c", "help", ["b", "a"], registry=registry)
    child = counter.labels("1", "2")
    assert is_native(counter, "labels") and is_native(child, "inc")
    assert counter.labels("1", "2") is child
    assert counter.labels(a="2", b="1") is child
    assert counter.labels(1, 2) is child
    assert counter.labels("2", "1") is not child
    for wrong in ((), ("1",), ("1", "2", "3")):
        with pytest.raises(ValueError, match="Incorrect label count"):
            counter.labels(*wrong)
    with pytest.raises(ValueError, match="Incorrect label names"):
        counter.labels(a="2", c="1")
    with pytest.raises(ValueError, match="Can't pass both"):
        counter.labels("1", a="2")
    counter.clear()
    assert counter.labels("1", "2") is not child
    states = Enum("e", "help", ["a"], states=["x", "y"], registry=registry)
    assert states.labels("1") is states.labels(a="1")


def test_methods_of_the_program_stay(registry: CollectorRegistry) -> None:
    class Doubled(Counter):
        def inc(self, amount: float = 1, exemplar: Any = None) -> None:
            super().inc(2 * amount)

    Doubled("c", "help", registry=registry).inc()
    assert registry.get_sample_value("c_total") == 2
    with mock.patch.object(Counter, "inc", autospec=True) as inc:
        Counter("d", "help", registry=registry).inc(3)
    inc.assert_called_once()
    assert registry.get_sample_value("d_total") == 0


def test_each_call_goes_through_a_patch_of_labels(registry: CollectorRegistry) -> None:
    original = MetricWrapperBase.labels
    with mock.patch.object(MetricWrapperBase, "labels", autospec=True, side_effect=original) as labels:
        counter = Counter("c", "help", ["a"], registry=registry)
        for _ in range(3):
            counter.labels("x").inc()
        assert labels.call_count == 3
    assert registry.get_sample_value("c_total", {"a": "x"}) == 3


def test_a_function_that_the_program_puts_on_a_metric_stays(registry: CollectorRegistry) -> None:
    gauge = Gauge("g", "help", registry=registry)
    values: list[float] = []
    gauge.set = values.append  # type: ignore[assignment]
    prometheus.reset()
    gauge.set(3)
    assert values == [3]


def test_a_metric_that_is_made_anew_after_uninstall_counts_in_this_process(tmp_path: Path) -> None:
    prometheus.uninstall()
    prometheus.install(tmp_path / "metrics.shm")
    counter = Counter("c", "help", registry=None)
    parent = Counter("p", "help", ["a"], registry=None)
    counter.inc(5)
    parent.labels("x").inc(5)
    prometheus.uninstall()
    assert "inc" not in vars(counter) and "labels" not in vars(parent)
    for metric in (counter, parent.labels("x")):
        metric.inc()
        assert metric._value.get() == 6
        metric._metric_init()
        metric.inc()
        assert metric._value.get() == 1


def test_a_metric_that_another_process_has_removed_is_native_again(tmp_path: Path) -> None:
    store = str(tmp_path / "metrics.shm")
    prometheus.install(store)
    try:
        registry = CollectorRegistry()
        counter = Counter("c", "help", ["a"], registry=registry)
        histogram = Histogram("h", "help", ["a"], registry=registry)
        inc = counter.labels("x").inc
        for _ in range(2):
            inc(5)
            histogram.labels("x").observe(1)
            run_program(
                """
                import pytheus_backend_rs.prometheus
                pytheus_backend_rs.prometheus.install(config["store"])
                from prometheus_client import Counter, Histogram
                Counter("c", "help", ["a"]).remove("x")
                Histogram("h", "help", ["a"]).remove("x")
                """,
                {"store": store},
                prelude="import json, os\nconfig = json.loads(os.environ['TEST_CONFIG'])\n",
            )
            # The method that the program has kept makes the series again, too.
            inc(2)
            counter.labels("x").inc()
            histogram.labels("x").observe(1)
            assert registry.get_sample_value("c_total", {"a": "x"}) == 3
            assert registry.get_sample_value("h_count", {"a": "x"}) == 1
            assert is_native(counter.labels("x"), "inc")
    finally:
        prometheus.uninstall()


def test_metrics_count_on_without_the_store(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    prometheus.install("memory:")
    counter = Counter("c", "help", ["a"], registry=registry)
    counter.labels("x").inc(2)
    prometheus.uninstall()
    counter.labels("x").inc()
    counter.labels("y").inc()
    assert registry.get_sample_value("c_total", {"a": "x"}) == 3
    assert registry.get_sample_value("c_total", {"a": "y"}) == 1
