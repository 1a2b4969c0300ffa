"""Native histograms of Python programs: declared by this package, and by an option those of pytheus; decoded from
protobuf, and stored by a real Prometheus."""

from __future__ import annotations

import functools
import logging
import math
import random
from pathlib import Path
from typing import Any

import pytest
from pytheus.backends import load_backend
from pytheus.metrics import Histogram as PytheusHistogram
from pytheus_backend_rs import (
    ConfigurationError,
    InvalidArgumentError,
    RedisBackend,
    SharedMemoryBackend,
    SingleProcessBackend,
    metrics,
)
from pytheus_backend_rs.pytheus import scrape

from programs import running
from prometheus_server import Prometheus
from protobuf_families import PROTOBUF, decode, native_buckets
from waiting import wait_until

STORES = [SingleProcessBackend, SharedMemoryBackend, RedisBackend]


@pytest.fixture(params=STORES, ids=lambda backend_class: backend_class.__name__)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, dict[str, Any]]:
    """A class and its configuration."""
    if request.param is RedisBackend:
        return request.param, request.getfixturevalue("server").config
    if request.param is SharedMemoryBackend:
        return request.param, {"path": str(tmp_path / "metrics")}
    return request.param, {}


def histograms() -> dict[str, Any]:
    """The one series of each histogram of a scrape, decoded, by the name of its family."""
    families = decode(scrape.render(None, PROTOBUF, b"", None).body)
    return {family.name: family.metric[0].histogram for family in families if family.metric}


def classic_buckets(histogram: Any) -> dict[float, int]:
    return {bucket.upper_bound: bucket.cumulative_count for bucket in histogram.bucket}


def test_a_native_histogram_needs_no_bounds(store: tuple[Any, dict[str, Any]]) -> None:
    load_backend(*store)
    alone = metrics.Histogram("alone_seconds", "Alone.", native=True, unit="seconds")
    for value in (0.0, 1.0, 1.5, 1.5, -4.0, math.inf):
        alone.observe(value)
    assert alone.count() == 6
    both = metrics.Histogram(
        "both_seconds", "Both.", ["path"], buckets=[1, 2], native=True, native_resolution=1, native_size=16
    )
    both.labels("/").observe(1.5)
    found = histograms()
    assert (found["alone_seconds"].schema, found["alone_seconds"].sample_count) == (3, 6)
    # Schema 3: the bucket 5 ends at 2^(5/8), and infinity is behind 2^1024.
    assert native_buckets(found["alone_seconds"]) == {
        (0, 0): 1,
        (1, 0): 1,
        (1, 5): 2,
        (-1, 16): 1,
        (1, 8193): 1,
    }
    assert classic_buckets(found["alone_seconds"]) in ({}, {math.inf: 6})
    assert found["both_seconds"].schema == 0
    assert native_buckets(found["both_seconds"]) == {(1, 1): 1}
    assert classic_buckets(found["both_seconds"]) == {1.0: 0, 2.0: 1, math.inf: 1}


def test_histograms_of_pytheus_get_native_buckets_by_an_option(store: tuple[Any, dict[str, Any]]) -> None:
    backend_class, config = store
    load_backend(backend_class, {**config, "native_histograms": ["named_seconds"]})
    named = PytheusHistogram("named_seconds", "Named.", buckets=[1, 2])
    other = PytheusHistogram("other_seconds", "Other.", buckets=[1, 2])
    labelled = PytheusHistogram("labelled_seconds", "Labelled.", required_labels=["path"])
    for histogram in (named, other, labelled.labels({"path": "/"})):
        histogram.observe(1.5)
    found = histograms()
    assert native_buckets(found["named_seconds"]) == {(1, 5): 1}
    assert classic_buckets(found["named_seconds"]) == {1.0: 0, 2.0: 1, math.inf: 1}
    for name in ("other_seconds", "labelled_seconds"):
        assert not found[name].HasField("schema")
    load_backend(backend_class, {**config, "native_histograms": True})
    every = PytheusHistogram("every_seconds", "Every.", required_labels=["path"])
    every.labels(path="/").observe(1.5)
    assert native_buckets(histograms()["every_seconds"]) == {(1, 5): 1}


def test_a_histogram_that_another_process_declares_otherwise_counts_here_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"path": str(tmp_path / "metrics")}
    with running(
        """
        from pytheus_backend_rs import SharedMemoryBackend
        load_backend(SharedMemoryBackend, config)
        Histogram("wait_seconds", "Waits.").observe(1)
        print("declared", flush=True)
        sys.stdin.readline()
        """,
        config,
    ) as other:
        assert other.line() == "declared"
        load_backend(SharedMemoryBackend, {**config, "native_histograms": True})
        with caplog.at_level(logging.ERROR):
            PytheusHistogram("wait_seconds", "Waits.").observe(1)
    (record,) = caplog.records
    assert "'wait_seconds' counts in this process alone" in record.getMessage()
    assert "native" in record.getMessage()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"native_resolution": 3}, "resolution of a native histogram is 3: expected 1, 2, 4, 8"),
        ({"native_resolution": 0}, "native_resolution is 0"),
        ({"native_resolution": -8}, "native_resolution is -8"),
        ({"native_resolution": 2.0}, "native_resolution is 2.0"),
        ({"native_size": 15}, "size of a native histogram is 15: expected 16 to 4096"),
        ({"native_size": 4097}, "size of a native histogram is 4097"),
        ({"native_size": 2**64}, "native_size is 18446744073709551616"),
        ({"native": False, "native_size": 100}, "native_size needs native=True"),
        ({"buckets": []}, "at least one bucket bound"),
    ],
)
def test_a_silly_option_is_an_error_where_it_is_made(options: dict[str, Any], reason: str) -> None:
    load_backend(SingleProcessBackend)
    with pytest.raises(InvalidArgumentError, match=reason):
        metrics.Histogram("wrong", "Wrong.", **{"native": True, **options})
    assert histograms() == {}


@pytest.mark.parametrize("value", ["wait_seconds", 1, [1], {"wait_seconds": True}])
def test_names_of_native_histograms_are_a_list(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="native_histograms"):
        load_backend(SingleProcessBackend, {"native_histograms": value})


#: Four processes observe the same numbers; the parent serves them.
SERVICE = """
    import multiprocessing, random, pytheus_backend_rs
    from pytheus_backend_rs import metrics, start_http_server

    load_backend(getattr(pytheus_backend_rs, config.pop("class")), config)
    alone = metrics.Histogram("wait_seconds", "Waits.", ["path"], native=True)
    both = Histogram("request_seconds", "Requests.", required_labels=["path"])

    def count(worker):
        values = random.Random(worker)
        for _ in range(5000):
            value = values.lognormvariate(-2, 0.7)
            alone.labels(path="/").observe(value)
            both.labels(path="/").observe(value)

    fork = multiprocessing.get_context("fork")
    others = [fork.Process(target=count, args=[worker]) for worker in (1, 2, 3)]
    for process in others:
        process.start()
    count(0)
    for process in others:
        process.join()
    print(start_http_server(0).port, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("backend_class", STORES[1:], ids=lambda backend_class: backend_class.__name__)
def test_prometheus_computes_quantiles_within_the_error_of_a_bucket(
    backend_class: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if backend_class is RedisBackend:
        config = request.getfixturevalue("server").config
    else:
        config = {"path": str(tmp_path / "metrics")}
    config = {**config, "class": backend_class.__name__, "native_histograms": ["request_seconds"]}
    with running(SERVICE, config) as service:
        targets = {"service": int(service.line())}
        prometheus = Prometheus(tmp_path, targets, flags=["--enable-feature=native-histograms"])
        try:
            check_quantiles(prometheus)
        finally:
            prometheus.close()


def check_quantiles(prometheus: Prometheus) -> None:
    # The values of the program, computed here once more.
    values = sorted(
        source.lognormvariate(-2, 0.7) for source in map(random.Random, range(4)) for _ in range(5000)
    )
    for name in ("wait_seconds", "request_seconds"):
        count = f"histogram_count({name})"
        wait_until(functools.partial(prometheus.query, count), f"{name} to be stored")
        assert [value for _, value in prometheus.query(count)] == [len(values)]
        [(_, total)] = prometheus.query(f"histogram_sum({name})")
        assert total == pytest.approx(math.fsum(values))
        for quantile in (0.01, 0.25, 0.5, 0.9, 0.99, 0.999):
            [(_, found)] = prometheus.query(f"histogram_quantile({quantile}, sum({name}))")
            true = values[math.ceil(quantile * len(values)) - 1]
            # A bucket of schema 3 is as wide as a factor of 2^(1/8).
            assert 2 ** (-1 / 8) <= found / true <= 2 ** (1 / 8), (name, quantile, found, true)
    [target] = prometheus.targets()
    assert (target["health"], target["lastError"]) == ("up", "")
