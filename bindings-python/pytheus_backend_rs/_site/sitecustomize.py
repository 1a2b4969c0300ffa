"""Installs the engine under prometheus_client in a program that `_run.py` has started.

It does so when the program imports prometheus_client, so that a store which the program names by its
environment until then is the one. A program that imports `pytheus_backend_rs.prometheus` itself decides.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

CLIENT = "prometheus_client"


def _run_hidden() -> None:
    """Runs the `sitecustomize` that this one hides."""
    here = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if os.path.abspath(path or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds prometheus_client as the finders behind this one do, and gives it a loader that installs the
    engine."""

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != CLIENT:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = None if find is None else find(name, path, target)
            if isinstance(spec, importlib.machinery.ModuleSpec):
                # Before 3.10 the loader of a zip file has none, and its module is imported as it is.
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, self)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    """Loads the module with its own loader, installs the engine, and takes the finder away."""

    def __init__(self, loader: Any, finder: _Finder) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        if "pytheus_backend_rs.prometheus" not in sys.modules:
            _install()


def _install() -> None:
    try:
        from pytheus_backend_rs import prometheus
    except ImportError as error:
        # The program may start another Python, which has no such package.
        print(f"prometheus_client keeps its values in each process: {error}", file=sys.stderr)
    else:
        prometheus.install()


_run_hidden()
if CLIENT in sys.modules:
    _install()
else:
    sys.meta_path.insert(0, _Finder())
