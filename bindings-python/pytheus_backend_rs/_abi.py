"""Refuses an engine that does not fit the package: another binary interface, or an older version.

The wheel carries the engine that it was built with. A package that uses an installed shared library may meet
another one. `_callables.py` calls this before anything else calls the engine.
"""

from __future__ import annotations

import re
from typing import Any


def check(ffi: Any, lib: Any) -> None:
    """Raises ImportError if the engine behind `lib` does not fit the package."""
    built = (lib.BACKEND_VERSION_MAJOR, lib.BACKEND_VERSION_MINOR, lib.BACKEND_VERSION_PATCH)
    version = ffi.string(lib.backend_version()).decode()
    compare(built, lib.BACKEND_ABI_VERSION, version, lib.backend_abi_version())


def compare(built: tuple[int, int, int], built_abi: int, loaded: str, loaded_abi: int) -> None:
    """Raises ImportError if the loaded engine has another binary interface than the package was built for, or
    is older than the package, which may call functions that an older one does not have."""
    package = f"pytheus_backend_rs {'.'.join(map(str, built))}"
    if built_abi != loaded_abi:
        raise ImportError(
            f"{package} was built for the binary interface {built_abi} of its engine, but the loaded engine "
            f"(version {loaded}) has the interface {loaded_abi}: install the package and the engine of one "
            "release"
        )
    if tuple(map(int, re.findall(r"\d+", loaded)[:3])) < built:
        raise ImportError(
            f"{package} was built for an engine of its version or newer, but the loaded engine is version "
            f"{loaded}: install the package and the engine of one release"
        )
