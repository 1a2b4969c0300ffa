"""The engine's HTTP exporter, started from Python.

It runs in a thread of the engine that never needs the GIL, and serves what the store has. What Python makes
up in a scrape (custom collectors) it cannot show: `make_wsgi_app` and `make_asgi_app` do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytheus_backend_rs import _logging
from pytheus_backend_rs._backends import loaded_engine
from pytheus_backend_rs._engine import Engine
from pytheus_backend_rs._errors import ConfigurationError, ErrorSlot
from pytheus_backend_rs._native import ffi, lib

if TYPE_CHECKING:
    from types import TracebackType

    from pytheus.registry import Registry

#: Those that serve: they go on when nobody holds the object.
_serving: set[MetricsServer] = set()


class MetricsServer:
    """An exporter that serves. It ends with `close`, as a context manager, or with the process."""

    def __init__(self, engine: Engine, port: int, addr: str, name_prefix: str | None) -> None:
        address = ffi.new("char[]", addr.encode())
        prefix = ffi.NULL if name_prefix is None else ffi.new("char[]", name_prefix.encode())
        options = ffi.new("MetricsServeOptions *")
        options.size = ffi.sizeof("MetricsServeOptions")
        options.address, options.port, options.name_prefix = address, port, prefix
        server = ffi.new("MetricsServer **")
        error = ErrorSlot()
        error.check(lib.released_metrics_serve(engine._handle, options, server, error.pointer))
        self._handle: Any = ffi.gc(server[0], lib.released_metrics_server_free)
        self.addr = addr
        #: The port; if 0 was asked for, the one that was free.
        self.port: int = lib.metrics_server_port(self._handle)
        _serving.add(self)

    @property
    def url(self) -> str:
        """Where Prometheus finds the metrics."""
        return f"http://{f'[{self.addr}]' if ':' in self.addr else self.addr}:{self.port}/metrics"

    def close(self) -> None:
        """Stops serving, and frees the port. Closing twice does nothing."""
        if self in _serving:
            _serving.discard(self)
            ffi.release(self._handle)

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MetricsServer {self.url}>"


def start_http_server(port: int = 0, addr: str = "127.0.0.1", registry: Registry | None = None) -> MetricsServer:
    """Serves the metrics of the loaded backend's store on `/metrics`, by a thread that never needs the GIL.

    `port` 0 takes a free one: see the result's `port`. `addr` is an IP address; the default is reached from this
    machine only. The families have the prefix of `registry` (by default pytheus' `REGISTRY`), and are all that the
    store has, also those of other processes; its custom collectors are not shown, which is logged.

    Raises `ConfigurationError` if no backend of this package is loaded, or for an address or port that is not one;
    `UnavailableError` if the port is taken.
    """
    from pytheus.registry import REGISTRY

    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise ConfigurationError(f"port is {port!r}: expected a number from 0 to 65535")
    engine = loaded_engine()
    if engine is None:
        raise ConfigurationError("start_http_server serves what a backend of this package has: call load_backend first")
    registry = REGISTRY if registry is None else registry
    custom = [type(one).__name__ for one in registry.collect() if not hasattr(one, "description")]
    if custom:
        _logging.logger.warning(
            "the HTTP exporter does not show custom collectors (%s): make_wsgi_app and make_asgi_app do", ", ".join(custom)
        )
    try:
        return MetricsServer(engine, port, addr, registry.prefix)
    finally:
        _logging.drain()
