"""The WSGI and ASGI applications, as servers and frameworks call them.

The ASGI application runs in real servers: in uvicorn, alone and in FastAPI, Starlette, Litestar and Django;
and in hypercorn, with asyncio and with trio.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.validate import validator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families
from pytheus import backends
from pytheus.metrics import Counter, CustomCollector, Gauge, Histogram, Summary
from pytheus.registry import REGISTRY
from pytheus_backend_rs import (
    RedisBackend,
    SharedMemoryBackend,
    make_asgi_app,
    make_wsgi_app,
    start_http_server,
)
from pytheus_backend_rs._native import ffi, lib

from http_client import get
from programs import HANG, PRELUDE, run_program, running
from protobuf_families import PROTOBUF, decode, parsed_samples, samples
from redis_server import Server
from test_formats import Store

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


class QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def wsgi_port(backend: Any) -> Iterator[int]:
    """A WSGI server that checks that the application keeps to the protocol."""
    with make_server("127.0.0.1", 0, validator(make_wsgi_app()), handler_class=QuietHandler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_wsgi_answers_with_the_metrics(wsgi_port: int) -> None:
    Counter("requests_total", "").inc(2)
    reply = get(wsgi_port, "/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert reply.text.endswith("\nrequests_total 2\n")


def test_wsgi_negotiates_format_and_compression(wsgi_port: int) -> None:
    Counter("requests_total", "").inc(2)
    reply = get(wsgi_port, "/metrics", {"Accept": OPEN_METRICS, "Accept-Encoding": "gzip"})
    assert reply.headers["content-type"].startswith(OPEN_METRICS)
    assert reply.headers["content-encoding"] == "gzip"
    assert gzip.decompress(reply.body).decode().endswith("# EOF\n")
    refused = get(wsgi_port, "/metrics", {"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers


def test_wsgi_sends_protobuf_with_the_values_of_the_text(wsgi_port: int) -> None:
    requests = Counter("requests_total", "Größe.", required_labels=["path"])
    # Lengths and counts of all sizes: those above 127 are no ASCII.
    requests.labels(path="/" + "ü" * 200).inc(2)
    Gauge("level", "").set(-0.5)
    sizes = Summary("size_bytes", "")
    seconds = Histogram("seconds", "")
    for index in range(300):
        sizes.observe(index)
        seconds.observe(index / 20)
    reply = get(wsgi_port, "/metrics", {"Accept": f"{PROTOBUF}, */*;q=0.1", "Accept-Encoding": "gzip"})
    assert reply.headers["content-type"] == PROTOBUF
    families = decode(gzip.decompress(reply.body))
    assert families[0].help == "Größe."
    read = samples(families)
    assert read == parsed_samples(text_string_to_metric_families(get(wsgi_port, "/metrics").text))
    assert read["size_bytes_count", frozenset()] == 300


def test_created_samples_are_shown_if_the_application_is_told_to(tmp_path: Path) -> None:
    backends.load_backend(SharedMemoryBackend, {"path": str(tmp_path / "metrics")})
    Counter("requests_total", "").inc(2)

    def scraped(app: Any) -> str:
        environ = {"REQUEST_METHOD": "GET", "HTTP_ACCEPT": OPEN_METRICS}
        return b"".join(app(environ, lambda *_: None)).decode()

    assert "requests_created" not in scraped(make_wsgi_app())
    text = scraped(make_wsgi_app(created_samples=True))
    samples = {one.name: one.value for family in parse_open_metrics(text) for one in family.samples}
    assert samples["requests_total"] == 2
    assert samples["requests_created"] == pytest.approx(time.time(), abs=600)
    with start_http_server(created_samples=True) as server:
        assert "\nrequests_created " in get(server.port, "/metrics", {"Accept": OPEN_METRICS}).text
        assert "_created" not in get(server.port, "/metrics").text


def test_wsgi_head_has_no_body_and_other_methods_are_refused(wsgi_port: int) -> None:
    head, whole = get(wsgi_port, "/metrics", method="HEAD"), get(wsgi_port, "/metrics")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.body))
    refused = get(wsgi_port, "/metrics", method="POST")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")


def test_a_store_that_cannot_be_read_is_a_503_with_the_reason(own_server: Server) -> None:
    backends.load_backend(RedisBackend, own_server.config)
    Counter("requests_total", "").inc()
    own_server.kill()
    status: list[str] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics"}
    body = b"".join(make_wsgi_app()(environ, lambda line, headers: status.append(line)))
    assert status == ["503 Service Unavailable"]
    assert str(own_server.port) in body.decode()


def names_in(text: str) -> list[str]:
    """Returns the names of the families of a scrape as text."""
    return [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")]


def test_wsgi_shows_the_families_that_the_query_names(wsgi_port: int) -> None:
    class Custom(CustomCollector):
        def collect(self) -> Iterator[Any]:
            yield Gauge("custom", "", registry=None)
            yield Gauge("custom_too", "", registry=None)

    Counter("requests_total", "").inc()
    REGISTRY.register(Custom())  # type: ignore[arg-type]
    Histogram("seconds", "").observe(1)
    everything = ["requests_total", "custom", "custom_too", "seconds"]
    for query, expected in [
        ("", everything),
        ("?other=%FF&name=seconds", everything),
        ("?name[]=seconds_count", ["seconds"]),
        ("?name%5B%5D=custom_too&name[]=seconds&name[]=nothing", ["custom_too", "seconds"]),
        ("?name[]=nothing&name[]=%FF&name[]=%", []),
    ]:
        reply = get(wsgi_port, f"/metrics{query}")
        assert (reply.status, names_in(reply.text)) == (200, expected), query
    empty = get(wsgi_port, "/metrics?name[]=nothing", {"Accept": OPEN_METRICS})
    assert empty.text == "# EOF\n"


def test_a_query_names_families_by_bytes_of_utf8(server: Server) -> None:
    backends.load_backend(RedisBackend, server.config)
    other = Store(f"redis://{server.config['host']}:{server.config['port']}")
    lib.metric_set(other.declare("gauge", "größe")(), 1)
    lib.metric_set(other.declare("gauge", "level")(), 1)
    lib.released_backend_flush(other.handle, 60, ffi.NULL)

    def scrape(query: bytes) -> list[list[str]]:
        environ = {"REQUEST_METHOD": "GET", "QUERY_STRING": query.decode("latin-1")}
        wsgi = b"".join(make_wsgi_app()(environ, lambda line, headers: None))
        _, asgi = asyncio.run(asgi_get(make_asgi_app(), query))
        return [names_in(body.decode()) for body in (wsgi, asgi["body"])]

    for query in ("name[]=größe".encode(), b"name[]=gr%C3%B6%C3%9Fe", b"name[]=gr__e"):
        assert scrape(query) == [["gr__e"], ["gr__e"]]
    assert scrape(b"name[]=gr\xf6\xdfe") == [[], []]
    other.close()


ASGI_PROGRAM = """
    import asyncio, socket, uvicorn
    load_backend(RedisBackend, config)
    Counter("requests_total", "help").inc(3)
    from pytheus_backend_rs import make_asgi_app
    metrics = make_asgi_app()
    {framework}
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])
"""

FRAMEWORKS = {
    "alone": "app = metrics",
    "Starlette": """
    from starlette.applications import Starlette
    from starlette.routing import Mount
    app = Starlette(routes=[Mount("/metrics", app=metrics)])
    """,
    "FastAPI": """
    from fastapi import FastAPI
    app = FastAPI()
    app.mount("/metrics", metrics)
    """,
    "a route of Starlette": """
    from starlette.applications import Starlette
    from starlette.routing import Route
    app = Starlette(routes=[Route("/metrics", metrics)])
    """,
    "a route of FastAPI": """
    from fastapi import FastAPI
    app = FastAPI()
    app.add_route("/metrics", metrics)
    """,
    "Litestar": """
    from litestar import Litestar, asgi
    from litestar.types import Receive, Scope, Send
    @asgi("/metrics", is_mount=True, copy_scope=True)
    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await metrics(scope, receive, send)
    app = Litestar([mounted])
    """,
    "Django": """
    import django
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x")
    urlpatterns = []
    pages = get_asgi_application()
    async def app(scope, receive, send):
        is_scrape = scope["type"] == "http" and scope["path"].startswith("/metrics")
        await (metrics if is_scrape or scope["type"] == "lifespan" else pages)(scope, receive, send)
    """,
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_asgi_answers_in_a_framework(server: Server, framework: str) -> None:
    source = ASGI_PROGRAM.replace("{framework}", FRAMEWORKS[framework].strip())
    with running(source, server.config) as program:
        port = int(program.line())
        # A mount of Starlette answers `/metrics` with a redirect to `/metrics/`; its route answers `/metrics`
        # itself.
        path = "/metrics" if framework.startswith("a route") else "/metrics/"
        reply = get(port, path, {"Accept-Encoding": "gzip"})
        assert reply.status == 200
        assert gzip.decompress(reply.body).decode().endswith("\nrequests_total 3\n")
        assert get(port, f"{path}?name[]=requests_total").text.endswith("\nrequests_total 3\n")
        assert get(port, f"{path}?name[]=other").body == b""
        assert get(port, path, method="HEAD").body == b""
        assert get(port, path, method="POST").status == 405


@pytest.mark.parametrize("worker_class", ["asyncio", "trio"])
def test_asgi_answers_in_hypercorn_with_each_of_its_event_loops(
    server: Server, tmp_path: Path, worker_class: str
) -> None:
    program = """
        from pytheus_backend_rs import make_asgi_app
        load_backend(RedisBackend, config)
        Counter("requests_total", "help").inc(3)
        app = make_asgi_app()
    """
    (tmp_path / "service.py").write_text(PRELUDE + textwrap.dedent(program), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-m", "hypercorn", "--worker-class", worker_class]
        hypercorn = subprocess.Popen(
            [*command, "--bind", f"fd://{listener.fileno()}", "service:app"],
            cwd=tmp_path,
            env={**os.environ, "TEST_CONFIG": json.dumps(server.config)},
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        try:
            reply = get(listener.getsockname()[1], "/metrics")
            assert (reply.status, reply.text.splitlines()[-1]) == (200, "requests_total 3")
        finally:
            hypercorn.terminate()
            assert hypercorn.wait(HANG) == 0


def test_asgi_does_not_block_the_event_loop_of_trio(own_server: Server) -> None:
    program = """
        import trio
        from pytheus_backend_rs import make_asgi_app
        load_backend(RedisBackend, config)
        Counter("requests_total", "help").inc()
        app = make_asgi_app()
        async def scrape():
            async def send(message):
                if "body" in message:
                    print(message["body"].decode().splitlines()[-1], flush=True)
            await app({"type": "http", "method": "GET", "headers": []}, None, send)
        async def main():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(scrape)
                for _ in range(1000):
                    await trio.sleep(0)
                print("still running", flush=True)
        print("loaded", flush=True)
        input()
        trio.run(main)
    """
    with running(program, own_server.config) as scraping:
        assert scraping.line() == "loaded"
        own_server.pause()
        scraping.say()
        assert scraping.line() == "still running"
        own_server.resume()
        assert scraping.line() == "requests_total 1"
        assert scraping.finish().returncode == 0


def asgi_get(app: Any, query: bytes = b"") -> Any:
    """One request to an ASGI application: the messages that it sent."""

    async def request() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request", "body": b""}

        scope = {"type": "http", "method": "GET", "path": "/metrics", "query_string": query, "headers": []}
        await app(scope, receive, send)
        return sent

    return request()


def test_the_event_loop_keeps_running_while_the_store_is_stalled(own_server: Server) -> None:
    backends.load_backend(RedisBackend, own_server.config)
    Counter("requests_total", "").inc()
    app = make_asgi_app()

    async def main() -> tuple[int, list[Any]]:
        own_server.pause()
        scrape = asyncio.ensure_future(asgi_get(app))
        turns = 0
        while turns < 1000:
            await asyncio.sleep(0)
            turns += 1
        assert not scrape.done()
        own_server.resume()
        return turns, await scrape

    turns, (start, body) = asyncio.run(main())
    assert turns == 1000
    assert start["status"] == 200
    assert body["body"].endswith(b"\nrequests_total 1\n")


def test_an_application_created_before_a_fork_answers_in_the_child(server: Server) -> None:
    program = """
        import asyncio
        from pytheus_backend_rs import make_asgi_app
        load_backend(RedisBackend, config)
        counter = Counter("requests_total", "help")
        app = make_asgi_app()
        async def scrape():
            sent = []
            async def send(message): sent.append(message)
            await app({"type": "http", "method": "GET", "headers": []}, None, send)
            return sent[1]["body"].decode()
        counter.inc()
        assert asyncio.run(scrape()).endswith("requests_total 1\\n")
        child = os.fork()
        if not child:
            counter.inc()
            text = asyncio.run(scrape())
            os._exit(0 if text.endswith("requests_total 2\\n") else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert asyncio.run(scrape()).endswith("requests_total 2\\n")
    """
    run_program(program, server.config)
