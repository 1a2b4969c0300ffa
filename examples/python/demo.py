"""Shows that a scrape of any of four worker processes has the total of all of them.

The demo starts four processes of `service.py`, sends them requests, scrapes each, and compares the scrapes
with what it sent. The processes share a file; with the argument "redis" they share a Redis server that the
demo starts. It exits with 1 if a number is wrong.
"""

from __future__ import annotations

import http.client
import multiprocessing
import os
import re
import sys
import tempfile
import time
from multiprocessing.queues import Queue
from wsgiref.simple_server import WSGIRequestHandler, make_server

from local_redis import local_redis

WORKERS = 4
REQUESTS = 2_000
PATHS = ("/", "/cart", "/checkout")


def main(store: str) -> int:
    if store == "redis":
        with local_redis() as port:
            print(f"Started a Redis server on port {port}; starting {WORKERS} worker processes.")
            os.environ["REDIS_PORT"] = str(port)
            return run()
    if store != "shm":
        print(f"unknown store {store!r}: expected shm or redis", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        os.environ["METRICS_FILE"] = os.path.join(folder, "metrics")
        print(f"Starting {WORKERS} worker processes that share the file {os.environ['METRICS_FILE']}.")
        return run()


def run() -> int:
    context = multiprocessing.get_context("spawn")
    ports = context.Queue()
    workers = [context.Process(target=work, args=(ports,), daemon=True) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    try:
        addresses = [ports.get(timeout=60) for _ in workers]
        print(f"Sending {REQUESTS} requests to them in turn.")
        sent = dict.fromkeys(PATHS, 0)
        for number in range(REQUESTS):
            path = PATHS[number % len(PATHS)]
            fetch(addresses[number % WORKERS], path)
            sent[path] += 1
        scrapes = scrape_all(addresses)
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    print(f"\nGET /metrics from worker 1 of {WORKERS}:\n")
    print(scrapes[0])
    return compare(sent, scrapes)


def scrape_all(addresses: list[int]) -> list[str]:
    """Scrapes each worker.

    With a file, a scrape shows at once what all workers have counted. With a server it shows what the other
    workers have sent, which they do every 5 ms; so the first attempts may be early.
    """
    give_up_at = time.monotonic() + 10
    while True:
        scrapes = [fetch(address, "/metrics") for address in addresses]
        counts = {value_of("http_request_duration_seconds_count", scrape) for scrape in scrapes}
        if counts == {REQUESTS} or time.monotonic() > give_up_at:
            return scrapes


def work(ports: Queue[int]) -> None:
    """Runs one worker: a web server for `service.app` on a free port."""
    from service import app

    with make_server("127.0.0.1", 0, app, handler_class=QuietHandler) as server:
        ports.put(server.server_port)
        server.serve_forever()


class QuietHandler(WSGIRequestHandler):
    """A handler that does not log each request."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def compare(sent: dict[str, int], scrapes: list[str]) -> int:
    """Prints what each worker shows, beside what was sent, and returns the exit status."""
    expected = {f'http_requests_total{{method="GET",path="{path}"}}': count for path, count in sent.items()}
    expected["http_request_duration_seconds_count"] = REQUESTS
    width = max(map(len, expected))
    print(f"{'series':<{width}}  expected  " + "  ".join(f"worker {n + 1}" for n in range(WORKERS)))
    is_right = True
    for series, count in expected.items():
        counted = [value_of(series, scrape) for scrape in scrapes]
        is_right = is_right and all(value == count for value in counted)
        print(f"{series:<{width}}  {count:>8}  " + "  ".join(f"{value:>8.0f}" for value in counted))
    print("\nEvery worker shows the one true number." if is_right else "\nWRONG: the numbers differ.")
    return 0 if is_right else 1


def value_of(series: str, scrape: str) -> float:
    match = re.search(rf"^{re.escape(series)} (\S+)$", scrape, re.MULTILINE)
    return float(match.group(1)) if match else 0.0


def fetch(port: int, path: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    if response.status != 200:
        raise SystemExit(f"GET {path} was answered with {response.status}: {body}")
    return body


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "shm"))
