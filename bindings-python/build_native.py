"""The cffi builder: how Python calls the engine.

cffi releases the GIL around every call. For a call of nanoseconds that is a disaster (10 µs per `inc`
beside one busy thread, against 120 ns), so here calls keep it. Those that may wait for a server, a
thread or a lock go through small C functions of their own, named `released_…`, which release it.

A call that keeps the GIL must never block, never wait for a lock that a thread waiting for the GIL may
hold, and never call Python. One exception: the first use of a store in a forked child starts threads, and
then calls `listen_in_child`, with no lock of the engine held.

The callables that need no cffi are a second module in the same library: native_methods.c.
"""

import sys
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
INCLUDE = HERE.parent / "include"

# Return type, name and parameters of the functions that may wait.
BLOCKING = [
    ("BackendStatus", "backend_new", "const char *url, Backend **backend, BackendError **error"),
    ("BackendStatus", "backend_close", "const Backend *backend, BackendError **error"),
    ("void", "backend_close_all", "void"),
    ("BackendStatus", "backend_flush", "const Backend *backend, double timeout_seconds, BackendError **error"),
    ("void", "backend_free", "Backend *backend"),
    (
        "BackendStatus",
        "backend_statistics",
        "const Backend *backend, BackendStatistics *statistics, BackendError **error",
    ),
    ("BackendStatus", "backend_log_wait", "double timeout_seconds"),
    (
        "BackendStatus",
        "metric_family_new",
        "const Backend *backend, const MetricFamilyOptions *options, MetricFamily **family, BackendError **error",
    ),
    (
        "BackendStatus",
        "metric_new",
        "const MetricFamily *family, const char *const *label_values, size_t label_count, Metric **metric, "
        "BackendError **error",
    ),
    ("BackendStatus", "metric_get", "const Metric *metric, double *value, BackendError **error"),
    ("BackendStatus", "metric_get_sum", "const Metric *metric, double *value, BackendError **error"),
    ("BackendStatus", "metric_get_count", "const Metric *metric, double *value, BackendError **error"),
    (
        "BackendStatus",
        "metric_get_bucket",
        "const Metric *metric, double upper_bound, double *value, BackendError **error",
    ),
    (
        "BackendStatus",
        "metrics_snapshot_new",
        "const Backend *backend, const MetricFamily *const *families, size_t family_count, "
        "MetricsSnapshot **snapshot, BackendError **error",
    ),
    (
        "BackendStatus",
        "metrics_render",
        "const Backend *backend, const MetricsRenderOptions *options, MetricsText **text, BackendError **error",
    ),
    (
        "BackendStatus",
        "metrics_serve",
        "const Backend *backend, const MetricsServeOptions *options, MetricsServer **server, BackendError **error",
    ),
    ("void", "metrics_server_free", "MetricsServer *server"),
]

KEEP_THE_GIL = """
#include "pytheus_backend_rs.h"

#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }
"""


def declaration(result: str, name: str, parameters: str) -> str:
    return f"{result} released_{name}({parameters})"


def definition(result: str, name: str, parameters: str) -> str:
    names = [] if parameters == "void" else parameters.split(",")
    arguments = ", ".join(parameter.split()[-1].lstrip("*") for parameter in names)
    call = f"{name}({arguments});"
    keep, give = ("", "") if result == "void" else (f"{result} result = ", "return result;")
    return f"""
static {declaration(result, name, parameters)} {{
    PyThreadState *state = PyEval_SaveThread();
    {keep}{call}
    PyEval_RestoreThread(state);
    {give}
}}
"""


ffibuilder = FFI()
ffibuilder.cdef((INCLUDE / "pytheus_backend_rs.cffi.h").read_text(encoding="utf-8"))
ffibuilder.cdef("".join(declaration(*function) + ";\n" for function in BLOCKING))
# Called in a forked child when it first uses a store, by the thread that uses it.
ffibuilder.cdef('extern "Python" void listen_in_child(void *);')
ffibuilder.set_source(
    "pytheus_backend_rs._native",
    KEEP_THE_GIL
    + "".join(definition(*function) for function in BLOCKING)
    + (HERE / "native_methods.c").read_text(encoding="utf-8"),
    include_dirs=[str(INCLUDE)],
    # The engine's symbols are the extension's own: another copy in the process must not meet them.
    # It has threads and fork handlers, so it cannot be unloaded.
    extra_link_args=["-Wl,--exclude-libs,ALL", "-Wl,-z,nodelete"] if sys.platform == "linux" else [],
    libraries=["pthread", "dl", "m"] if sys.platform == "linux" else [],
)
