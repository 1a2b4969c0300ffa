"""A pytest plugin that runs prometheus_client's own test-suite on the engine (see test_prometheus_client_suite.py).

The store comes by environment. The tests expect that every metric begins at zero, so a shared store is emptied
before each of them. In a shared store, gauges of the mode `all` have the label `pid`, which the tests for one
process do not expect: there the mode of gauges that name none is `max`, which shows the same value without it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from prometheus_client import Gauge
from pytheus_backend_rs import prometheus

STORE = os.environ["SUITE_STORE"]

prometheus.install(STORE)
assert prometheus.is_installed(), "the tests are to run on the engine"


@pytest.fixture(autouse=True)
def empty_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not STORE.startswith("memory:"):
        prometheus.reset()
        if request.path.name != "test_multiprocess.py":
            defaults = Gauge.__init__.__defaults__ or ()
            assert defaults[-1] == "all"
            monkeypatch.setattr(Gauge.__init__, "__defaults__", (*defaults[:-1], "max"))
    yield
