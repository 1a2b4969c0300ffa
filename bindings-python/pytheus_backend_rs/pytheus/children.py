"""Makes the labelled metrics of a collector after the first one, without pytheus' constructors.

A program meets a new label set in the middle of its work. pytheus' own way validates the labels and makes an
object for the sum, the count and each bucket; most of that is the same for all children of a collector. Here
one child that pytheus has made is the pattern for the others: what they have in common is looked up once.

What is not plainly the same is left to pytheus: a class or function that was replaced, an unknown version of
pytheus, another backend, labels that the engine refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence
from typing import TYPE_CHECKING, Any

from pytheus_backend_rs._callables import callables
from pytheus_backend_rs._engine import metric_of
from pytheus_backend_rs._errors import ErrorSlot
from pytheus_backend_rs._native import ffi, lib
from pytheus_backend_rs._text import plain_text
from pytheus_backend_rs.pytheus import internals

if TYPE_CHECKING:
    from pytheus.metrics import Sample, _MetricCollector

#: What makes the native metric of a child and its callables, by metric type and whether the family keeps
#: exemplars. (`_Metric` itself is untyped.)
_MAKERS = {
    ("counter", False): callables.counter_child,
    ("counter", True): callables.sampled_counter_child,
    ("gauge", False): callables.gauge_child,
    ("histogram", False): callables.observe_child,
    ("histogram", True): callables.sampled_observe_child,
    ("summary", False): callables.observe_child,
}


class Children:
    """The maker of one collector's labelled metrics."""

    __slots__ = ("_address", "_config", "_family", "_holder", "_make_native", "_pattern", "_type", "_views")

    def __init__(self, collector: _MetricCollector[Any], view: Any) -> None:
        """`view` is a backend object of the child that pytheus is making."""
        self._holder = collector
        self._views = type(view)
        self._config = view.config
        self._family = view._family
        self._address = view._family.address
        definition = view._family.definition
        self._type = definition.type_
        self._make_native = _MAKERS.get((definition.type_, definition.exemplars))
        self._pattern: internals.Pattern | None = None

    def make(self, values: tuple[Any, ...], labels: dict[str, Any]) -> Any:
        """Returns a new child with these labels. `values` are sorted by label name. None leaves it to
        pytheus."""
        family = self._family
        loaded = self._views._loaded
        if loaded is None or loaded.engine is not family.engine:
            return None
        pattern = self._pattern
        if pattern is None:
            pattern = self._pattern = self._find_pattern()
        if pattern is None or not pattern.is_current(self._views, self._config):
            return None
        child = pattern.new(labels)
        is_observed = self._type in internals.OBSERVED_TYPES
        view = self._views._view(self._config, child, "sum" if is_observed else None, family)
        # The native methods of a gauge stand on its backend object.
        native = self._native(view if self._type == "gauge" else child, values)
        if native is None:
            return None
        view._owner = native[0].__self__
        if is_observed:
            buckets = Buckets(view) if self._type == "histogram" else None
            internals.give_parts(child, buckets, view, view._sibling("count"), native[0])
        elif self._type == "gauge":
            view.inc, view.dec, view.set = native
            internals.give_value(child, view, None)
        else:
            internals.give_value(child, view, native[0])
        return internals.add_child(self._holder, values, child)

    def _native(self, owner: Any, values: tuple[Any, ...]) -> Any:
        """Returns the callables of a child; None if the engine refuses the metric."""
        assert self._make_native is not None
        native = self._make_native(owner, self._address, values, self._family)
        if native is None:
            # The engine takes text, and not every text.
            texts = tuple([plain_text(value) for value in values])
            native = self._make_native(owner, self._address, texts, self._family)
        return native

    def _find_pattern(self) -> internals.Pattern | None:
        """Returns what the children have in common, if pytheus has made one of them as this does."""
        if self._make_native is None or self._views.__module__ != __package__ + ".backends":
            # A subclass of the program may have a constructor of its own.
            return None
        return internals.pattern_of(self._holder)


class Buckets(MutableSequence[Any]):
    """The backend objects of a histogram's buckets, in place of pytheus' list of them.

    They are made when something looks at one. Counting and rendering do not.
    """

    __slots__ = ("_total", "_views")

    def __init__(self, total: Any) -> None:
        self._total = total
        self._views: list[Any] | None = None

    def made(self) -> list[Any]:
        """Returns the objects. From the first call on, these are the ones."""
        if self._views is None:
            views = [self._total._sibling(bound) for bound in self._bounds()]
            if self._views is None:
                self._views = views
        return self._views

    def read(self) -> list[_Read] | None:
        """Returns what stands for the objects while their values are read; None if they are made, or if
        reading a store may wait."""
        total = self._total
        if self._views is not None or total._family.engine.is_shared:
            return None
        handle, value, error = metric_of(total._owner), ffi.new("double *"), ErrorSlot()
        values = []
        for bound in total._family.definition.bounds:
            error.check(lib.metric_get_bucket(handle, bound, value, error.pointer))
            values.append(_Read(value[0]))
        return values

    def _bounds(self) -> list[str]:
        return internals.bounds_as_shown(internals.collector_of(self._total.metric))

    def __len__(self) -> int:
        return len(self._bounds() if self._views is None else self._views)

    def __getitem__(self, index: Any) -> Any:
        return self.made()[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.made()[index] = value

    def __delitem__(self, index: Any) -> None:
        del self.made()[index]

    def insert(self, index: int, value: Any) -> None:
        self.made().insert(index, value)

    def __eq__(self, other: object) -> bool:
        return self.made() == (other.made() if isinstance(other, Buckets) else other)

    def __repr__(self) -> str:
        return repr(self.made())


class _Read:
    """The backend object of a bucket that has been read."""

    __slots__ = ("_value",)

    def __init__(self, value: float) -> None:
        self._value = value

    def get(self) -> float:
        return self._value


def collect(metric: Any) -> Iterable[Sample]:
    """Returns the samples of a metric as its own `collect` does, without making objects for its buckets."""
    buckets = internals.buckets_of(metric)
    read = buckets.read() if isinstance(buckets, Buckets) else None
    samples: Iterable[Sample] = (metric if read is None else internals.with_buckets(metric, read)).collect()
    return samples
