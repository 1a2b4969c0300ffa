"""`start_http_server`, the engine's exporter in a Python program: which metrics it shows, its options, and
its end. HTTP, forks and lost stores are tested in Rust (tests/exporter*.rs).
"""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any

import pytest
from pytheus import backends
from pytheus.metrics import Counter, CustomCollector, Gauge, Histogram
from pytheus.registry import REGISTRY, CollectorRegistry
from pytheus_backend_rs import (
    BackendError,
    ConfigurationError,
    SharedMemoryBackend,
    SingleProcessAtomicBackend,
    start_http_server,
)

from http_client import get
from programs import run_program, running


def test_it_serves_every_metric_of_the_program(backend: Any) -> None:
    Counter("requests_total", "Requests.", required_labels=["path"]).labels(path="/").inc(2)
    Histogram("seconds", "", buckets=[1]).observe(0.5)
    with start_http_server(0) as server:
        text = get(server.port, "/metrics").text
        Gauge("late", "").set(3)
        assert "\nlate 3\n" in get(server.port, "/metrics").text
    assert (
        '# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total{path="/"} 2\n' in text
    )
    assert 'seconds_bucket{le="1"} 1\nseconds_bucket{le="+Inf"} 1\nseconds_sum 0.5\nseconds_count 1\n' in text


def test_families_have_the_prefix_of_the_registry(backend: Any) -> None:
    REGISTRY.set_registry(CollectorRegistry(prefix="app"))
    Counter("requests_total", "").inc(2)
    with start_http_server(0) as server:
        assert "\napp_requests_total 2\n" in get(server.port, "/metrics").text


def test_it_answers_while_the_interpreter_is_held(tmp_path: Path) -> None:
    program = """
        from pytheus_backend_rs import SharedMemoryBackend, start_http_server
        load_backend(SharedMemoryBackend, config)
        Counter("requests_total", "help").inc(2)
        print(start_http_server(0).port, flush=True)
        # One C call that holds the GIL forever.
        sum(iter(int, 1))
    """
    with running(program, {"path": str(tmp_path / "metrics")}) as held:
        assert get(int(held.line()), "/metrics").text.endswith("\nrequests_total 2\n")


def test_a_closed_server_frees_its_port_and_closing_twice_does_nothing(backend: Any) -> None:
    server = start_http_server(0)
    assert server.url == f"http://127.0.0.1:{server.port}/metrics"
    server.close()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        get(server.port, "/metrics")
    start_http_server(server.port).close()


def test_only_allowed_hosts_are_answered(backend: Any) -> None:
    with start_http_server(0, allowed_hosts=["localhost", "metrics.example"]) as server:
        assert get(server.port, "/metrics", {"Host": "metrics.example:9464"}).status == 200
        assert get(server.port, "/metrics", {"Host": "evil.example"}).status == 421


def test_mistakes_are_clear_errors(backend: Any) -> None:
    for port in (-1, 65536, "9464", True, 1.5):
        with pytest.raises(ConfigurationError, match="port is"):
            start_http_server(port)  # type: ignore[arg-type]
    with pytest.raises(BackendError, match="nowhere"):
        start_http_server(0, "nowhere")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BackendError, match=str(port)):
            start_http_server(port)


def test_without_a_backend_of_this_package_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="load_backend"):
        start_http_server(0)


class Custom(CustomCollector):
    def collect(self) -> Any:
        return []


def test_custom_collectors_are_reported_as_not_shown(backend: Any, caplog: pytest.LogCaptureFixture) -> None:
    REGISTRY.register(Custom())
    with caplog.at_level(logging.WARNING, "pytheus_backend_rs"), start_http_server(0):
        assert "does not show custom collectors (Custom)" in caplog.text


def test_a_program_ends_while_it_serves(backend_class: Any, config: dict[str, Any]) -> None:
    program = f"""
        import pytheus_backend_rs, urllib.request
        load_backend(pytheus_backend_rs.{backend_class.__name__}, config)
        counter = Counter("requests_total", "help")
        server = pytheus_backend_rs.start_http_server(0)
        def scrape():
            while True:
                urllib.request.urlopen(server.url).read()
        threading.Thread(target=scrape, daemon=True).start()
        for _ in range(1000):
            counter.inc()
        print("end")
    """
    for _ in range(5):
        # The scraping thread may see the connection close.
        assert "end\n" in run_program(program, config)


def test_the_last_backend_that_was_loaded_is_served(tmp_path: Path) -> None:
    backends.load_backend(SharedMemoryBackend, {"path": str(tmp_path / "metrics")})
    Gauge("first", "").set(1)
    backends.load_backend(SingleProcessAtomicBackend, {})
    Gauge("second", "").set(2)
    with start_http_server(0) as server:
        assert get(server.port, "/metrics").text == "# HELP second \n# TYPE second gauge\nsecond 2\n"
