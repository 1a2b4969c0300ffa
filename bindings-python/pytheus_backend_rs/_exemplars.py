"""Exemplars: single observations with labels that lead to a trace, which a scrape shows beside the values.

The program gives the labels, or OpenTelemetry has them: those of the current span, if it is sampled. This
module never imports OpenTelemetry; a program that uses it has done so.

The callables of native_methods.c come here with what is not a plain amount: an exemplar of the program, and
an amount whose exemplar the engine would keep now.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from pytheus_backend_rs._callables import callables
from pytheus_backend_rs._errors import ErrorSlot
from pytheus_backend_rs._native import ffi, lib
from pytheus_backend_rs._text import c_text

#: How often a metric looks for a span in vain before it looks no more than once in `_INTERVAL`: a program
#: that counts outside of spans should not pay for each call. native_methods.c has the same numbers.
_LOOKS_IN_VAIN = 16
#: In nanoseconds.
_INTERVAL = 1_000_000

_COUNT = {
    "inc": lib.metric_inc_with_exemplar,
    "observe": lib.metric_observe_with_exemplar,
    "keep": lib.metric_keep_exemplar,
}


def inc(bound: tuple[int, Any], value: float = 1.0, *, exemplar: Mapping[str, str] | None = None) -> None:
    """Does `Counter.inc` with the keyword `exemplar`, for the address of a metric and the object that the
    program has called."""
    _call("inc", bound, value, exemplar)


def observe(bound: tuple[int, Any], value: float, *, exemplar: Mapping[str, str] | None = None) -> None:
    """Does `Histogram.observe` with the keyword `exemplar`, as `inc` does."""
    _call("observe", bound, value, exemplar)


def _call(name: str, bound: tuple[int, Any], value: float, exemplar: Mapping[str, str] | None) -> None:
    address, owner = bound
    metric = ffi.cast("Metric *", address)
    if exemplar:
        count(name, metric, value, exemplar)
    elif not _count_in_span(name, metric, value):
        getattr(type(owner), name)(owner, value)


def count(name: str, metric: Any, value: float, exemplar: Any) -> None:
    """Adds `value` to a counter (`inc`) or counts it in a histogram (`observe`), with an exemplar; or keeps
    the exemplar of a value that was counted (`keep`).

    Raises `InvalidArgumentError` if the labels cannot be shown, `WrongTypeError` if the family keeps no
    exemplars, and `TypeError` if they are not texts by name. Nothing is counted then.
    """
    if not isinstance(exemplar, Mapping):
        raise TypeError(f"exemplar is {exemplar!r}: expected a dict of label names and values")
    for label, text in exemplar.items():
        if not (isinstance(label, str) and isinstance(text, str)):
            raise TypeError(f"exemplar label {label!r} is {text!r}: expected texts as name and value")
    error = ErrorSlot()
    error.check(_count(name, metric, value, exemplar, error.pointer))


def count_in_span(name: str, address: int, value: float) -> bool:
    """Does as `count` with the labels of the current span, for the address of a metric.

    Returns False, and counts nothing, if there is no sampled span, if the engine would not keep the exemplar
    now, or if anything is wrong with the value: the caller then counts without an exemplar.
    """
    return _count_in_span(name, ffi.cast("Metric *", address), value)


def _count_in_span(name: str, metric: Any, value: float) -> bool:
    try:
        if not lib.metric_takes_exemplar(metric, value):
            return False
        labels = current()
        return labels is not None and _count(name, metric, value, labels, ffi.NULL) == lib.BACKEND_STATUS_OK
    except (TypeError, OverflowError):
        return False


def current() -> dict[str, str] | None:
    """Returns the labels of the current span of OpenTelemetry; None if there is none that is sampled."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    try:
        context = trace.get_current_span().get_span_context()
        if not (context.is_valid and context.trace_flags.sampled):
            return None
        return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    except Exception:
        # Another thread is still importing it, or the program has spans of its own kind.
        return None


class Looks:
    """When one metric looks for a span."""

    __slots__ = ("_in_vain", "_last")

    def __init__(self) -> None:
        self._in_vain = 0
        #: In nanoseconds of `time.monotonic_ns`.
        self._last = 0

    def count(self, name: str, metric: Any, value: float) -> bool:
        """Does as `count_in_span` for a metric, unless it has looked in vain a moment ago."""
        if self._in_vain >= _LOOKS_IN_VAIN and time.monotonic_ns() - self._last < _INTERVAL:
            return False
        if not lib.metric_takes_exemplar(metric, value):
            return False
        if _count_in_span(name, metric, value):
            self._in_vain = 0
            return True
        self._in_vain, self._last = self._in_vain + 1, time.monotonic_ns()
        return False


def _count(name: str, metric: Any, value: float, labels: Mapping[str, str], error: Any) -> int:
    # The arrays only borrow: the texts must live until the call returns.
    names = [ffi.new("char[]", c_text(label)) for label in labels]
    values = [ffi.new("char[]", c_text(text)) for text in labels.values()]
    arrays = ffi.new("char *[]", names), ffi.new("char *[]", values)
    return _COUNT[name](metric, value, *arrays, len(names), error)


callables.exemplars_by(sys.modules[__name__])
