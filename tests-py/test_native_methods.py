"""The native methods on pytheus' metrics: the same as pytheus' own in everything that a program can see.

Most tests do a thing twice, by the method on the instance and by that of pytheus' class, and compare.
"""

from __future__ import annotations

import asyncio
import copy
import decimal
import enum
import fractions
import gc
import inspect
import pickle
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy
import pytest
import pytheus.metrics
from pytheus import backends
from pytheus.exceptions import LabelValidationException, UnobservableMetricException
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter, Gauge, Histogram, Summary
from pytheus_backend_rs import (
    ConfigurationError,
    RedisBackend,
    SharedMemoryBackend,
    SingleProcessAtomicBackend,
)
from pytheus_backend_rs._engine import open_engines

from programs import run_program
from redis_server import Server


class Half(float):
    def __float__(self) -> float:
        return self / 2


class Level(enum.IntEnum):
    HIGH = 7


class Number:
    def __float__(self) -> float:
        return 2.5


class Unwilling:
    def __lt__(self, _other: object) -> bool:
        raise RuntimeError("not today")

    def __float__(self) -> float:
        raise RuntimeError("not today")


class Untrue(int):
    def __float__(self) -> float:
        return 100.0


AMOUNTS: list[Any] = [
    0, 1, -0.0, 2.5, True, False, 10**22, 2**63, 1e308, float("inf"), -1, -0.5, float("-inf"), float("nan"), 10**400,
    -(10**400), 10**5000, decimal.Decimal("2.5"), decimal.Decimal(-1), decimal.Decimal("sNaN"),
    fractions.Fraction(5, 2), fractions.Fraction(-1, 2), Half(3), Half(-3), Level.HIGH, Untrue(3), Untrue(-3),
    Number(), Unwilling(), None, "5", b"1", [1], object(), 1j,
    numpy.float64(2.5), numpy.float64(-2.5), numpy.float64("nan"), numpy.float32(2.5), numpy.float16(-1),
    numpy.int64(3), numpy.int8(-3), numpy.uint64(2**63), numpy.bool_(True), numpy.array(2.5), numpy.array([1.0, 2.0]),
]  # fmt: skip

#: Positional arguments and keywords of a call.
CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    *(((amount,), {}) for amount in AMOUNTS),
    *(((), {"value": amount}) for amount in AMOUNTS),
    ((), {}),
    ((1, 2), {}),
    ((1,), {"value": 1}),
    ((), {"amount": 1}),
    ((), {"value": 1, "amount": 1}),
    ((1,), {"amount": 1}),
]


@pytest.fixture
def memory() -> None:
    backends.load_backend(SingleProcessAtomicBackend, {})


def is_native(metric: Any, name: str) -> bool:
    return name in vars(metric)


def samples(metric: Any) -> str:
    return str(list(metric._collector.collect()))


def outcome(call: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Returns the result of a call, or type and text of its exception."""
    try:
        return call(*arguments, **named)
    except Exception as error:
        return type(error), str(error).replace("'two'", "'one'")


def own(metric: Any, name: str) -> Callable[..., Any]:
    """The method that pytheus' class has, on an instance that has another."""
    method: Callable[..., Any] = getattr(type(metric), name).__get__(metric)
    return method


@pytest.mark.parametrize(("make", "name"), [(Counter, "inc"), (Histogram, "observe"), (Summary, "observe")])
def test_a_call_does_what_the_method_of_the_class_does(memory: None, make: Any, name: str) -> None:
    for arguments, named in CALLS:
        one, other = make("one", "help", registry=None), make("two", "help", registry=None)
        assert is_native(one, name)
        for _ in range(2):
            native = outcome(getattr(one, name), arguments, named)
            assert native == outcome(own(other, name), arguments, named), (arguments, named)
        assert samples(one) == samples(other), (arguments, named)


@pytest.mark.parametrize("name", ["inc", "dec", "set"])
def test_a_gauge_and_its_value_do_what_the_methods_of_the_classes_do(memory: None, name: str) -> None:
    for amount in AMOUNTS:
        one, other = Gauge("one", "help", registry=None), Gauge("two", "help", registry=None)
        assert is_native(one._metric_value_backend, name) and not is_native(one, name)
        for arguments, named in (((amount,), {}), ((), {"value": amount}), ((), {}), ((amount, 1), {})):
            native = outcome(getattr(one._metric_value_backend, name), arguments, named)
            assert native == outcome(own(other._metric_value_backend, name), arguments, named)
        getattr(one, name)(2)
        getattr(other, name)(2)
        assert samples(one) == samples(other)


def test_every_backend_counts_by_native_methods(backend: Any) -> None:
    counter = Counter("requests_total", "help")
    histogram = Histogram("size", "help", buckets=[1, 2])
    summary = Summary("latency", "help", required_labels=["a"])
    counter.inc()
    counter.inc(2.5)
    histogram.observe(1.5)
    summary.labels(a="x").observe(3)
    summary.labels({"a": "x"}).observe(value=0.5)
    assert is_native(counter, "inc") and is_native(histogram, "observe")
    assert is_native(summary, "labels") and is_native(summary.labels(a="x"), "observe")
    text = generate_metrics()
    assert "\nrequests_total 3.5\n" in text
    assert 'size_bucket{le="1"} 0.0\nsize_bucket{le="2"} 1.0\nsize_bucket{le="+Inf"} 1.0\n' in text
    for line in ("size_sum 1.5", 'latency_sum{a="x"} 3.5', 'latency_count{a="x"} 2.0'):
        assert f"\n{line}\n" in text


def test_the_option_switches_native_methods_off(backend_class: Any, config: dict[str, Any]) -> None:
    backends.load_backend(backend_class, {**config, "native_methods": False})
    labelled = Counter("labelled_total", "help", required_labels=["a"])
    metrics = [
        Counter("a_total", "help"),
        Histogram("b", "help"),
        Summary("c", "help"),
        labelled.labels(a="x"),
    ]
    gauge = Gauge("d", "help")
    for metric in (labelled, gauge, gauge._metric_value_backend, *metrics):
        assert not {"inc", "dec", "set", "observe", "labels"} & vars(metric).keys()
    metrics[0].inc(2)
    assert "a_total 2.0\n" in generate_metrics()


@pytest.mark.parametrize("value", [True, None])
def test_the_option_is_on_by_default(backend_class: Any, config: dict[str, Any], value: Any) -> None:
    backends.load_backend(backend_class, {**config, "native_methods": value})
    assert is_native(Counter("requests_total", "help"), "inc")


@pytest.mark.parametrize("value", ["yes", "false", 0, 1, []])
def test_the_option_is_a_bool(backend_class: Any, config: dict[str, Any], value: Any) -> None:
    with pytest.raises(ConfigurationError, match="native_methods"):
        backends.load_backend(backend_class, {**config, "native_methods": value})


def test_a_subclass_keeps_its_own_methods(memory: None) -> None:
    calls: list[Any] = []

    class Mine(Counter):
        def inc(self, value: float = 1.0) -> None:
            calls.append(value)
            super().inc(2 * value)

        def labels(self, *arguments: Any, **named: Any) -> Any:
            calls.append(named)
            return super().labels(*arguments, **named)

    class Strict(Counter):
        def _raise_if_cannot_observe(self) -> None:
            raise UnobservableMetricException("always")

    class Plain(Counter):
        pass

    mine = Mine("mine_total", "help", required_labels=["a"])
    mine.labels(a="x").inc(3)
    mine.labels(a="x").inc()
    assert calls == [{"a": "x"}, 3, {"a": "x"}, 1]
    assert not is_native(mine, "labels")
    assert mine.labels(a="x")._metric_value_backend.get() == 8
    with pytest.raises(UnobservableMetricException):
        Strict("strict_total", "help").inc()
    assert is_native(Plain("plain_total", "help"), "inc")


def test_an_instance_keeps_its_own_method(memory: None) -> None:
    class Mine(Counter):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            self.inc = mock.Mock()  # type: ignore[method-assign]
            super().__init__(*arguments, **named)

    mine = Mine("mine_total", "help")
    mine.inc(1)
    mine.inc.assert_called_once_with(1)  # type: ignore[attr-defined]


def test_a_class_that_was_patched_is_left_alone(memory: None) -> None:
    original = Counter.inc
    seen = []

    def inc(self: Counter, value: float = 1.0) -> None:
        seen.append(value)
        original(self, value)

    with mock.patch.object(Counter, "inc", inc):
        Counter("requests_total", "help").inc(3)
    with mock.patch.object(Histogram, "observe") as observe:
        Histogram("size", "help").observe(2)
    assert seen == [3]
    observe.assert_called_once_with(2)


def test_a_class_that_is_patched_later_is_seen_with_the_option_off() -> None:
    for is_on in (True, False):
        backends.load_backend(SingleProcessAtomicBackend, {"native_methods": is_on})
        counter = Counter("requests_total", "help", registry=None)
        with mock.patch.object(Counter, "inc") as inc:
            counter.inc()
        assert inc.called is not is_on


def test_an_instance_is_patched_and_restored(memory: None) -> None:
    counter = Counter("requests_total", "help")
    with mock.patch.object(counter, "inc") as inc:
        counter.inc(4)
    inc.assert_called_once_with(4)
    counter.inc()
    assert counter._metric_value_backend.get() == 1


def test_the_backend_of_a_gauge_can_be_replaced(memory: None) -> None:
    gauge = Gauge("level", "help")
    gauge._metric_value_backend = mock.Mock()
    gauge.inc(2)
    gauge._metric_value_backend.inc.assert_called_once_with(2)


def test_a_backend_that_has_its_own_methods_is_asked() -> None:
    added = []

    class Mine(SingleProcessAtomicBackend):
        def inc(self, value: float) -> None:
            added.append(value)
            super().inc(value)

    backends.load_backend(Mine, {})
    Counter("requests_total", "help").inc(2)
    Histogram("size", "help").observe(3)
    Gauge("level", "help").inc(4)
    assert [value for value in added if value != 1] == [2, 3, 4]


def test_a_backend_around_ours_is_asked(memory: None) -> None:
    added = []

    class Around:
        def __init__(self, config: Any, metric: Any, histogram_bucket: str | None = None) -> None:
            self.inner = SingleProcessAtomicBackend(config, metric, histogram_bucket)

        def inc(self, value: float) -> None:
            added.append(value)
            self.inner.inc(value)

        def dec(self, value: float) -> None:
            self.inner.dec(value)

        def set(self, value: float) -> None:
            self.inner.set(value)

        def get(self) -> float:
            return self.inner.get()

    backends.load_backend(Around, {})
    Counter("requests_total", "help").inc(2)
    Summary("latency", "help").observe(3)
    assert added == [2, 3, 1]


def test_a_view_that_the_program_makes_changes_nothing_on_the_metric(memory: None) -> None:
    backends.load_backend()
    metrics = [Counter("a_total", "help"), Histogram("b", "help"), Gauge("c", "help")]
    SingleProcessAtomicBackend({}, metrics[0]).inc(5)
    SingleProcessAtomicBackend({}, metrics[1], "sum").inc(5)
    SingleProcessAtomicBackend({}, metrics[2]).inc(5)
    for metric in metrics:
        assert not {"inc", "observe"} & vars(metric).keys()
    assert metrics[0]._metric_value_backend.get() == 0


def test_a_metric_that_cannot_be_observed_has_none(memory: None) -> None:
    counter = Counter("requests_total", "help", required_labels=["a", "b"])
    histogram = Histogram("size", "help", required_labels=["a"])
    partial = counter.labels(a="x")
    counter.labels(a="x", b="y").inc()
    histogram.labels(a="x").observe(1)
    for refused in (counter.inc, partial.inc, lambda: histogram.observe(1)):
        with pytest.raises(UnobservableMetricException):
            refused()
    assert (
        not is_native(counter, "inc") and not is_native(partial, "inc") and not is_native(partial, "labels")
    )


def test_decorators_and_context_managers_count(memory: None) -> None:
    counter, histogram, summary = Counter("a_total", "help"), Histogram("b", "help"), Summary("c", "help")

    @counter
    def fail(_amount: int = 1) -> None:
        raise ValueError

    @counter(exceptions=KeyError)
    def fail_otherwise() -> None:
        raise ValueError

    @counter
    async def fail_later() -> None:
        raise ValueError

    @histogram
    def work() -> int:
        return 1

    @summary
    async def work_later() -> int:
        return 2

    for failing in (fail, fail_otherwise, lambda: asyncio.run(fail_later())):
        with pytest.raises(ValueError):
            failing()
    with pytest.raises(ValueError), counter.count_exceptions(ValueError):
        raise ValueError
    with counter.count_exceptions(), histogram.time(), summary.time():
        pass
    assert (work(), asyncio.run(work_later())) == (1, 2)
    assert counter._metric_value_backend.get() == 3
    assert histogram._count.get() == summary._count.get() == 2


def test_native_methods_look_like_methods(memory: None) -> None:
    counter, histogram = Counter("a_total", "help"), Histogram("b", "help")
    assert counter.inc.__name__ == "inc" and histogram.observe.__name__ == "observe"
    assert "Increments the value" in (counter.inc.__doc__ or "")
    assert "Observe the given value" in (histogram.observe.__doc__ or "")
    assert callable(counter.inc) and not inspect.iscoroutinefunction(counter.inc)
    assert counter.inc == counter.inc


LABELS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {"b": "y", "a": "x"}),
    ((), {"a": "x", "b": "y"}),
    (({"b": "y", "a": "x"},), {}),
    ((OrderedDict(b="y", a="x"),), {}),
    ((), {"pytheus_labels_": {"a": "x", "b": "y"}}),
    ((), {"pytheus_labels_": None, "a": "x", "b": "y"}),
    ((None,), {"a": "x", "b": "y"}),
    ((), {"a": "y", "b": "x"}),
    ((), {"a": 1, "b": 2.5}),
    ((), {"a": True, "b": None}),
    (({},), {"a": "x", "b": "y"}),
    (({},), {}),
    ((), {}),
    ((None,), {}),
    (({"a": "x"},), {"b": "y"}),
    (({"a": "x", "b": "y"},), {"a": "x", "b": "y"}),
    ((), {"a": "x", "c": "y"}),
    ((), {"a": "x", "b": "y", "c": "z"}),
    (({"a": "x", 5: "y"},), {}),
    (({"a": "x", "b": []},), {}),
    ((), {"a": "x", "b": {}}),
    (("x", "y"), {}),
    ((5,), {}),
    (([("a", "x"), ("b", "y")],), {}),
]


@pytest.mark.parametrize(("arguments", "named"), LABELS)
@pytest.mark.parametrize("default_labels", [None, {"b": "z"}, {"a": "v", "b": "z"}])
def test_labels_gives_what_the_method_of_the_class_gives(
    memory: None, default_labels: Any, arguments: tuple[Any, ...], named: dict[str, Any]
) -> None:
    counter = Counter("requests_total", "help", ["b", "a"], default_labels=default_labels)
    children = counter._collector._labeled_metrics
    expected = counter.labels(a="x", b="y")
    assert is_native(counter, "labels")
    pytheus_ = outcome(own(counter, "labels"), arguments, named)
    known = dict(children)
    native = outcome(counter.labels, arguments, named)
    if isinstance(pytheus_, Counter) and pytheus_ in children.values():
        assert native is pytheus_
    elif isinstance(pytheus_, Counter):
        assert native is pytheus_ is counter or native._labels == pytheus_._labels
    else:
        assert native == pytheus_
    assert children == known
    # Also when it is native that comes first.
    children.clear()
    children["x", "y"] = expected
    assert str(outcome(counter.labels, arguments, named)) == str(pytheus_)
    assert children.keys() == known.keys()


def test_labels_of_one_name_and_of_names_made_at_run_time(memory: None) -> None:
    counter = Counter("requests_total", "help", required_labels=["".join(["na", "me"])])
    child = counter.labels(name="x")
    for name in ("name", "".join(["n", "ame"]), b"name".decode()):
        assert counter.labels(**{name: "x"}) is counter.labels({name: "x"}) is child
    assert counter.labels(name="y") is not child
    assert counter._collector._labeled_metrics.keys() == {("x",), ("y",)}


def test_labels_finds_children_created_elsewhere_and_no_removed_ones(memory: None) -> None:
    counter = Counter("requests_total", "help", required_labels=["a", "b"])
    first = counter.labels(a="x", b="y")
    chained = counter.labels(a="x").labels(b="z")
    assert counter.labels(b="z", a="x") is chained
    other = counter.labels(a="1", b="2")
    counter._collector._labeled_metrics[("s", "t")] = other
    assert counter.labels(a="s", b="t") is other
    del counter._collector._labeled_metrics["x", "y"]
    assert counter.labels(a="x", b="y") is not first
    counter._collector._labeled_metrics = {}
    assert counter.labels(a="s", b="t") is not other


def test_labels_keeps_nothing_of_the_dict(memory: None) -> None:
    counter = Counter("requests_total", "help", required_labels=["a", "b"])
    child = counter.labels(a="x", b="y")
    labels = {"a": "x", "b": "y"}
    assert counter.labels(labels) is child
    labels["a"] = "changed"
    assert counter.labels(labels) is not child
    assert counter.labels(a="x", b="y") is child and child._labels == {"a": "x", "b": "y"}


@pytest.mark.parametrize("name", ["self", "pytheus_labels_"])
def test_labels_whose_names_are_parameters_of_pytheus_are_pytheus_affair(memory: None, name: str) -> None:
    counter = Counter("requests_total", "help", required_labels=[name])
    child = counter.labels({name: "x"})
    assert not is_native(counter, "labels")
    assert counter.labels({name: "x"}) is child
    with pytest.raises((TypeError, AttributeError)):
        counter.labels(**{name: "x"})


def test_a_first_wrong_call_is_pytheus_error_alone(memory: None) -> None:
    counter = Counter("requests_total", "help", required_labels=["a"])
    counter.labels(a="x").inc()
    with pytest.raises(LabelValidationException) as caught:
        counter.labels(b="x")
    assert caught.value.__context__ is None
    with pytest.raises(ValueError) as refused:
        counter.labels(a="x").inc(-1)
    assert refused.value.__context__ is None


def test_a_method_alone_keeps_what_it_needs(backend: Any) -> None:
    inc = Counter("requests_total", "help", registry=None).inc
    labels = Counter("labelled_total", "help", ["a"], registry=None)
    observe = labels.labels(a="x").inc
    del labels
    gc.collect()
    inc(2)
    observe(3)
    with pytest.raises(ValueError, match="-1"):
        inc(-1)
    if backend in (RedisBackend, SharedMemoryBackend):
        assert Counter("requests_total", "help")._metric_value_backend.get() == 2


def test_a_metric_that_is_gone_keeps_no_engine(backend_class: Any, config: dict[str, Any]) -> None:
    backends.load_backend(backend_class, config)
    counter = Counter("requests_total", "help", ["a"], registry=None)
    metrics = [counter, counter.labels(a="x"), Histogram("size", "help", registry=None)]
    metrics.append(Gauge("level", "help", registry=None))
    counter.labels(a="x").inc()
    gone = [weakref.ref(metric) for metric in metrics]
    engine = weakref.ref(backend_class._engine())
    del counter, metrics
    backends.load_backend()
    backend_class._loaded = None
    gc.collect()
    assert [reference() for reference in gone] == [None] * len(gone)
    assert engine() is None and engine() not in open_engines()


def test_calls_leave_no_references_behind(memory: None) -> None:
    counter = Counter("requests_total", "help", required_labels=["a", "b"])
    child = counter.labels(a="x", b="y")
    amount, label, mapping, wrong = 2.5 + id(child) % 2, "x" * 50, {"a": "x", "b": "y"}, object()
    things = [counter, child, amount, label, mapping, wrong, counter.labels, child.inc]
    things += [child.inc.__self__]
    counter.labels(a=label, b="y")

    def use() -> None:
        child.inc()
        child.inc(amount)
        child.inc(value=amount)
        outcome(child.inc, (wrong,), {})
        outcome(child.inc, (), {"amount": wrong})
        counter.labels(a=label, b="y")
        counter.labels(mapping)
        outcome(counter.labels, (), {"a": label, "c": wrong})
        outcome(counter.labels, ({"a": [], "b": label},), {})

    use()
    gc.collect()
    before = [sys.getrefcount(thing) for thing in things]
    for _ in range(200):
        use()
    gc.collect()
    assert [sys.getrefcount(thing) for thing in things] == before


def test_native_methods_lose_no_count_between_threads(backend: Any) -> None:
    counter = Counter("requests_total", "help", required_labels=["a"])
    histogram = Histogram("size", "help")
    counter.labels(a="x")

    def work() -> None:
        for _ in range(5_000):
            counter.labels(a="x").inc()
            histogram.observe(0.3)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.labels(a="x")._metric_value_backend.get() == 20_000
    assert histogram._count.get() == 20_000


@pytest.mark.parametrize("backend_class", [RedisBackend, SharedMemoryBackend], indirect=True)
def test_native_methods_work_in_a_forked_child(backend_class: Any, config: dict[str, Any]) -> None:
    program = f"""
        import pytheus_backend_rs
        load_backend(pytheus_backend_rs.{backend_class.__name__}, config)
        counter = Counter("requests_total", "help", required_labels=["a"])
        histogram = Histogram("size", "help", buckets=[1])
        counter.labels(a="x").inc()
        inc, observe = counter.labels(a="x").inc, histogram.observe
        for _ in range(2):
            if (child := os.fork()) == 0:
                inc(10)
                observe(0.5)
                counter.labels(a="x").inc(5)
                counter.labels(a="y").inc()
                sys.exit(0)
            assert os.waitpid(child, 0)[1] == 0
        inc()
        print(generate_metrics())
    """
    output = run_program(program, config)
    assert 'requests_total{a="x"} 32.0\nrequests_total{a="y"} 2.0\n' in output
    assert "size_count 2.0\n" in output


def test_copies_are_no_worse_than_without(memory: None) -> None:
    counter = Counter("requests_total", "help", required_labels=["a"], registry=None)
    child = counter.labels(a="x")
    same = copy.copy(child)
    same.inc(2)
    child.inc()
    assert child._metric_value_backend.get() == 3
    assert copy.copy(counter).labels(a="x") is child
    backends.load_backend(SingleProcessAtomicBackend, {"native_methods": False})
    without = Counter("requests_total", "help", registry=None)
    for attempt in (copy.deepcopy, pickle.dumps):
        assert outcome(attempt, (child,), {})[0] is outcome(attempt, (without,), {})[0] is TypeError


def test_pytheus_has_the_methods_that_are_replaced() -> None:
    """Should another version of pytheus change one of them, the native one is to be looked at again."""
    assert str(inspect.signature(pytheus.metrics.Counter.inc)) == "(self, value: float = 1.0) -> None"
    assert str(inspect.signature(pytheus.metrics.Histogram.observe)) == "(self, value: float) -> None"
    assert str(inspect.signature(pytheus.metrics.Summary.observe)) == "(self, value: float) -> None"


class Pool:
    """Counts its own end."""

    def __init__(self, application: Any) -> None:
        self.application = application

    def __del__(self) -> None:
        self.application.ended.inc()


class Application:
    def __init__(self) -> None:
        self.ended = Counter("ended_total", "", registry=None)
        self.pool = Pool(self)


def test_a_metric_counts_to_the_end_of_its_own_garbage(server: Server) -> None:
    backends.load_backend(RedisBackend, server.config)
    application = Application()
    collected = weakref.ref(application)
    del application
    gc.collect()
    assert collected() is None
    # The native metric was not freed before the last call on it.
    assert Counter("ended_total", "", registry=None)._metric_value_backend.get() == 1
