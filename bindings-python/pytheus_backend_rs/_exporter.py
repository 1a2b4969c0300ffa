"""The engine's HTTP exporter as a Python object.

It runs in threads of the engine that never need the GIL, and serves what the store has. It cannot show
samples that Python computes in a scrape: the WSGI and ASGI applications do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytheus_backend_rs._engine import Engine
from pytheus_backend_rs._errors import ConfigurationError, ErrorSlot
from pytheus_backend_rs._native import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType


def running_servers() -> list[MetricsServer]:
    """Returns the exporters of this process that run."""
    return list(_serving.copy())


#: The servers that run. They keep serving when the program drops the object.
_serving: set[MetricsServer] = set()


class MetricsServer:
    """A running exporter. It ends with `close`, as a context manager, or with the process."""

    def __init__(
        self,
        engine: Engine,
        port: int,
        addr: str,
        name_prefix: str | None,
        allowed_hosts: Sequence[str],
        created_samples: bool,
    ) -> None:
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
            raise ConfigurationError(f"port is {port!r}: expected a number from 0 to 65535")
        address = ffi.new("char[]", addr.encode())
        prefix = ffi.NULL if name_prefix is None else ffi.new("char[]", name_prefix.encode())
        options = ffi.new("MetricsServeOptions *")
        options.size = ffi.sizeof("MetricsServeOptions")
        options.address, options.port, options.name_prefix = address, port, prefix
        hosts = ffi.new("char[]", ",".join(allowed_hosts).encode())
        options.allowed_hosts = hosts
        shown, hidden = lib.METRICS_CREATED_SAMPLES_SHOWN, lib.METRICS_CREATED_SAMPLES_HIDDEN
        options.created_samples = shown if created_samples else hidden
        server = ffi.new("MetricsServer **")
        error = ErrorSlot()
        error.check(lib.released_metrics_serve(engine._handle, options, server, error.pointer))
        self._handle: Any = ffi.gc(server[0], lib.released_metrics_server_free)
        self.engine = engine
        self.addr = addr
        #: The port; if 0 was asked for, the free one that the system chose.
        self.port: int = lib.metrics_server_port(self._handle)
        _serving.add(self)

    @property
    def url(self) -> str:
        """The address of the metrics, for Prometheus."""
        return f"http://{f'[{self.addr}]' if ':' in self.addr else self.addr}:{self.port}/metrics"

    def close(self) -> None:
        """Stops serving, and frees the port. Closing twice does nothing."""
        try:
            _serving.remove(self)
        except KeyError:
            return
        ffi.release(self._handle)

    def __enter__(self) -> MetricsServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MetricsServer {self.url}>"
