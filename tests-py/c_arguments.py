"""Calls every function of the C interface with every invalid argument. `test_c_arguments.py` runs it, since a
function that crashes ends the process.

The header drives it: each parameter of each function is replaced by each invalid value of its kind while the
others stay valid. A function must refuse with the right status, name the parameter in its error and leave its
out-parameters alone. A new function fails here until its valid arguments are known.

It prints one line for each wrong answer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parent.parent / "bindings-python"))

from native_header import HEADER, Function, Variable, read
from pytheus_backend_rs import _native

ffi: Any = _native.ffi
lib: Any = _native.lib
header = read(HEADER.read_text(encoding="utf-8"))

NULL_POINTER = lib.BACKEND_STATUS_NULL_POINTER
INVALID = lib.BACKEND_STATUS_INVALID_ARGUMENT
UNTOUCHED = 42

#: Parameters that may be NULL; `error` may be NULL everywhere.
OPTIONAL = {
    ("metrics_render", "options"),
    ("metrics_serve", "options"),
    ("metrics_collect", "length"),
    ("metrics_snapshot_new", "families"),
    ("backend_log_callback", "callback"),
    ("backend_log_next", "time"),
    ("metrics_collect_callback", "user_data"),
    ("backend_process_metrics", "prefix"),
    ("backend_log_callback", "user_data"),
}

#: The structs that the library fills.
FILLED = ("BackendStatistics", "MetricsSnapshotFamily")

#: Those that have no size, because they never grow.
FIXED = ("MetricsSeries", "MetricsExemplar")

#: What keeps arguments alive.
kept: list[Any] = []


class Invalid(NamedTuple):
    """An argument that must be refused: the parameter, its value, what the error says of it, and the
    status."""

    parameter: str
    value: Any
    part: str
    status: int


def keep(value: Any) -> Any:
    kept.append(value)
    return value


def text(value: bytes) -> Any:
    return keep(ffi.new("char[]", value))


def texts(*values: bytes) -> Any:
    return keep(ffi.new("char *[]", [text(value) for value in values]))


def made(kind: str, function: Any, *arguments: Any) -> Any:
    handle = keep(ffi.new(f"{kind} **"))
    if function(*arguments, handle, ffi.NULL) != lib.BACKEND_STATUS_OK:
        raise SystemExit(f"{kind} cannot be made")
    return handle[0]


def struct(kind: str, **fields: Any) -> Any:
    return keep(ffi.new(f"{kind} *", {"size": ffi.sizeof(kind), **fields}))


def family(backend: Any, metric_type: int, *labels: bytes, exemplars: int = 0) -> Any:
    name = text(b"family_%d_total" % len(kept))
    states = [b"state"] if metric_type == lib.METRIC_TYPE_STATE_SET else []
    options = struct(
        "MetricFamilyOptions",
        name=name,
        metric_type=metric_type,
        label_names=texts(*labels),
        label_count=len(labels),
        states=texts(*states),
        state_count=len(states),
        exemplars=exemplars,
    )
    return made("MetricFamily", lib.metric_family_new, backend, options)


def metric_type_for(function: str) -> int:
    if function.startswith("metric_observe") or function in (
        "metric_get_sum",
        "metric_get_count",
        "metric_get_bucket",
    ):
        return int(lib.METRIC_TYPE_HISTOGRAM)
    if function == "metric_unobserve":
        return int(lib.METRIC_TYPE_GAUGE_HISTOGRAM)
    if function.endswith("_state"):
        return int(lib.METRIC_TYPE_STATE_SET)
    is_counter = function.startswith("metric_inc") or function == "metric_keep_exemplar"
    return int(lib.METRIC_TYPE_COUNTER if is_counter else lib.METRIC_TYPE_GAUGE)


def handle(kind: str, function: str) -> Any:
    """A handle for one call."""
    if kind == "BackendError":
        error = keep(ffi.new("BackendError **"))
        lib.backend_panic(error)
        return error[0]
    if kind == "MetricsForeign":
        foreign = made("MetricsForeign", lib.metrics_foreign_new)
        if function == "metrics_foreign_sample":
            options = struct("MetricsForeignFamily", name=text(b"f"), metric_type=lib.METRIC_TYPE_GAUGE)
            lib.metrics_foreign_family(foreign, options, ffi.NULL)
        return foreign
    backend = made("Backend", lib.backend_new, b"memory:")
    if kind == "Backend":
        return backend
    if kind == "MetricFamily":
        type_ = lib.METRIC_TYPE_INFO if function == "metric_family_set_info" else lib.METRIC_TYPE_GAUGE
        return family(backend, type_, b"label")
    if kind == "Metric":
        exemplars = int(function.endswith(("_with_exemplar", "_keep_exemplar")))
        declared = family(backend, metric_type_for(function), exemplars=exemplars)
        return made("Metric", lib.metric_new, declared, ffi.NULL, 0)
    if kind == "MetricsSnapshot":
        family(backend, lib.METRIC_TYPE_GAUGE)
    maker = {"MetricsText": lib.metrics_render, "MetricsServer": lib.metrics_serve}
    if kind in maker:
        return made(kind, maker[kind], backend, ffi.NULL)
    return made(kind, lib.metrics_snapshot_new, backend, ffi.NULL, 0)


def options_for(kind: str) -> Any:
    fields: dict[str, dict[str, Any]] = {
        "MetricFamilyOptions": {"name": text(b"declared"), "metric_type": lib.METRIC_TYPE_GAUGE},
        "MetricsForeignFamily": {"name": text(b"foreign"), "metric_type": lib.METRIC_TYPE_GAUGE},
    }
    return struct(kind, **fields.get(kind, {}))


def valid(function: Function, parameter: Variable) -> Any:
    """An argument that the function accepts."""
    kind = parameter.type.replace("const ", "").replace("const", "").replace(" ", "")
    by_name = {
        "url": b"memory:",
        "prefix": text(b"prefix"),
        "label_names": texts(b"name"),
        "label_values": texts(b"value"),
        "label_count": 1,
        "info_names": texts(b"name"),
        "info_values": texts(b"value"),
        "info_count": 1,
        "state": text(b"state"),
        "families": ffi.NULL,
        "family_count": 0,
        "max_level": lib.BACKEND_LOG_LEVEL_ERROR,
        "callback": ffi.NULL,
        "user_data": ffi.NULL,
        "accept_encoding": ffi.NULL,
        "timeout_seconds": 0.0,
        "index": 0,
        "status": 0,
        "is_on": keep(ffi.new("int32_t *", UNTOUCHED)) if kind == "int32_t*" else 1,
    }
    if parameter.name in by_name:
        return by_name[parameter.name]
    if kind == "double":
        return 1.0
    name = kind.rstrip("*")
    if kind.endswith("**"):
        return keep(ffi.new(f"{name} **", ffi.cast(f"{name} *", UNTOUCHED)))
    if name in header.handles:
        return handle(name, function.name)
    if name in FIXED:
        return keep(ffi.new(f"{name} *"))
    if name in header.structs:
        return options_for(name)
    if kind == "char*":
        return ffi.NULL
    return keep(ffi.new(f"{name} *", UNTOUCHED))


#: The first field that a later version has added to a struct. A program that was compiled with an earlier version
#: gives the size without it, which is valid.
FIRST_ADDED = {
    "MetricsRenderOptions": "formats",
    "MetricsServeOptions": "created_samples",
    "MetricFamilyOptions": "states",
}


#: The fields that must be refused in each struct.
def invalid_fields(kind: str) -> Iterator[tuple[str, Any, int]]:
    added = FIRST_ADDED.get(kind)
    least = ffi.offsetof(kind, added) if added else ffi.sizeof(kind)
    for size in (0, 1, least - 8, ffi.sizeof(kind) + 1, 2**20, 2**64 - 1):
        yield "size", size, INVALID
    for field in header.structs[kind]:
        # A client may send any bytes as its Accept header and its query.
        if field.type == "const char *" and field.name not in ("accept", "query"):
            yield field.name, text(b"\xff"), INVALID
        if field.name in (
            "metric_type",
            "lifetime",
            "names",
            "native",
            "gauge_mode",
            "exemplars",
            "others",
            "created_samples",
        ):
            for number in (-1, 99, 2**31 - 1, -(2**31)):
                yield field.name, number, INVALID
        if field.name in ("native_resolution", "native_size"):
            yield field.name, 8, INVALID  # without native buckets
        if field.type == "double" and field.name != "value":
            for amount in (-1.0, float("nan"), float("inf"), 1e300):
                # Series that never end.
                if field.name != "series_ttl" or amount != float("inf"):
                    yield field.name, amount, INVALID
        if field.name.endswith("_count"):
            yield field.name, 1, NULL_POINTER
    if any(field.name == "name" for field in header.structs[kind]):
        yield "name", ffi.NULL, NULL_POINTER


def invalid(function: Function, parameter: Variable) -> Iterator[Invalid]:
    """The arguments that the function must refuse."""
    name = parameter.name
    if parameter.type.endswith("*") and name != "error" and (function.name, name) not in OPTIONAL:
        yield Invalid(name, ffi.NULL, name, NULL_POINTER)
    kind = parameter.type.replace("const ", "").rstrip(" *")
    if kind in header.structs and kind not in (*FIXED, *FILLED):
        for field, value, status in invalid_fields(kind):
            if field == "family_count":
                # Without families their number has no meaning.
                continue
            options = options_for(kind)
            setattr(options, field, value)
            part = {"label_count": "label_names", "bucket_count": "buckets", "state_count": "states"}.get(
                field, field
            )
            yield Invalid(name, options, part, status)
    if kind in FILLED:
        for size in (0, 8, 2**20, 2**64 - 1):
            yield Invalid(name, keep(ffi.new(f"{kind} *", {"size": size})), "size", INVALID)
    if name == "prefix":
        yield Invalid(name, b"\xff", "prefix", INVALID)
        yield Invalid(name, b"a b", "a b", INVALID)
    if name == "url":
        yield Invalid(name, b"\xff", "url", INVALID)
        yield Invalid(name, b"", "", lib.BACKEND_STATUS_CONFIGURATION)
        yield Invalid(name, b"mysql://h", "mysql", lib.BACKEND_STATUS_CONFIGURATION)
        yield Invalid(name, b"memory:?x=" + b"y" * 1_000_000, "", lib.BACKEND_STATUS_CONFIGURATION)
    if name in ("label_names", "label_values"):
        yield Invalid(name, texts(b"\xff"), f"{name}[0]", INVALID)
        yield Invalid(name, keep(ffi.new("char *[1]")), f"{name}[0]", NULL_POINTER)
    if name == "label_count":
        for count in (2**63, 2**64 - 1):
            yield Invalid(name, count, "label_values", INVALID)
        yield Invalid(name, 0, "labels", INVALID)
    if name in ("info_names", "info_values"):
        yield Invalid(name, texts(b"\xff"), f"{name}[0]", INVALID)
        yield Invalid(name, keep(ffi.new("char *[1]")), f"{name}[0]", NULL_POINTER)
    if name == "info_count":
        yield Invalid(name, 2**63, "info_names", INVALID)
        yield Invalid(name, 0, "label", INVALID)
    if name == "state":
        for state in (b"none", b""):
            yield Invalid(name, state, "none" if state else "", INVALID)
    if name == "families":
        yield Invalid(name, keep(ffi.new("MetricFamily *[1]")), "families[0]", NULL_POINTER)
    if name == "timeout_seconds":
        for seconds in (-1.0, float("nan"), float("inf"), 1000000.5):
            yield Invalid(name, seconds, name, INVALID)
    if name == "max_level":
        for level in (0, -1, 5, 2**31 - 1, -(2**31)):
            yield Invalid(name, level, name, INVALID)
    if name == "amount" and function.name.startswith("metric_inc"):
        for amount in (-1.0, float("nan"), float("-inf")):
            yield Invalid(name, amount, name, INVALID)
    if name == "upper_bound":
        for bound in (float("nan"), -1.0):
            yield Invalid(name, bound, "bucket", lib.BACKEND_STATUS_NOT_FOUND)


def check(function: Function, case: Invalid) -> Iterator[str]:
    """Calls the function with one invalid argument, and yields what is wrong with its answer."""
    arguments = {one.name: valid(function, one) for one in function.parameters}
    arguments[case.parameter] = case.value
    if case.parameter == "families":
        arguments["family_count"] = 1
    places = [
        arguments[one.name]
        for one in function.parameters
        if one.type.endswith("**") and "const" not in one.type and one.name not in (case.parameter, "error")
    ]
    error = ffi.new("BackendError **")
    if "error" in arguments:
        arguments["error"] = error
    status = getattr(lib, function.name)(*arguments.values())
    what = f"{function.name}({case.parameter}={case.value!r})"
    if status != case.status:
        yield f"{what} returned {status}, expected {case.status}"
    elif "error" in arguments:
        message = ffi.string(lib.backend_error_message(error[0])).decode()
        if case.part not in message:
            yield f"{what} says {message!r}, expected a text with {case.part!r}"
    for place in places:
        if int(ffi.cast("uintptr_t", place[0])) != UNTOUCHED:
            yield f"{what} has written a result"
    # The same without a place for the error.
    if "error" in arguments:
        arguments["error"] = ffi.NULL
        if getattr(lib, function.name)(*arguments.values()) != case.status:
            yield f"{what} returned another status without an error"


def main() -> None:
    for function in header.functions.values():
        # Where a crash would be.
        print(function.name, file=sys.stderr)
        for parameter in function.parameters:
            if function.result == "BackendStatus" and function.name != "backend_error_status":
                for case in invalid(function, parameter):
                    for failure in check(function, case):
                        print(failure)
            elif len(function.parameters) == 1 and parameter.type.endswith("*"):
                # These have no status: NULL gives NULL or 0, or does nothing.
                result = getattr(lib, function.name)(ffi.NULL)
                if result not in (None, 0, ffi.NULL, NULL_POINTER):
                    print(f"{function.name}(NULL) returned {result}")
    for number in (-1, 11, 2**31 - 1, -(2**31)):
        if ffi.string(lib.backend_status_name(number)) != b"unknown status":
            print(f"backend_status_name({number}) has a name")


if __name__ == "__main__":
    main()
