"""The client of prometheus_client, in one process; with PROMETHEUS_MULTIPROC_DIR, in its multi-process mode; or
on this project's engine.

Runs in the peer's process.
"""

import os

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    exposition,
    make_asgi_app,
    multiprocess,
)

from peers.asgi import HttpMetrics, asgi_scrape

IS_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR" in os.environ


class Client:
    def __init__(self, store: dict, is_on_engine: bool = False) -> None:
        self._is_on_engine = is_on_engine
        if is_on_engine:
            import pytheus_backend_rs.prometheus

            pytheus_backend_rs.prometheus.install(store.get("path", "memory:"))

    def counter(self, name: str, labels: tuple = ()) -> Counter:
        return Counter(name, "Counted by the benchmark.", labels)

    def gauge(self, name: str) -> Gauge:
        return Gauge(name, "Set by the benchmark.")

    def histogram(self, name: str, labels: tuple = (), buckets=Histogram.DEFAULT_BUCKETS) -> Histogram:
        return Histogram(name, "Observed by the benchmark.", labels, buckets=buckets)

    def middleware(self, app):
        return HttpMetrics(app, self.histogram)

    def scrapes(self) -> dict:
        ways = {}
        if not IS_MULTIPROCESS:
            ways["generate_latest"] = exposition.generate_latest
        if IS_MULTIPROCESS or self._is_on_engine:
            ways["MultiProcessCollector"] = lambda: exposition.generate_latest(self._all_processes())
        return ways

    def asgi_scrapes(self) -> dict:
        registry = self._all_processes() if IS_MULTIPROCESS else REGISTRY
        return {"its own make_asgi_app": asgi_scrape(make_asgi_app(registry))}

    def _all_processes(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return registry
