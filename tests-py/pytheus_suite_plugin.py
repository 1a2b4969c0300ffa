"""A pytest plugin that runs pytheus' own test-suite on one of our backends (see test_pytheus_suite.py).

The class and its configuration come by environment. pytheus' tests expect that every metric begins at
zero, so with Redis each of them gets a database without values, once what earlier tests have pending is there, and
with shared memory a file of its own: names that another test has given to another type are free in it.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
import pytheus_backend_rs
import redis
from pytheus.backends import load_backend
from pytheus_backend_rs import RedisBackend, SharedMemoryBackend
from pytheus_backend_rs._engine import open_engines

BACKEND_CLASS = getattr(pytheus_backend_rs, os.environ["SUITE_CLASS"])
CONFIG = json.loads(os.environ["SUITE_CONFIG"])


def configs() -> Iterator[dict[str, Any]]:
    """The configuration of one load after the other."""
    for number in itertools.count():
        own_file = {"path": f"{CONFIG['path']}-{number}"} if BACKEND_CLASS is SharedMemoryBackend else {}
        yield {**CONFIG, **own_file}


CONFIGS = configs()
load_backend(BACKEND_CLASS, next(CONFIGS))


@pytest.fixture(autouse=True)
def empty_store() -> Iterator[None]:
    if os.environ.get("SUITE_LOADS_AGAIN"):
        load_backend(BACKEND_CLASS, next(CONFIGS))
    if BACKEND_CLASS is RedisBackend:
        for engine in open_engines():
            engine.flush(5)
        # Not a flush: metrics of the last test that still live would be restored after such a loss.
        client = redis.Redis(port=CONFIG["port"])
        for key in client.keys():
            if not key.endswith(b":writers"):
                client.delete(key)
    yield
