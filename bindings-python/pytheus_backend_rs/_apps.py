"""WSGI and ASGI applications that answer scrapes with the metrics of a pytheus registry."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pytheus_backend_rs import _exposition

if TYPE_CHECKING:
    from pytheus.registry import Registry

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_REASONS = {200: "200 OK", 405: "405 Method Not Allowed", 503: "503 Service Unavailable"}
_METHODS = ("GET", "HEAD")

#: As many scrapes as go on at once.
_THREADS = 2


def make_wsgi_app(
    registry: Registry | None = None, *, include_others: bool | None = None
) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    """A WSGI application that answers every GET with the metrics of a registry (by default pytheus' `REGISTRY`).

    The scraper chooses the format (`Accept`) and compression (`Accept-Encoding: gzip`). A store that cannot be
    read is a 503 with the reason. `include_others`: see `generate_metrics`.
    """

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method = environ.get("REQUEST_METHOD", "GET")
        status, headers, body = _respond(
            method, environ.get("HTTP_ACCEPT"), environ.get("HTTP_ACCEPT_ENCODING"), registry, include_others
        )
        start_response(_REASONS[status], headers)
        return [body]

    return app


def make_asgi_app(
    registry: Registry | None = None, *, include_others: bool | None = None
) -> Callable[[_Scope, _Receive, _Send], Awaitable[None]]:
    """An ASGI application that answers every GET with the metrics of a registry (by default pytheus' `REGISTRY`).

    Mount it: `app.mount("/metrics", make_asgi_app())`. It never blocks the event loop: the engine reads and
    renders in a thread of its own, without the GIL. Otherwise as `make_wsgi_app`.
    """

    async def app(scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"this application answers HTTP requests, not {scope['type']!r}")
        accept, accept_encoding = (_header(scope, name) for name in (b"accept", b"accept-encoding"))
        loop = asyncio.get_running_loop()
        status, headers, body = await loop.run_in_executor(
            _threads(), _respond, scope["method"], accept, accept_encoding, registry, include_others
        )
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})

    return app


def _respond(
    method: str, accept: str | None, accept_encoding: str | None, registry: Registry | None, include_others: bool | None
) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body for one request."""
    if method not in _METHODS:
        body = f"{method} is not allowed: expected GET or HEAD\n".encode()
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Allow", ", ".join(_METHODS))]
        return 405, [*headers, ("Content-Length", str(len(body)))], body
    answer = _exposition.answer(registry, accept, accept_encoding, include_others)
    headers = [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.body)))]
    if answer.is_gzip:
        headers.append(("Content-Encoding", "gzip"))
    headers.append(("Vary", "Accept, Accept-Encoding"))
    return answer.status, headers, b"" if method == "HEAD" else answer.body


async def _live(receive: _Receive, send: _Send) -> None:
    """There is nothing to start or stop."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _header(scope: _Scope, name: bytes) -> str | None:
    values = [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]
    return ", ".join(values) if values else None


_executor: ThreadPoolExecutor | None = None


def _threads() -> ThreadPoolExecutor:
    """The threads that wait for the engine, and that no slow work of the application can keep busy."""
    global _executor
    if _executor is None:
        _executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="pytheus_backend_rs-scrape")
    return _executor


def _forget_threads() -> None:
    """In a forked child: the parent's threads do not exist here."""
    global _executor
    _executor = None


os.register_at_fork(after_in_child=_forget_threads)
