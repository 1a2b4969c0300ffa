"""uvicorn ends by the signal that stopped it, so exit handlers do not run: an application sends in its
lifespan."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from http_client import get
from programs import HANG, PRELUDE
from redis_server import Server
from shared_stores import LAZY

PROGRAM = """
    import asyncio
    from contextlib import asynccontextmanager
    from fastapi import FastAPI
    import pytheus_backend_rs
    load_backend(RedisBackend, config)
    requests_total = Counter("requests_total", "help")
    shutdowns_total = Counter("shutdowns_total", "help")
    @asynccontextmanager
    async def lifespan(app):
        yield
        shutdowns_total.inc()
        await asyncio.to_thread(pytheus_backend_rs.flush)
    app = FastAPI(lifespan=lifespan)
    @app.get("/")
    def page():
        requests_total.inc()
"""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=lambda stop: stop.name)
def test_counts_until_the_end_of_the_lifespan_arrive(
    server: Server, tmp_path: Path, stop: signal.Signals
) -> None:
    (tmp_path / "service.py").write_text(PRELUDE + textwrap.dedent(PROGRAM), encoding="utf-8")
    config = {**server.config, **LAZY}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "uvicorn", "--fd", str(listener.fileno()), "service:app"]
        uvicorn = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, "TEST_CONFIG": json.dumps(config)},
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        try:
            assert get(listener.getsockname()[1], "/").status == 200
            uvicorn.send_signal(stop)
            uvicorn.wait(HANG)
        finally:
            uvicorn.kill()
    client = server.client()
    assert (client.get("requests_total"), client.get("shutdowns_total")) == ("1", "1")
