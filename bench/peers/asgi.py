"""Stands in for what surrounds an ASGI application: a middleware that measures requests, and a scraper."""

import time

SIZE_BUCKETS = tuple(10.0**power for power in range(1, 9))


class HttpMetrics:
    """Does what `PytheusMiddlewareASGI` does, for a library without such a middleware: observes the duration
    of a request, its size and the size of its response, each in a histogram by method, route and status."""

    def __init__(self, app, histogram) -> None:
        labels = ("method", "route", "status_code")
        self.app = app
        self.duration = histogram("http_request_duration_seconds", labels)
        self.request_size = histogram("http_request_size_bytes", labels, SIZE_BUCKETS)
        self.response_size = histogram("http_response_size_bytes", labels, SIZE_BUCKETS)

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start = time.perf_counter()
        labels = None

        async def measured_send(event) -> None:
            nonlocal labels
            if event["type"] == "http.response.start":
                route = scope["route"].path if "route" in scope else "404"
                labels = {"method": scope["method"], "route": route, "status_code": str(event["status"])}
                for histogram, headers in (
                    (self.response_size, event["headers"]),
                    (self.request_size, scope["headers"]),
                ):
                    for name, value in headers:
                        if name.lower() == b"content-length":
                            histogram.labels(**labels).observe(float(value))
            await send(event)
            if event["type"] == "http.response.body" and not event.get("more_body"):
                self.duration.labels(**labels).observe(time.perf_counter() - start)

        await self.app(scope, receive, measured_send)


def asgi_scrape(app):
    """Scrapes an ASGI application without a server around it."""

    async def scrape() -> bytes:
        body = []

        async def receive() -> dict:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(event) -> None:
            if event["type"] == "http.response.start" and event["status"] != 200:
                raise RuntimeError(f"the scrape was answered with status {event['status']}")
            body.append(event.get("body", b""))

        await app(dict(SCRAPE_SCOPE), receive, send)
        return b"".join(body)

    return scrape


SCRAPE_SCOPE = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/metrics",
    "raw_path": b"/metrics",
    "root_path": "",
    "query_string": b"",
    "headers": [(b"host", b"localhost"), (b"accept", b"text/plain")],
    "client": ("127.0.0.1", 40000),
    "server": ("127.0.0.1", 80),
}
