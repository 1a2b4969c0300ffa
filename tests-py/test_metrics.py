"""Metrics that a program declares without pytheus: units, names in any script, infos, state sets and gauge
histograms, in each store, as both parsers of prometheus_client and promtool read them."""

from __future__ import annotations

import math
import multiprocessing
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import prometheus_client.openmetrics.parser as openmetrics_parser
import prometheus_client.parser as text_parser
import pytest
import pytheus.metrics
from pytheus.backends import load_backend
from pytheus.registry import CollectorRegistry
from pytheus_backend_rs import (
    ConfigurationError,
    ConflictError,
    InvalidArgumentError,
    RedisBackend,
    SharedMemoryBackend,
    SingleProcessBackend,
    generate_metrics,
    metrics,
    reset,
)
from pytheus_backend_rs.pytheus import scrape

from redis_server import Server

OPEN_METRICS = "application/openmetrics-text;version=1.0.0"


@pytest.fixture(params=["memory", "shared memory", "Redis"])
def loaded(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "Redis":
        server: Server = request.getfixturevalue("server")
        load_backend(RedisBackend, server.config)
    elif request.param == "shared memory":
        load_backend(SharedMemoryBackend, {"path": str(tmp_path / "metrics")})
    else:
        load_backend(SingleProcessBackend)
    name: str = request.param
    return name


def rendered(accept: str = "") -> str:
    return scrape.render(None, accept, b"", None).body.decode()


def families(accept: str) -> dict[str, Any]:
    """The families of a scrape by name, as a parser of prometheus_client reads them."""
    text = rendered(accept)
    parser: Any = openmetrics_parser if accept.startswith(OPEN_METRICS) else text_parser
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


def samples(family: Any) -> list[tuple[str, dict[str, str], float]]:
    return [(sample.name, sample.labels, sample.value) for sample in family.samples]


def declare_all() -> None:
    metrics.Counter("sent_bytes_total", "Sent.", ["to"], unit="bytes").labels("b").inc(2)
    metrics.Gauge("load", "Load.").set(0.5)
    metrics.Summary("size_bytes", "Sizes.", unit="bytes").observe(3)
    metrics.Histogram("wait_seconds", "Waits.", buckets=[1, 2], unit="seconds").observe(1.5)
    metrics.Info("build", "Build.", ["part"]).labels(part="core").info({"version": "1.2", "größe": 3})
    states = metrics.StateSet("job", "Job.", states=["idle", "busy"])
    states.set("idle")
    states.state("busy")
    ages = metrics.GaugeHistogram("age_seconds", "Ages.", buckets=[10], unit="seconds")
    for age in (1, 5, 50):
        ages.observe(age)
    ages.unobserve(5)


def test_parsers_read_every_type(loaded: str) -> None:
    declare_all()
    found = families(OPEN_METRICS)
    assert {name: (family.type, family.unit) for name, family in found.items()} == {
        "sent_bytes": ("counter", "bytes"),
        "load": ("gauge", ""),
        "size_bytes": ("summary", "bytes"),
        "wait_seconds": ("histogram", "seconds"),
        "build": ("info", ""),
        "job": ("stateset", ""),
        "age_seconds": ("gaugehistogram", "seconds"),
    }
    info = {"version": "1.2", "gr__e": "3", "part": "core"}
    assert samples(found["build"]) == [("build_info", info, 1.0)]
    assert samples(found["job"]) == [("job", {"job": "idle"}, 0.0), ("job", {"job": "busy"}, 1.0)]
    assert samples(found["age_seconds"]) == [
        ("age_seconds_bucket", {"le": "10.0"}, 1.0),
        ("age_seconds_bucket", {"le": "+Inf"}, 2.0),
        ("age_seconds_gsum", {}, 51.0),
        ("age_seconds_gcount", {}, 2.0),
    ]
    found = families("text/plain")
    assert {name: family.type for name, family in found.items()} == {
        "sent_bytes": "counter",
        "load": "gauge",
        "size_bytes": "summary",
        "wait_seconds": "histogram",
        "build_info": "gauge",
        "job": "gauge",
        "age_seconds": "histogram",
    }
    assert samples(found["build_info"]) == [("build_info", info, 1.0)]


def test_promtool_accepts_every_type(loaded: str) -> None:
    declare_all()
    # It reads no OpenMetrics.
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=rendered(), capture_output=True, text=True, check=False
    )
    assert "error while linting" not in checked.stderr, checked.stderr
    assert checked.returncode in (0, 3), checked.stderr  # 3: remarks on style only


@pytest.mark.parametrize(
    ("escaping", "name", "label"),
    [
        ("", "http_gr__e", "http_method"),
        (";escaping=dots", "http_dot_gr____e", "http_dot_method"),
        (";escaping=values", "U__http_2e_gr_f6__df_e", "U__http_2e_method"),
        (";escaping=allow-utf-8", "http.größe", "http.method"),
    ],
)
@pytest.mark.parametrize("accept", [OPEN_METRICS, "text/plain;version=1.0.0"])
def test_names_of_any_script_are_escaped_as_the_scraper_asks(
    loaded: str, accept: str, escaping: str, name: str, label: str
) -> None:
    metrics.Gauge("http.größe", "Größe.", ["http.method"], utf8=True).labels("GET").set(2)
    metrics.StateSet("my.job", "Job.", states=["läuft"], utf8=True).state("läuft")
    found = families(accept + escaping)
    assert samples(found[name]) == [(name, {label: "GET"}, 2.0)]
    (states,) = (family for family in found.values() if "my" in family.name)
    assert samples(states) == [(states.name, {states.name: "läuft"}, 1.0)]
    with pytest.raises(InvalidArgumentError, match="größe"):
        metrics.Gauge("größe")


def test_values_are_read_back(loaded: str) -> None:
    counter = metrics.Counter("a_total", "", ["y", "x"])
    counter.labels(1, "b").inc()
    counter.labels(x="b", y=1).inc(2.5)
    assert counter.labels("1", "b") is counter.labels(x="b", y="1")
    assert counter.labels(1, "b").get() == 3.5
    gauge = metrics.Gauge("b")
    gauge.set(4)
    gauge.inc()
    gauge.dec(2)
    assert gauge.get() == 3
    ages = metrics.GaugeHistogram("c", buckets=[1, math.inf])
    ages.observe(0.5)
    ages.unobserve(0.5)
    ages.unobserve(0.5)
    assert (ages.count(), ages.sum(), ages.bucket(math.inf)) == (0, 0, 0)
    states = metrics.StateSet("d", "", ["a"], states=["on", "off"]).labels(a="x")
    states.set("off")
    states.set("on", True)
    states.set("off", False)
    assert (states.is_on("on"), states.is_on("off")) == (True, False)
    assert counter.remove(1, "b") is True
    assert counter.remove(1, "b") is False
    assert counter.labels(1, "b").get() == 0


def test_an_info_shows_what_was_set_last(loaded: str) -> None:
    info = metrics.Info("build")
    assert "build_info{" not in rendered()
    info.info({"version": 1})
    info.info({"version": 2, "commit": "a"})
    assert '\nbuild_info{commit="a",version="2"} 1\n' in rendered()
    info.clear()
    assert "build_info{" not in rendered()


def test_one_definition_is_one_family_and_another_a_conflict(loaded: str) -> None:
    metrics.Counter("a_total", "Help.").inc()
    again = metrics.Counter("a_total", "Help.")
    again.inc()
    assert again.get() == 2
    with pytest.raises(ConflictError, match="a_total"):
        metrics.Gauge("a_total", "Help.")


@pytest.mark.parametrize(
    ("declare", "part"),
    [
        (lambda: metrics.Counter("a_seconds", unit="seconds"), "_seconds_total"),
        (lambda: metrics.Gauge("a", unit="seconds"), "ends with"),
        (lambda: metrics.Gauge("a b"), "a b"),
        (lambda: metrics.Gauge("a\0b", utf8=True), "NUL"),
        (lambda: metrics.Gauge("a", labels=["b\0"], utf8=True), "NUL"),
        (lambda: metrics.Histogram("a", buckets=[]), "bucket"),
        (lambda: metrics.Histogram("a", buckets=[2, 1]), "increase"),
        (lambda: metrics.GaugeHistogram("a", labels=["le"]), "le"),
        (lambda: metrics.StateSet("a", states=[]), "1 to 52"),
        (lambda: metrics.StateSet("a", states=["x", "x"]), "twice"),
        (lambda: metrics.StateSet("a:b", states=["x"]), "without"),
        (lambda: metrics.StateSet("a", labels=["a"], states=["x"]), "no other label"),
        (lambda: metrics.Info("a").info({}), "at least one label"),
        (lambda: metrics.Info("a").info({"__b": 1}), "reserved"),
        (lambda: metrics.Info("a", "", ["b"]).labels("x").info({"b": 1}), "declared"),
        (lambda: metrics.Info("a", "", ["b"]).info({"c": 1}), "labels()"),
        (lambda: metrics.Gauge("a", "", ["b"]).set(1), "labels()"),
        (lambda: metrics.Gauge("a", "", ["b"]).get(), "labels()"),
        (lambda: metrics.Gauge("a", "", ["b"]).labels(), "labels"),
        (lambda: metrics.Gauge("a", "", ["b"]).labels(c=1), "labels"),
        (lambda: metrics.Gauge("a\udcff", utf8=True), "surrogate"),
        (lambda: metrics.StateSet("a", states=["\udcff"]), "surrogate"),
        (lambda: metrics.Counter("a").inc(-1), "inc(-1)"),
        (lambda: metrics.Counter("a").inc(-1), "only goes up"),
        (lambda: metrics.Counter("a").inc(math.nan), "only goes up"),
        (lambda: metrics.StateSet("a", states=["x"]).set("y"), "'x'"),
        (lambda: metrics.StateSet("a", states=["x"]).state("y"), "'x'"),
        (lambda: metrics.StateSet("a", states=["x"]).is_on("y"), "'x'"),
    ],
)
def test_mistakes_raise_where_they_are_made(declare: Callable[[], object], part: str) -> None:
    load_backend(SingleProcessBackend)
    with pytest.raises(InvalidArgumentError) as raised:
        declare()
    assert part in str(raised.value)


def test_a_metric_needs_a_loaded_backend() -> None:
    load_backend()
    with pytest.raises(ConfigurationError, match="load_backend"):
        metrics.Gauge("a")
    load_backend(SingleProcessBackend)
    with pytest.raises(TypeError):
        metrics.Gauge("a", labels="b")
    with pytest.raises(TypeError):
        metrics.Gauge("a").set("b")  # type: ignore[arg-type]


def test_a_scrape_of_the_registry_shows_them_and_one_of_another_registry_does_not(loaded: str) -> None:
    pytheus.metrics.Counter("a_total", "A.").inc()
    metrics.Gauge("b", "B.").set(2)
    assert "\na_total 1\n" in generate_metrics() and "\nb 2\n" in generate_metrics()
    assert "b 2" in generate_metrics(include_others=False), "though nothing holds the metric any more"
    assert generate_metrics(CollectorRegistry()) == ""


def test_reset_gives_them_new_values(loaded: str) -> None:
    gauge, labelled = metrics.Gauge("a"), metrics.Gauge("b", "", ["c"])
    gauge.set(5)
    kept = labelled.labels("x")
    kept.set(5)
    reset()
    assert gauge.get() == 0
    gauge.inc()
    labelled.labels("x").inc()
    kept.inc()
    assert (gauge.get(), labelled.labels("x").get()) == (1, 2)


def test_clear_renews_each_metric_of_the_family(loaded: str) -> None:
    one, two = metrics.Gauge("a"), metrics.Gauge("a")
    one.set(5)
    two.clear()
    one.inc()
    two.inc()
    assert one.get() == two.get() == 2
    one, two = metrics.Gauge("b", "", ["c"]), metrics.Gauge("b", "", ["c"])
    one.labels("x").set(5)
    two.labels("y").clear()
    assert "b{" not in generate_metrics()
    one.labels("x").inc()
    two.labels("x").inc()
    assert one.labels("x").get() == 2


def _switch(path: str, state: str) -> None:
    load_backend(SharedMemoryBackend, {"path": path})
    metrics.StateSet("flags", "", states=["a", "b", "c"]).set(state)
    metrics.Info("build").info({"version": state})


def test_processes_share_states_and_the_last_info(tmp_path: Path) -> None:
    path = str(tmp_path / "metrics")
    load_backend(SharedMemoryBackend, {"path": path})
    flags = metrics.StateSet("flags", "", states=["a", "b", "c"])
    for state in ("a", "c"):
        process = multiprocessing.get_context("spawn").Process(target=_switch, args=(path, state))
        process.start()
        process.join(60)
        assert process.exitcode == 0
    assert [flags.is_on(state) for state in flags.states] == [True, False, True]
    assert '\nbuild_info{version="c"} 1\n' in generate_metrics()
