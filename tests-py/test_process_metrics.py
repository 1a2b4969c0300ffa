"""The metrics of each process of a service."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from pytheus.backends import load_backend
from pytheus_backend_rs import (
    ConfigurationError,
    SharedMemoryBackend,
    SingleProcessBackend,
    generate_metrics,
)
from pytheus_backend_rs.process import process_metrics

from programs import run_program, running
from redis_server import Server
from waiting import wait_until

#: A service that is forked, as gunicorn with --preload forks its workers.
WORKERS = """
    import gc, signal
    from pytheus_backend_rs import SharedMemoryBackend
    from pytheus_backend_rs.process import process_metrics
    load_backend(SharedMemoryBackend, config)
    process_metrics()
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            held = [bytearray(30_000_000)]
            held[0][::4096] = b"x" * len(held[0][::4096])
            gc.collect()
            signal.pause()
        pids.append(pid)
    print(*pids, flush=True)
    sys.stdin.readline()
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    print("ended", flush=True)
    sys.stdin.readline()
"""


def samples(prefix: str = "") -> dict[str, float]:
    lines = generate_metrics().splitlines()
    parts = (
        line.rsplit(" ", 1) for line in lines if line.startswith((f"{prefix}process_", f"{prefix}python_"))
    )
    return {name: float(value) for name, value in parts}


def test_one_process_shows_itself() -> None:
    load_backend(SingleProcessBackend)
    process_metrics()
    first = samples()
    assert first["process_resident_memory_bytes"] > 1e6
    assert first["process_virtual_memory_bytes"] > first["process_resident_memory_bytes"]
    assert first["process_max_fds"] > first["process_open_fds"] > 2
    assert first["process_start_time_seconds"] > 1e9
    with open(os.devnull), open(os.devnull):
        assert samples()["process_open_fds"] == first["process_open_fds"] + 2
    cpu = "process_cpu_seconds_total"
    wait_until(lambda: samples()[cpu] > first[cpu], "the process has used some time")
    assert sum(value for name, value in first.items() if name.startswith("python_info")) == 1


def test_collections_are_counted_exactly() -> None:
    load_backend(SingleProcessBackend)
    process_metrics("shop")
    name = 'shop_python_gc_collections_total{generation="2"}'
    collected = 'shop_python_gc_objects_collected_total{generation="2"}'
    gc.collect()
    gc.disable()
    try:
        before = samples("shop_")
        assert before[name] == gc.get_stats()[2]["collections"]
        for _ in range(100):
            cycle: list[Any] = []
            cycle.append(cycle)
        del cycle
        gc.collect()
        after = samples("shop_")
    finally:
        gc.enable()
    assert after[name] == before[name] + 1
    assert after[collected] == gc.get_stats()[2]["collected"] >= before[collected] + 100
    assert after["shop_process_open_fds"] > 0


def test_a_scrape_of_any_process_shows_all_that_live(tmp_path: Path) -> None:
    config = {"path": str(tmp_path / "metrics")}
    load_backend(SharedMemoryBackend, config)
    with running(WORKERS, config) as service:
        pids = [service.process.pid, *map(int, service.line().split())]

        def memory() -> dict[int, float]:
            found = samples().items()
            prefix = 'process_resident_memory_bytes{pid="'
            return {int(name[len(prefix) : -2]): value for name, value in found if name.startswith(prefix)}

        # A process that is no worker and declares nothing reads them.
        wait_until(lambda: sorted(memory()) == sorted(pids), "all workers are shown")
        collections = 'python_gc_collections_total{generation="2"}'
        wait_until(lambda: samples()[collections] >= 3, "all workers have collected")
        assert all(memory()[pid] > 1e6 for pid in pids)
        cpu = samples()["process_cpu_seconds_total"]
        assert cpu > 0
        service.say()
        assert service.line() == "ended"
        assert list(memory()) == pids[:1]
        assert samples()["process_cpu_seconds_total"] >= cpu, "the time of dead processes is counted"
        service.process.send_signal(signal.SIGKILL)
        service.process.wait()
        assert memory() == {}


def test_it_needs_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytheus_backend_rs import _engine

    monkeypatch.setattr(_engine, "_finders", [])
    with pytest.raises(ConfigurationError, match="load_backend"):
        process_metrics()


def test_a_backend_has_one_prefix(tmp_path: Path) -> None:
    config = {"path": str(tmp_path / "metrics")}
    load_backend(SharedMemoryBackend, config)
    process_metrics("shop")
    process_metrics("shop")
    with pytest.raises(ConfigurationError, match="prefix 'shop' already"):
        process_metrics()
    assert samples("shop_")['shop_python_gc_collections_total{generation="2"}'] >= 0
    assert not samples()


def test_two_prefixes_of_keys_are_two_stores(server: Server) -> None:
    run_program(
        """
        from pytheus_backend_rs import RedisBackend, generate_metrics
        from pytheus_backend_rs.process import process_metrics
        for key_prefix in ("first", "second"):
            load_backend(RedisBackend, {**config, "key_prefix": key_prefix})
            process_metrics()
            assert "process_cpu_seconds_total" in generate_metrics()
        """,
        server.config,
    )
