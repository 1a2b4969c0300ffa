"""Opens an installed engine, for a package without a compiled module (cffi's ABI mode).

`lib` has the same names as that of the compiled module. Every call goes through libffi and releases the GIL,
so a call costs some hundred nanoseconds more, and several microseconds beside a busy thread.
"""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from pytheus_backend_rs import _abi
from pytheus_backend_rs._declarations import ffi as ffi

#: Names the library, where it stands in no folder that the system searches.
VARIABLE = "PYTHEUS_BACKEND_RS_LIBRARY"

NAME = "pytheus_backend_rs"


class Library:
    """The functions and constants of an engine.

    Also each function as `released_…`, as the compiled module names those of its functions that release the
    GIL.
    """

    def __init__(self, opened: Any) -> None:
        for name in dir(opened):
            try:
                value = getattr(opened, name)
            except ffi.error as error:
                raise ImportError(f"{error}: install the package and the engine of one release") from None
            setattr(self, name, value)
            if callable(value):
                setattr(self, f"released_{name}", value)


def _candidates(abi: int) -> Iterator[str]:
    """The names and paths of the library, those first that are quick to find."""
    named = os.environ.get(VARIABLE)
    if named:
        yield named
        return
    if sys.platform == "linux":
        yield f"lib{NAME}.so.{abi}"
    found = ctypes.util.find_library(NAME)
    if found is not None:
        yield found
    command = [os.environ.get("PKG_CONFIG", "pkg-config"), "--variable=libdir", NAME]
    try:
        folder = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return
    suffix = "dylib" if sys.platform == "darwin" else "so"
    yield os.path.join(folder, f"lib{NAME}.{suffix}")


def _open() -> tuple[str, Any]:
    """Returns the path or name of the library, and its functions. Raises ImportError without a library that
    fits."""
    # The constants of the header are there without a library.
    abi = ffi.dlopen(None).BACKEND_ABI_VERSION
    failures = []
    for candidate in _candidates(abi):
        try:
            opened = ffi.dlopen(candidate)
            version = ffi.string(opened.backend_version()).decode()
        except (OSError, AttributeError) as error:
            failures.append(str(error))
            continue
        try:
            _abi.check(ffi, opened)
        except ImportError as error:
            raise ImportError(f"{candidate}, version {version}, does not fit: {error}") from None
        return candidate, opened
    raise ImportError(
        f"{NAME} has no compiled module here, and no installed engine was found ({'; '.join(failures)}): "
        f"install the library (make install), or name its file in the environment variable {VARIABLE}"
    )


path, _opened = _open()
lib: Any = Library(_opened)

warnings.warn(
    f"{NAME} has no compiled module here and calls {path} through cffi's ABI mode, which is slower",
    RuntimeWarning,
    stacklevel=1,
)
