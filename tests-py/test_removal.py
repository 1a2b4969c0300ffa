"""`remove`, `clear` and `reset`: series that go, and metrics that begin at 0 again."""

from __future__ import annotations

from typing import Any

import pytest
import pytheus_backend_rs
from pytheus import backends
from pytheus.metrics import Counter, Gauge, Histogram, Summary
from pytheus_backend_rs import ConfigurationError, clear, generate_metrics, remove, reset

from programs import run_program
from shared_stores import SharedStore


def test_a_removed_series_is_gone_and_begins_at_0_when_it_is_used_again(backend: Any) -> None:
    counter = Counter("requests_total", "help", ["path", "code"], default_labels={"code": "200"})
    for path in ("/a", "/b"):
        counter.labels(path=path).inc(3)
    assert remove(counter, {"path": "/a"})
    assert not remove(counter, {"path": "/never"})
    assert '{code="200",path="/a"}' not in generate_metrics() and 'path="/b"} 3\n' in generate_metrics()
    counter.labels(path="/a").inc()
    assert 'path="/a"} 1\n' in generate_metrics()


def test_labels_that_the_metric_does_not_have_are_an_error(backend: Any) -> None:
    counter = Counter("requests_total", "help", required_labels=["path"])
    for labels in ({}, {"path": "/", "code": 1}, {"code": 1}):
        with pytest.raises(ValueError, match="'requests_total'"):
            remove(counter, labels)


def test_a_cleared_metric_begins_at_0(backend: Any) -> None:
    plain, labelled = Counter("plain_total", "help"), Gauge("level", "help", required_labels=["a"])
    histogram = Histogram("size", "help", buckets=[1])
    plain.inc(3)
    labelled.labels(a="x").set(4)
    histogram.observe(0.5)
    for metric in (plain, labelled, histogram):
        clear(metric)
    plain.inc()
    labelled.labels(a="y").inc()
    histogram.observe(5)
    text = generate_metrics()
    assert "\nplain_total 1\n" in text and '\nlevel{a="y"} 1\n' in text and 'a="x"' not in text
    assert 'size_bucket{le="1.0"} 0\n' in text or 'size_bucket{le="1"} 0\n' in text
    assert "size_count 1\n" in text


def test_a_reset_leaves_nothing_of_the_test_before(backend: Any) -> None:
    kept, labelled = Counter("kept_total", "help"), Summary("latency", "help", required_labels=["a"])
    kept.inc(3)
    labelled.labels(a="x").observe(1)
    Counter("dropped_total", "help", registry=None).inc(3)
    reset()
    assert "\nkept_total 0\n" in generate_metrics()
    kept.inc()
    labelled.labels(a="x").observe(2)
    dropped = Counter("dropped_total", "help")
    text = generate_metrics()
    assert "\nkept_total 1\n" in text and "\ndropped_total 0\n" in text
    assert 'latency_sum{a="x"} 2\n' in text and 'latency_count{a="x"} 1\n' in text
    assert dropped._metric_value_backend.get() == 0


def test_a_reset_empties_what_other_processes_have_counted(store: SharedStore) -> None:
    backends.load_backend(getattr(pytheus_backend_rs, store.class_name), store.options)
    counter = Counter("requests_total", "help")
    run_program(
        f"""
        import pytheus_backend_rs
        load_backend(pytheus_backend_rs.{store.class_name}, config)
        Counter("requests_total", "help").inc(5)
        """,
        store.options,
    )
    assert "\nrequests_total 5\n" in generate_metrics()
    reset()
    counter.inc()
    assert "\nrequests_total 1\n" in generate_metrics()


def test_without_a_backend_of_this_package_they_say_so() -> None:
    backends.load_backend()
    with pytest.raises(ConfigurationError, match="load_backend"):
        reset()
