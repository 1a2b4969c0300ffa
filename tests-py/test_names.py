"""Two metrics of one name in a process: what pytheus allows does not raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytheus_backend_rs
from pytheus import backends
from pytheus.metrics import Counter, Gauge, Histogram
from pytheus.registry import CollectorRegistry
from pytheus_backend_rs import RedisBackend, SharedMemoryBackend

LOGGER = "pytheus_backend_rs"


@pytest.fixture(params=[RedisBackend, SharedMemoryBackend], ids=lambda backend_class: backend_class.__name__)
def backend_class(request: pytest.FixtureRequest) -> Any:
    """The classes whose stores have one family for each name."""
    return request.param


def records(caplog: pytest.LogCaptureFixture, level: str) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == LOGGER and one.levelname == level]


def test_series_of_one_name_keep_their_own_labels(backend: Any, caplog: pytest.LogCaptureFixture) -> None:
    plain = Counter("jobs_total", "help", registry=CollectorRegistry())
    by_queue = Counter("jobs_total", "help", required_labels=["queue"], registry=CollectorRegistry())
    by_host = Counter("jobs_total", "other help", required_labels=["host"])
    plain.inc(1)
    by_queue.labels(queue="mail").inc(2)
    by_host.labels(host="a").inc(3)
    text = pytheus_backend_rs.generate_metrics()
    for line in ("jobs_total 1", 'jobs_total{queue="mail"} 2', 'jobs_total{host="a"} 3'):
        assert f"\n{line}\n" in text
    (warning,) = records(caplog, "WARNING")
    assert "jobs_total" in warning
    assert not records(caplog, "ERROR")


SECONDS: dict[str, Callable[[], Any]] = {
    "type": lambda: Gauge("size", "help", registry=None),
    "buckets": lambda: Histogram("size", "help", buckets=[3], registry=None),
}


@pytest.mark.parametrize("reason", SECONDS)
def test_another_type_under_one_name_counts_in_its_process_alone(
    backend: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = Histogram("size", "help", buckets=[1, 2])
    first.observe(1)
    second = SECONDS[reason]()
    second.set(5) if reason == "type" else second.observe(5)
    (error,) = records(caplog, "ERROR")
    assert "'size' counts in this process alone" in error and "histogram size" in error
    registry = CollectorRegistry()
    registry.register(second)
    assert "\nsize 5\n" in (text := pytheus_backend_rs.generate_metrics(registry)) or "size_sum 5\n" in text
    assert first._count.get() == 1
    assert "\nsize_count 1\n" in pytheus_backend_rs.generate_metrics()
    assert len(records(caplog, "ERROR")) == 1


def test_labels_of_such_a_metric_count_there_too(backend: Any) -> None:
    Counter("jobs_total", "help").inc()
    second = Gauge("jobs_total", "help", required_labels=["a"], registry=CollectorRegistry())
    for value in ("x", "y"):
        second.labels(a=value).set(4)
    assert second.labels(a="x")._metric_value_backend.get() == 4
    assert "\njobs_total 1\n" in pytheus_backend_rs.generate_metrics()


def test_a_metric_that_was_made_before_the_backend_is_named_once(
    backend_class: Any, config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    backends.load_backend()
    Counter("early_total", "help").inc()
    Counter("waiting_total", "help", required_labels=["a"])
    backends.load_backend(backend_class, config)
    (warning,) = records(caplog, "WARNING")
    assert "made before load_backend" in warning
    assert "early_total" in warning and "waiting_total" not in warning


def test_loading_the_same_store_again_cuts_nothing_off(
    backend_class: Any, config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    options = {**config, "start": "reset"} if backend_class is SharedMemoryBackend else config
    backends.load_backend(backend_class, options)
    counter = Counter("requests_total", "help")
    counter.inc()
    with pytheus_backend_rs.start_http_server():
        backends.load_backend(backend_class, dict(options))
    counter.inc()
    Counter("late_total", "help").inc()
    text = pytheus_backend_rs.generate_metrics()
    assert "\nrequests_total 2\n" in text and "\nlate_total 1\n" in text
    assert not records(caplog, "WARNING")


def test_an_exporter_of_the_store_before_is_named(
    backend: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with pytheus_backend_rs.start_http_server() as server:
        backends.load_backend(SharedMemoryBackend, {"path": str(tmp_path / "other")})
    (warning,) = records(caplog, "WARNING")
    assert server.url in warning
