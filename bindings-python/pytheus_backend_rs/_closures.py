"""The callables of native_methods.c as Python functions, for interpreters that are not CPython.

They are slower, and otherwise the same. A callable takes (the object that it stands on, the address of the native
metric, what must live so that the metric does), and hands over to the method of the object's class whatever is not
plainly right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytheus_backend_rs._native import ffi, lib

#: Ints below this in size fit into a double, whatever their digits.
_LARGE = 2**1000


def own_backend(address: int) -> Any:
    return ffi.gc(ffi.cast("Backend *", address), lib.released_backend_free)


def own_family(address: int) -> Any:
    return ffi.gc(ffi.cast("MetricFamily *", address), lib.metric_family_free)


def own_metric(address: int) -> Any:
    return ffi.gc(ffi.cast("Metric *", address), lib.metric_free)


def counter_inc(metric: Any, address: int, keep: Any) -> Callable[..., None]:
    own, handle = _own(metric, "inc"), ffi.cast("Metric *", address)
    add_one, add = lib.metric_inc_one, _change(metric, "inc", lib.metric_inc, address, keep)

    def inc(*arguments: Any, **named: Any) -> None:
        if arguments or named:
            add(*arguments, **named)
        elif add_one(handle):
            own()

    inc.__doc__ = own.__doc__
    return inc


def observe(metric: Any, address: int, keep: Any) -> Callable[..., None]:
    return _change(metric, "observe", lib.metric_observe, address, keep)


def view_inc(view: Any, address: int, keep: Any) -> Callable[..., None]:
    return _change(view, "inc", lib.metric_inc, address, keep)


def view_dec(view: Any, address: int, keep: Any) -> Callable[..., None]:
    return _change(view, "dec", lib.metric_dec, address, keep)


def view_set(view: Any, address: int, keep: Any) -> Callable[..., None]:
    return _change(view, "set", lib.metric_set, address, keep)


def labels(root: Any, place: tuple[Any, tuple[str, ...]]) -> Callable[..., Any]:
    """`place`: the collector, and the sorted names of its labels. Finds the child that pytheus has made before, where
    pytheus keeps it: by its label values, sorted by label name."""
    own = _own(root, "labels")
    collector, names = place
    count = len(names)

    def labels(*arguments: Any, **named: str) -> Any:
        given = arguments[0] if len(arguments) == 1 and not named else named
        # A subclass of dict may show pytheus other items than it shows us.
        if type(given) is dict and len(given) == count and (given is not named or not arguments):
            try:
                return collector._labeled_metrics[tuple([given[name] for name in names])]
            except (KeyError, TypeError):
                # Not made yet, other names, or values that cannot be in a key: all that is pytheus' affair.
                pass
        return own(*arguments, **named)

    labels.__doc__ = own.__doc__
    return labels


def _own(owner: Any, name: str) -> Callable[..., Any]:
    """The method of the class, bound: it is there behind what stands on the instance."""
    method: Callable[..., Any] = getattr(type(owner), name).__get__(owner)
    return method


def _change(
    owner: Any, name: str, operation: Callable[[Any, float], int], address: int, keep: Any
) -> Callable[..., None]:
    own = _own(owner, name)
    handle = ffi.cast("Metric *", address)

    def change(*arguments: Any, **named: Any) -> None:
        if len(arguments) == 1 and not named:
            (value,) = arguments
            if _is_plain(value) and operation(handle, value) == 0:
                return
        own(*arguments, **named)

    change.__name__ = name
    change.__doc__ = own.__doc__
    # The cast above owns nothing.
    setattr(change, "keep", keep)
    return change


def _is_plain(value: Any) -> bool:
    """Whether `value` is a number whose conversion runs nobody's code and cannot fail."""
    return isinstance(value, float) or (type(value) in (int, bool) and -_LARGE < value < _LARGE)
