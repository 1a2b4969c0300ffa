"""The labelled metrics that the package makes itself: like those of pytheus' constructors in everything that a
program can see.

pytheus makes the first child of each collector. The others follow it, unless something is not as usual.
"""

from __future__ import annotations

import enum
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import pytheus.exposition
import pytheus.metrics
from pytheus import backends
from pytheus.metrics import Counter, Gauge, Histogram, Summary
from pytheus_backend_rs import (
    RedisBackend,
    SharedMemoryBackend,
    SingleProcessAtomicBackend,
    SingleProcessBackend,
    clear,
    generate_metrics,
)
from pytheus_backend_rs.pytheus import internals

TYPES = [Counter, Gauge, Histogram, Summary]


@pytest.fixture
def memory() -> None:
    backends.load_backend(SingleProcessAtomicBackend, {})


class Method(str, enum.Enum):
    GET = "GET"


@contextmanager
def made() -> Iterator[list[Any]]:
    """Lists the children that the package makes, by their label values."""
    children: list[Any] = []
    original = internals.add_child

    def add_child(collector: Any, values: Any, metric: Any) -> Any:
        children.append(values)
        return original(collector, values, metric)

    with mock.patch.object(internals, "add_child", add_child):
        yield children


def family(type_: Any, **options: Any) -> Any:
    """A family with two labels, whose first child pytheus has made."""
    metric = type_("things", "help", required_labels=["b", "a"], **options)
    with made() as children:
        metric.labels(a="first", b="first")
    assert not children
    return metric


def by_pytheus(metric: Any, labels: dict[str, Any]) -> Any:
    """The child that pytheus' own method makes."""
    return type(metric).labels(metric, labels)


def use(metric: Any) -> None:
    for _ in range(2):
        if isinstance(metric, (Histogram, Summary)):
            metric.observe(0.3)
            type(metric).observe(metric, 4)
        else:
            metric.inc(2)
            type(metric).inc(metric, 0.5)
    if isinstance(metric, Gauge):
        metric.dec(1)
        metric.set_to_current_time()
        metric.set(metric._metric_value_backend.get() // 1e8)


def parts_of(metric: Any) -> list[Any]:
    if isinstance(metric, (Histogram, Summary)):
        return [metric._sum, metric._count, *(getattr(metric, "_buckets", None) or ())]
    return [metric._metric_value_backend]


def seen(metric: Any, part: Any) -> list[Any]:
    """What a program sees of a backend object."""
    assert part.metric is metric
    return [type(part), part.config, part.histogram_bucket, part.key_name, part.labels_hash, part.get()]


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize(
    "labels",
    [
        {"b": "y", "a": "x"},
        {"a": "x", "b": 'é"\n\\'},
        {"a": 5, "b": 2.5},
        {"a": None, "b": True},
        {"a": Method.GET, "b": "\0nul"},
        {"a": "\udcff", "b": "x" * 10_000},
        {"a": "", "b": ""},
    ],
)
@pytest.mark.parametrize("default_labels", [None, {"b": "z"}])
def test_a_child_is_like_one_that_pytheus_makes(
    backend: Any, type_: Any, labels: dict[str, Any], default_labels: Any
) -> None:
    one = family(type_, default_labels=default_labels, registry=None)
    other = type_("others", "help", required_labels=["a", "b"], default_labels=default_labels, registry=None)
    with made() as children:
        child = one.labels(**labels)
    assert children == [(labels["a"], labels["b"])]
    theirs = by_pytheus(other, labels)
    assert type(child) is type(theirs) and vars(child).keys() == vars(theirs).keys()
    assert child._labels == labels and list(child._labels) == list(labels)
    assert one.labels(labels) is one.labels(**labels) is by_pytheus(one, labels) is child
    assert one._collector._labeled_metrics[labels["a"], labels["b"]] is child
    own = {"name", "_collector", "_metric_value_backend", "_sum", "_count", "_buckets", "inc", "observe"}
    for name in vars(child).keys() - own:
        assert getattr(child, name) == getattr(theirs, name), name
    assert child.name == one.name and child._collector is one._collector
    use(child)
    use(theirs)
    assert str(list(child.collect())) == str(list(theirs.collect()))
    assert str([seen(child, part) for part in parts_of(child)]).replace("things", "others") == str(
        [seen(theirs, part) for part in parts_of(theirs)]
    )


def test_a_child_keeps_the_dict_of_the_call_as_pytheus_does(memory: None) -> None:
    counter = family(Counter)
    labels = {"a": "x", "b": "y"}
    assert counter.labels(labels)._labels is labels
    named = {"a": "x", "b": "z"}
    assert counter.labels(**named)._labels is not named


def test_children_of_all_types_are_in_a_scrape(backend: Any) -> None:
    for type_ in TYPES:
        metric = type_(f"my_{type_.__name__.lower()}", "help", required_labels=["a"])
        metric.labels(a="first")
        with made() as children:
            use(metric.labels(a="x"))
        assert children == [("x",)]
    text, theirs = generate_metrics(), pytheus.exposition.generate_metrics()
    assert 'my_counter{a="x"} 5\n' in text and 'my_counter{a="x"} 5.0\n' in theirs
    assert 'my_gauge{a="x"} 17' in text and 'my_summary_count{a="x"} 4\n' in text
    for line in ('my_histogram_bucket{a="x",le="0.5"} 2', 'my_histogram_bucket{a="x",le="+Inf"} 4'):
        assert line + "\n" in text and line + ".0\n" in theirs


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (pytheus.metrics, "get_backend"),
        (pytheus.metrics._MetricCollector, "_validate_labels"),
        (pytheus.metrics._Metric, "__init__"),
        (pytheus.metrics._Metric, "labels"),
        (pytheus.metrics._Metric, "_check_can_observe"),
        (pytheus.metrics._Metric, "_raise_if_cannot_observe"),
        (Histogram, "__init__"),
        (Histogram, "observe"),
    ],
)
def test_a_function_that_was_replaced_is_called(memory: None, owner: Any, name: str) -> None:
    histogram = family(Histogram)
    histogram.labels(a="second", b="second")
    original, calls = getattr(owner, name), []

    def replacement(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        return original(*arguments, **named)

    with mock.patch.object(owner, name, replacement), made() as children:
        histogram.labels(a="x", b="y").observe(1)
    assert calls and not children
    with made() as children:
        histogram.labels(a="x", b="z")
    assert children == [("x", "z")]


def test_a_subclass_of_the_program_makes_its_own_children(memory: None) -> None:
    class Mine(Counter):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.extra = 1

    mine = family(Mine)
    assert mine.labels(a="x", b="y").extra == 1


def test_a_backend_of_the_program_makes_its_own_objects() -> None:
    class Mine(SingleProcessAtomicBackend):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self.extra = 1

    backends.load_backend(Mine, {})
    assert family(Counter).labels(a="x", b="y")._metric_value_backend.extra == 1


def test_an_attribute_that_is_not_known_leaves_the_children_to_pytheus(memory: None) -> None:
    counter = family(Counter)
    counter._collector._labeled_metrics["first", "first"].unknown = 1
    with made() as children:
        counter.labels(a="x", b="y").inc()
    assert not children


def test_an_untested_version_makes_its_own_children(memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internals, "_is_installed_tested", lambda: False)
    counter = family(Counter)
    with made() as children:
        counter.labels(a="x", b="y").inc()
    assert not children


def test_without_native_methods_pytheus_makes_all_children(
    backend_class: Any, config: dict[str, Any]
) -> None:
    backends.load_backend(backend_class, {**config, "native_methods": False})
    histogram = family(Histogram)
    with made() as children:
        use(histogram.labels(a="x", b="y"))
    assert not children and histogram.labels(a="x", b="y")._count.get() == 4


@pytest.mark.parametrize("backend_class", [RedisBackend, SharedMemoryBackend], indirect=True)
def test_children_follow_the_backend_that_is_loaded(backend_class: Any, config: dict[str, Any]) -> None:
    backends.load_backend(SingleProcessBackend, {})
    counter = family(Counter)
    counter.labels(a="old", b="y").inc()
    backends.load_backend(backend_class, config)
    for value in ("x", "z"):
        counter.labels(a="new", b=value).inc()
    assert type(counter.labels(a="old", b="y")._metric_value_backend) is SingleProcessBackend
    views = [counter.labels(a="new", b=value)._metric_value_backend for value in ("x", "z")]
    assert all(type(view) is backend_class for view in views)
    with made() as children:
        counter.labels(a="newer", b="y").inc()
    # The first child is one of the old backend, and so is still the pattern.
    assert children == [("newer", "y")]
    assert counter.labels(a="newer", b="y")._metric_value_backend._family is views[0]._family
    assert sorted(line for line in generate_metrics().splitlines() if line.endswith(" 1")) == [
        f'things{{a="{a}",b="{b}"}} 1' for a, b in [("new", "x"), ("new", "z"), ("newer", "y"), ("old", "y")]
    ]


def test_another_backend_gets_its_objects(memory: None) -> None:
    counter = family(Counter)
    backends.load_backend()
    child = counter.labels(a="x", b="y")
    child.inc(3)
    assert type(child._metric_value_backend) is backends.base.SingleProcessBackend
    assert child._metric_value_backend.get() == 3


def test_a_cleared_child_begins_at_0(backend: Any) -> None:
    histogram = family(Histogram, buckets=[1])
    use(histogram.labels(a="x", b="y"))
    clear(histogram)
    histogram.labels(a="first", b="first")
    with made() as children:
        histogram.labels(a="x", b="y").observe(5)
    assert children == [("x", "y")]
    assert [part.get() for part in parts_of(histogram.labels(a="x", b="y"))] == [5, 1, 0, 1]


def test_a_child_lives_as_long_as_it_or_its_method(memory: None) -> None:
    counter = family(Counter)
    child = counter.labels(a="x", b="y")
    inc, reference = child.inc, weakref.ref(child)
    inc()
    counter._collector._labeled_metrics.clear()
    del child
    gc.collect()
    inc(2)
    assert 'things{a="x",b="y"} 3\n' in generate_metrics()
    view = inc.__self__
    del inc
    gc.collect()
    assert 'things{a="x",b="y"} 3\n' in generate_metrics()
    del view
    gc.collect()
    assert reference() is None
    assert 'a="x"' not in generate_metrics()


def test_a_backend_object_alone_keeps_the_value(memory: None) -> None:
    for type_ in TYPES:
        metric = family(type_)
        view = parts_of(metric.labels(a="x", b="y"))[0]
        metric._collector._labeled_metrics.clear()
        del metric
        gc.collect()
        view.inc(2)
        view.inc(value=3)
        assert view.get() == 5
        with pytest.raises(TypeError):
            view.inc("x")


def test_making_children_leaves_no_references_behind(backend: Any) -> None:
    for type_ in TYPES:
        metric = family(type_)
        metric.labels(a="second", b="second")
        a, b, number = "x" * 20 + type_.__name__, "y" * 20 + type_.__name__, 10**9 + id(metric) % 7
        mapping = {"a": number, "b": b}
        things: list[Any] = [metric, metric._collector, a, b, number, mapping, metric.labels]
        things += [type(metric), metric.labels(a="second", b="second")]

        def work(metric: Any = metric, a: str = a, b: str = b, mapping: Any = mapping) -> None:
            children = metric._collector._labeled_metrics
            metric.labels(a=a, b=b)
            metric.labels(mapping)
            del children[a, b], children[mapping["a"], b]

        work()
        gc.collect()
        before = [sys.getrefcount(thing) for thing in things]
        for _ in range(100):
            work()
        gc.collect()
        assert [sys.getrefcount(thing) for thing in things] == before


def test_threads_that_meet_at_a_new_label_set_share_its_child(backend: Any) -> None:
    histogram = family(Histogram)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for number in range(100):
            barrier = threading.Barrier(4)
            children: list[Any] = []

            def work(number: int = number, barrier: Any = barrier, children: list[Any] = children) -> None:
                barrier.wait()
                child = histogram.labels(a=str(number), b="y")
                child.observe(1)
                children.append(child)

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len({id(child) for child in children}) == 1
            assert children[0]._count.get() == 4
    finally:
        sys.setswitchinterval(before)


def test_buckets_are_made_when_something_looks_at_one(memory: None) -> None:
    histogram = family(Histogram, buckets=[1, 2])
    child = histogram.labels(a="x", b="y")
    child.observe(1.5)
    buckets = child._buckets
    assert len(buckets) == 3
    assert [bucket.get() for bucket in buckets] == [0, 1, 1]
    assert buckets[0] is child._buckets[0] is next(iter(buckets)) and buckets[1:] == list(buckets)[1:]
    assert buckets == list(buckets) and repr(buckets) == repr(list(buckets)) and buckets != []
    with mock.patch.object(buckets[0], "inc") as inc:
        Histogram.observe(child, 0.5)
    inc.assert_called_once_with(1)
    buckets[0] = buckets.pop()
    assert [bucket.histogram_bucket for bucket in child._buckets] == ["+Inf", "2"]
    del buckets[0]
    assert len(child._buckets) == 1


def test_a_scrape_by_pytheus_shows_the_buckets_without_making_their_objects(memory: None) -> None:
    histogram = family(Histogram, default_labels={"b": "d"})
    other = family(Histogram, default_labels={"b": "d"}, registry=None)
    for child in (histogram.labels(a="x", b="y"), by_pytheus(other, {"a": "x", "b": "y"})):
        use(child)
    views = SingleProcessAtomicBackend._sibling
    with mock.patch.object(SingleProcessAtomicBackend, "_sibling", side_effect=views) as sibling:
        text = pytheus.exposition.generate_metrics()
    assert not sibling.called
    samples: Callable[[Any], str] = lambda metric: str(list(metric._collector.collect()))  # noqa: E731
    assert samples(histogram) == samples(other)
    for line in ('le="0.5"} 2.0', 'le="10"} 4.0', 'le="+Inf"} 4.0'):
        assert (
            f'things_bucket{{b="y",a="x",{line}\n' in text or f'things_bucket{{a="x",b="y",{line}\n' in text
        )
