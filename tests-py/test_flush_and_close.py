"""`flush` and `close`, of the package and of each class: for programs whose end no exit handler sees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import pytheus_backend_rs
from pytheus import backends
from pytheus.metrics import Counter
from pytheus_backend_rs import RedisBackend, UnavailableError

from programs import run_program
from redis_server import Server

FLUSHES: dict[str, Callable[..., None]] = {
    "package": lambda **options: pytheus_backend_rs.flush(**options),
    "class": lambda **options: RedisBackend.flush(**options),
}


@pytest.mark.parametrize("of", FLUSHES)
def test_a_flush_sends_the_counts_to_the_server(server: Server, of: str) -> None:
    backends.load_backend(RedisBackend, {**server.config, "flush_interval_ms": 10_000})
    Counter("requests_total", "help").inc(3)
    FLUSHES[of]()
    assert server.client().get("requests_total") == "3"


def test_a_flush_of_every_class_returns(backend: Any) -> None:
    Counter("requests_total", "help").inc()
    backend.flush(timeout=5)
    pytheus_backend_rs.flush(timeout=5)


@pytest.mark.parametrize("of", FLUSHES)
def test_a_flush_to_a_lost_server_says_so_and_loses_nothing(own_server: Server, of: str) -> None:
    backends.load_backend(RedisBackend, own_server.config)
    counter = Counter("requests_total", "help")
    counter.inc()
    FLUSHES[of]()
    own_server.kill()
    counter.inc()
    with pytest.raises(UnavailableError):
        FLUSHES[of](timeout=5)
    own_server.start()
    FLUSHES[of](timeout=30)
    # A server without persistence forgets what it had; the count that it did not get is there.
    assert own_server.client().get("requests_total") == "1"


@pytest.mark.parametrize("close", ["pytheus_backend_rs.close()", "RedisBackend.close()"])
def test_counts_before_a_close_arrive_without_an_exit_handler(server: Server, close: str) -> None:
    program = f"""
        import pytheus_backend_rs
        load_backend(RedisBackend, {{**config, "flush_interval_ms": 10_000}})
        counter = Counter("requests_total", "help")
        counter.inc(5)
        {close}
        counter.inc()
        load_backend(RedisBackend, {{**config, "flush_interval_ms": 10_000}})
        Counter("late_total", "help").inc()
        {close}
        os._exit(0)
    """
    run_program(program, server.config)
    assert server.client().get("requests_total") == "5"
    assert server.client().get("late_total") == "1"


def test_a_class_that_is_not_loaded_says_so() -> None:
    with pytest.raises(RuntimeError, match="RedisBackend is not loaded"):
        RedisBackend.flush()
