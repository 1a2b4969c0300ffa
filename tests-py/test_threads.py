"""Threads that use a metric for the first time at the same time, beside scrapes and new metrics."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import pytheus.exposition
import pytheus_backend_rs
from pytheus.metrics import Counter, Histogram
from pytheus.registry import CollectorRegistry

THREADS = 8
ROUNDS = 60


@pytest.fixture(autouse=True)
def eager_switches() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_the_first_count_of_a_label_set_is_never_lost(backend: Any) -> None:
    registry = CollectorRegistry()
    with ThreadPoolExecutor(THREADS) as pool:
        for number in range(ROUNDS):
            counter = Counter(f"jobs{number}_total", "help", required_labels=["queue"], registry=registry)
            barrier = threading.Barrier(THREADS)

            def work(_: int, counter: Counter = counter, barrier: threading.Barrier = barrier) -> None:
                barrier.wait()
                counter.labels(queue="mail").inc()

            list(pool.map(work, range(THREADS)))
    text = pytheus_backend_rs.generate_metrics(registry)
    assert [text.count(f'jobs{number}_total{{queue="mail"}} {THREADS}\n') for number in range(ROUNDS)] == [
        1
    ] * ROUNDS


@pytest.mark.parametrize(
    "generate", [pytheus_backend_rs.generate_metrics, pytheus.exposition.generate_metrics]
)
def test_a_scrape_beside_new_metrics_shows_those_that_are_complete(backend: Any, generate: Any) -> None:
    registry = CollectorRegistry()
    family = Histogram("size", "help", required_labels=["number"], registry=registry)
    failures: list[BaseException] = []
    done = threading.Event()

    def scrape() -> None:
        try:
            while not done.is_set():
                generate(registry)
        except BaseException as error:
            failures.append(error)

    scrapers = [threading.Thread(target=scrape) for _ in range(2)]
    for thread in scrapers:
        thread.start()
    for number in range(150):
        family.labels(number=str(number)).observe(1)
        Histogram(f"other{number}", "help", buckets=[1, 2], registry=registry).observe(1)
    done.set()
    for thread in scrapers:
        thread.join()
    assert not failures
    assert generate(registry).count("size_count{") == 150


def test_threads_that_meet_at_an_engine_share_it(backend_class: Any, config: dict[str, Any]) -> None:
    """Each makes a backend object itself, which opens an engine for a configuration that is not loaded."""
    counter = Counter("requests_total", "help", registry=None)
    barrier = threading.Barrier(THREADS)

    def work(_: int) -> Any:
        barrier.wait()
        view = backend_class(dict(config), counter)
        view.inc(1)
        return view

    with ThreadPoolExecutor(THREADS) as pool:
        views = list(pool.map(work, range(THREADS)))
    assert len({id(view._family.engine) for view in views}) == 1
    assert views[0].get() == THREADS
