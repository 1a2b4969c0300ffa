"""What native_methods.c defines, in Python, for a package without a compiled module.

The callables do the same as those in C: they take what is plainly right, and hand every other call to the
method of the class. The owners free a handle when its last reference goes.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any

from pytheus_backend_rs._installed import ffi, lib

_OK = lib.BACKEND_STATUS_OK

#: The byte that the engine sets while log records wait.
_logs_wait = lib.backend_log_waiting()

_deliver: Callable[[], None] = lambda: None  # noqa: E731 - until `deliver_logs_by`

#: The module `_exemplars`, from `exemplars_by` on.
_exemplars: Any = None


class _Released(weakref.ref[Any]):
    """Frees a handle when its owner is gone."""

    __slots__ = ("handle", "release")
    handle: Any
    release: Callable[[Any], None]


#: The references to all owners, by identity, because a reference that is gone itself is not called.
_owned: dict[int, _Released] = {}


def _release(reference: _Released, owned: dict[int, _Released] = _owned) -> None:
    # A default, because the end of the interpreter clears the names of modules.
    if owned.pop(id(reference), None) is not None:
        reference.release(reference.handle)


def _own(c_type: str, address: int, release: Callable[[Any], None]) -> Any:
    """Returns an object that owns a handle.

    It is a pointer of cffi, which the garbage collector does not know. So, as with the owners in C, the
    handle is freed when the reference count drops to zero, and never before a `__del__` in the same garbage
    that still uses the handle.
    """
    owner = ffi.cast(c_type, address)
    reference = _Released(owner, _release)
    reference.handle, reference.release = ffi.cast(c_type, address), release
    _owned[id(reference)] = reference
    return owner


def own_backend(address: int) -> Any:
    """Returns the owner of a backend."""
    return _own("Backend *", address, lib.backend_free)


def own_family(address: int) -> Any:
    """Returns the owner of a family."""
    return _own("MetricFamily *", address, lib.metric_family_free)


def own_metric(address: int) -> Any:
    """Returns the owner of a metric."""
    return _own("Metric *", address, lib.metric_free)


def address_of(owner: Any) -> int:
    """Returns the address of the handle that an owner or the `__self__` of a child's callable has."""
    return int(ffi.cast("uintptr_t", owner[0] if isinstance(owner, tuple) else owner))


def take_text(address: int, as_str: bool) -> str | bytes:
    """Returns the text at the address of a MetricsText, and frees it."""
    text = ffi.cast("MetricsText *", address)
    data = bytes(ffi.buffer(lib.metrics_text_data(text), lib.metrics_text_length(text)))
    lib.metrics_text_free(text)
    return data.decode() if as_str else data


def deliver_logs_by(function: Callable[[], None]) -> None:
    """Names the function that logs the waiting records."""
    global _deliver
    _deliver = function


def exemplars_by(module: Any) -> None:
    """Names the module that knows about exemplars."""
    global _exemplars
    _exemplars = module


def is_main_interpreter() -> bool:
    """Tells whether this is not a sub-interpreter."""
    if sys.implementation.name != "cpython":
        return True
    api = ctypes.pythonapi
    api.PyInterpreterState_Get.restype = ctypes.c_void_p
    api.PyInterpreterState_GetID.restype = ctypes.c_int64
    api.PyInterpreterState_GetID.argtypes = [ctypes.c_void_p]
    return int(api.PyInterpreterState_GetID(api.PyInterpreterState_Get())) == 0


def _number(arguments: tuple[Any, ...], named: dict[str, Any]) -> float | None:
    """Returns the only argument, by position or as `value=`, if it is a plain number."""
    if named:
        if arguments or len(named) != 1 or "value" not in named:
            return None
        value = named["value"]
    elif len(arguments) == 1:
        value = arguments[0]
    else:
        return None
    if isinstance(value, float):
        return float.__float__(value)
    if type(value) is not int and type(value) is not bool:
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _change(
    name: str,
    operation: Callable[[Any, float], int],
    text: str,
    default: float | None = None,
    is_sampled: bool = False,
    has_exemplars: bool = True,
) -> Callable[[Any, int, Any], Callable[..., Any]]:
    """Makes the function that binds a callable to (owner, address of the metric, what keeps the metric
    alive). `is_sampled`: of a family that keeps exemplars. `has_exemplars`: it takes the keyword
    `exemplar`."""
    empty = Parameter.empty if default is None else default
    parameters = [Parameter("value", Parameter.POSITIONAL_OR_KEYWORD, default=empty)]
    if is_sampled:
        parameters.append(Parameter("exemplar", Parameter.KEYWORD_ONLY, default=None))
    signature = Signature(parameters)

    def bind(owner: Any, address: int, keep: Any) -> Callable[..., Any]:
        if address == 0:
            raise ValueError("the address of a metric is 0")
        metric = ffi.cast("Metric *", address)
        looks = _exemplars.Looks() if is_sampled else None

        def call(*arguments: Any, **named: Any) -> Any:
            if default is not None and not arguments and not named:
                number: float | None = default
            else:
                number = _number(arguments, named)
            result = None
            has_counted = number is not None and (
                (looks is not None and looks.count(name, metric, number)) or operation(metric, number) == _OK
            )
            if not has_counted and has_exemplars and "exemplar" in named:
                result = getattr(_exemplars, name)((address, owner), *arguments, **named)
            elif not has_counted:
                result = getattr(type(owner), name)(owner, *arguments, **named)
            if _logs_wait[0]:
                _deliver()
            return result

        return _looking_like(call, name, text, signature, keep)

    return bind


def _looking_like(call: Any, name: str, text: str, signature: Signature, keep: Any) -> Callable[..., Any]:
    """Gives a callable the attributes that those in C have. Its `__self__` keeps the metric alive."""
    call.__name__ = call.__qualname__ = name
    call.__doc__, call.__signature__, call.__self__ = text, signature, keep
    bound: Callable[..., Any] = call
    return bound


_INC, _OBSERVE = "Increments the value by the given amount.", "Observe the given value."

counter_inc = _change("inc", lib.metric_inc, _INC, 1.0)
observe = _change("observe", lib.metric_observe, _OBSERVE)
sampled_inc = _change("inc", lib.metric_inc, _INC, 1.0, is_sampled=True)
sampled_observe = _change("observe", lib.metric_observe, _OBSERVE, is_sampled=True)
view_inc = _change("inc", lib.metric_inc, "Adds `value`.", has_exemplars=False)
view_dec = _change("dec", lib.metric_dec, "Subtracts `value`.", has_exemplars=False)
view_set = _change("set", lib.metric_set, "Sets to `value`.", has_exemplars=False)


def _find_metric(family_address: int, values: tuple[Any, ...]) -> int:
    """Returns the address of the metric of a family with these label values; 0 if a value is not a plain str
    that a C string can hold, or if the engine refuses the metric."""
    texts = []
    for value in values:
        if type(value) is not str or "\0" in value:
            return 0
        try:
            texts.append(ffi.new("char[]", value.encode()))
        except UnicodeEncodeError:
            return 0
    family, metric, error = (
        ffi.cast("MetricFamily *", family_address),
        ffi.new("Metric **"),
        ffi.new("BackendError **"),
    )
    if lib.metric_new(family, ffi.new("char *[]", texts), len(texts), metric, error) != _OK:
        lib.backend_error_free(error[0])
        return 0
    return int(ffi.cast("uintptr_t", metric[0]))


def _child(
    *binds: Callable[[Any, int, Any], Callable[..., Any]],
) -> Callable[[Any, int, tuple[Any, ...], Any], tuple[Callable[..., Any], ...] | None]:
    """Makes the function that returns the callables of a child, whose `__self__` owns the metric, from
    (owner, address of the family, label values, what keeps the family alive). It returns None if
    `_find_metric` finds no metric."""

    def make(
        owner: Any, family_address: int, values: tuple[Any, ...], keep: Any
    ) -> tuple[Callable[..., Any], ...] | None:
        address = _find_metric(family_address, values)
        if address == 0:
            return None
        kept = (own_metric(address), keep)
        return tuple([bind(owner, address, kept) for bind in binds])

    return make


counter_child = _child(counter_inc)
observe_child = _child(observe)
sampled_counter_child = _child(sampled_inc)
sampled_observe_child = _child(sampled_observe)
gauge_child = _child(view_inc, view_dec, view_set)

_LABELS_SIGNATURE = Signature(
    [
        Parameter("pytheus_labels_", Parameter.POSITIONAL_OR_KEYWORD, default=None),
        Parameter("kwargs", Parameter.VAR_KEYWORD),
    ]
)


def labels(owner: Any, keep: tuple[Any, tuple[str, ...], str, Callable[..., Any]]) -> Callable[..., Any]:
    """Makes a callable from an owner, and (holder of the children, sorted label names, name of its
    attribute, function that makes a child)."""
    holder, names, attribute, make = keep

    def find(arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Returns the child with these labels, and makes it; None leaves that to the method of the class."""
        given: Any = named
        if len(arguments) == 1 and not named and type(arguments[0]) is dict:
            given = arguments[0]
        elif arguments or not named:
            return None
        children = getattr(holder, attribute)
        if len(given) != len(names) or not isinstance(children, dict):
            return None
        try:
            key = tuple([given[name] for name in names])
            child = dict.get(children, key)
        except Exception:
            return None
        return make(key, given) if child is None else child

    def call(*arguments: Any, **named: Any) -> Any:
        child = find(arguments, named)
        if child is None:
            child = type(owner).labels(owner, *arguments, **named)
        if _logs_wait[0]:
            _deliver()
        return child

    text = "Returns the child with these labels, and makes it at first use."
    return _looking_like(call, "labels", text, _LABELS_SIGNATURE, keep)


def read_series(snapshot_address: int, layouts: tuple[Any, ...]) -> list[list[tuple[Any, ...]]]:
    """Walks a snapshot, and returns for each of its families the series: labels JSON, when it began, and the
    values. The function in C also makes the lines of a layout, where there is one."""
    snapshot = ffi.cast("MetricsSnapshot *", snapshot_address)
    families: list[list[tuple[Any, ...]]] = [[] for _ in layouts]
    series, created = ffi.new("MetricsSeries *"), ffi.new("double *")
    while lib.metrics_snapshot_next(snapshot, series) == _OK:
        if series.family_index < len(families):
            lib.metrics_snapshot_created(snapshot, created, ffi.NULL)
            labels = ffi.string(series.labels).decode()
            values = ffi.unpack(series.values, series.value_count)
            families[series.family_index].append((labels, created[0], values))
    return families


def _if_live(operation: Callable[[Any, float], int]) -> Callable[[Any, float], int]:
    """Makes the operation that leaves a metric which another process has removed to the method of the
    class."""

    def change(metric: Any, number: float) -> int:
        result: int = lib.BACKEND_STATUS_NOT_FOUND
        if lib.metric_is_live(metric):
            result = operation(metric, number)
        return result

    return change


def _observe_if_live(metric: Any, amount: float) -> int:
    # prometheus_client adds NaN to the sum and to no bucket.
    if amount != amount:
        result: int = lib.BACKEND_STATUS_INVALID_ARGUMENT
        return result
    return _if_live(lib.metric_observe)(metric, amount)


def _client_method(
    name: str,
    operation: Callable[[Any, float], int],
    text: str,
    parameter: str = "amount",
    default: float | None = None,
    *,
    has_exemplar: bool = False,
) -> Callable[[Any, int, Any], Callable[..., Any]]:
    """Makes the function that binds a method of prometheus_client's classes, as `_change` does for
    pytheus."""
    kind = Parameter.POSITIONAL_OR_KEYWORD
    parameters = [Parameter(parameter, kind, default=Parameter.empty if default is None else default)]
    if has_exemplar:
        parameters.append(Parameter("exemplar", kind, default=None))
    signature = Signature(parameters)

    def bind(owner: Any, address: int, keep: Any) -> Callable[..., Any]:
        if address == 0:
            raise ValueError("the address of a metric is 0")
        metric = ffi.cast("Metric *", address)

        def call(*arguments: Any, **named: Any) -> Any:
            if named.keys() == {parameter} and not arguments:
                number = _number((named[parameter],), {})
            elif default is not None and not arguments and not named:
                number = default
            else:
                number = None if named else _number(arguments, {})
            result = None
            if number is None or operation(metric, number) != _OK:
                result = getattr(type(owner), name)(owner, *arguments, **named)
            if _logs_wait[0]:
                _deliver()
            return result

        return _looking_like(call, name, text, signature, keep)

    return bind


_live_inc = _if_live(lib.metric_inc)
client_counter_inc = _client_method(
    "inc", _live_inc, "Increment counter by the given amount.", default=1, has_exemplar=True
)
client_gauge_inc = _client_method("inc", _live_inc, "Increment gauge by the given amount.", default=1)
client_gauge_dec = _client_method(
    "dec", _if_live(lib.metric_dec), "Decrement gauge by the given amount.", default=1
)
client_gauge_set = _client_method("set", _if_live(lib.metric_set), "Set gauge to the given value.", "value")
client_summary_observe = _client_method("observe", _observe_if_live, "Observe the given amount.")
client_histogram_observe = _client_method(
    "observe", _observe_if_live, "Observe the given amount.", has_exemplar=True
)

_CLIENT_LABELS_SIGNATURE = Signature(
    [Parameter("labelvalues", Parameter.VAR_POSITIONAL), Parameter("labelkwargs", Parameter.VAR_KEYWORD)]
)


def client_labels(owner: Any, keep: tuple[tuple[str, ...], str]) -> Callable[..., Any]:
    """Makes a callable from an owner, and (label names, name of the attribute in which it has its
    children)."""
    names, attribute = keep

    def call(*arguments: Any, **named: Any) -> Any:
        values: tuple[Any, ...] | None = arguments
        if named:
            is_whole = not arguments and len(named) == len(names) and all(name in named for name in names)
            values = tuple([named[name] for name in names]) if is_whole else None
        child = None
        if values is not None and all(type(value) is str for value in values):
            child = getattr(owner, attribute).get(values)
        if child is None:
            child = type(owner).labels(owner, *arguments, **named)
        if _logs_wait[0]:
            _deliver()
        return child

    text = "Return the child for the given labelset."
    return _looking_like(call, "labels", text, _CLIENT_LABELS_SIGNATURE, keep)
