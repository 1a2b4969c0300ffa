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
from urllib.parse import parse_qs, urlsplit

from pytheus_backend_rs import _engine
from pytheus_backend_rs._engine import Definition, Engine, Family
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

#: What the engine declares, as src/backend/process_metrics.rs has it: the names, and their help.
_CPU = ("process_cpu_seconds_total", "User and system time that the processes have used.")
_GAUGES = (
    ("process_virtual_memory_bytes", "Address space that the process has in use."),
    ("process_resident_memory_bytes", "Memory that the process has in use."),
    ("process_start_time_seconds", "When the process started, in seconds since 1970."),
    ("process_open_fds", "Descriptors that the process has open."),
    ("process_max_fds", "Descriptors that the process may have open."),
)

#: What follows this process, by the store and the prefix.
_followers: dict[tuple[object, str], Follower] = {}


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

    `prefix` begins all names: `shop_process_open_fds`. A backend has one prefix: another one is a
    `ConfigurationError`. The counts of the garbage collector are exact. The other figures are those of the
    moment in the process that is scraped. Another process updates its own at a fork, at its end, and when it
    collects garbage and they are five seconds old. A program without garbage collection can call this again
    to update them.
    """
    engine = _engine.loaded_engine()
    if engine is None:
        raise ConfigurationError("no backend of this package is loaded: call load_backend first")
    follow(engine, prefix)


def follow(engine: Engine, prefix: str) -> Follower:
    """Shows this process in the store of an engine, or updates what is shown. Another engine may have the
    same store open and show it already."""
    for (_, other), known in list(_followers.items()):
        if other != prefix and known.engine is engine:
            raise ConfigurationError(
                f"this backend shows the processes with the prefix {other!r} already: expected the same one"
            )
    key = _place(engine), prefix
    follower = _followers.get(key)
    if follower is None or follower.engine.is_closed:
        if follower is not None:
            follower.stop()
        engine.process_metrics(prefix)
        follower = _followers[key] = Follower(engine, f"{prefix}_" if prefix else "")
    else:
        follower.refresh()
    return follower


def unfollow(engine: Engine) -> None:
    """Ends what `follow` has begun with this engine. The store goes on showing what it has."""
    for key, follower in list(_followers.items()):
        if follower.engine is engine:
            del _followers[key]
            follower.stop()


def show_again(engine: Engine) -> None:
    """Shows this process again, after the engine was cleared."""
    for follower in list(_followers.values()):
        if follower.engine is engine:
            follower.show()


def _place(engine: Engine) -> object:
    """Returns the same for engines that have one store open."""
    url = urlsplit(engine.url)
    options = parse_qs(url.query)
    # The other options do not say which store it is.
    parts = tuple(options.get(name, [""])[-1] for name in ("db", "key_prefix"))
    return id(engine) if url.scheme == "memory" else (url._replace(query=""), parts)


class Follower:
    """Follows the garbage collector of this process, and updates the other figures meanwhile.

    No thread does so, because a thread of Python blocks programs with green threads.
    """

    def __init__(self, engine: Engine, prefix: str) -> None:
        self.engine = engine
        self._prefix = prefix
        self._due = time.monotonic() + _REFRESH_SECONDS
        self._pid = os.getpid()
        version = platform.python_version_tuple()
        names = ("implementation", "major", "minor", "patchlevel", "version")
        info = Gauge.of_engine(engine, f"{prefix}python_info", "The Python of the service.", names)
        self._info = info
        self._shown_info = info.labels(platform.python_implementation(), *version, platform.python_version())
        self._shown_info.set(1)
        self._counters = [
            (key, Counter.of_engine(engine, f"{prefix}{name}", text, ["generation"]))
            for name, text, key in _COUNTERS
        ]
        # PyPy has neither these figures nor callbacks.
        for generation, figures in enumerate(getattr(gc, "get_stats", list)()):
            for key, counter in self._counters:
                counter.labels(generation).inc(figures[key])
        if hasattr(gc, "callbacks"):
            gc.callbacks.append(self._collected)

    def families(self) -> dict[str, list[Family]]:
        """Returns what is shown: "process", "gc" and "platform". Call it in shared memory, where the gauges
        have a value of each process."""

        def declare(name: str, text: str, type_: str, mode: str | None) -> Family:
            name = self._prefix + name
            never = float("inf")
            return self.engine.declare(
                Definition(name, text, type_, (), (), gauge_mode=mode, series_ttl=never)
            )

        gauges = [declare(name, text, "gauge", "liveall") for name, text in _GAUGES]
        return {
            "process": [*gauges[:3], declare(*_CPU, "counter", None), *gauges[3:]],
            "gc": [counter._family for _, counter in self._counters],
            "platform": [self._info._family],
        }

    def stop(self) -> None:
        """Follows the garbage collector no more."""
        if hasattr(gc, "callbacks") and self._collected in gc.callbacks:
            gc.callbacks.remove(self._collected)

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

    def show(self) -> None:
        """Shows what a cleared store has no more."""
        self._shown_info.set(1)
        self.refresh()

    def refresh(self) -> None:
        """Updates the figures of this process."""
        self._due = time.monotonic() + _REFRESH_SECONDS
        self._pid = os.getpid()
        if not self.engine.is_closed:
            self.engine.refresh_process_metrics()


def _forked() -> None:
    for follower in list(_followers.values()):
        follower.refresh()


os.register_at_fork(after_in_child=_forked)
