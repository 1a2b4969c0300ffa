"""What the system and Python say about each process of a service, in scrapes of prometheus_client."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, REGISTRY, CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from pytheus.backends import load_backend
from pytheus_backend_rs import SharedMemoryBackend, prometheus
from pytheus_backend_rs.process import process_metrics

from programs import running
from redis_server import Server
from waiting import wait_until

FIGURES = (
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_open_fds",
    "process_max_fds",
)

#: A service that is forked, as gunicorn with --preload forks its workers.
SERVICE = """
    import gc, json, os, signal, sys
    import pytheus_backend_rs.prometheus
    pytheus_backend_rs.prometheus.install(os.environ["STORE"])
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
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


def registry_of(*collectors: object) -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)  # type: ignore[arg-type]
    return registry


def pids(registry: CollectorRegistry, name: str) -> list[int]:
    """Returns the processes that a scrape shows."""
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    assert all(sample.value > 0 for sample in samples if sample.name == name)
    return sorted(int(sample.labels["pid"]) for sample in samples if sample.name == name)


def test_a_registry_of_the_whole_store_shows_each_process_once(tmp_path: Path) -> None:
    prometheus.install(str(tmp_path / "metrics.shm"))
    try:
        registry = registry_of(PROCESS_COLLECTOR, GC_COLLECTOR, PLATFORM_COLLECTOR)
        MultiProcessCollector(registry)
        assert pids(registry, "process_open_fds") == [os.getpid()]
        names = [metric.name for metric in registry.collect()]
        assert sorted(names) == sorted(set(names))
        assert "python_info" in names
    finally:
        prometheus.uninstall()


def test_a_scrape_shows_every_process_that_lives(tmp_path: Path) -> None:
    store = str(tmp_path / "metrics.shm")
    prometheus.install(store)
    try:
        own = registry_of(PROCESS_COLLECTOR, GC_COLLECTOR, PLATFORM_COLLECTOR)
        everything = CollectorRegistry()
        MultiProcessCollector(everything)
        with running(SERVICE, {}, prelude="", environment={"STORE": store}) as service:
            workers = [service.process.pid, *map(int, service.line().split())]
            expected = sorted([os.getpid(), *workers])
            for name in FIGURES:
                for registry in (own, everything, REGISTRY):
                    wait_until(lambda: pids(registry, name) == expected, f"{name} of all")  # noqa: B023
            before = own.get_sample_value("process_cpu_seconds_total") or 0
            assert before > 0
            restricted = list(REGISTRY.restricted_registry(["process_cpu_seconds_total"]).collect())
            assert [metric.samples[0].value >= before for metric in restricted] == [True]
            collections = {"generation": "2"}
            wait_until(
                lambda: (own.get_sample_value("python_gc_collections_total", collections) or 0) >= 4,
                "all have collected",
            )
            service.say()
            assert service.line() == "ended"
            assert pids(own, FIGURES[0]) == sorted([os.getpid(), workers[0]])
            assert (own.get_sample_value("process_cpu_seconds_total") or 0) >= before
        info = [
            sample for metric in own.collect() for sample in metric.samples if metric.name == "python_info"
        ]
        assert [sample.value for sample in info] == [1]
    finally:
        prometheus.uninstall()


def test_a_reset_store_shows_the_process_again(tmp_path: Path) -> None:
    prometheus.install(str(tmp_path / "metrics.shm"))
    try:
        registry = registry_of(PROCESS_COLLECTOR, PLATFORM_COLLECTOR)

        def shown() -> dict[str, float]:
            samples = [sample for metric in registry.collect() for sample in metric.samples]
            return {sample.name: sample.value for sample in samples}

        before = shown()
        prometheus.reset()
        after = shown()
        assert after["python_info"] == 1
        name = "process_start_time_seconds"
        assert after[name] == before[name] > 1e9
    finally:
        prometheus.uninstall()


def test_pytheus_shows_them_by_names_of_its_own(tmp_path: Path) -> None:
    store = tmp_path / "metrics.shm"
    prometheus.install(str(store))
    try:
        load_backend(SharedMemoryBackend, {"path": str(store)})
        process_metrics("shop")
        everything = CollectorRegistry()
        MultiProcessCollector(everything)
        for name in ("process_open_fds", "shop_process_open_fds"):
            assert pids(everything, name) == [os.getpid()]
        info = [metric.name for metric in everything.collect() if metric.name.endswith("python_info")]
        assert sorted(info) == ["python_info", "shop_python_info"]
    finally:
        prometheus.uninstall()


def test_families_are_declared_as_the_engine_declares_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prometheus.install(str(tmp_path / "metrics.shm"))
    try:
        gc.collect()
        list(REGISTRY.collect())
        assert caplog.records == []
    finally:
        prometheus.uninstall()


@pytest.mark.parametrize("store", ["without", "memory", "redis"])
def test_elsewhere_a_scrape_shows_the_process_that_answers(
    store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if store == "without":
        prometheus.install(str(tmp_path / "metrics.shm"), process_metrics=False)
    elif store == "memory":
        prometheus.install("memory:")
    else:
        server: Server = request.getfixturevalue("server")
        prometheus.install(f"redis://127.0.0.1:{server.port}")
    try:
        registry = registry_of(PROCESS_COLLECTOR, GC_COLLECTOR, PLATFORM_COLLECTOR)
        assert (registry.get_sample_value("process_resident_memory_bytes") or 0) > 1e6
        assert (registry.get_sample_value("python_gc_collections_total", {"generation": "0"}) or 0) > 0
        everything = CollectorRegistry()
        MultiProcessCollector(everything)
        assert [metric.name for metric in everything.collect() if "process" in metric.name] == []
    finally:
        prometheus.uninstall()
