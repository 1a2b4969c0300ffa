"""Lists the peers: this project's backends, and what a Python program would use instead.

Each peer runs in processes of its own (worker.py). Its module provides the `Client`: the counters, gauges and
histograms of the peer's library, and its ways to scrape them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

_REQUIREMENTS = (Path(__file__).parent.parent / "requirements.txt").read_text().splitlines()
#: The versions of the peers' packages, by name.
VERSIONS = dict(line.split("==") for line in _REQUIREMENTS if "==" in line)

ATOMIC = "ours, SingleProcessAtomicBackend"
SHARED = "ours, SharedMemoryBackend"
REDIS = "ours, RedisBackend"
PYTHEUS = f"pytheus {VERSIONS['pytheus']}, SingleProcessBackend"
PYTHEUS_REDIS = f"pytheus {VERSIONS['pytheus']}, MultiProcessRedisBackend"
# pytheus-backend-rs 0.0.9, which this project replaces.
V009_ATOMIC = "0.0.9, SingleProcessAtomicBackend"
V009_MUTEX = "0.0.9, SingleProcessBackend"
V009_REDIS = "0.0.9, RedisBackend"
CLIENT = f"prometheus_client {VERSIONS['prometheus_client']}"
CLIENT_FILES = f"{CLIENT}, multi-process"
# prometheus_client on this engine.
CLIENT_HERE = "ours, prometheus_client in memory"
CLIENT_HERE_SHARED = "ours, prometheus_client in shared memory"
EMPTY_PYTHON = "floor: an empty Python method"
EMPTY_C = "floor: a C function that does nothing"


@dataclass(frozen=True)
class Peer:
    name: str
    #: The module in this folder, and the arguments of its `Client`.
    module: str
    options: dict = field(default_factory=dict)
    #: The packages that it needs, as in requirements.txt; empty for the environment of this project's
    #: package.
    packages: tuple = ()
    #: The import statement that its users write.
    imports: str = "pass"
    #: What the process gets to keep values in: nothing, "redis", "file" or "folder".
    store: str = "memory"
    #: The backend of this project that it is compared with.
    against: str | None = None
    #: Whether each call is a round trip to a server; such a peer gets fewer series.
    is_slow: bool = False
    #: Whether its calls pile up in a queue that fills much faster than it empties; such a peer makes fewer
    #: calls.
    is_queueing: bool = False
    #: Whether it is no metrics library but the least that a call can cost.
    is_floor: bool = False

    @property
    def is_ours(self) -> bool:
        return self.against is None and not self.is_floor


def _ours(name: str, store: str = "memory") -> Peer:
    options = {"module": "pytheus_backend_rs", "backend": name.rpartition(" ")[2]}
    return Peer(name, "pytheus_api", options, (), "import pytheus.metrics, pytheus_backend_rs", store)


def _client_here(name: str, store: str = "memory") -> Peer:
    imports = "import prometheus_client, pytheus_backend_rs.prometheus"
    return Peer(name, "client_api", {"is_on_engine": True}, (), imports, store)


def _version_009(name: str, against: str, store: str = "memory") -> Peer:
    options = {"module": "pytheus_backend_rs", "backend": name.rpartition(" ")[2]}
    imports = "import pytheus.metrics, pytheus_backend_rs"
    packages = ("pytheus", "pytheus-backend-rs")
    return Peer(name, "pytheus_api", options, packages, imports, store, against, is_queueing=store == "redis")


PEERS = [
    _ours(ATOMIC),
    _ours(SHARED, "file"),
    _ours(REDIS, "redis"),
    Peer(
        PYTHEUS,
        "pytheus_api",
        {"module": "pytheus.backends.base", "backend": "SingleProcessBackend"},
        ("pytheus",),
        "import pytheus.metrics",
        against=ATOMIC,
    ),
    Peer(
        PYTHEUS_REDIS,
        "pytheus_api",
        {"module": "pytheus.backends.redis", "backend": "MultiProcessRedisBackend"},
        ("pytheus", "redis"),
        "import pytheus.metrics, pytheus.backends.redis",
        store="redis",
        against=REDIS,
        is_slow=True,
    ),
    _version_009(V009_MUTEX, ATOMIC),
    _version_009(V009_ATOMIC, ATOMIC),
    _version_009(V009_REDIS, REDIS, "redis"),
    Peer(CLIENT, "client_api", {}, ("prometheus_client",), "import prometheus_client", against=ATOMIC),
    Peer(
        CLIENT_FILES,
        "client_api",
        {},
        ("prometheus_client",),
        "import prometheus_client, prometheus_client.multiprocess",
        store="folder",
        against=SHARED,
    ),
    _client_here(CLIENT_HERE),
    _client_here(CLIENT_HERE_SHARED, "file"),
    Peer(EMPTY_PYTHON, "empty", {"kind": "python"}, is_floor=True),
    Peer(EMPTY_C, "empty", {"kind": "c"}, is_floor=True),
]
