"""Sends what a process has counted when the process ends.

The interpreter's exit handlers run at a normal end, at `sys.exit` and after an unhandled exception. They do
not run in a `multiprocessing` child, which has finalizers of its own, nor in a child of Celery's prefork
pool, which has neither but sends a signal of Celery's.
"""

from __future__ import annotations

import atexit
import importlib
import os
import sys
from typing import Any

from pytheus_backend_rs import _logging
from pytheus_backend_rs._callables import callables
from pytheus_backend_rs._native import lib


def install() -> None:
    """Registers the handlers, once, when the package is imported.

    Handlers that are registered later run earlier, so the program's own handlers can still count.

    The end of a sub-interpreter is not the end of the process, because others may go on counting. The
    engine's threads send what the sub-interpreter has counted.
    """
    if not callables.is_main_interpreter():
        atexit.register(_logging.deliver)
        return
    atexit.register(_close_all)
    os.register_at_fork(before=_prepare_children)
    _prepare_children()
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        _finish_with_multiprocessing()


def _close_all(*_: Any, **__: Any) -> None:
    # The engine logs the changes that it could not send.
    lib.released_backend_close_all()
    _logging.stop()


def _prepare_children() -> None:
    """Registers for children of `multiprocessing` and Celery, before each fork.

    It looks whether the program has imported them, because importing them here would cost every program.
    """
    _prepare_multiprocessing_children()
    _prepare_celery_children()


_prepared = False


def _prepare_multiprocessing_children() -> None:
    """Registers a function that runs in each `multiprocessing` child, after it has dropped its parent's
    finalizers. A process of `billiard` does the same, but may import the module only then."""
    global _prepared
    if "billiard" in sys.modules:
        importlib.import_module("multiprocessing.util")
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None and not _prepared:
        util.register_after_fork(_close_all, _finish_with_multiprocessing)
        _prepared = True


def _finish_with_multiprocessing(_registered: Any = None) -> None:
    """In a `multiprocessing` child: closes all backends when the child's function has returned."""
    util: Any = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, _close_all, exitpriority=-100)


_connected_by: int | None = None


def _prepare_celery_children() -> None:
    """Connects to the signal that a child of Celery's prefork pool sends before it ends by `os._exit`.

    Receivers run in the order in which they were connected. Connecting again before each fork puts this one
    last, so the program's own receivers can still count.
    """
    global _connected_by
    signals: Any = sys.modules.get("celery.signals")
    ended: Any = getattr(signals, "worker_process_shutdown", None)
    # A forked child keeps the connection that it inherits: another thread may have held the signal's lock at
    # the fork.
    if ended is not None and _connected_by in (None, os.getpid()):
        _connected_by = os.getpid()
        ended.disconnect(dispatch_uid=__name__)
        ended.connect(_close_all, weak=False, dispatch_uid=__name__)
