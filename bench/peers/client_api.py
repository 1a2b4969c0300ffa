"""The client of prometheus_client, in one process or, with PROMETHEUS_MULTIPROC_DIR, in its multi-process
mode.

Runs in the peer's process.
"""

import os

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    make_asgi_app,
    multiprocess,
)

from peers.asgi import HttpMetrics, asgi_scrape

IS_MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR" in os.environ


class Client:
    def __init__(self, store: dict) -> None:
        pass

    def counter(self, name: str, labels: tuple = ()) -> Counter:
        return Counter(name, "Counted by the benchmark.", labels)

    def gauge(self, name: str) -> Gauge:
        return Gauge(name, "Set by the benchmark.")

    def histogram(self, name: str, labels: tuple = (), buckets=Histogram.DEFAULT_BUCKETS) -> Histogram:
        return Histogram(name, "Observed by the benchmark.", labels, buckets=buckets)

    def middleware(self, app):
        return HttpMetrics(app, self.histogram)

    def scrapes(self) -> dict:
        if not IS_MULTIPROCESS:
            return {"generate_latest": generate_latest}
        return {"MultiProcessCollector": lambda: generate_latest(self._all_processes())}

    def asgi_scrapes(self) -> dict:
        registry = self._all_processes() if IS_MULTIPROCESS else REGISTRY
        return {"its own make_asgi_app": asgi_scrape(make_asgi_app(registry))}

    def _all_processes(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return registry
