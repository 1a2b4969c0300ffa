"""Refuses an engine with another binary interface than the one that the extension module was compiled for.

The wheel carries the engine that it was built with. A package that uses an installed shared library may meet
another one.
"""

from __future__ import annotations

from pytheus_backend_rs._native import ffi, lib


def check() -> None:
    """Raises ImportError if the loaded engine has another binary interface."""
    compare(lib.BACKEND_ABI_VERSION, lib.backend_abi_version())


def compare(compiled: int, loaded: int) -> None:
    """Raises ImportError if the numbers of the binary interface differ."""
    if compiled != loaded:
        version = ffi.string(lib.backend_version()).decode()
        raise ImportError(
            f"pytheus_backend_rs was built for the binary interface {compiled} of its engine, but the loaded "
            f"engine (version {version}) has the interface {loaded}: install the package and the engine of "
            "one release"
        )
