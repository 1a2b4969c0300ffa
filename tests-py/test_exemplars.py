"""Exemplars of Python programs: given by the program, or those of OpenTelemetry's current span; read by
prometheus_client's parser, and stored by a real Prometheus."""

from __future__ import annotations

import functools
import json
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace import Tracer
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from pytheus.backends import load_backend
from pytheus.metrics import Counter as PytheusCounter
from pytheus.metrics import Histogram as PytheusHistogram
from pytheus.metrics import Summary as PytheusSummary
from pytheus_backend_rs import (
    ConfigurationError,
    InvalidArgumentError,
    RedisBackend,
    SharedMemoryBackend,
    SingleProcessBackend,
    WrongTypeError,
    _exemplars,
    _snapshot,
    generate_metrics,
    metrics,
)
from pytheus_backend_rs.pytheus import scrape

from programs import run_program, running
from prometheus_server import Prometheus
from waiting import wait_until

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
STORES = [SingleProcessBackend, SharedMemoryBackend, RedisBackend]
TRACE = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}


@pytest.fixture(params=STORES, ids=lambda backend_class: backend_class.__name__)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, dict[str, Any]]:
    """A class and its configuration."""
    if request.param is RedisBackend:
        return request.param, request.getfixturevalue("server").config
    if request.param is SharedMemoryBackend:
        return request.param, {"path": str(tmp_path / "metrics")}
    return request.param, {}


@pytest.fixture
def sampled() -> Tracer:
    return TracerProvider(sampler=ALWAYS_ON).get_tracer("test")


def exemplars() -> dict[tuple[str, str], tuple[dict[str, str], float]]:
    """Labels and value of the exemplars of a scrape, by the name of their sample and the bound of its
    bucket."""
    text = scrape.render(None, OPEN_METRICS, b"", None).body.decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.exemplar is not None:
                assert sample.exemplar.timestamp is not None
                key = (sample.name, sample.labels.get("le", ""))
                found[key] = (sample.exemplar.labels, sample.exemplar.value)
    return found


def ids(span: Any) -> dict[str, str]:
    context = span.get_span_context()
    return {"trace_id": format(context.trace_id, "032x"), "span_id": format(context.span_id, "016x")}


def declared() -> list[tuple[str, Any, Any]]:
    """Counters and histograms that keep exemplars, with their names: of this package and of pytheus."""
    return [
        (
            "own",
            metrics.Counter("own_total", exemplars=True),
            metrics.Histogram("own_seconds", buckets=[1, 2], exemplars=True),
        ),
        (
            "child",
            metrics.Counter("child_total", "", ["a"], exemplars=True).labels("x"),
            metrics.Histogram("child_seconds", "", ["a"], buckets=[1, 2], exemplars=True).labels("x"),
        ),
        ("plain", PytheusCounter("plain_total", ""), PytheusHistogram("plain_seconds", "", buckets=[1, 2])),
        (
            "labelled",
            children(PytheusCounter("labelled_total", "", required_labels=["a"])),
            children(PytheusHistogram("labelled_seconds", "", required_labels=["a"], buckets=[1, 2])),
        ),
    ]


def children(metric: Any) -> Any:
    """The second child, which pytheus does not make itself."""
    metric.labels(a="w")
    return metric.labels(a="x")


def test_the_program_gives_an_exemplar_with_the_amount(store: tuple[Any, dict[str, Any]]) -> None:
    backend_class, config = store
    load_backend(backend_class, {**config, "exemplars": True})
    for name, counter, histogram in declared():
        counter.inc(1)
        counter.inc(2, exemplar=TRACE)
        histogram.observe(0.5)
        histogram.observe(1.5, exemplar={"trace_id": "größe"})
        found = exemplars()
        assert found[f"{name}_total", ""] == (TRACE, 2)
        assert found[f"{name}_seconds_bucket", "2.0"] == ({"trace_id": "größe"}, 1.5)
        assert (f"{name}_seconds_bucket", "1.0") not in found
        assert "# {" not in generate_metrics()
        labels = '{a="x"}' if name in ("child", "labelled") else ""
        assert f"{name}_total{labels} 3\n" in generate_metrics()


def test_without_an_amount_a_counter_counts_one_and_no_labels_are_no_exemplar() -> None:
    load_backend(SingleProcessBackend, {"exemplars": ["plain_total"]})
    counters: list[Any] = [metrics.Counter("own_total", exemplars=True), PytheusCounter("plain_total", "")]
    for number, counter in enumerate(counters):
        counter.inc(exemplar=None)
        counter.inc(exemplar={})
        assert len(exemplars()) == number
        counter.inc(exemplar=TRACE)
        assert list(exemplars().values()) == [(TRACE, 1)] * (number + 1)
    assert {"own_total 3", "plain_total 3"} <= set(generate_metrics().splitlines())


@pytest.mark.parametrize(
    ("exemplar", "error", "reason"),
    [
        ({"trace_id": "x" * 121}, InvalidArgumentError, "have 129 characters: expected at most 128"),
        ({"a b": "1"}, InvalidArgumentError, "a b"),
        ({"__a": "1"}, InvalidArgumentError, "reserved"),
        ({"trace_id": 1}, TypeError, "exemplar label 'trace_id' is 1: expected texts"),
        ({1: "a"}, TypeError, "exemplar label 1 is 'a': expected texts"),
        ([("trace_id", "a")], TypeError, "expected a dict of label names and values"),
    ],
)
def test_a_bad_exemplar_is_an_error_and_counts_nothing(exemplar: Any, error: Any, reason: str) -> None:
    load_backend(SingleProcessBackend, {"exemplars": True})
    for _, counter, histogram in declared():
        with pytest.raises(error, match=reason):
            counter.inc(1, exemplar=exemplar)
        with pytest.raises(error, match=reason):
            histogram.observe(1, exemplar=exemplar)
    assert all(line.endswith(" 0") for line in generate_metrics().splitlines() if line[0] != "#")


def test_a_family_without_the_option_refuses_an_exemplar() -> None:
    load_backend(SingleProcessBackend, {"exemplars": ["other"]})
    calls: list[tuple[Any, str]] = [
        (metrics.Counter("own_total").inc, "declared without exemplars"),
        (metrics.Histogram("own").observe, "declared without exemplars"),
        (PytheusCounter("plain_total", "").inc, "declared without exemplars"),
        (PytheusHistogram("plain", "").observe, "declared without exemplars"),
        (children(PytheusCounter("child_total", "", required_labels=["a"])).inc, "without exemplars"),
        (metrics.GaugeHistogram("ages").observe, "no such operation"),
        (PytheusSummary("sizes", "").observe, "no such operation"),
    ]
    for call, reason in calls:
        with pytest.raises(WrongTypeError, match=reason):
            call(1, exemplar=TRACE)


def test_a_wrong_call_with_an_exemplar_is_the_error_of_a_function() -> None:
    load_backend(SingleProcessBackend, {"exemplars": True})
    # pytheus' types do not know the keyword.
    counter: Any = PytheusCounter("a_total", "")
    histogram: Any = PytheusHistogram("b", "")
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'value'"):
        histogram.observe(exemplar=TRACE)
    with pytest.raises(TypeError, match="unexpected keyword argument 'labels'"):
        counter.inc(exemplar=TRACE, labels={})
    with pytest.raises(TypeError, match="number"):
        counter.inc("1", exemplar=TRACE)
    with pytest.raises(InvalidArgumentError, match="-1"):
        counter.inc(-1, exemplar=TRACE)
    with pytest.raises(InvalidArgumentError, match=r"call labels\(\) before"):
        metrics.Counter("c_total", "", ["a"], exemplars=True).inc(exemplar=TRACE)
    assert exemplars() == {}


@pytest.mark.parametrize("value", ["a_total", 1, [1], {"a_total": True}])
def test_names_of_metrics_with_exemplars_are_a_list(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="'exemplars'"):
        load_backend(SingleProcessBackend, {"exemplars": value})


def test_a_sampled_span_gives_the_labels(store: tuple[Any, dict[str, Any]], sampled: Tracer) -> None:
    backend_class, config = store
    load_backend(backend_class, {**config, "exemplars": True})
    for name, counter, histogram in declared():
        with sampled.start_as_current_span("work") as span:
            counter.inc(3)
            histogram.observe(1.5)
        found = exemplars()
        assert found[f"{name}_total", ""] == (ids(span), 3)
        assert found[f"{name}_seconds_bucket", "2.0"] == (ids(span), 1.5)


def test_a_call_in_a_span_counts_as_any_other(sampled: Tracer) -> None:
    load_backend(SingleProcessBackend, {"exemplars": True})
    with sampled.start_as_current_span("work") as span:
        for _, counter, _ in declared():
            counter.inc()
            counter.inc(2)
            with pytest.raises(ValueError):
                counter.inc(-1)
            with pytest.raises(TypeError):
                counter.inc("1")
    # The exemplar of the first call stays for 0.1 s, which may have passed before the second.
    labels, value = exemplars()["own_total", ""]
    assert labels == ids(span) and value in (1, 2)
    assert generate_metrics().count("_total 3\n") == 2
    assert generate_metrics().count('_total{a="x"} 3\n') == 2


def test_an_exemplar_of_the_program_precedes_the_span(sampled: Tracer) -> None:
    load_backend(SingleProcessBackend, {"exemplars": True})
    with sampled.start_as_current_span("work"):
        for name, counter, _ in declared():
            counter.inc(exemplar=TRACE)
            assert exemplars()[f"{name}_total", ""] == (TRACE, 1)


def test_a_span_that_is_not_sampled_is_no_exemplar() -> None:
    load_backend(SingleProcessBackend, {"exemplars": True})
    with TracerProvider(sampler=ALWAYS_OFF).get_tracer("test").start_as_current_span("work"):
        for _, counter, histogram in declared():
            counter.inc()
            histogram.observe(1.5)
    assert exemplars() == {}


def test_an_exemplar_of_a_value_that_was_counted_is_kept_and_read(store: tuple[Any, dict[str, Any]]) -> None:
    """What an adapter for a client library needs that counts first."""
    load_backend(*store)
    counter = metrics.Counter("own_total", exemplars=True)
    counter.inc(2)
    _exemplars.count("keep", counter._handle, 2, TRACE)
    [family] = _snapshot.read(counter._family.engine, None)
    [series] = family.series
    [exemplar] = series.exemplars
    assert (series.values, exemplar.labels, exemplar.value) == ([2], TRACE, 2)
    assert exemplar.timestamp > 1.7e9


def test_a_family_without_the_option_looks_for_no_span(
    sampled: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_exemplars, "current", lambda: pytest.fail("it looks for a span"))
    load_backend(SingleProcessBackend)
    with sampled.start_as_current_span("work"):
        PytheusCounter("plain_total", "").inc()
        PytheusHistogram("plain", "").observe(1)
        metrics.Counter("own_total").inc()
        metrics.Histogram("own").observe(1)


def test_outside_of_spans_a_metric_looks_once_in_a_millisecond_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = []

    def look() -> None:
        looks.append(1)

    monkeypatch.setattr(_exemplars, "current", look)
    load_backend(SingleProcessBackend, {"exemplars": True})
    for _, counter, histogram in declared():
        for count in (counter.inc, histogram.observe):
            looks.clear()
            began = time.monotonic()
            for _ in range(20_000):
                count(1)
            milliseconds = (time.monotonic() - began) * 1000
            assert 16 <= len(looks) <= 17 + milliseconds


def test_a_busy_metric_finds_a_span_after_it_has_looked_in_vain(sampled: Tracer) -> None:
    load_backend(SingleProcessBackend, {"exemplars": True})
    for name, counter, _ in declared():
        for _ in range(1000):
            counter.inc()
        with sampled.start_as_current_span("work") as span:

            def counts(counter: Any = counter, name: str = name) -> Any:
                counter.inc()
                return exemplars().get((f"{name}_total", ""))

            labels, _ = wait_until(counts, "an exemplar")
        assert labels == ids(span)


def test_what_opentelemetry_raises_costs_only_the_exemplar(monkeypatch: pytest.MonkeyPatch) -> None:
    # Another thread is still importing it, and has nothing yet.
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", types.ModuleType("opentelemetry.trace"))
    load_backend(SingleProcessBackend, {"exemplars": True})
    for name, counter, _ in declared():
        counter.inc(3)
        assert f"{name}_total" in generate_metrics()
    assert generate_metrics().count(" 3\n") == 4
    assert exemplars() == {}


def test_opentelemetry_is_never_imported() -> None:
    run_program(
        """
        from pytheus_backend_rs import SharedMemoryBackend, metrics
        load_backend(SharedMemoryBackend, {"exemplars": True})
        Counter("jobs_total", "").inc()
        metrics.Counter("own_total", exemplars=True).inc()
        assert not [name for name in sys.modules if name.startswith("opentelemetry")]
        """,
        {},
    )


#: Three processes count in spans; the first one serves them all.
SERVICE = """
    import multiprocessing, pytheus_backend_rs
    from opentelemetry.sdk.trace import TracerProvider
    from pytheus_backend_rs import start_http_server

    load_backend(getattr(pytheus_backend_rs, config.pop("class")), {**config, "exemplars": True})
    jobs = Counter("jobs_total", "Jobs.", required_labels=["worker"])
    seconds = Histogram("job_seconds", "Their time.", required_labels=["worker"], buckets=[0.1, 1])
    tracer = TracerProvider().get_tracer("service")

    def count(worker):
        with tracer.start_as_current_span("job") as span:
            jobs.labels(worker=str(worker)).inc()
            seconds.labels(worker=str(worker)).observe(0.5)
        return format(span.get_span_context().trace_id, "032x")

    def count_and_tell(worker, pipe):
        pipe.send(count(worker))

    fork = multiprocessing.get_context("fork")
    traces = {"0": count(0)}
    for worker in (1, 2):
        here, there = fork.Pipe()
        process = fork.Process(target=count_and_tell, args=[worker, there])
        process.start()
        traces[str(worker)] = here.recv()
        process.join()
    print(json.dumps(traces), flush=True)
    print(start_http_server(0).port, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("backend_class", STORES[1:], ids=lambda backend_class: backend_class.__name__)
def test_prometheus_stores_the_exemplars_of_counters_and_buckets(
    backend_class: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if backend_class is RedisBackend:
        config: dict[str, Any] = request.getfixturevalue("server").config
    else:
        config = {"path": str(tmp_path / "metrics")}
    config = {**config, "class": backend_class.__name__}
    with running(SERVICE, config) as service:
        traces = json.loads(service.line())
        targets = {"service": int(service.line())}
        prometheus = Prometheus(tmp_path, targets, flags=["--enable-feature=exemplar-storage"])
        try:
            for name, value, le in (("jobs_total", 1.0, None), ("job_seconds_bucket", 0.5, "1.0")):
                read = functools.partial(prometheus.exemplars, name)
                found = wait_until(read, f"exemplars of {name}")
                shown = {series["worker"]: exemplar["labels"] for series, exemplar in found}
                assert {worker: labels["trace_id"] for worker, labels in shown.items()} == traces
                assert {series.get("le") for series, _ in found} == {le}
                assert {float(exemplar["value"]) for _, exemplar in found} == {value}
            [target] = prometheus.targets()
            assert (target["health"], target["lastError"]) == ("up", "")
        finally:
            prometheus.close()
