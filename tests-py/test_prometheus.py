"""A service of four processes, scraped by a real Prometheus: through the engine's exporter, and through the
ASGI application in a real server.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from pytheus_backend_rs import RedisBackend, SharedMemoryBackend

from http_client import get
from programs import running
from prometheus_server import Prometheus
from protobuf_families import PROTOBUF, Samples, decode, parsed_samples, sample_key, samples
from recording_proxy import RecordingProxy
from waiting import wait_until

#: The labels that Prometheus adds.
OWN_LABELS = ("__name__", "job", "instance")

#: Four processes count; the parent serves the exporter, and one of the children the ASGI application.
SERVICE = """
    import multiprocessing, socket, uvicorn
    import pytheus_backend_rs
    from pytheus_backend_rs import make_asgi_app, start_http_server

    load_backend(getattr(pytheus_backend_rs, config.pop("class")), config)
    requests = Counter("http_requests_total", "Requests served.", required_labels=["path", "worker"])
    seconds = Histogram("http_request_duration_seconds", "How long a request took.", required_labels=["path"])
    sizes = Summary("http_response_size_bytes", "Size of the answer.")
    workers = Gauge("workers", "Processes that count.")

    def count(worker):
        workers.inc()
        for index in range(1000):
            path = "/" + "ab"[index % 2]
            requests.labels(path=path, worker=str(worker)).inc()
            seconds.labels(path=path).observe((index % 100) / 100)
            sizes.observe(512)

    def serve_asgi(pipe):
        count(0)
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        pipe.send(listener.getsockname()[1])
        uvicorn.Server(uvicorn.Config(make_asgi_app(), log_level="warning")).run([listener])

    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    asgi = fork.Process(target=serve_asgi, args=[there], daemon=True)
    others = [fork.Process(target=count, args=[worker]) for worker in (1, 2)]
    for process in [asgi, *others]:
        process.start()
    count(3)
    for process in others:
        process.join()
    server = start_http_server(0)
    print(json.dumps({"exporter": server.port, "asgi": here.recv()}), flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(params=[RedisBackend, SharedMemoryBackend], ids=lambda backend_class: backend_class.__name__)
def shared_config(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param is RedisBackend:
        config: dict[str, Any] = request.getfixturevalue("server").config
    else:
        config = {"path": str(tmp_path / "metrics")}
    return {**config, "class": request.param.__name__}


def test_prometheus_gets_the_exact_totals_and_quantiles(
    shared_config: dict[str, Any], tmp_path: Path
) -> None:
    with running(SERVICE, shared_config) as service:
        ports = json.loads(service.line())
        prometheus = Prometheus(tmp_path, ports)
        try:
            check_queries(prometheus)
        finally:
            prometheus.close()
        for port in ports.values():
            check_text(port)


def test_prometheus_gets_every_sample_by_protobuf(shared_config: dict[str, Any], tmp_path: Path) -> None:
    with running(SERVICE, shared_config) as service, contextlib.ExitStack() as stack:
        ports = json.loads(service.line())
        proxies = {job: stack.enter_context(RecordingProxy(port)) for job, port in ports.items()}
        # With this feature, Prometheus prefers protobuf.
        flags = ["--enable-feature=native-histograms"]
        prometheus = Prometheus(tmp_path, {job: proxy.port for job, proxy in proxies.items()}, flags=flags)
        stack.callback(prometheus.close)
        check_queries(prometheus)
        for job, proxy in proxies.items():
            assert set(proxy.content_types) == {PROTOBUF}
            expected = parsed_samples(parse_text(get(ports[job], "/metrics").text))
            # Three workers of two paths with 12 buckets, sum and count, and so on.
            assert len(expected) == 8 + 2 * 14 + 2 + 1
            assert stored(prometheus, job) == expected
            accept = {"Accept": PROTOBUF}
            assert samples(decode(get(ports[job], "/metrics", accept).body)) == expected


def test_prometheus_gets_the_families_that_it_names(shared_config: dict[str, Any], tmp_path: Path) -> None:
    with running(SERVICE, shared_config) as service, contextlib.ExitStack() as stack:
        ports = json.loads(service.line())
        names = ["workers", "http_request_duration_seconds_count"]
        prometheus = Prometheus(tmp_path, ports, names=names)
        stack.callback(prometheus.close)
        wait_until(
            lambda: {labels["job"] for labels, _ in prometheus.query("workers")} == ports.keys(),
            "both targets to be scraped",
        )
        for job, port in ports.items():
            whole = parsed_samples(parse_text(get(port, "/metrics").text))
            named = ("workers", "http_request_duration_seconds_")
            expected = {key: value for key, value in whole.items() if key[0].startswith(named)}
            assert len(expected) == 1 + 2 * 14
            assert stored(prometheus, job) == expected


def stored(prometheus: Prometheus, job: str) -> Samples:
    """Returns the samples that Prometheus has of a target, without those that it makes itself."""
    found = prometheus.query(f'{{job="{job}", __name__!~"up|scrape_.*"}}')
    return {
        sample_key(
            labels["__name__"], {name: labels[name] for name in labels if name not in OWN_LABELS}
        ): value
        for labels, value in found
    }


def check_queries(prometheus: Prometheus) -> None:
    jobs = {"exporter", "asgi"}

    def by_job(expression: str) -> dict[str, float]:
        return {labels["job"]: value for labels, value in prometheus.query(expression)}

    wait_until(
        lambda: by_job("sum by (job) (http_requests_total)").keys() == jobs,
        f"both targets to be scraped: {prometheus.targets()}",
    )
    assert by_job("sum by (job) (http_requests_total)") == dict.fromkeys(jobs, 4000)
    assert by_job('sum by (job) (http_requests_total{path="/a",worker="2"})') == dict.fromkeys(jobs, 500)
    assert by_job("sum by (job) (http_request_duration_seconds_count)") == dict.fromkeys(jobs, 4000)
    assert by_job("sum by (job) (http_response_size_bytes_sum)") == dict.fromkeys(jobs, 4000 * 512)
    assert by_job("workers") == dict.fromkeys(jobs, 4)
    quantile = "histogram_quantile(0.5, sum by (job, le) (http_request_duration_seconds_bucket))"
    # 4,000 observations of 0.00 to 0.99: 26 % are at most 0.25, 51 % at most 0.5; linear in between.
    expected = 0.25 + 0.25 * (0.50 - 0.26) / (0.51 - 0.26)
    assert by_job(quantile) == pytest.approx(dict.fromkeys(jobs, expected))
    assert [target["lastError"] for target in prometheus.targets()] == ["", ""]
    assert [target["health"] for target in prometheus.targets()] == ["up", "up"]


def check_text(port: int) -> None:
    text = get(port, "/metrics").text
    promtool = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    assert (promtool.returncode, promtool.stdout, promtool.stderr) == (0, "", "")
    open_metrics = get(port, "/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"}).text
    for families in (parse_text(text), parse_open_metrics(open_metrics)):
        samples = [sample for family in families for sample in family.samples]
        assert sum(one.value for one in samples if one.name == "http_requests_total") == 4000
        counts = [one.value for one in samples if one.name == "http_request_duration_seconds_count"]
        assert counts == [2000, 2000]
