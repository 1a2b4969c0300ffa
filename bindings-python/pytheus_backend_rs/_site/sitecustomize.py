"""Installs the engine under prometheus_client in a program that `_run.py` has started."""

import importlib.machinery
import importlib.util
import os
import sys


def _run_hidden() -> None:
    """Runs the `sitecustomize` that this one hides."""
    here = os.path.dirname(os.path.abspath(__file__))
    others = [path for path in sys.path if os.path.abspath(path or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def _install() -> None:
    try:
        from pytheus_backend_rs import prometheus
    except ImportError as error:
        # The program may start another Python, which has no such package.
        print(f"prometheus_client keeps its values in each process: {error}", file=sys.stderr)
    else:
        prometheus.install()


_run_hidden()
_install()
