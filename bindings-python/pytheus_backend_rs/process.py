"""Metrics of each process of a service: processor time, memory, descriptors, garbage collector and Python.

from pytheus.backends import load_backend
from pytheus_backend_rs import SharedMemoryBackend
from pytheus_backend_rs.process import process_metrics

load_backend(SharedMemoryBackend)
process_metrics()
"""

from __future__ import annotations

import gc
import os
import platform
import time
from typing import Any

from pytheus_backend_rs import _engine
from pytheus_backend_rs._engine import Engine
from pytheus_backend_rs._errors import ConfigurationError
from pytheus_backend_rs._native import lib
from pytheus_backend_rs.metrics import Counter, Gauge

__all__ = ["process_metrics"]

#: How old the figures of a process that is not scraped may be when it collects garbage, in seconds.
_REFRESH_SECONDS = 5.0

#: The names of the counters of the garbage collector, their help, and the key of `gc.get_stats()`.
_COUNTERS = (
    ("python_gc_objects_collected_total", "Objects that the garbage collector has freed.", "collected"),
    ("python_gc_objects_uncollectable_total", "Garbage that could not be freed.", "uncollectable"),
    ("python_gc_collections_total", "Runs of the garbage collector.", "collections"),
)

#: What follows this process for each engine, by the identity of the engine.
_followers: dict[int, _Follower] = {}


def process_metrics(prefix: str = "") -> None:
    """Shows each process of the service in the loaded store. A scrape of any of them shows all.

    Call it once after `load_backend`: in each worker, or before the workers are forked.

    - `process_cpu_seconds_total` counts the time of all processes, those that have ended included.
    - `process_resident_memory_bytes`, `process_virtual_memory_bytes`, `process_open_fds`, `process_max_fds`
      and `process_start_time_seconds` are those of each living process, by the label `pid`. In memory there
      is one process and no such label; a Redis server has none of these.
    - `python_gc_objects_collected_total`, `python_gc_objects_uncollectable_total` and
      `python_gc_collections_total` count for all processes, by `generation`.
    - `python_info` names the Python version.

    `prefix` begins all names: `shop_process_open_fds`. The counts of the garbage collector are exact. The
    other figures are those of the moment in the process that is scraped. Another process updates its own at
    a fork, at its end, and when it collects garbage and they are five seconds old. A program without garbage
    collection can call this again to update them.
    """
    engine = _engine.loaded_engine()
    if engine is None:
        raise ConfigurationError("no backend of this package is loaded: call load_backend first")
    engine.process_metrics(prefix)
    if id(engine) not in _followers:
        _followers[id(engine)] = _Follower(engine, f"{prefix}_" if prefix else "")


class _Follower:
    """Follows the garbage collector of this process, and updates the other figures meanwhile.

    No thread does so, because a thread of Python blocks programs with green threads.
    """

    def __init__(self, engine: Engine, prefix: str) -> None:
        self._engine = engine
        self._due = time.monotonic() + _REFRESH_SECONDS
        self._pid = os.getpid()
        version = platform.python_version_tuple()
        names = ("implementation", "major", "minor", "patchlevel", "version")
        info = Gauge(f"{prefix}python_info", "The Python of the service.", names)
        info.labels(platform.python_implementation(), *version, platform.python_version()).set(1)
        self._counters = [
            (key, Counter(f"{prefix}{name}", text, ["generation"])) for name, text, key in _COUNTERS
        ]
        # PyPy has neither these figures nor callbacks.
        for generation, figures in enumerate(getattr(gc, "get_stats", list)()):
            for key, counter in self._counters:
                counter.labels(generation).inc(figures[key])
        if hasattr(gc, "callbacks"):
            gc.callbacks.append(self._collected)

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        """Counts a collection. It runs within the garbage collector, so it must not run code of the program,
        as handlers of log records are."""
        if phase != "stop":
            return
        for key, counter in self._counters:
            amount = 1 if key == "collections" else info[key]
            lib.metric_inc(counter.labels(info["generation"])._handle, float(amount))
        # A program whose forks skip Python's hooks, as those of uwsgi do, has another process id.
        if time.monotonic() >= self._due or os.getpid() != self._pid:
            self.refresh()

    def refresh(self) -> None:
        """Updates the figures of this process."""
        self._due = time.monotonic() + _REFRESH_SECONDS
        self._pid = os.getpid()
        if not self._engine.is_closed:
            self._engine.refresh_process_metrics()


def _forked() -> None:
    for follower in list(_followers.values()):
        follower.refresh()


os.register_at_fork(after_in_child=_forked)
