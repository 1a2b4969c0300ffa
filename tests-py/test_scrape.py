"""What a scrape of a `RedisBackend` shows, and in which order.

`_generate_samples` is the mapping that pytheus documents. `generate_metrics` writes it as the text that
Prometheus reads.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest
import pytheus_backend_rs
from pytheus import backends
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter, CustomCollector, Gauge, Histogram, Sample, Summary
from pytheus.registry import REGISTRY, CollectorRegistry
from pytheus_backend_rs import BackendError, RedisBackend, SingleProcessAtomicBackend
from pytheus_backend_rs.pytheus import scrape

from programs import run_program
from redis_server import Server

pytestmark = pytest.mark.usefixtures("redis_backend")


def samples_of(metric: Any) -> list[Sample]:
    samples: list[Sample] = RedisBackend._generate_samples(REGISTRY)[metric._collector]
    return samples


def test_collectors_are_in_registry_order() -> None:
    metrics = [Gauge("z", "help"), Counter("a", "help"), Summary("m", "help")]
    assert list(RedisBackend._generate_samples(REGISTRY)) == [metric._collector for metric in metrics]


def test_labelled_metrics_are_sorted_by_their_labels_json() -> None:
    counter = Counter("requests_total", "help", required_labels=["path", "code"])
    for path, code in [("/b", "1"), ("/a", "2"), ("/c", "1"), ("/a", "1"), ("/é", "0")]:
        counter.labels(path=path, code=code).inc()
    keys = [(sample.labels or {})["code"] + (sample.labels or {})["path"] for sample in samples_of(counter)]
    assert keys == ["0/é", "1/a", "1/b", "1/c", "2/a"]


def test_a_histogram_is_its_buckets_then_count_then_sum() -> None:
    histogram = Histogram("size", "help", buckets=[0.5, 2, 10])
    for value in (0.25, 1, 1, 50):
        histogram.observe(value)
    assert samples_of(histogram) == [
        Sample("_bucket", {"le": "0.5"}, 1.0),
        Sample("_bucket", {"le": "2"}, 3.0),
        Sample("_bucket", {"le": "10"}, 3.0),
        Sample("_bucket", {"le": "+Inf"}, 4.0),
        Sample("_count", None, 4.0),
        Sample("_sum", None, 52.25),
    ]


def test_a_summary_is_its_count_then_sum() -> None:
    summary = Summary("latency", "help", required_labels=["a"])
    summary.labels(a="x").observe(2.5)
    assert samples_of(summary) == [Sample("_count", {"a": "x"}, 1.0), Sample("_sum", {"a": "x"}, 2.5)]


def test_metrics_that_were_never_counted_are_zero() -> None:
    counter = Counter("requests_total", "help")
    gauge = Gauge("level", "help", required_labels=["a"])
    gauge.labels(a="x")
    assert samples_of(counter) == [Sample("", None, 0.0)]
    assert samples_of(gauge) == [Sample("", {"a": "x"}, 0.0)]


def test_a_scrape_shows_every_count_before_it() -> None:
    counter = Counter("requests_total", "help")
    for expected in range(1, 201):
        counter.inc()
        assert f"requests_total {expected}.0\n" in generate_metrics()


def test_series_of_other_processes_are_shown(server: Server) -> None:
    program = """
        load_backend(RedisBackend, config)
        Counter("requests_total", "help", required_labels=["who"]).labels(who='ot"h\\\\er\\n').inc(4)
        Histogram("size", "help", ["who"], buckets=[1, 10]).labels(who="other").observe(7)
        Summary("latency", "help").observe(0.5)
    """
    run_program(program, server.config)
    counter = Counter("requests_total", "help", required_labels=["who"])
    Histogram("size", "help", ["who"], buckets=[1, 10])
    Summary("latency", "help")
    counter.labels(who="self").inc(1)
    text = generate_metrics()
    assert 'requests_total{who="ot\\"h\\\\er\\n"} 4.0\nrequests_total{who="self"} 1.0\n' in text
    assert 'size_bucket{who="other",le="1"} 0.0\nsize_bucket{who="other",le="10"} 1.0\n' in text
    assert 'size_count{who="other"} 1.0\nsize_sum{who="other"} 7.0\n' in text
    assert "latency_count 1.0\nlatency_sum 0.5\n" in text
    assert [(sample.labels or {})["who"] for sample in samples_of(counter)] == ['ot"h\\er\n', "self"]


class Custom(CustomCollector):
    def __init__(self) -> None:
        self.calls = 0

    def collect(self) -> Any:
        self.calls += 1
        counter = Counter("custom_total", "a counter", registry=None)
        counter.inc(5)
        yield counter
        gauge = Gauge("custom_level", "a gauge", required_labels=["a"], registry=None)
        gauge.labels(a="x").set(3)
        yield gauge
        histogram = Histogram("custom_size", "a histogram", buckets=[1, 2], registry=None)
        histogram.observe(1.5)
        yield histogram


CUSTOM_TEXT = """\
# HELP custom_total a counter
# TYPE custom_total counter
custom_total 5.0
# HELP custom_level a gauge
# TYPE custom_level gauge
custom_level{a="x"} 3.0
# HELP custom_size a histogram
# TYPE custom_size histogram
custom_size_bucket{le="1"} 0.0
custom_size_bucket{le="2"} 1.0
custom_size_bucket{le="+Inf"} 1.0
custom_size_sum 1.5
custom_size_count 1.0"""


def test_custom_collectors_show_the_values_of_this_scrape() -> None:
    before, custom, after = Counter("before_total", "help"), Custom(), Counter("after_total", "help")
    REGISTRY.register(custom)
    last = Counter("last_total", "help")
    for number in range(1, 4):
        for counter in (before, after, last):
            counter.inc()
        parts = generate_metrics().split("# HELP ")
        assert f"before_total {number}.0" in parts[1]
        assert f"after_total {number}.0" in parts[2]
        assert "# HELP " + "# HELP ".join(parts[3:6]).strip() == CUSTOM_TEXT
        assert f"last_total {number}.0" in parts[6]


def test_custom_collectors_run_once_in_a_scrape() -> None:
    custom = Custom()
    REGISTRY.register(custom)
    before = custom.calls
    generate_metrics()
    assert custom.calls == before + 1


def test_custom_collectors_are_in_the_mapping() -> None:
    custom = Custom()
    REGISTRY.register(custom)
    samples = RedisBackend._generate_samples(REGISTRY)[custom]
    assert samples[:2] == [Sample("", None, 5.0), Sample("", {"a": "x"}, 3.0)]


def test_custom_collectors_have_no_prefix_as_in_pytheus() -> None:
    registry = CollectorRegistry(prefix="app")
    registry.register(Custom())
    Counter("requests_total", "help", registry=registry).inc()
    text = generate_metrics(registry)
    assert CUSTOM_TEXT in text
    assert (
        "# HELP app_requests_total help\n# TYPE app_requests_total counter\napp_requests_total 1.0\n" in text
    )


def test_custom_collectors_leave_nothing_on_the_server(server: Server) -> None:
    REGISTRY.register(Custom())
    generate_metrics()
    RedisBackend._engine().flush(5)
    assert not [key for key in server.client().scan_iter() if "custom" in key]


def test_a_custom_collector_may_show_metrics_that_it_keeps() -> None:
    kept = Counter("kept_total", "help", registry=None)

    class Keeping(CustomCollector):
        def collect(self) -> Any:
            kept.inc()
            return [kept]

    REGISTRY.register(Keeping())
    kept.inc(10)
    first = generate_metrics()
    second = generate_metrics()
    # Registering collects once too.
    assert "kept_total 12.0\n" in first
    assert "kept_total 13.0\n" in second


def test_metrics_of_the_program_that_a_custom_collector_counts_are_shared(server: Server) -> None:
    """The collector is the first to use a label set of a metric that belongs to the program."""
    scrapes = Counter("scrapes_total", "help", required_labels=["number"])

    class Counting(CustomCollector):
        calls = 0

        def collect(self) -> Any:
            self.calls += 1
            scrapes.labels(number=str(self.calls)).inc()
            return []

    REGISTRY.register(Counting())
    generate_metrics()
    scrapes.labels(number="2").inc()
    text = generate_metrics()
    assert 'scrapes_total{number="1"} 1.0\n' in text
    assert 'scrapes_total{number="2"} 2.0\n' in text
    RedisBackend._engine().flush(5)
    assert server.client().hget("scrapes_total", '{"number":"2"}') == "2"


def test_a_custom_collector_may_be_unhashable() -> None:
    @dataclasses.dataclass
    class Plain(CustomCollector):
        value: float

        def collect(self) -> Any:
            gauge = Gauge("plain_level", "help", registry=None)
            gauge.set(self.value)
            return [gauge]

    REGISTRY.register(Plain(4))
    assert "plain_level 4.0\n" in generate_metrics()


def test_a_collector_that_makes_its_own_samples_is_shown() -> None:
    """pytheus' `Collector` protocol: name, description, type_, collect."""

    class Own:
        name = "own_level"
        description = "help"
        type_ = "gauge"

        def collect(self) -> list[Sample]:
            return [Sample("", {"a": "b"}, 4.0)]

    REGISTRY.register(Own())  # type: ignore[arg-type]
    Counter("requests_total", "help").inc()
    text = generate_metrics()
    assert '# HELP own_level help\n# TYPE own_level gauge\nown_level{a="b"} 4.0\n' in text
    assert "requests_total 1.0\n" in text


class Failing(CustomCollector):
    """Fails behind its first metric, but not when it is registered."""

    fails = False

    def collect(self) -> Any:
        made = Counter("made_total", "help", registry=None)
        made.inc()
        yield made
        if self.fails:
            raise KeyError("mine")


@pytest.mark.parametrize("generate", [generate_metrics, pytheus_backend_rs.generate_metrics])
def test_a_custom_collector_that_raises_costs_its_own_families_and_is_logged_once(
    generate: Callable[[], str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrape, "_reported", set())
    failing = Failing()
    REGISTRY.register(failing)
    counter = Counter("requests_total", "help")
    counter.inc()
    failing.fails = True
    for _ in range(3):
        text = generate()
        assert "\nrequests_total 1" in text and "made_total" not in text
    (record,) = (record for record in caplog.records if record.levelname == "ERROR")
    assert "Failing is left out of scrapes" in record.getMessage() and "mine" in record.getMessage()
    failing.fails = False
    assert "\nmade_total 1" in generate()


def test_metrics_created_after_a_failed_collect_are_shared() -> None:
    failing = Failing()
    REGISTRY.register(failing)
    counter = Counter("requests_total", "help")
    failing.fails = True
    generate_metrics()
    Counter("late_total", "help").inc(2)
    counter.inc()
    assert "late_total 2.0\n" in generate_metrics()
    late = Counter("late_total", "help", registry=None)
    assert late._metric_value_backend is not None
    assert late._metric_value_backend.get() == 2


def test_a_family_without_metrics_has_help_and_type_only() -> None:
    Counter("requests_total", "help", required_labels=["a"])
    assert generate_metrics() == "# HELP requests_total help\n# TYPE requests_total counter\n"


def test_an_empty_registry_is_an_empty_text() -> None:
    assert generate_metrics() == "\n"


def test_registries_show_their_own_metrics_and_share_values_of_one_name() -> None:
    first, second = CollectorRegistry(), CollectorRegistry(prefix="app")
    Counter("first_total", "help", registry=first).inc(1)
    Counter("both_total", "help", registry=first).inc(2)
    Counter("both_total", "help", registry=second).inc(3)
    assert "first_total 1.0\n" in generate_metrics(first)
    assert "both_total 5.0\n" in generate_metrics(first)
    assert "first_total" not in generate_metrics(second)
    assert "app_both_total 5.0\n" in generate_metrics(second)


def test_a_key_of_another_type_spoils_nothing_else(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    server.client().lpush("broken_total", "not", "ours")
    broken = Counter("broken_total", "help")
    good = Counter("good_total", "help")
    broken.inc(1)
    good.inc(2)
    text = generate_metrics()
    assert "good_total 2.0\n" in text
    assert "\nbroken_total " not in text
    assert any("broken_total" in record.getMessage() for record in caplog.records)
    assert server.client().lrange("broken_total", 0, -1) == ["ours", "not"]
    broken.inc(3)
    server.client().delete("broken_total")
    assert "broken_total 4.0\n" in generate_metrics(), "what was counted meanwhile is kept"


BAD_FAMILIES = {
    "equal bounds": lambda registry: Histogram("bad", "help", buckets=[1, 1], registry=registry),
    "NUL in help": lambda registry: Counter("bad", "he\0lp", registry=registry),
    "NUL in help, with labels": lambda registry: Counter("bad", "he\0lp", ["a"], registry=registry),
    "surrogate in help": lambda registry: Counter("bad", "he\ud800lp", ["a"], registry=registry),
}


@pytest.mark.parametrize("reason", BAD_FAMILIES)
def test_a_family_that_is_refused_spoils_nothing_else(reason: str) -> None:
    """pytheus registers a metric before its backend can refuse it."""
    good = Counter("good_total", "help", registry=None)
    registry = CollectorRegistry()
    other = Counter("other_total", "help", registry=registry)
    good.inc(2)
    other.inc(3)
    try:
        BAD_FAMILIES[reason](registry)
    except (BackendError, ValueError):
        pass
    assert "other_total 3.0\n" in generate_metrics(registry)


def test_a_family_called_as_the_key_of_definitions_works_or_is_refused() -> None:
    """`pytheus:families` is a valid metric name."""
    Counter("requests_total", "help").inc(1)
    RedisBackend._engine().flush(5)
    try:
        counter = Counter("pytheus:families", "help")
    except ValueError as error:
        assert "pytheus:families" in str(error)
    else:
        counter.inc(2)
        assert "pytheus:families 2.0\n" in generate_metrics()
    assert "requests_total 1.0\n" in generate_metrics()


def test_text_of_help_and_labels_is_escaped() -> None:
    counter = Counter("requests_total", 'a\\b\n"c"', required_labels=["a"])
    counter.labels(a='x\\y\n"z"').inc()
    assert generate_metrics() == (
        '# HELP requests_total a\\\\b\\n"c"\n# TYPE requests_total counter\n'
        'requests_total{a="x\\\\y\\n\\"z\\""} 1.0\n'
    )


# Sums of these amounts are exact in doubles, so they do not depend on the batches.
AMOUNTS = [0, 1, 0.25, 3.75, 1e6, 2.0**-20]
SET_VALUES = [*AMOUNTS, -1, -0.5, float("inf"), float("-inf"), float("nan")]
OBSERVED = [2.0**-8, 0.25, 1, 2.5, 7, 10, 10.5, 1e6, -3, float("inf")]
LABELS = ["", "x", "/path?q=1", 'q"\\\n', "é€😀", "a b", "}#sum", "{}", "\x7f\x01\t"]


def operate(seed: int) -> str:
    """Does the same things for the same seed, and returns the text of a scrape."""
    choice = random.Random(seed).choice
    registry = CollectorRegistry(prefix=choice([None, "app"]))
    counters = [Counter("plain_total", "help", registry=registry)]
    gauges = [Gauge("plain_level", "help", registry=registry)]
    histograms = [Histogram("plain_size", "help", registry=registry)]
    summaries = [Summary("plain_latency", "help", registry=registry)]
    labels = {"required_labels": ["b", "a"], "registry": registry}
    default = {"default_labels": {"a": "default"}, **labels}
    for index, families in enumerate((counters, gauges, summaries)):
        kind = type(families[0])
        families += [kind(f"labelled{index}", "help", **labels), kind(f"default{index}", "help", **default)]
    bounds = choice([[1], [-1, 0, 0.5, 10.0], [1e-3, 1e3, float("inf")], [0.1, 0.25, 1, 2.5, 1e6]])
    histograms.append(Histogram("labelled3", "help", buckets=bounds, **labels))

    def one(families: list[Any]) -> Any:
        family = choice(families)
        if family._can_observe:
            return family
        values = {"b": choice(LABELS)}
        if not family._collector._default_labels or choice([True, False]):
            values["a"] = choice(LABELS)
        return family.labels(values)

    for _ in range(300):
        action = choice(["inc", "up", "down", "set", "observe", "summary"])
        if action == "inc":
            one(counters).inc(choice(AMOUNTS))
        elif action == "up":
            one(gauges).inc(choice(AMOUNTS))
        elif action == "down":
            one(gauges).dec(choice(AMOUNTS))
        elif action == "set":
            one(gauges).set(choice(SET_VALUES))
        else:
            one(histograms if action == "observe" else summaries).observe(choice(OBSERVED))
    return generate_metrics(registry)


@pytest.mark.parametrize("seed", range(12))
def test_the_lines_are_those_of_the_memory_backend(server: Server, seed: int) -> None:
    shared = operate(seed)
    backends.load_backend(SingleProcessAtomicBackend, {})
    alone = operate(seed)
    assert sorted(shared.splitlines()) == sorted(alone.splitlines())


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
def test_values_that_are_not_finite_break_nothing(server: Server, value: float) -> None:
    gauge = Gauge("level", "help")
    histogram = Histogram("size", "help", buckets=[1])
    other = Counter("other_total", "help")
    gauge.set(value)
    histogram.observe(value)
    other.inc()
    RedisBackend._engine().flush(5)
    gauge.inc(1)
    other.inc()
    text = generate_metrics()
    assert f"\nlevel {value}\n" in text
    assert f"size_count 1.0\nsize_sum {value}\n" in text
    assert "other_total 2.0\n" in text


@pytest.mark.parametrize(
    "value", [0.1 + 0.2, 1 / 3, 1e300, -1e-300, 5e-324, 2.0**53 + 2, 123456789.123456789, 1e22]
)
def test_doubles_come_back_as_they_were(value: float) -> None:
    gauge = Gauge("level", "help")
    gauge.set(value)
    counter = Counter("amount_total", "help")
    counter.inc(abs(value))
    text = generate_metrics()
    assert f"\nlevel {value}\n" in text
    assert f"\namount_total {abs(value)}\n" in text
