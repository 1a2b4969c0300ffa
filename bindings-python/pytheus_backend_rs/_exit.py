"""Brings in the tail: what a process has counted arrives when it ends.

The interpreter's exit handlers run at a normal end, `sys.exit` and an unhandled exception, but not at the
end of a `multiprocessing` child, which has finalizers of its own.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any

from pytheus_backend_rs import _logging
from pytheus_backend_rs._native import lib


def install() -> None:
    """Registers the handlers, once, when the package is imported: what is registered later runs earlier,
    so the program's own handlers can still count."""
    atexit.register(_close_all)
    os.register_at_fork(before=_prepare_multiprocessing_children)
    _prepare_multiprocessing_children()
    _finish_with_multiprocessing()


def _close_all() -> None:
    # The engine logs what it could not send.
    lib.released_backend_close_all()
    _logging.stop()


_prepared = False


def _prepare_multiprocessing_children() -> None:
    """A `multiprocessing` child forgets its parent's finalizers, then runs what the parent has registered
    to be run after a fork. (The module is not imported for this: it may never be needed.)"""
    global _prepared
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None and not _prepared:
        util.register_after_fork(_close_all, _finish_with_multiprocessing)
        _prepared = True


def _finish_with_multiprocessing(_registered: Any = None) -> None:
    """In a `multiprocessing` child: close when its function has returned."""
    process: Any = sys.modules.get("multiprocessing.process")
    util: Any = sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _close_all, exitpriority=-100)
