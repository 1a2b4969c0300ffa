"""What a backend tells about itself: numbers for the program, and, where they are wanted, metrics of the same
store.
"""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
from pytheus import backends
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter
from pytheus_backend_rs import (
    BackendError,
    ConfigurationError,
    RedisBackend,
    SharedMemoryBackend,
    SingleProcessAtomicBackend,
    Statistics,
)

from redis_server import Server


def test_a_backend_that_was_not_loaded_says_so() -> None:
    with pytest.raises(RuntimeError, match="RedisBackend is not loaded"):
        RedisBackend.statistics()


def test_what_was_sent_is_counted(server: Server) -> None:
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
    # It is told in milliseconds.
    assert began - 0.001 <= statistics.last_flush_timestamp <= time.time()


def test_each_scrape_is_counted_once(server: Server) -> None:
    backends.load_backend(RedisBackend, server.config)
    Counter("requests_total", "help").inc()
    generate_metrics()
    generate_metrics()
    assert RedisBackend.statistics().scrapes == 2
    assert RedisBackend.statistics().scrape_errors == 0


def test_a_scrape_that_fails_is_counted(own_server: Server) -> None:
    backends.load_backend(RedisBackend, {**own_server.config, "socket_timeout": 0.2, "collect_timeout": 0.3})
    Counter("requests_total", "help").inc()
    own_server.pause()
    with pytest.raises(BackendError):
        generate_metrics()
    statistics = RedisBackend.statistics()
    assert (statistics.scrapes, statistics.scrape_errors) == (1, 1)
    assert statistics.metrics_pending > 0


def test_the_numbers_are_those_of_the_engine_that_was_loaded_last(server: Server) -> None:
    backends.load_backend(RedisBackend, server.config)
    generate_metrics()
    backends.load_backend(RedisBackend, {**server.config, "db": 1})
    assert RedisBackend.statistics().scrapes == 0


def test_a_forked_child_begins_at_zero(server: Server) -> None:
    backends.load_backend(RedisBackend, server.config)
    generate_metrics()
    child = os.fork()
    if child == 0:
        os._exit(RedisBackend.statistics().scrapes)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert RedisBackend.statistics().scrapes == 1


def test_calls_that_were_sent_together_are_counted_where_self_metrics_are_on(server: Server) -> None:
    backends.load_backend(RedisBackend, {**server.config, "self_metrics": True})
    counter = Counter("requests_total", "help")
    for _ in range(10_000):
        counter.inc()
    generate_metrics()
    statistics = RedisBackend.statistics()
    assert statistics.operations_coalesced > 0
    generate_metrics()
    client = server.client()
    assert int(client.get("pytheus_backend_scrapes_total") or 0) == 2
    assert int(client.get("pytheus_backend_operations_coalesced_total") or 0) >= statistics.operations_coalesced


def test_every_class_takes_the_option(backend_class: Any, config: dict[str, Any]) -> None:
    backends.load_backend(backend_class, {**config, "self_metrics": True})
    Counter("requests_total", "help").inc()
    generate_metrics()
    assert backend_class.statistics().batches_resent == 0
    with pytest.raises(ConfigurationError, match="self_metrics"):
        backends.load_backend(backend_class, {**config, "self_metrics": "maybe"})


def test_stores_that_send_nothing_count_scrapes_only(tmp_path: Any) -> None:
    backends.load_backend(SharedMemoryBackend, {"path": str(tmp_path / "metrics")})
    Counter("requests_total", "help").inc()
    generate_metrics()
    statistics = SharedMemoryBackend.statistics()
    assert statistics == Statistics(0, 0, 0, 0, 0, 0, 1, 0, 0.0)
    backends.load_backend(SingleProcessAtomicBackend, {})
    assert SingleProcessAtomicBackend.statistics() == Statistics(0, 0, 0, 0, 0, 0, 0, 0, 0.0)
