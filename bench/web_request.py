"""Measures one web request: `PytheusMiddlewareASGI` around an application that answers at once.

prometheus_client has no such middleware, so peers/asgi.py does the same for it. The floor is the application
without a middleware. No server and no network are involved.
"""

from __future__ import annotations

from types import SimpleNamespace

from timing import ALONE, calls_for, time_calls

TOPIC = "web request"
WORK = "one request, three histograms"


def measure(rounds) -> None:
    peers = [peer for peer in rounds.peers if not (peer.is_floor and peer.options["kind"] == "c")]
    with rounds.processes(__name__, peers) as processes:
        for _ in rounds.numbers("one web request"):
            for process in processes:
                answer = rounds.ask(process, seconds=rounds.seconds_for(process.peer))
                if answer:
                    rounds.figures.add(TOPIC, WORK, process.peer.name, answer["wall"], "ns")


def in_peer(client, seconds: float) -> dict:
    if not hasattr(client, "bench_app"):
        client.bench_app = client.middleware(answer_at_once)
        client.bench_calls = calls_for(requests, client.bench_app, ALONE, seconds)
    return time_calls(requests, client.bench_app, ALONE, client.bench_calls)


def requests(app, count: int) -> None:
    """Runs the requests without an event loop, because nothing in them waits."""

    async def run() -> None:
        for _ in range(count):
            await app(SCOPE, None, send)

    try:
        run().send(None)
    except StopIteration:
        return
    raise RuntimeError("the application or its middleware waited for something")


async def answer_at_once(scope, receive, send) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"17")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"item": "seven"}'})


async def send(event) -> None:
    pass


SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/items/7",
    "route": SimpleNamespace(path="/items/{item_id}"),
    "headers": [(b"host", b"localhost"), (b"content-length", b"120")],
}
