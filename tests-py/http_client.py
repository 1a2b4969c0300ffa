"""One HTTP request as a scraper sends it, and the unchanged answer."""

from __future__ import annotations

import http.client
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
