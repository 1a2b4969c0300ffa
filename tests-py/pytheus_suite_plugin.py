"""A pytest plugin that runs pytheus' own test-suite on one of our backends (see test_pytheus_suite.py).

The class and its configuration come by environment. pytheus' tests expect that every metric begins at zero.
With Redis each of them therefore gets an empty database, by a plain FLUSHALL as programs' own tests do it,
and with shared memory an empty file, by `reset`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
import pytheus_backend_rs
import redis
from pytheus.backends import load_backend
from pytheus_backend_rs import RedisBackend, SharedMemoryBackend

BACKEND_CLASS = getattr(pytheus_backend_rs, os.environ["SUITE_CLASS"])
CONFIG = json.loads(os.environ["SUITE_CONFIG"])

load_backend(BACKEND_CLASS, CONFIG)


@pytest.fixture(autouse=True)
def empty_store() -> Iterator[None]:
    if os.environ.get("SUITE_LOADS_AGAIN"):
        load_backend(BACKEND_CLASS, CONFIG)
    if BACKEND_CLASS is SharedMemoryBackend:
        pytheus_backend_rs.reset()
    if BACKEND_CLASS is RedisBackend:
        redis.Redis(port=CONFIG["port"]).flushall()
    yield
