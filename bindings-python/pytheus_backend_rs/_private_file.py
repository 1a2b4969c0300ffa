"""The file of a `SharedMemoryBackend` that was given no path.

The process that loads the backend makes a file of its own, and puts its name into the environment, so that
its children find it, by fork and by exec. It removes the file when it ends; they do not.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import secrets
import sys
import tempfile
from typing import Any

#: The environment variable that holds the file's name.
VARIABLE = "PYTHEUS_BACKEND_RS_SHARED_MEMORY"


def path() -> str:
    """The file of this process and its relatives, which the engine makes when it opens it."""
    chosen = os.environ.get(VARIABLE)
    # One whose maker has ended is gone: nobody would remove it a second time.
    if not chosen or not os.path.lexists(chosen):
        folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
        chosen = os.path.join(folder, f"{_prefix()}{secrets.token_hex(8)}")
        os.environ[VARIABLE] = chosen
    # Also after an exec, which keeps the process and forgets its handlers.
    if is_own(chosen):
        _remove_at_end(chosen, os.getpid())
    return chosen


def is_own(chosen: str) -> bool:
    """Whether this process has made the file, and not one that it descends from."""
    return os.path.basename(chosen).startswith(_prefix())


def _prefix() -> str:
    return f"pytheus-{os.getpid()}-"


@functools.cache
def _remove_at_end(chosen: str, owner: int) -> None:
    atexit.register(_remove, chosen, owner)
    # The end of a `multiprocessing` child runs finalizers of its own instead.
    process: Any = sys.modules.get("multiprocessing.process")
    util: Any = sys.modules.get("multiprocessing.util")
    if process is not None and util is not None and process.parent_process() is not None:
        util.Finalize(None, _remove, args=(chosen, owner), exitpriority=-100)


def _remove(chosen: str, owner: int) -> None:
    # A forked child inherits this handler.
    if os.getpid() == owner:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(chosen)
