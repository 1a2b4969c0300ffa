"""`pytheus_backend_rs.generate_metrics` held against pytheus' own: the same families in the same order with
the same values, for every backend and every kind of metric.

Both texts are read by prometheus_client's parser, so that what is compared is what Prometheus sees: `1` and
`1.0` are one value, and the order of labels and of series says nothing.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import pytheus.exposition
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from pytheus import backends
from pytheus.backends.base import SingleProcessBackend as PytheusBackend
from pytheus.metrics import Counter, CustomCollector, Gauge, Histogram, Sample, Summary
from pytheus.registry import REGISTRY, CollectorRegistry
from pytheus_backend_rs import (
    RedisBackend,
    SharedMemoryBackend,
    SingleProcessAtomicBackend,
    UnavailableError,
    generate_metrics,
    remove,
)
from pytheus_backend_rs.pytheus import scrape

from programs import run_program
from redis_server import Server

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def families(text: str) -> list[tuple[Any, ...]]:
    """What Prometheus would read: in order, name, type, help and the set of samples of each family."""
    return [
        (
            family.name,
            family.type,
            family.documentation,
            sorted((one.name, sorted(one.labels.items()), repr(float(one.value))) for one in family.samples),
        )
        for family in parse_text(text)
    ]


def assert_same(registry: Any = REGISTRY) -> list[tuple[Any, ...]]:
    expected = families(pytheus.exposition.generate_metrics(registry))
    found = families(generate_metrics(registry))
    assert found == expected
    return found


def test_every_type_with_and_without_labels(backend: Any) -> None:
    Counter("requests_total", 'Requests \\ "quoted"\nand more.').inc(2.5)
    Counter("plain", "A counter without the suffix.").inc()
    Gauge("level", "A gauge.").set(-3)
    Histogram("size", "A histogram.", buckets=[0.5, 2, 10]).observe(1.5)
    Histogram("seconds", "With the default buckets.").observe(0.3)
    Summary("latency", "A summary.").observe(0.25)
    by_path = Counter("by_path_total", "", required_labels=["path", "code"])
    for path, code in [("/b", "1"), ("/a", "2"), ('/"c"\\\n', "é"), ("", "")]:
        by_path.labels(path=path, code=code).inc(3)
    Histogram("sizes", "", required_labels=["a"], buckets=[1, 2]).labels(a="x").observe(7)
    Summary("latencies", "", required_labels=["a"]).labels(a="x").observe(7)
    assert len(assert_same()) == 9


def test_special_values(backend: Any) -> None:
    for index, value in enumerate([math.inf, -math.inf, math.nan, 1e300, 5e-324, 2**53, 0.1 + 0.2]):
        Gauge(f"level_{index}", "").set(value)
    Histogram("size", "", buckets=[1]).observe(math.inf)
    assert_same()


def test_families_without_series(backend: Any) -> None:
    Counter("unobservable_total", "Nobody has named its labels.", required_labels=["a"])
    partial = Counter("partial_total", "", required_labels=["a", "b"])
    partial.labels(a="x")
    Counter("never_counted_total", "")
    names = [name for name, *_ in assert_same()]
    assert names == ["unobservable", "partial", "never_counted"]


def test_default_labels(backend: Any) -> None:
    whole = Counter("whole_total", "", required_labels=["a"], default_labels={"a": "x"})
    whole.inc(1)
    whole.labels(a="y").inc(2)
    some = Histogram("some", "", required_labels=["a", "b"], default_labels={"a": "x"}, buckets=[1])
    some.labels(b="1").observe(0.5)
    some.labels(a="z", b="1").observe(0.5)
    assert_same()


def test_a_registry_with_a_prefix_and_several_registries(backend: Any) -> None:
    first, second = CollectorRegistry(prefix="app"), CollectorRegistry()
    Counter("requests_total", "", registry=first).inc(1)
    Histogram("size", "", buckets=[1], registry=first).observe(2)
    Gauge("level", "", registry=second).set(2)
    Gauge("unregistered", "", registry=None).set(3)
    assert [name for name, *_ in assert_same(first)] == ["app_requests", "app_size"]
    assert [name for name, *_ in assert_same(second)] == ["level"]
    REGISTRY.set_registry(first)
    assert [name for name, *_ in families(generate_metrics())] == ["app_requests", "app_size"]


class Custom(CustomCollector):
    def collect(self) -> Any:
        counter = Counter("custom_total", "A counter.", registry=None)
        counter.inc(5)
        yield counter
        histogram = Histogram(
            "custom_size", "", required_labels=["a"], buckets=[0.5, 1_000_000], registry=None
        )
        histogram.labels(a='x"').observe(1)
        yield histogram
        yield Counter("custom_unobservable", "", required_labels=["a"], registry=None)


class OwnSamples:
    """A collector that has what a metric has, and makes its samples itself."""

    name = "own"
    description = "Made up."
    type_ = "gauge"

    def collect(self) -> Any:
        return [Sample("", {"a": "x"}, 1.5), Sample("", {"a": "y"}, 2)]


class Callback(Gauge):
    """A metric whose class says what it shows."""

    def collect(self) -> Any:
        return (Sample("", None, 42.0),)


def test_custom_collectors_between_other_metrics(backend: Any) -> None:
    registry = CollectorRegistry(prefix="app")
    Counter("first_total", "", registry=registry).inc(1)
    registry.register(Custom())
    Gauge("second", "", registry=registry).set(2)
    registry.register(OwnSamples())  # type: ignore[arg-type]
    Gauge("third", "", registry=registry).set(3)
    names = [name for name, *_ in assert_same(registry)]
    assert names == [
        "app_first", "custom", "custom_size", "custom_unobservable", "app_second", "app_own", "app_third",
    ]  # fmt: skip


def test_a_duplicate_family_name_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    backends.load_backend(SingleProcessAtomicBackend, {})
    Counter("custom_total", "The registry's own.").inc(1)
    registry = CollectorRegistry()
    # pytheus looks at names when a collector is registered; this one is registered before.
    registry.register(Custom())
    registry.register(REGISTRY._registry._collectors["custom_total"])  # type: ignore[attr-defined]
    with caplog.at_level("ERROR", "pytheus_backend_rs"):
        names = [name for name, *_ in families(generate_metrics(registry))]
    assert names == ["custom", "custom_size", "custom_unobservable"]
    assert 'metric family "custom_total" is left out of scrapes' in caplog.text


def test_self_metrics_are_shown_like_families_of_other_processes(
    backend_class: Any, config: dict[str, Any]
) -> None:
    backends.load_backend(backend_class, {**config, "self_metrics": True})
    Counter("requests_total", "").inc(1)
    generate_metrics()
    assert "\npytheus_backend_scrapes_total 2\n" in generate_metrics()
    assert "pytheus_backend_" not in generate_metrics(include_others=False)


def test_a_metric_class_that_collects_by_itself() -> None:
    backends.load_backend(SingleProcessAtomicBackend, {})
    Callback("level", "")
    assert_same()
    assert "\nlevel 42\n" in generate_metrics()


def test_metrics_that_were_made_before_the_backend_was_loaded(
    backend_class: Any, config: dict[str, Any]
) -> None:
    backends.load_backend(PytheusBackend, {})
    early = Counter("early_total", "", required_labels=["a"])
    early.labels(a="before").inc(1)
    Gauge("level", "").set(4)
    backends.load_backend(backend_class, config)
    early.labels(a="after").inc(2)
    Histogram("size", "", buckets=[1]).observe(0.5)
    found = assert_same()
    assert found[0][3] == [
        ("early_total", [("a", "after")], "2.0"),
        ("early_total", [("a", "before")], "1.0"),
    ]


def test_metrics_that_count_elsewhere_are_found_whatever_is_made_and_removed_beside_them(
    backend_class: Any, config: dict[str, Any]
) -> None:
    counter = Counter("requests_total", "", required_labels=["a"])
    backends.load_backend(PytheusBackend, {})
    counter.labels(a="early").inc(1)
    backends.load_backend(backend_class, config)
    for label in "xyz":
        counter.labels(a=label).inc(2)
    assert len(assert_same()[0][3]) == 4
    for label in "xy":
        assert remove(counter, {"a": label})
    assert assert_same()[0][3] == [
        ("requests_total", [("a", "early")], "1.0"),
        ("requests_total", [("a", "z")], "2.0"),
    ]
    backends.load_backend(PytheusBackend, {})
    counter.labels(a="later").inc(4)
    backends.load_backend(backend_class, config)
    counter.labels(a="latest").inc(5)
    assert [sample[2] for sample in assert_same()[0][3]] == ["1.0", "4.0", "5.0", "2.0"]


@pytest.mark.parametrize("text", ["plain", "größe", "花" * 5000, "x" * 5000, "é" + "x" * 5000])
def test_a_text_of_any_length_and_script_is_the_same_as_str_and_as_bytes(backend: Any, text: str) -> None:
    Counter("requests_total", text).inc()
    expected = f"# HELP requests_total {text}\n# TYPE requests_total counter\nrequests_total 1\n"
    assert generate_metrics() == expected
    assert scrape.render(None, None, b"", None).body == expected.encode()


def test_metrics_of_a_backend_that_was_loaded_before(backend_class: Any, config: dict[str, Any]) -> None:
    backends.load_backend(SingleProcessAtomicBackend, {})
    Counter("early_total", "").inc(1)
    backends.load_backend(backend_class, config)
    Counter("late_total", "").inc(2)
    backends.load_backend(backend_class, dict(config))
    Counter("latest_total", "").inc(3)
    assert [family[3][0][2] for family in assert_same()] == ["1.0", "2.0", "3.0"]


def test_with_another_backend_loaded_it_is_pytheus_own_text() -> None:
    backends.load_backend(PytheusBackend, {})
    Counter("requests_total", "").inc(1)
    assert generate_metrics() == pytheus.exposition.generate_metrics()


def test_a_scrape_shows_every_count_before_it(backend: Any) -> None:
    counter = Counter("requests_total", "")
    for expected in range(1, 51):
        counter.inc()
        assert generate_metrics().endswith(f"\nrequests_total {expected}\n")


def test_both_parsers_read_open_metrics(backend: Any) -> None:
    Counter("requests_total", 'Help with "quotes".').inc(2)
    Histogram("size", "", required_labels=["a"], buckets=[1, 1_000_000]).labels(a='x"').observe(7)
    REGISTRY.register(Custom())
    Summary("latency", "").observe(0.5)
    content_type, body = scrape.render(None, OPEN_METRICS, b"", None)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    samples = {
        (one.name, *one.labels.values()): one.value
        for family in parse_open_metrics(body.decode())
        for one in family.samples
        if not one.name.endswith("_created")
    }
    assert samples[("requests_total",)] == 2
    assert samples[("size_bucket", 'x"', "1e+06")] == 1
    assert samples[("size_bucket", 'x"', "1.0")] == 0
    assert samples[("size_count", 'x"')] == 1
    assert samples[("custom_total",)] == 5
    assert samples[("custom_size_bucket", 'x"', "1e+06")] == 1
    assert samples[("latency_sum",)] == 0.5


@pytest.fixture(params=[RedisBackend, SharedMemoryBackend], ids=lambda backend_class: backend_class.__name__)
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A backend whose values other processes share, loaded; another process has registered families in it."""
    if request.param is RedisBackend:
        config = request.getfixturevalue("server").config
    else:
        config = {"path": str(tmp_path / "metrics")}
    backends.load_backend(request.param, config)
    program = f"""
        from pytheus_backend_rs import {request.param.__name__}
        load_backend({request.param.__name__}, config)
        Counter("elsewhere_total", "Counted elsewhere.", required_labels=["a"]).labels(a="x").inc(4)
        Histogram("elsewhere_size", "", buckets=[1]).observe(0.5)
    """
    run_program(program, config)


@pytest.mark.usefixtures("elsewhere")
def test_families_of_other_processes_follow_those_of_the_registry() -> None:
    Gauge("level", "").set(1)
    found = families(generate_metrics())
    assert found[0][0] == "level"
    assert {name for name, *_ in found[1:]} == {"elsewhere", "elsewhere_size"}
    assert ("elsewhere", "counter", "Counted elsewhere.", [("elsewhere_total", [("a", "x")], "4.0")]) in found
    assert [name for name, *_ in families(generate_metrics(include_others=False))] == ["level"]


@pytest.mark.usefixtures("elsewhere")
def test_another_registry_has_only_its_own_families_unless_asked() -> None:
    own, other = CollectorRegistry(prefix="app"), CollectorRegistry()
    Gauge("level", "", registry=own).set(1)
    Gauge("other_level", "", registry=other).set(2)
    assert [name for name, *_ in families(generate_metrics(own))] == ["app_level"]
    found = families(generate_metrics(own, include_others=True))
    # Families that this process has declared are in the registry that they are in.
    assert {name for name, *_ in found} == {"app_level", "app_elsewhere", "app_elsewhere_size"}


def test_a_store_that_cannot_be_read_is_an_error(own_server: Server) -> None:
    backends.load_backend(RedisBackend, {**own_server.config, "collect_timeout": 5})
    Counter("requests_total", "").inc()
    own_server.kill()
    with pytest.raises(UnavailableError):
        generate_metrics()
