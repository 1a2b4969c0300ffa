"""prometheus_client on the engine: the values of several processes, and what its classes do."""

from __future__ import annotations

import enum
import logging
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary, metrics
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from pytheus_backend_rs import prometheus

from programs import run_program
from redis_server import Server

#: The beginning of programs that use the file of a test.
INSTALL = """
    import os, signal, sys
    from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
    from prometheus_client.multiprocess import MultiProcessCollector
    import pytheus_backend_rs
    import pytheus_backend_rs.prometheus
    pytheus_backend_rs.prometheus.install(config["store"])
    registry = CollectorRegistry()
"""


def store_named(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Returns a store as `install` takes it: "memory", "file" or "redis"."""
    if name == "redis":
        server: Server = request.getfixturevalue("server")
        return f"redis://127.0.0.1:{server.port}"
    return "memory:" if name == "memory" else str(tmp_path / "metrics.shm")


@pytest.fixture(params=["memory", "file", "redis"])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CollectorRegistry]:
    prometheus.install(store_named(request.param, request, tmp_path))
    assert prometheus.is_installed()
    yield CollectorRegistry()
    prometheus.uninstall()


@pytest.fixture(params=["file", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store that several processes use."""
    store = store_named(request.param, request, tmp_path)
    prometheus.install(store)
    assert prometheus.is_installed()
    yield store
    prometheus.uninstall()


def values(registry: CollectorRegistry) -> dict[str, float]:
    """Returns the values of a registry by name and labels, without times of creation and process ids."""
    return {
        sample.name + str({key: text for key, text in sample.labels.items() if key != "pid"}): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    }


def test_a_log_handler_may_count_with_the_metric_whose_child_is_made(registry: CollectorRegistry) -> None:
    # The engine refuses equal bounds, which is logged for each child.
    # What was logged for a name once is not logged again.
    seconds = Histogram(f"h_{id(registry)}", "help", ["level"], buckets=(1, 1, 2), registry=registry)
    seen = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)
            seconds.labels("of the handler").observe(1)

    handler = Handler()
    logger = logging.getLogger("pytheus_backend_rs")
    logger.addHandler(handler)
    try:
        thread = threading.Thread(target=lambda: seconds.labels("of the program").observe(1), daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
    finally:
        logger.removeHandler(handler)
    assert seen


def test_every_type_counts(registry: CollectorRegistry) -> None:
    counter = Counter("c", "help", ["a", "b"], registry=registry)
    counter.labels("1", "2").inc()
    counter.labels(b=2, a=1).inc(2.5)
    gauge = Gauge("g", "help", registry=registry)
    gauge.set(5)
    gauge.dec(2)
    gauge.inc()
    summary = Summary("s", "help", registry=registry)
    summary.observe(0.5)
    histogram = Histogram("h", "help", buckets=[1, 2], registry=registry)
    for amount in (0.5, 1.5, 3):
        histogram.observe(amount)
    Info("i", "help", registry=registry).info({"version": "1"})
    Enum("e", "help", states=["off", "on"], registry=registry).state("on")
    assert values(registry) == {
        "c_total{'a': '1', 'b': '2'}": 3.5,
        "g{}": 4.0,
        "s_count{}": 1.0,
        "s_sum{}": 0.5,
        "h_bucket{'le': '1.0'}": 1.0,
        "h_bucket{'le': '2.0'}": 2.0,
        "h_bucket{'le': '+Inf'}": 3.0,
        "h_count{}": 3.0,
        "h_sum{}": 5.0,
        "i_info{'version': '1'}": 1.0,
        "e{'e': 'off'}": 0.0,
        "e{'e': 'on'}": 1.0,
    }


def test_labels_are_found_by_their_texts(registry: CollectorRegistry) -> None:
    class Method(str, enum.Enum):
        GET = "GET"

        def __str__(self) -> str:
            return "Method.GET"

    counter = Counter("c", "help", ["a", "b"], registry=registry)
    child = counter.labels("1", "GET")
    assert counter.labels(b="GET", a="1") is child
    assert counter.labels(1, "GET") is child
    assert counter.labels("1", Method.GET) is not child
    with pytest.raises(ValueError, match="Can't pass both"):
        counter.labels("1", b="GET")
    with pytest.raises(ValueError, match="Incorrect label names"):
        counter.labels(a="1", c="GET")
    with pytest.raises(ValueError, match="Incorrect label count"):
        counter.labels("1")
    with pytest.raises(ValueError, match="already has labels"):
        child.labels("1", "GET")


def test_the_parts_of_a_histogram_change_one_by_one(registry: CollectorRegistry) -> None:
    histogram = Histogram("h", "help", buckets=[1, 2], registry=registry)
    histogram._sum.inc(12)
    histogram._buckets[1].inc(10)
    assert values(registry)["h_count{}"] == 10
    assert values(registry)["h_sum{}"] == 12
    assert histogram._buckets[1].get() == 10


def test_mistakes_raise_as_they_do_upstream(registry: CollectorRegistry) -> None:
    counter = Counter("c", "help", ["a"], registry=registry)
    with pytest.raises(ValueError, match="non-negative"):
        counter.labels("x").inc(-1)
    with pytest.raises(ValueError, match="Incorrect label count"):
        counter.labels("x", "y")
    with pytest.raises(ValueError, match="missing label values"):
        counter.inc()
    with pytest.raises(ValueError, match="Incorrect label count"):
        counter.remove("x", "y")
    with pytest.raises(ValueError, match="Duplicated"):
        Counter("c", "help", registry=registry)


def test_what_the_store_refuses_counts_in_the_process(registry: CollectorRegistry) -> None:
    histogram = Histogram("h", "help", buckets=[1, 1, 2], registry=registry)
    histogram.observe(1)
    assert values(registry)["h_count{}"] == 1
    counter = Counter("c", "help", ["a"], registry=registry)
    # A Redis server stores no label of more than a mebibyte.
    for odd in ("\0", "\udcff", "é", "x" * 1_000_000):
        counter.labels(odd).inc()
    assert sum(value for name, value in values(registry).items() if name.startswith("c_total")) == 4


def test_series_are_removed(registry: CollectorRegistry) -> None:
    counter = Counter("c", "help", ["a", "b"], registry=registry)
    for pair in (("1", "1"), ("1", "2"), ("2", "1")):
        counter.labels(*pair).inc()
    kept = counter.labels("2", "1")
    counter.remove("2", "1")
    kept.inc()
    assert sorted(values(registry)) == ["c_total{'a': '1', 'b': '1'}", "c_total{'a': '1', 'b': '2'}"]
    counter.labels("2", "1").inc()
    assert values(registry)["c_total{'a': '2', 'b': '1'}"] == 1
    counter.remove_by_labels({"a": "1"})
    assert sorted(values(registry)) == ["c_total{'a': '2', 'b': '1'}"]
    counter.clear()
    assert values(registry) == {}


def test_a_counter_is_reset(registry: CollectorRegistry) -> None:
    counter = Counter("c", "help", registry=registry)
    counter.inc(3)
    counter.reset()
    counter.inc()
    assert values(registry) == {"c_total{}": 1.0}


def test_the_store_is_emptied_between_tests(registry: CollectorRegistry) -> None:
    counter = Counter("c", "help", ["a"], registry=registry)
    counter.labels("x").inc(3, {"trace": "1"})
    # The engine refuses equal bounds.
    histogram = Histogram("h", "help", buckets=[1, 1, 2], registry=registry)
    histogram.observe(1)
    info = Info("i", "help", registry=registry)
    info.info({"version": "1"})
    state = Enum("e", "help", states=["off", "on"], registry=registry)
    state.state("on")
    created = counter.labels("x")._created
    prometheus.reset()
    emptied = values(registry)
    assert {name: value for name, value in emptied.items() if value} == {
        "i_info{}": 1.0,
        "e{'e': 'off'}": 1.0,
    }
    assert emptied["c_total{'a': 'x'}"] == 0
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    assert all(sample.exemplar is None for sample in samples)
    assert counter.labels("x")._created > created
    counter.labels("x").inc()
    histogram.observe(1)
    info.info({"version": "2"})
    assert values(registry)["c_total{'a': 'x'}"] == 1
    assert values(registry)["h_count{}"] == 1
    assert values(registry)["i_info{'version': '2'}"] == 1


def test_a_second_call_that_names_the_store_moves_the_metrics(tmp_path: Path) -> None:
    prometheus.install("memory:")
    try:
        prometheus.install(str(tmp_path / "ignored.shm"))
        assert not (tmp_path / "ignored.shm").exists()
    finally:
        prometheus.uninstall()
    output = run_program(
        """
        import os, sys
        import pytheus_backend_rs.prometheus as prometheus
        from prometheus_client import REGISTRY, Counter, Gauge
        prometheus.install()
        counter = Counter("c", "help")
        counter.inc(2)
        Gauge("build", "help", ["version"], multiprocess_mode="max").labels("1.2").set(7)
        prometheus.install(config["store"])
        prometheus.install()
        counter.inc()
        print(REGISTRY.get_sample_value("c_total"), os.path.exists(config["store"]))
        print(REGISTRY.get_sample_value("build", {"version": "1.2"}))
        """,
        {"store": str(tmp_path / "metrics.shm")},
        prelude="import json, os\nconfig = json.loads(os.environ['TEST_CONFIG'])\n",
    )
    assert output == "1.0 True\n7.0\n"


def test_warnings_of_the_program_stay(
    shared: str, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere")
    counter = Counter("c", "help", ["a"], registry=None)
    before = list(warnings.filters)

    def remove(name: str) -> None:
        for number in range(100):
            counter.labels(name + str(number)).inc()
            counter.remove(name + str(number))
        counter.clear()

    threads = [threading.Thread(target=remove, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before
    assert not list(recwarn)
    vars(metrics)["warnings"].warn("another one", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in recwarn] == ["another one"]


def test_metrics_that_were_made_before_are_adopted(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    counter = Counter("c", "help", ["a"], registry=registry)
    child = counter.labels("x")
    child.inc(2)
    histogram = Histogram("h", "help", buckets=[1], registry=registry)
    histogram.observe(0.5)
    Info("i", "help", registry=registry).info({"version": "1"})
    before = values(registry)
    prometheus.install(str(tmp_path / "metrics.shm"))
    try:
        assert values(registry) == before
        child.inc()
        everything = CollectorRegistry()
        MultiProcessCollector(everything)
        assert values(everything)["c_total{'a': 'x'}"] == 3
        assert values(everything)["i_info{'version': '1'}"] == 1
    finally:
        prometheus.uninstall()


def test_a_custom_collector_may_change_metrics(registry: CollectorRegistry) -> None:
    gauge = Gauge("g", "help", registry=registry)

    class Custom:
        def collect(self) -> list[prometheus_client.Metric]:
            gauge.set(7)
            return []

    registry.register(Custom())
    assert values(registry) == {"g{}": 7.0}


WORKERS = """
    counter = Counter("c", "help", ["a"], registry=registry)
    histogram = Histogram("h", "help", buckets=[1], registry=registry)
    live = Gauge("live", "help", multiprocess_mode="livesum", registry=registry)
    last = Gauge("last", "help", multiprocess_mode="sum", registry=registry)
    counter.labels("x").inc()
    children = []
    for _ in range(4):
        children.append(os.fork())
        if children[-1] == 0:
            for _ in range(1000):
                counter.labels("x").inc()
                histogram.observe(0.5)
            live.set(1)
            last.set(1)
            pytheus_backend_rs.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    for child in children:
        os.waitpid(child, 0)
"""


def test_all_processes_count_in_one_store(shared: str) -> None:
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    run_program(INSTALL + WORKERS, {"store": shared})
    found = values(registry)
    assert found["c_total{'a': 'x'}"] == 4001
    assert found["h_count{}"] == 4000
    assert found["h_sum{}"] == 2000
    if not shared.startswith("redis:"):
        # A server has no value of each process.
        assert found["last{}"] == 4
        assert found.get("live{}", 0) == 0


@pytest.mark.parametrize("shared", ["file"], indirect=True)
def test_a_series_that_another_process_has_removed_comes_back(shared: str) -> None:
    registry = CollectorRegistry()
    counter = Counter("c", "help", ["a"], registry=registry)
    child = counter.labels("x")
    child.inc(5)
    removal = '    Counter("c", "help", ["a"], registry=registry).remove("x")'
    run_program(INSTALL + removal, {"store": shared})
    assert values(registry) == {}
    child.inc()
    assert values(registry) == {"c_total{'a': 'x'}": 1.0}


def test_a_store_that_cannot_be_used_breaks_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("PYTHEUS_BACKEND_RS_STORE", str(tmp_path / "file" / "metrics.shm"))
    prometheus.install()
    assert not prometheus.is_installed()
    assert "keeps its values in each process" in caplog.text
    registry = CollectorRegistry()
    Counter("c", "help", registry=registry).inc()
    assert values(registry) == {"c_total{}": 1.0}


@pytest.mark.parametrize("variable", ["PROMETHEUS_MULTIPROC_DIR", "PYTHEUS_BACKEND_RS_STORE"])
def test_the_environment_names_the_store(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_folder = variable == "PROMETHEUS_MULTIPROC_DIR"
    monkeypatch.setenv(variable, str(tmp_path if is_folder else tmp_path / "metrics.shm"))
    prometheus.install()
    try:
        Counter("c", "help", registry=CollectorRegistry()).inc()
        assert (tmp_path / "metrics.shm").exists()
        assert [path.name for path in tmp_path.glob("*.db")] == []
    finally:
        prometheus.uninstall()


@pytest.mark.parametrize("where", ["memory", "file", "redis"])
def test_a_store_that_keeps_exemplars_shows_those_of_all_processes(
    request: pytest.FixtureRequest, tmp_path: Path, where: str
) -> None:
    store = store_named(where, request, tmp_path)
    prometheus.install(store, exemplars=["c_total", "h"])
    try:
        registry = CollectorRegistry()
        counter = Counter("c", "help", ["a"], registry=registry)
        histogram = Histogram("h", "help", ["a"], buckets=[1, 2], registry=registry)
        without = Counter("without", "help", ["a"], registry=registry)
        counter.labels("x").inc(3, {"trace": "counter"})
        histogram.labels("x").observe(1, {"trace": "bound"})
        # The store has no room for it.
        histogram.labels("x").observe(1.5, {"long": "\u20ac" * 100})
        without.labels("x").inc(1, {"trace": "without"})
        # Of two, the newer one is shown, wherever it is.
        histogram.labels("z").observe(1, {"trace": "older"})
        histogram.labels("z").observe(1, {"long": "\u20ac" * 100})
        expected = {
            ("h_bucket", "z", "1.0"): {"long": "\u20ac" * 100},
            ("c_total", "x", ""): {"trace": "counter"},
            ("h_bucket", "x", "1.0"): {"trace": "bound"},
            ("h_bucket", "x", "2.0"): {"long": "\u20ac" * 100},
            ("without_total", "x", ""): {"trace": "without"},
        }
        if where != "memory":
            run_program(
                """
                import pytheus_backend_rs.prometheus
                from prometheus_client import Counter, Histogram
                pytheus_backend_rs.prometheus.install(config["store"], exemplars=True)
                Counter("c", "help", ["a"]).labels("y").inc(2, {"trace": "theirs"})
                Histogram("h", "help", ["a"], buckets=[1, 2]).labels("x").observe(9, {"trace": "theirs"})
                """,
                {"store": store},
                prelude="import json, os\nconfig = json.loads(os.environ['TEST_CONFIG'])\n",
            )
            expected["c_total", "y", ""] = expected["h_bucket", "x", "+Inf"] = {"trace": "theirs"}

        def shown() -> dict[tuple[str, str, str], dict[str, str]]:
            samples = [sample for metric in registry.collect() for sample in metric.samples]
            return {
                (one.name, one.labels["a"], one.labels.get("le", "")): one.exemplar.labels
                for one in samples
                if one.exemplar is not None
            }

        assert shown() == expected
        text = openmetrics_exposition.generate_latest(registry).decode()
        assert text.count(" # {") == len(expected)
        prometheus.reset()
        assert shown() == {}
    finally:
        prometheus.uninstall()
