"""Which metrics a scrape looks at: each one once, and again only after something may have changed where the
metrics of its family count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytheus import backends
from pytheus.metrics import Counter, Gauge, Histogram
from pytheus_backend_rs import SharedMemoryBackend, SingleProcessAtomicBackend, generate_metrics
from pytheus_backend_rs.pytheus import internals


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list to which each collector whose metrics are looked at adds its name."""
    names: list[str] = []
    values_of = internals.values_of

    def noting(collector: Any) -> list[Any]:
        names.append(collector.name)
        return values_of(collector)

    monkeypatch.setattr(internals, "values_of", noting)
    return names


def test_a_scrape_looks_at_each_metric_once(looked_at: list[str]) -> None:
    backends.load_backend(SingleProcessAtomicBackend)
    requests = Counter("requests_total", "help", required_labels=["path"])
    sizes = Histogram("size", "help", required_labels=["path"], buckets=[1])
    for number in range(50):
        requests.labels(path=f"{number}").inc()
        sizes.labels(path=f"{number}").observe(2)
    first = generate_metrics()
    assert sorted(looked_at) == ["requests_total", "size"]
    requests.labels(path="one more").inc()
    second = generate_metrics()
    assert len(looked_at) == 2
    assert set(second.splitlines()) - set(first.splitlines()) == {'requests_total{path="one more"} 1'}


def test_a_metric_that_was_made_while_another_store_was_loaded_is_found(tmp_path: Path) -> None:
    config = {"path": str(tmp_path / "metrics")}
    backends.load_backend(SharedMemoryBackend, config)
    requests = Counter("requests_total", "help", required_labels=["path"])
    requests.labels(path="one").inc()
    assert generate_metrics() == generate_metrics()
    backends.load_backend(SingleProcessAtomicBackend)
    requests.labels(path="two").inc(2)
    # The engine of this file is open, so it is loaded again.
    backends.load_backend(SharedMemoryBackend, config)
    text = generate_metrics()
    assert 'requests_total{path="one"} 1' in text and 'requests_total{path="two"} 2' in text, text


def test_a_backend_object_of_another_class_is_found_once_the_first_one_is_gone(looked_at: list[str]) -> None:
    backends.load_backend(SingleProcessAtomicBackend)
    requests = Counter("requests_total", "help")
    level = Gauge("level", "help")
    requests.inc()
    level.set(1)
    generate_metrics()
    generate_metrics()
    assert len(looked_at) == 2

    class Fixed:
        def get(self) -> float:
            return 5.0

    requests._metric_value_backend = Fixed()  # type: ignore[assignment]
    text = generate_metrics()
    assert len(looked_at) > 2 and "\nrequests_total 5\n" in text, text
