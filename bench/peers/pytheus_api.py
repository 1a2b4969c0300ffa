"""The client of all that is used through pytheus: its own backends, 0.0.9's, and this project's.

Runs in the peer's process.
"""

import asyncio
import importlib

from pytheus.backends import load_backend
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter, Gauge, Histogram

from peers.asgi import asgi_scrape


class Client:
    def __init__(self, module: str, backend: str, store: dict) -> None:
        self._package = importlib.import_module(module)
        load_backend(getattr(self._package, backend), store)

    def counter(self, name: str, labels: tuple = ()) -> Counter:
        return Counter(name, "Counted by the benchmark.", required_labels=list(labels) or None)

    def gauge(self, name: str) -> Gauge:
        return Gauge(name, "Set by the benchmark.")

    def histogram(self, name: str, labels: tuple = (), buckets=Histogram.DEFAULT_BUCKETS) -> Histogram:
        names = list(labels) or None
        return Histogram(name, "Observed by the benchmark.", required_labels=names, buckets=buckets)

    def middleware(self, app):
        from pytheus.middleware import PytheusMiddlewareASGI

        return PytheusMiddlewareASGI(app)

    def scrapes(self) -> dict:
        """Returns the ways to render a scrape, by name."""
        scrapes = {"pytheus' generate_metrics": generate_metrics}
        if hasattr(self._package, "generate_metrics"):
            scrapes["its own generate_metrics"] = self._package.generate_metrics
        return scrapes

    def asgi_scrapes(self) -> dict:
        """Returns the ways to answer a scrape in an asyncio program, by name."""

        async def in_a_thread():
            # A thread pool, as the documentation of pytheus and of 0.0.9 shows it with a `def` endpoint.
            return await asyncio.to_thread(generate_metrics)

        scrapes = {"pytheus' generate_metrics, in a thread": in_a_thread}
        if hasattr(self._package, "make_asgi_app"):
            scrapes["its own make_asgi_app"] = asgi_scrape(self._package.make_asgi_app())
        return scrapes
