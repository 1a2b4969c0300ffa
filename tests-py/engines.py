"""Removes the engines that a test leaves behind in this process.

A class holds on to the engine that was loaded last, and metrics to theirs; an engine that nobody uses
closes itself, after it has sent what it has.
"""

from __future__ import annotations

import contextlib
import gc

from pytheus import backends
from pytheus.registry import REGISTRY, CollectorRegistry
from pytheus_backend_rs import BackendError, RedisBackend, SharedMemoryBackend
from pytheus_backend_rs._engine import open_engines


def forget_engines() -> None:
    """Back to pytheus' default backend, with an empty registry."""
    REGISTRY.set_registry(CollectorRegistry())
    backends.load_backend()
    for engine in open_engines():
        with contextlib.suppress(BackendError):
            engine.flush(5)
    for backend_class in (RedisBackend, SharedMemoryBackend):
        backend_class._loaded = None
    gc.collect()
