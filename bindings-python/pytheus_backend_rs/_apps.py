"""WSGI and ASGI applications that answer scrapes. An adapter for a client library says what they show."""

from __future__ import annotations

import functools
import gzip
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any

from pytheus_backend_rs._engine import Rendered, accepts_gzip
from pytheus_backend_rs._errors import BackendError
from pytheus_backend_rs._logging import logger

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_Headers = list[tuple[str, str]]
#: Status, headers and body.
_Answer = tuple[int, _Headers, bytes]

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
AsgiApp = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

#: Renders the metrics for a scraper that sends this `Accept` header and this query.
Render = Callable[["str | None", bytes], Rendered]

_REASONS = {200: "200 OK", 405: "405 Method Not Allowed", 503: "503 Service Unavailable"}
_METHODS = ("GET", "HEAD")

#: The fastest level. The text of a scrape shrinks to a tenth or less at any level.
_GZIP_LEVEL = 1

#: How many scrapes of the ASGI application run at once.
_THREADS = 2


def wsgi_app(render: Render) -> WsgiApp:
    """Returns a WSGI application that answers every GET and HEAD with what `render` returns."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method = environ.get("REQUEST_METHOD", "GET")
        # WSGI has the bytes of a request as characters of Latin-1.
        query = environ.get("QUERY_STRING", "").encode("latin-1", "replace")
        status, headers, body = _respond(
            render, method, query, environ.get("HTTP_ACCEPT"), environ.get("HTTP_ACCEPT_ENCODING")
        )
        start_response(_REASONS[status], headers)
        return [body]

    return app


def asgi_app(render: Render) -> AsgiApp:
    """Returns an ASGI application that answers every GET and HEAD with what `render` returns, called in a
    thread."""

    return _AsgiApp(render)


class _AsgiApp:
    """The ASGI application. It is an object and no function: a Starlette or FastAPI route calls an object as
    an application, and would take a function for a handler of requests."""

    def __init__(self, render: Render) -> None:
        self._render = render

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"this application answers HTTP requests, not {scope['type']!r}")
        accept, accept_encoding = (_header(scope, name) for name in (b"accept", b"accept-encoding"))
        method, query = scope["method"], scope.get("query_string", b"")
        respond = functools.partial(_respond, self._render, method, query, accept, accept_encoding)
        status, headers, body = await _in_thread(respond)
        encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        await send({"type": "http.response.body", "body": body})


async def _in_thread(respond: Callable[[], _Answer]) -> _Answer:
    """Calls `respond` in a thread of the library that runs this task: trio or asyncio."""
    trio = sys.modules.get("trio")
    if trio is not None and _is_trio_task(trio):
        answer: _Answer = await trio.to_thread.run_sync(respond)
        return answer
    # Imported here: it would be most of the time that importing this package takes.
    import asyncio

    return await asyncio.get_running_loop().run_in_executor(_threads(), respond)


def _is_trio_task(trio: Any) -> bool:
    """Tells whether trio runs the current task. It may run as the guest of an asyncio loop, so asyncio cannot
    tell."""
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


def _respond(
    render: Render, method: str, query: bytes, accept: str | None, accept_encoding: str | None
) -> _Answer:
    """Returns status, headers and body for one request."""
    if method not in _METHODS:
        body = f"{method} is not allowed: expected GET or HEAD\n".encode()
        return 405, [*_text_headers(body), ("Allow", ", ".join(_METHODS))], body
    try:
        content_type, body = render(accept, query)
    except BackendError as error:
        logger.error("a scrape failed: %s", error)
        body = f"{error}\n".encode()
        status, headers = 503, _text_headers(body)
    else:
        encoding = []
        if accepts_gzip(accept_encoding):
            body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
            encoding = [("Content-Encoding", "gzip")]
        status, headers = 200, [("Content-Type", content_type), ("Content-Length", str(len(body))), *encoding]
    return status, [*headers, ("Vary", "Accept, Accept-Encoding")], b"" if method == "HEAD" else body


def _text_headers(body: bytes) -> _Headers:
    return [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]


async def _live(receive: _Receive, send: _Send) -> None:
    """Answers the lifespan protocol. There is nothing to start or stop."""
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
    """Returns the threads that wait for the engine. Slow work of the application cannot keep them busy."""
    from concurrent.futures import ThreadPoolExecutor

    global _executor
    if _executor is None:
        # Only the thread of the event loop gets here; a second event loop's executor is used once and then
        # dropped.
        _executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="pytheus_backend_rs-scrape")
    return _executor


def _forget_threads() -> None:
    """In a forked child: the parent's threads do not exist here."""
    global _executor
    _executor = None


os.register_at_fork(after_in_child=_forget_threads)
