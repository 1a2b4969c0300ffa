"""The classes as pytheus and its users see them: how they are loaded, which attributes they have, and
what their operations do.

Nearly every test runs with all of them, so that one can be exchanged for another.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from pytheus import backends
from pytheus.backends.base import Backend, get_backend_class
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter, Gauge, Histogram, Summary
from pytheus_backend_rs import (
    RedisBackend,
    SharedMemoryBackend,
    SingleProcessAtomicBackend,
    SingleProcessBackend,
)

from programs import run_program
from redis_server import Server


def value_of(metric: Any) -> float:
    value: float = metric._metric_value_backend.get()
    return value


def test_load_backend_makes_metrics_count_in_it(backend: Any) -> None:
    counter = Counter("requests_total", "help")
    counter.inc(2)
    assert type(counter._metric_value_backend) is backend
    assert value_of(counter) == 2
    assert get_backend_class() is backend


def test_the_environment_names_class_and_configuration(
    backend_class: Any, config: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    program = """
        from pytheus.backends import load_backend
        load_backend()
        from pytheus.metrics import Counter
        from pytheus.exposition import generate_metrics
        counter = Counter("requests_total", "help")
        counter.inc(3)
        print(type(counter._metric_value_backend).__name__, counter._metric_value_backend.get())
        print(generate_metrics())
    """
    environment = {
        "PYTHEUS_BACKEND_CLASS": f"pytheus_backend_rs.{backend_class.__name__}",
        "PYTHEUS_BACKEND_CONFIG": str(path),
    }
    output = run_program(program, config, prelude="", environment=environment)
    assert output.splitlines()[0] == f"{backend_class.__name__} 3.0"
    assert "\nrequests_total 3.0\n" in output


def test_a_backend_is_built_directly(backend: Any, config: dict[str, Any]) -> None:
    counter = Counter("requests_total", "help", registry=None)
    counter.inc(1)
    view = backend(config, counter)
    view.inc(2)
    assert view.get() >= 2
    histogram = Histogram("size", "help", buckets=[1, 2], registry=None)
    total = backend(config, histogram, histogram_bucket="sum")
    total.inc(1.5)
    assert backend(config, histogram, "2").get() >= 1


def test_direct_construction_counts_without_load_backend(backend_class: Any, config: dict[str, Any]) -> None:
    gauge = Gauge("level", "help", registry=None)
    value = backend_class(config, gauge)
    value.set(4)
    value.dec(1)
    assert value.get() == 3


def test_the_signature_is_that_of_the_protocol(backend_class: Any) -> None:
    parameters = list(inspect.signature(backend_class.__init__).parameters.values())
    assert [parameter.name for parameter in parameters] == ["self", "config", "metric", "histogram_bucket"]
    assert parameters[3].default is None


def test_classes_and_objects_are_pytheus_backends(backend: Any) -> None:
    assert issubclass(backend, Backend)
    assert isinstance(Counter("requests_total", "help")._metric_value_backend, Backend)


def test_attributes_of_a_metric_without_labels(backend: Any, config: dict[str, Any]) -> None:
    counter = Counter("requests_total", "help")
    value = counter._metric_value_backend
    assert value.config == config
    assert value.metric is counter
    assert value.histogram_bucket is None
    assert value.key_name == "requests_total"
    assert value.labels_hash is None


def test_labels_hash_is_compact_json_sorted_by_name(backend: Any) -> None:
    counter = Counter("requests_total", "help", required_labels=["path", "bob", "x"])
    child = counter.labels(x='é"\n\x7f\x01', path="/", bob="cat")
    assert child._metric_value_backend.labels_hash == ('{"bob":"cat","path":"/","x":"é\\"\\n\x7f\\u0001"}')


def test_key_name_of_a_part_has_the_bucket(backend: Any) -> None:
    histogram = Histogram("size", "help", buckets=[0.5, 10])
    summary = Summary("latency", "help")
    assert histogram._buckets is not None
    names = [part.key_name for part in [histogram._sum, histogram._count, *histogram._buckets]]
    assert names == ["size:sum", "size:count", "size:0.5", "size:10", "size:+Inf"]
    assert [part.histogram_bucket for part in histogram._buckets] == ["0.5", "10", "+Inf"]
    assert summary._sum.key_name == "latency:sum"


@pytest.mark.parametrize("memory_class", [SingleProcessBackend, SingleProcessAtomicBackend])
def test_memory_backends_show_their_value(memory_class: Any) -> None:
    backends.load_backend(memory_class, {})
    counter = Counter("requests_total", "help")
    counter.inc(2.5)
    assert counter._metric_value_backend._value == 2.5


def test_a_counter_goes_up(backend: Any) -> None:
    counter = Counter("requests_total", "help")
    counter.inc()
    counter.inc(0)
    counter.inc(0.25)
    assert value_of(counter) == 1.25


def test_a_gauge_goes_up_and_down_and_is_set(backend: Any) -> None:
    gauge = Gauge("level", "help")
    gauge.inc(5)
    gauge.dec(1.5)
    assert value_of(gauge) == 3.5
    gauge.set(-2)
    gauge.inc()
    assert value_of(gauge) == -1
    gauge.set(7)
    assert value_of(gauge) == 7


def test_parts_of_a_histogram_are_views_of_one_metric(backend: Any) -> None:
    histogram = Histogram("size", "help", buckets=[1, 2.5])
    for value in (0.5, 1, 2, 100):
        histogram.observe(value)
    assert histogram._buckets is not None
    assert [bucket.get() for bucket in histogram._buckets] == [2, 3, 4]
    assert histogram._sum.get() == 103.5
    assert histogram._count.get() == 4
    # An observation comes through the sum; counting a bucket by itself adds nothing.
    histogram._buckets[0].inc(1)
    histogram._count.inc(1)
    assert histogram._count.get() == 4
    histogram._sum.inc(2)
    assert [bucket.get() for bucket in histogram._buckets] == [2, 4, 5]


def test_parts_of_a_summary_are_views_of_one_metric(backend: Any) -> None:
    summary = Summary("latency", "help")
    summary.observe(0.25)
    summary.observe(4)
    assert (summary._sum.get(), summary._count.get()) == (4.25, 2)


@pytest.mark.parametrize("bound", [10, 10.0, 1e1, float("10.0")])
def test_a_bound_of_any_spelling_is_one_bucket(backend: Any, bound: float) -> None:
    histogram = Histogram("size", "help", buckets=[1, bound, 20.0])
    for value in (0.5, 10, 15, 100):
        histogram.observe(value)
    assert histogram._buckets is not None
    assert [bucket.get() for bucket in histogram._buckets] == [1, 2, 3, 4]
    text = generate_metrics()
    assert f'size_bucket{{le="{bound}"}} 2.0\n' in text
    assert 'size_bucket{le="20.0"} 3.0\n' in text
    assert 'size_bucket{le="+Inf"} 4.0\n' in text


@pytest.mark.parametrize("shared_class", [RedisBackend, SharedMemoryBackend])
def test_processes_that_spell_a_bound_differently_share_the_bucket(
    server: Server, tmp_path: Path, shared_class: Any
) -> None:
    config = server.config if shared_class is RedisBackend else {"path": str(tmp_path / "metrics")}
    program = """
        import pytheus_backend_rs
        load_backend(getattr(pytheus_backend_rs, os.environ["CLASS"]), config)
        Histogram("size", "help", buckets=eval(os.environ["BOUNDS"])).observe(7)
    """
    for bounds in ("[1, 10]", "[1.0, 10.0]", "[1e0, 1e1, float('inf')]"):
        run_program(program, config, environment={"BOUNDS": bounds, "CLASS": shared_class.__name__})
    backends.load_backend(shared_class, config)
    Histogram("size", "help", buckets=[1, 10])
    text = generate_metrics()
    assert 'size_bucket{le="1"} 0.0\nsize_bucket{le="10"} 3.0\nsize_bucket{le="+Inf"} 3.0\n' in text


def test_default_labels_are_part_of_the_metric(backend: Any) -> None:
    counter = Counter(
        "requests_total", "help", required_labels=["host", "path"], default_labels={"host": "a"}
    )
    child = counter.labels(path="/")
    assert child._metric_value_backend.labels_hash == '{"host":"a","path":"/"}'
    child.inc(2)
    counter.labels(path="/", host="b").inc(3)
    text = generate_metrics()
    assert 'requests_total{host="a",path="/"} 2.0\n' in text
    assert 'requests_total{host="b",path="/"} 3.0\n' in text


def test_a_metric_of_default_labels_alone_counts(backend: Any) -> None:
    counter = Counter("requests_total", "help", required_labels=["host"], default_labels={"host": "a"})
    counter.inc(2)
    counter.labels(host="b").inc(3)
    text = generate_metrics()
    assert 'requests_total{host="a"} 2.0\nrequests_total{host="b"} 3.0\n' in text


@pytest.mark.parametrize(("value", "text"), [(5, "5"), (2.5, "2.5"), (None, "None"), (True, "True")])
def test_label_values_that_are_not_text_count_as_their_text(backend: Any, value: Any, text: str) -> None:
    counter = Counter("requests_total", "help", required_labels=["code"])
    child = counter.labels(code=value)
    child.inc(2)
    assert child._metric_value_backend.labels_hash == json.dumps({"code": text}, separators=(",", ":"))
    assert value_of(child) == 2
    assert value_of(counter.labels(code=text)) == 2, "the same labels are the same metric"


@pytest.mark.parametrize("backend_class", [RedisBackend, SharedMemoryBackend], indirect=True)
def test_a_scrape_shows_label_values_that_are_not_text(backend: Any) -> None:
    # (pytheus' own exposition raises AttributeError for these with an in-memory backend.)
    Counter("requests_total", "help", required_labels=["code"]).labels(code=5).inc(2)
    assert 'requests_total{code="5"} 2.0\n' in generate_metrics()


def test_a_subclass_is_a_backend_of_the_same_store(backend_class: Any, config: dict[str, Any]) -> None:
    subclass = type("Mine", (backend_class,), {})
    backends.load_backend(subclass, config)
    counter = Counter("requests_total", "help")
    counter.inc(2)
    assert type(counter._metric_value_backend) is subclass
    assert "requests_total 2.0\n" in generate_metrics()


def test_redis_is_reached_by_socket_and_by_url(server: Server) -> None:
    places: list[dict[str, Any]] = [
        {"unix_socket_path": str(server.socket_path)},
        {"url": f"redis://127.0.0.1:{server.port}/0"},
        {"url": f"redis://127.0.0.1:{server.port}?flush_interval_ms=1", "db": 0},
        {"host": "localhost", "port": str(server.port), "username": None, "password": None},
    ]
    for place in places:
        backends.load_backend(RedisBackend, place)
        Counter("requests_total", "help", registry=None).inc()
        RedisBackend._engine().flush(5)
    assert server.client().get("requests_total") == str(len(places))


def test_key_prefix_begins_the_name_of_the_key(server: Server, redis_backend: Any) -> None:
    redis_backend(key_prefix="app")
    counter = Counter("requests_total", "help")
    counter.inc(2)
    assert value_of(counter) == 2
    assert server.client().get("app-requests_total") == "2"
    assert counter._metric_value_backend.key_name == "requests_total"


def test_values_are_where_0_0_9_has_them(server: Server, redis_backend: Any) -> None:
    Counter("plain_total", "help").inc(2)
    Counter("labelled_total", "help", required_labels=["bob"]).labels(bob="cat").inc(3)
    RedisBackend._engine().flush(5)
    client = server.client()
    assert client.get("plain_total") == "2"
    assert client.hgetall("labelled_total") == {'{"bob":"cat"}': "3"}


def test_keys_expire_after_the_time_that_was_asked_for(server: Server, redis_backend: Any) -> None:
    redis_backend(expire_key_time=77)
    Counter("requests_total", "help").inc(2)
    RedisBackend._engine().flush(5)
    assert 70 <= server.client().ttl("requests_total") <= 77
