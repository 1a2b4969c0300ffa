"""A small web service, written as a user of pytheus would write it.

Each worker process imports this module. A scrape of any worker shows what all of them have counted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from pytheus.backends import load_backend
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter, Histogram
from pytheus_backend_rs import RedisBackend, SharedMemoryBackend

if "REDIS_PORT" in os.environ:
    load_backend(RedisBackend, {"host": "127.0.0.1", "port": int(os.environ["REDIS_PORT"])})
else:
    load_backend(SharedMemoryBackend, {"path": os.environ["METRICS_FILE"]})

requests_total = Counter("http_requests_total", "Requests served.", required_labels=["method", "path"])
request_duration_seconds = Histogram(
    "http_request_duration_seconds", "How long a request took.", buckets=(0.001, 0.01, 0.1, 1)
)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Serves the metrics at `/metrics`, and counts every other request."""
    path = environ["PATH_INFO"]
    if path == "/metrics":
        start_response("200 OK", [("Content-Type", "text/plain; version=0.0.4; charset=utf-8")])
        return [generate_metrics().encode()]
    start = time.perf_counter()
    requests_total.labels(method=environ["REQUEST_METHOD"], path=path).inc()
    request_duration_seconds.observe(time.perf_counter() - start)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"hello from process {os.getpid()}\n".encode()]
