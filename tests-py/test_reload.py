"""`load_backend` may be called again: with the same configuration or another one, here or in a forked child.

Metrics that were made before keep counting, and a scrape shows them with those that were made after.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from pytheus import backends
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter, Gauge, Histogram
from pytheus_backend_rs import RedisBackend, SingleProcessAtomicBackend, SingleProcessBackend
from pytheus_backend_rs.pytheus import scrape

from programs import run_program
from redis_server import Server


def value_of(metric: Any) -> float:
    value: float = metric._metric_value_backend.get()
    return value


def test_old_metrics_keep_counting_after_the_same_configuration(backend: Any, config: dict[str, Any]) -> None:
    old = Counter("old_total", "help")
    labelled = Counter("labelled_total", "help", required_labels=["a"])
    labelled.labels(a="old").inc()
    old.inc()
    backends.load_backend(backend, config)
    new = Counter("new_total", "help")
    for counter in (old, new, labelled.labels(a="old"), labelled.labels(a="new")):
        counter.inc()
    text = generate_metrics()
    assert "\nold_total 2.0\n" in text
    assert "\nnew_total 1.0\n" in text
    assert '\nlabelled_total{a="old"} 2.0\n' in text and '\nlabelled_total{a="new"} 1.0\n' in text
    assert value_of(old) == 2


def test_metrics_of_one_name_share_their_value_across_a_reload(server: Server, redis_backend: Any) -> None:
    old = Histogram("size", "help", registry=None)
    old.observe(1)
    redis_backend()
    new = Histogram("size", "help")
    new.observe(2)
    old.observe(3)
    assert "size_count 3.0\nsize_sum 6.0\n" in generate_metrics()


def test_a_reload_with_other_options_for_the_same_database_shows_old_metrics(redis_backend: Any) -> None:
    old = Counter("old_total", "help")
    old.inc()
    redis_backend(flush_interval_ms=50, pipeline_threads=1)
    old.inc()
    assert "old_total 2.0\n" in generate_metrics()


def test_old_metrics_are_shown_after_another_configuration(redis_backend: Any) -> None:
    """Old metrics count in their old store, and the scrape reads them there."""
    old = Counter("old_total", "help")
    labelled = Gauge("labelled_level", "help", required_labels=["a"])
    labelled.labels(a="old").set(4)
    old.inc()
    redis_backend(db=1)
    new = Counter("new_total", "help")
    old.inc()
    new.inc()
    text = generate_metrics()
    assert "\nold_total 2.0\n" in text
    assert "\nnew_total 1.0\n" in text
    assert 'labelled_level{a="old"} 4.0\n' in text
    assert value_of(old) == 2


def test_old_metrics_are_shown_after_another_class(server: Server) -> None:
    """A module may create its metrics before the program loads a backend."""
    backends.load_backend(SingleProcessAtomicBackend, {})
    old = Counter("old_total", "help")
    histogram = Histogram("old_size", "help", buckets=[1])
    old.inc(3)
    histogram.observe(0.5)
    backends.load_backend(RedisBackend, server.config)
    Counter("new_total", "help").inc()
    old.inc()
    text = generate_metrics()
    assert "\nold_total 4.0\n" in text
    assert "old_size_count 1.0\nold_size_sum 0.5\n" in text
    assert "\nnew_total 1.0\n" in text


def test_pytheus_own_metrics_are_shown_after_a_load(server: Server) -> None:
    """The metrics belong to pytheus' default backend, because they were created at import time."""
    backends.load_backend()
    old = Counter("old_total", "help")
    old.inc(3)
    backends.load_backend(RedisBackend, server.config)
    assert "\nold_total 3.0\n" in generate_metrics()


def test_redis_metrics_are_shown_by_a_memory_backend(server: Server, redis_backend: Any) -> None:
    old = Counter("old_total", "help")
    old.inc(3)
    backends.load_backend(SingleProcessBackend, {})
    Counter("new_total", "help").inc()
    text = generate_metrics()
    assert "\nold_total 3.0\n" in text
    assert "\nnew_total 1.0\n" in text


def test_direct_construction_does_not_move_the_scrape(server: Server, redis_backend: Any) -> None:
    counter = Counter("requests_total", "help")
    counter.inc(2)
    elsewhere = RedisBackend({**server.config, "db": 1}, Gauge("elsewhere", "help", registry=None))
    elsewhere.set(5)
    assert "requests_total 2.0\n" in generate_metrics()
    Counter("late_total", "help").inc()
    assert "late_total 1.0\n" in generate_metrics()
    assert elsewhere.get() == 5
    assert server.client(db=1).get("elsewhere") == "5"
    assert server.client().get("late_total") == "1"


def test_a_refused_reload_leaves_the_old_backend_working(server: Server, redis_backend: Any) -> None:
    counter = Counter("requests_total", "help")
    counter.inc()
    for bad in ({"bogus": 1}, {"port": 1}):
        try:
            redis_backend(**bad)
        except (ValueError, ConnectionError):
            pass
        else:
            raise AssertionError(f"{bad} was accepted")
    counter.inc()
    assert "requests_total 2.0\n" in generate_metrics()


def test_a_reload_in_a_forked_child_counts_in_both(server: Server) -> None:
    output = run_program(
        """
        load_backend(RedisBackend, config)
        old = Counter("old_total", "help")
        old.inc(100)
        generate_metrics()
        children = []
        for options in ({}, {"flush_interval_ms": 2}):
            child = os.fork()
            if child == 0:
                load_backend(RedisBackend, {**config, **options})
                new = Counter("new_total", "help")
                old.inc(10)
                new.inc(1)
                text = generate_metrics()
                assert "\\nold_total 1" in text and "\\nnew_total " in text, text
                sys.exit(0)
            children.append(child)
        for child in children:
            assert os.waitpid(child, 0)[1] == 0
        new = Counter("new_total", "help")
        print(generate_metrics())
        """,
        server.config,
    )
    assert "\nold_total 120.0\n" in output
    assert "\nnew_total 2.0\n" in output


def test_lost_servers_of_old_engines_do_not_add_up_their_delays_in_a_scrape(
    server: Server, own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrape, "_OTHER_ENGINES_SECONDS", 8.0)
    old = []
    for index in range(6):
        backends.load_backend(RedisBackend, {**own_server.config, "shutdown_timeout": 0.1})
        old.append(Counter(f"old{index}_total", "help", registry=None))
        old[-1].inc()
    backends.load_backend(RedisBackend, server.config)
    Counter("new_total", "help").inc()
    own_server.pause()
    for counter in old:
        counter.inc()
    start = time.monotonic()
    assert "new_total 1.0\n" in generate_metrics()
    assert time.monotonic() - start < 40, "six times 8 s are 48 s"


def test_many_reloads_leave_no_threads_behind(server: Server) -> None:
    output = run_program(
        """
        import gc
        def threads():
            return len(os.listdir("/proc/self/task"))
        load_backend(RedisBackend, config)
        Counter("requests_total", "help", registry=None).inc()
        gc.collect()
        before = threads()
        for _ in range(50):
            load_backend(RedisBackend, config)
            Counter("requests_total", "help", registry=None).inc()
        gc.collect()
        print(before, threads())
        """,
        server.config,
    )
    before, after = map(int, output.split())
    assert after <= before + 5
    assert server.client().get("requests_total") == "51"
