"""One HTTP request as a scraper sends it, and the unchanged answer."""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from typing import NamedTuple


class Reply(NamedTuple):
    """An answer, with header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


def get(port: int, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> Reply:
    """Sends a request to a port of 127.0.0.1. The timeout turns a hang into a failure."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return Reply(
            response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        )
    finally:
        connection.close()


def get_at_path(socket_path: Path, path: str) -> tuple[int, str]:
    """Sends a request to a Unix socket, and returns the status and the text of the answer."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(socket_path))
        client.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        response = http.client.HTTPResponse(client)
        response.begin()
        return response.status, response.read().decode()
