"""Loads the callables and owners of handles that native_methods.c defines.

They are a second module inside the shared library of cffi's module.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from typing import Any

from pytheus_backend_rs import _native


def _load() -> Any:
    library = _native.__file__ or ""
    loader = importlib.machinery.ExtensionFileLoader(f"{__name__}_c._callables", library)
    spec = importlib.util.spec_from_loader(loader.name, loader, origin=library)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


callables = _load()
