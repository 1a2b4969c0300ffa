"""The cffi builder: how Python calls the engine.

cffi releases the GIL around every call. For a call of nanoseconds that is a disaster (10 µs per `inc`
beside one busy thread, against 120 ns), so here calls keep it. Those that may wait for a server, a
thread or a lock go through small C functions of their own, named `released_…`, which release it.

A call that keeps the GIL must never block, never wait for a lock that a thread waiting for the GIL may
hold, and never call Python.

The callables that need no cffi are a second module in the same library: the files of `CALLABLES`.
"""

import sys
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
# cffi runs this file without its folder in the path.
sys.path.insert(0, str(HERE))

from native_header import BLOCKING, HEADER, Function, read  # noqa: E402

#: In the order in which they use each other.
CALLABLES = ("series_text.c", "native_methods.c", "client_methods.c")

KEEP_THE_GIL = """
#include "pytheus_backend_rs.h"

#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }
"""


def released(function: Function) -> str:
    """The C function that calls another one without the GIL."""
    arguments = ", ".join(parameter.name for parameter in function.parameters)
    call = f"{function.name}({arguments});"
    keep, give = ("", "") if function.result == "void" else (f"{function.result} result = ", "return result;")
    return f"""
static {function.declaration("released_" + function.name)} {{
    PyThreadState *thread = PyEval_SaveThread();
    {keep}{call}
    PyEval_RestoreThread(thread);
    {give}
}}
"""


header = HEADER.read_text(encoding="utf-8")
functions = read(header).functions
blocking = [functions[name] for name in BLOCKING]
ffibuilder = FFI()
ffibuilder.cdef(header)
ffibuilder.cdef("".join(f"{function.declaration('released_' + function.name)};\n" for function in blocking))
ffibuilder.set_source(
    "pytheus_backend_rs._native",
    KEEP_THE_GIL
    + "".join(released(function) for function in blocking)
    + "".join((HERE / name).read_text(encoding="utf-8") for name in CALLABLES),
    include_dirs=[str(HEADER.parent)],
    # The stable ABI of the oldest CPython that the wheel is for; cffi's default is an older one.
    define_macros=[("Py_LIMITED_API", "0x03090000")],
    extra_compile_args=["-Werror=implicit-function-declaration"],
    # The engine's symbols are the extension's own: another copy in the process must not meet them.
    # It has threads and fork handlers, so it cannot be unloaded.
    extra_link_args={
        "linux": ["-Wl,--exclude-libs,ALL", "-Wl,-z,nodelete"],
        # The certificates that macOS trusts, for TLS to a Redis server.
        "darwin": ["-framework", "Security", "-framework", "CoreFoundation"],
    }.get(sys.platform, []),
    libraries=["pthread", "dl", "m"] if sys.platform == "linux" else [],
)
