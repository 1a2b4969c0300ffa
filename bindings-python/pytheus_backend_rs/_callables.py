"""Where callables and owners of handles are made: in C, by the second module of the library that cffi's is in.

Other interpreters than CPython have `_closures` instead.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from typing import Any

from pytheus_backend_rs import _closures, _native


def _load() -> Any:
    if sys.implementation.name != "cpython":
        return _closures
    library = _native.__file__ or ""
    loader = importlib.machinery.ExtensionFileLoader(f"{__name__}_c._callables", library)
    spec = importlib.util.spec_from_loader(loader.name, loader, origin=library)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


callables = _load()
