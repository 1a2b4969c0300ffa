"""A pytest plugin that runs pytheus' own test-suite on one of our backends (see test_pytheus_suite.py).

The class and its configuration come by environment. pytheus' tests expect that every metric begins at
zero, so with Redis each of them gets an empty database, once what earlier tests have pending is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
import pytheus_backend_rs
import redis
from pytheus.backends import load_backend
from pytheus_backend_rs import RedisBackend
from pytheus_backend_rs._engine import engines

BACKEND_CLASS = getattr(pytheus_backend_rs, os.environ["SUITE_CLASS"])
CONFIG = json.loads(os.environ["SUITE_CONFIG"])

load_backend(BACKEND_CLASS, CONFIG)


@pytest.fixture(autouse=True)
def empty_database() -> Iterator[None]:
    if os.environ.get("SUITE_LOADS_AGAIN"):
        load_backend(BACKEND_CLASS, CONFIG)
    if BACKEND_CLASS is RedisBackend:
        for engine in list(engines):
            engine.flush(5)
        redis.Redis(port=CONFIG["port"]).flushdb()
    yield
