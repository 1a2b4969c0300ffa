"""Serves a pytheus registry by HTTP: as a WSGI or ASGI application, or by the engine's exporter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytheus_backend_rs import _logging
from pytheus_backend_rs._apps import AsgiApp, WsgiApp, asgi_app, wsgi_app
from pytheus_backend_rs._errors import ConfigurationError
from pytheus_backend_rs._exporter import MetricsServer
from pytheus_backend_rs.pytheus import internals, scrape
from pytheus_backend_rs.pytheus.backends import loaded_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytheus.registry import Registry


def make_wsgi_app(
    registry: Registry | None = None, *, include_others: bool | None = None, created_samples: bool = False
) -> WsgiApp:
    """Returns a WSGI application that answers every GET with the metrics of a registry (by default
    `REGISTRY`).

    The scraper chooses the format (`Accept`), the compression (`Accept-Encoding: gzip`) and the metrics
    (`?name[]=http_requests_total&name[]=…`; by default all). If the store cannot be read, the answer is 503
    with the reason. `include_others`: see `generate_metrics`.

    `created_samples` lets OpenMetrics show when each counter, summary and histogram began, as samples
    `_created`. Prometheus stores these as series of their own.
    """
    return wsgi_app(
        lambda accept, query: scrape.render(registry, accept, query, include_others, created_samples)
    )


def make_asgi_app(
    registry: Registry | None = None, *, include_others: bool | None = None, created_samples: bool = False
) -> AsgiApp:
    """Returns an ASGI application that answers every GET with the metrics of a registry (by default
    `REGISTRY`).

    Mount it: `app.mount("/metrics", make_asgi_app())`. It never blocks the event loop: the engine reads and
    renders in a thread of its own, without the GIL. Otherwise as `make_wsgi_app`.
    """
    return asgi_app(
        lambda accept, query: scrape.render(registry, accept, query, include_others, created_samples)
    )


def start_http_server(
    port: int = 0,
    addr: str = "127.0.0.1",
    registry: Registry | None = None,
    allowed_hosts: Sequence[str] = (),
    created_samples: bool = False,
) -> MetricsServer:
    """Serves the metrics of the loaded backend's store on `/metrics`, in a thread that never needs the GIL.

    With `port` 0 the system chooses a free one: see the result's `port`. `addr` is an IP address; the default
    is reachable from this machine only. The exporter shows all families of the store, those of other
    processes included, with the prefix of `registry` (by default `REGISTRY`). It cannot show custom
    collectors, which is logged. `allowed_hosts` are the host names by which clients may ask, without
    ports (others get 421); without them every name will do. `created_samples`: see
    `make_wsgi_app`.

    Raises `ConfigurationError` if no backend of this package is loaded, or for a wrong address or port;
    `UnavailableError` if the port is taken.
    """
    engine = loaded_engine()
    if engine is None:
        raise ConfigurationError(
            "start_http_server serves what a backend of this package has: call load_backend first"
        )
    registry = internals.default_registry() if registry is None else registry
    collectors = internals.collectors_of(registry)
    custom = [type(one).__name__ for one in collectors if internals.is_custom_collector(one)]
    if custom:
        _logging.logger.warning(
            "the HTTP exporter does not show custom collectors (%s): make_wsgi_app and make_asgi_app do",
            ", ".join(custom),
        )
    try:
        return MetricsServer(engine, port, addr, registry.prefix, allowed_hosts, created_samples)
    finally:
        _logging.deliver()
