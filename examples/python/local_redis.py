"""Runs a Redis server for the length of a `with` block, on a free port of loopback.

The demo and the benchmark use it. It keeps nothing on disk.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def local_redis(*more: str) -> Iterator[int]:
    """Starts the server, with these options besides, and yields its port once it answers."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("redis-server is needed: install the package redis-server.")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        process = subprocess.Popen([program, *options, *more], stdout=subprocess.DEVNULL)
        try:
            wait_until_it_listens(process, port)
            yield port
        finally:
            process.terminate()
            process.wait()


def wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise SystemExit(f"redis-server ended with {process.returncode}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
