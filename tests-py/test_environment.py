"""A metric call never raises because of the environment: the metric counts in its process, and the log says
why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytheus import backends
from pytheus.metrics import Counter, Gauge, Histogram
from pytheus_backend_rs import RedisBackend, SharedMemoryBackend, generate_metrics

LOGGER = "pytheus_backend_rs"


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name == LOGGER and one.levelname == "ERROR"]


def use(family: Any, values: list[str]) -> None:
    for value in values:
        family.labels(path=value).inc()


def fill(tmp_path: Path) -> None:
    """A file that may not grow, with room for few metrics."""
    backends.load_backend(SharedMemoryBackend, {"path": str(tmp_path / "metrics"), "size_limit": 1 << 20})
    fillers = Counter("filler_total", "help", required_labels=["path"])
    for number in range(40):
        fillers.labels(path=f"{number}" + "x" * 30_000).inc()


def test_a_full_file_raises_nothing_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path)
    requests = Counter("requests_total", "help", required_labels=["path"])
    sizes = Histogram("size", "help")
    for number in range(300):
        requests.labels(path=f"/{number}").inc(2)
        sizes.observe(number)
    Gauge("level", "help").set(4)
    assert len(errors(caplog)) == 1, errors(caplog)
    assert "metrics" in errors(caplog)[0]
    assert SharedMemoryBackend.statistics().metrics_held_back > 0
    assert requests.labels(path="/299")._metric_value_backend.get() == 2
    generate_metrics()


VALUES: dict[str, str] = {"2 MB": "x" * 2_000_000, "64 KiB": "y" * 65_536, "empty": ""}


@pytest.mark.parametrize("size", VALUES)
def test_a_label_value_of_any_size_raises_nothing(backend: Any, size: str) -> None:
    counter = Counter("requests_total", "help", required_labels=["path"])
    use(counter, [VALUES[size], "/a", VALUES[size]])
    if not (backend is RedisBackend and size == "2 MB"):
        # A server may refuse a field of this size, so the engine leaves the series out and says so.
        assert counter.labels(path=VALUES[size])._metric_value_backend.get() == 2
    assert 'requests_total{path="/a"} 1\n' in generate_metrics()


def test_a_histogram_of_many_buckets_raises_nothing(backend: Any) -> None:
    histogram = Histogram("size", "help", buckets=list(range(20_000)))
    histogram.observe(5)
    assert histogram._count.get() == 1
    Counter("requests_total", "help").inc()
    assert "\nrequests_total 1\n" in generate_metrics()
