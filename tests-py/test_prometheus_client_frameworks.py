"""Exporters for frameworks on the engine, each as its README says, with four workers of which one is killed.

The exporters look at the environment variable of the multi-process mode: with it they show what
`MultiProcessCollector` collects, and without it the default registry.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from waiting import wait_until
from web_servers import WebServer, serving

WORKERS = 4
PATH = "/hello"

INSTALL = """
import pytheus_backend_rs.prometheus
pytheus_backend_rs.prometheus.install()
"""

STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette_exporter import PrometheusMiddleware, handle_metrics
import os

async def hello(request):
    return PlainTextResponse("ok", headers={"X-Worker": str(os.getpid())})

app = Starlette()
app.add_middleware(PrometheusMiddleware)
app.add_route("/metrics", handle_metrics)
app.add_route("/hello", hello)
app.add_route("/who", hello)
"""

FASTAPI = """
import os
from fastapi import FastAPI, Response
from prometheus_fastapi_instrumentator import Instrumentator

app = FastAPI()

@app.get("/hello")
@app.get("/who")
def hello() -> Response:
    return Response("ok", headers={"X-Worker": str(os.getpid())})

Instrumentator().instrument(app).expose(app)
"""

FLASK = """
import os
from flask import Flask, Response
{imported}

app = Flask(__name__)
metrics = {made}
metrics.info("app_info", "Application info", version="1.0.3")

@app.route("/hello")
@app.route("/who")
def hello():
    return Response("ok", headers={{"X-Worker": str(os.getpid())}})
"""

FLASK_CHILD_EXIT = """
from prometheus_flask_exporter.multiprocess import GunicornInternalPrometheusMetrics

def child_exit(server, worker):
    GunicornInternalPrometheusMetrics.mark_process_dead_on_child_exit(worker.pid)
"""

DJANGO_SETTINGS = """
SECRET_KEY = "secret"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "urls"
INSTALLED_APPS = ["django_prometheus"]
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
"""

DJANGO_URLS = """
import os
from django.http import HttpResponse
from django.urls import include, path

def hello(request):
    return HttpResponse("ok", headers={"X-Worker": str(os.getpid())})

urlpatterns = [
    path("hello", hello, name="/hello"),
    path("who", hello, name="/who"),
    path("", include("django_prometheus.urls")),
]
"""

DJANGO_APP = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.wsgi import get_wsgi_application
app = get_wsgi_application()
"""

GUNICORN = "gunicorn --config gunicorn.conf.py --workers {workers} --bind 127.0.0.1:{port} app:app"
UVICORN = "uvicorn --workers {workers} --port {port} app:app"


class Framework(NamedTuple):
    """A service, and the sample that counts its requests, with the label that has the path."""

    command: str
    files: dict[str, str]
    sample: str
    label: str


FRAMEWORKS = {
    "starlette_exporter": Framework(
        UVICORN, {"app.py": INSTALL + STARLETTE}, "starlette_requests_total", "path"
    ),
    "prometheus-fastapi-instrumentator": Framework(
        f"python -m pytheus_backend_rs run -- {UVICORN}",
        {"app.py": FASTAPI},
        "http_requests_total",
        "handler",
    ),
    "prometheus-flask-exporter": Framework(
        GUNICORN,
        {
            "app.py": FLASK.format(
                imported="from prometheus_flask_exporter import PrometheusMetrics",
                made="PrometheusMetrics(app)",
            ),
            "gunicorn.conf.py": INSTALL,
        },
        "flask_http_request_duration_seconds_count",
        "path",
    ),
    "prometheus-flask-exporter for gunicorn": Framework(
        f"{GUNICORN} --preload",
        {
            "app.py": FLASK.format(
                imported="from prometheus_flask_exporter.multiprocess import GunicornInternalPrometheusMetrics",
                made="GunicornInternalPrometheusMetrics(app)",
            ),
            "gunicorn.conf.py": INSTALL + FLASK_CHILD_EXIT,
        },
        "flask_http_request_duration_seconds_count",
        "path",
    ),
    "django-prometheus": Framework(
        GUNICORN,
        {
            "app.py": DJANGO_APP,
            "settings.py": INSTALL + DJANGO_SETTINGS,
            "urls.py": DJANGO_URLS,
            "gunicorn.conf.py": "",
        },
        "django_http_requests_total_by_view_transport_method_total",
        "view",
    ),
}

#: It refuses to run without the variable.
NEEDS_DIRECTORY = ("prometheus-flask-exporter for gunicorn",)

CASES = [
    pytest.param(name, has_directory, id=f"{name}{' with a directory' if has_directory else ''}")
    for name in FRAMEWORKS
    for has_directory in (True, False)
    if has_directory or name not in NEEDS_DIRECTORY
]


def processes(text: str) -> set[str]:
    """Returns the processes that a scrape shows."""
    return {
        sample.labels["pid"]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "process_resident_memory_bytes"
    }


def counted(text: str, framework: Framework) -> float:
    """Returns how many requests of `PATH` a scrape shows."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == framework.sample and sample.labels[framework.label] == PATH
    )


def scrape(server: WebServer, framework: Framework) -> str:
    """Returns what a worker shows that has answered a request. A worker shows what its registry has, and
    starlette_exporter registers its metrics at the first request."""

    def shown() -> str | None:
        text = server.get("/metrics")[1]
        return text if counted(text, framework) else None

    return wait_until(shown, "a worker shows requests") or ""


@pytest.mark.parametrize(("name", "has_directory"), CASES)
def test_every_request_is_counted_by(name: str, has_directory: bool, tmp_path: Path) -> None:
    framework, environment = FRAMEWORKS[name], {}
    for file, source in framework.files.items():
        (tmp_path / file).write_text(source, encoding="utf-8")
    if has_directory:
        (tmp_path / "metrics").mkdir()
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / "metrics")
    with serving(framework.command, tmp_path, WORKERS, environment) as server:
        workers = server.two_workers("/who") | server.serve(60, PATH)
        killed = min(workers)
        # Some middleware counts a request after it has answered.
        wait_until(lambda: counted(server.get("/metrics")[1], framework) == 60, "60 requests to be counted")
        server.kill(killed)
        workers |= server.serve(40, PATH)
        wait_until(lambda: counted(server.get("/metrics")[1], framework) >= 100, "100 requests to be counted")
        for _ in range(WORKERS):
            text = scrape(server, framework)
            assert counted(text, framework) == 100, f"{text}\n{server.text}"
            shown = processes(text)
            assert workers - {killed} <= shown and killed not in shown, f"{killed} of {workers}: {shown}"
    assert list((tmp_path / "metrics").glob("*.db")) == []
