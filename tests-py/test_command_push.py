"""`push`: the metrics arrive at a gateway as Pushgateway takes them, which a server of the test stands for."""

from __future__ import annotations

import base64
import contextlib
import http.server
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certificates import make_authority, make_certificate
from programs import HANG
from redis_server import free_port
from side_car_command import METRICS, assert_one_sentence, counting, file_store, side_car


class Gateway(http.server.BaseHTTPRequestHandler):
    """Notes each request, and answers with the status of the server."""

    server: Any

    def do_PUT(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        self.server.requests.append((self.path, dict(self.headers.items()), body.decode()))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"text format parsing error\nmore\n")

    def _chunks(self) -> bytes:
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def gateway(status: int = 200, tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[Any]]]:
    """Yields the port of a gateway, and the requests that it gets."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    server.status, server.requests = status, []
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], server.requests
    finally:
        server.shutdown()
        server.server_close()


def test_the_metrics_arrive_under_the_labels(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    labels = ["--job", "my backup", "--label", "instance=web-1", "--label", "path=/srv"]
    with counting(store), gateway() as (port, requests):
        done = side_car("push", "--store", store.url, "--gateway", f"http://127.0.0.1:{port}", *labels)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    ((path, headers, body),) = requests
    assert path == "/metrics/job/my%20backup/instance/web-1/path@base64/L3Nydg"
    headers = {name.lower(): value for name, value in headers.items()}
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "authorization" not in headers
    assert body.splitlines() == METRICS
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=body, capture_output=True, text=True, timeout=HANG
    )
    assert "error while linting" not in checked.stderr and "text format" not in checked.stderr


def test_a_password_comes_from_the_environment_and_goes_by_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = file_store(tmp_path / "metrics")
    make_authority(tmp_path)
    make_certificate(tmp_path, "server")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    push = ["push", "--store", store.url, "--job", "backup"]
    with counting(store), gateway(tls=tls) as (port, requests):
        monkeypatch.setenv("PYTHEUS_BACKEND_RS_GATEWAY", f"https://ann:s3%3Acret@127.0.0.1:{port}")
        refused = side_car(*push)
        done = side_car(*push, "--ca-certs", str(tmp_path / "ca.crt"))
    assert_one_sentence(
        refused, 1, f"cannot push to https://127.0.0.1:{port}/metrics/job/backup: ", "certificate"
    )
    assert (done.returncode, done.stderr) == (0, "")
    ((_, headers, body),) = requests
    authorization = "Basic " + base64.b64encode(b"ann:s3:cret").decode()
    assert authorization in headers.values() and body.splitlines() == METRICS
    assert "cret" not in refused.stderr


def test_a_gateway_that_does_not_take_the_metrics_is_one_sentence(tmp_path: Path) -> None:
    store = file_store(tmp_path / "metrics")
    nowhere = f"http://127.0.0.1:{free_port()}"
    with counting(store), gateway(status=400) as (port, _):
        url = f"http://127.0.0.1:{port}"
        done = side_car("push", "--store", store.url, "--job", "backup", "--gateway", url)
        assert_one_sentence(
            done, 1, f"cannot push to {url}/metrics/job/backup: it answers 400", "parsing error"
        )
        assert "more" not in done.stderr
        done = side_car("push", "--store", store.url, "--job", "backup", "--gateway", nowhere)
        assert_one_sentence(done, 1, f"cannot push to {nowhere}/metrics/job/backup: ")
    assert "PYTHEUS_BACKEND_RS_GATEWAY" not in os.environ
    for arguments, reason in (
        (["--job", "backup"], "no gateway was given"),
        (["--job", "backup", "--gateway", "127.0.0.1:9091"], "the gateway is no URL"),
        (["--job", "backup", "--gateway", url, "--label", "job=x"], "--label"),
        (["--gateway", url], "--job"),
    ):
        assert_one_sentence(side_car("push", "--store", store.url, *arguments), 2, reason)
