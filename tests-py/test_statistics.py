"""`statistics()` of the backend classes, and the option `self_metrics`. What the numbers count is tested in
Rust (tests/statistics.rs).
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from pytheus import backends
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter
from pytheus_backend_rs import ConfigurationError, RedisBackend, Statistics

from redis_server import Server


def test_a_backend_that_was_not_loaded_says_so() -> None:
    with pytest.raises(RuntimeError, match="RedisBackend is not loaded"):
        RedisBackend.statistics()


def test_sent_batches_are_counted(server: Server) -> None:
    began = time.time()
    backends.load_backend(RedisBackend, server.config)
    assert RedisBackend.statistics() == Statistics(*[0] * len(Statistics._fields))
    counter = Counter("requests_total", "help")
    counter.inc()
    assert counter._metric_value_backend is not None
    assert counter._metric_value_backend.get() == 1
    statistics = RedisBackend.statistics()
    assert statistics.batches_sent >= 1
    assert statistics.operations_sent >= 1
    assert (statistics.batches_resent, statistics.batches_refused, statistics.metrics_pending) == (0, 0, 0)
    # The engine counts in milliseconds.
    assert began - 0.001 <= statistics.last_flush_timestamp <= time.time()


def test_the_numbers_are_those_of_the_engine_that_was_loaded_last(server: Server) -> None:
    backends.load_backend(RedisBackend, server.config)
    generate_metrics()
    backends.load_backend(RedisBackend, {**server.config, "db": 1})
    assert RedisBackend.statistics().scrapes == 0


def test_every_class_takes_the_option(backend_class: Any, config: dict[str, Any]) -> None:
    backends.load_backend(backend_class, {**config, "self_metrics": True})
    Counter("requests_total", "help").inc()
    generate_metrics()
    assert backend_class.statistics().batches_resent == 0
    with pytest.raises(ConfigurationError, match="self_metrics"):
        backends.load_backend(backend_class, {**config, "self_metrics": "maybe"})
