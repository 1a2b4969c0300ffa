"""Loads the callables and owners of handles, and checks that the engine fits the package.

native_methods.c defines them, in a second module inside the shared library of cffi's module. Without a
compiled module, `_portable.py` has the same in Python. Every module that calls the engine comes after this
one.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from types import BuiltinFunctionType
from typing import Any

from pytheus_backend_rs import _abi

# Bound at their first call, functions that an older engine does not have leave it to the check to say so.
_flags = sys.getdlopenflags()
sys.setdlopenflags(os.RTLD_LAZY)
try:
    from pytheus_backend_rs import _native
finally:
    sys.setdlopenflags(_flags)


def _load() -> Any:
    library = _native.__file__ or ""
    if not library.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
        return importlib.import_module("pytheus_backend_rs._portable")
    loader = importlib.machinery.ExtensionFileLoader(f"{__name__}_c._callables", library)
    spec = importlib.util.spec_from_loader(loader.name, loader, origin=library)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def is_portable() -> bool:
    """Tells whether the package has no compiled module."""
    return bool(callables.__name__.endswith("._portable"))


def is_callable_of_engine(value: Any) -> bool:
    """Tells whether this is one of the callables, as opposed to something that the program has put there."""
    if isinstance(value, BuiltinFunctionType):
        return type(value.__self__).__module__ == __name__
    return bool(getattr(value, "__module__", None) == callables.__name__)


_abi.check(_native.ffi, _native.lib)
callables = _load()
