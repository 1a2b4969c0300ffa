"""An HTTP proxy in front of a target, which records the content type of each answer."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from http_client import get

#: Headers that belong to the connection between client and proxy.
_HOP_BY_HOP = ("connection", "transfer-encoding", "content-length")


class RecordingProxy:
    """Passes GET requests on to a port of 127.0.0.1, as long as the `with` statement runs."""

    def __init__(self, target: int) -> None:
        #: The content types of the answers so far.
        self.content_types: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                reply = get(target, self.path, dict(self.headers.items()))
                proxy.content_types.append(reply.headers["content-type"])
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    if name not in _HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.port = self._server.server_port

    def __enter__(self) -> RecordingProxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
