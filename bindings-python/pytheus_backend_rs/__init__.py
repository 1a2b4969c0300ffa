"""Rust powered backends for pytheus.

    from pytheus.backends import load_backend
    from pytheus_backend_rs import RedisBackend

    load_backend(RedisBackend, {"host": "127.0.0.1", "port": 6379})

`RedisBackend` shares its values with all processes that use the same server, `SharedMemoryBackend` with all
processes that use the same file; `SingleProcessBackend` and `SingleProcessAtomicBackend` keep them in this
process. Log records go to the logger "pytheus_backend_rs".

The sub-package `pytheus` is the adapter for that client library. The modules beside it are the engine, and
know none.
"""

from pytheus_backend_rs import _exit
from pytheus_backend_rs._engine import Statistics, close, flush
from pytheus_backend_rs._engine import version as _version
from pytheus_backend_rs._errors import (
    BackendError,
    BackendTimeoutError,
    ConfigurationError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    NullPointerError,
    PanicError,
    StoreError,
    UnavailableError,
    WrongTypeError,
)
from pytheus_backend_rs._exporter import MetricsServer
from pytheus_backend_rs.pytheus.backends import (
    RedisBackend,
    SharedMemoryBackend,
    SingleProcessAtomicBackend,
    SingleProcessBackend,
)
from pytheus_backend_rs.pytheus.http import make_asgi_app, make_wsgi_app, start_http_server
from pytheus_backend_rs.pytheus.removal import clear, remove, reset
from pytheus_backend_rs.pytheus.scrape import generate_metrics

__all__ = [
    "BackendError",
    "BackendTimeoutError",
    "ConfigurationError",
    "ConflictError",
    "InvalidArgumentError",
    "MetricsServer",
    "NotFoundError",
    "NullPointerError",
    "PanicError",
    "RedisBackend",
    "SharedMemoryBackend",
    "SingleProcessAtomicBackend",
    "SingleProcessBackend",
    "Statistics",
    "StoreError",
    "UnavailableError",
    "WrongTypeError",
    "clear",
    "close",
    "flush",
    "generate_metrics",
    "make_asgi_app",
    "make_wsgi_app",
    "remove",
    "reset",
    "start_http_server",
]

__version__ = _version()

_exit.install()
