"""Brings the engine's log records to Python's logging.

The engine never calls Python: it puts records into a bounded queue. A daemon thread takes them out and
gives them to the logger "pytheus_backend_rs". (A callback from one of the engine's threads would abort
the interpreter at exit.)
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

from pytheus_backend_rs._native import ffi, lib

logger = logging.getLogger("pytheus_backend_rs")

_LEVELS = {
    lib.BACKEND_LOG_LEVEL_ERROR: logging.ERROR,
    lib.BACKEND_LOG_LEVEL_WARNING: logging.WARNING,
    lib.BACKEND_LOG_LEVEL_INFO: logging.INFO,
    lib.BACKEND_LOG_LEVEL_DEBUG: logging.DEBUG,
}

_WAIT_SECONDS = 3600.0


class _Drain:
    """The thread that takes records out of the queue, of one process."""

    def __init__(self) -> None:
        # Held while records are taken and logged, so that they keep their order.
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._stopped = False
        #: Whether this process is a fork of one that listened.
        self.is_inherited = False

    def open(self) -> None:
        """Has the engine keep its records, unless nobody is to listen any more: the thread that is told so
        would go on to wait for them."""
        with self._lock:
            if not self._stopped:
                lib.backend_log_queue(lib.BACKEND_LOG_LEVEL_INFO)

    def drain(self) -> None:
        """Logs what is in the queue."""
        level = ffi.new("int32_t *")
        message = ffi.new("char **")
        with self._lock:
            while lib.backend_log_next(0.0, level, message) == lib.BACKEND_STATUS_OK:
                text = ffi.string(message[0]).decode("utf-8", "replace")
                lib.backend_string_free(message[0])
                logger.log(_LEVELS[level[0]], "%s", text)

    def ensure_thread(self) -> None:
        """Starts the thread, if it does not run in this process."""
        with self._lock:
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(target=self._run, name="pytheus_backend_rs-log", daemon=True)
                self._thread.start()

    @property
    def is_listening(self) -> bool:
        return self._thread is not None or self.is_inherited

    def stop(self) -> None:
        """Logs what is left, and ends the thread."""
        self.drain()
        with self._lock:
            self._stopped = True
            thread, self._thread = self._thread, None
            # Records go nowhere from now on, which also wakes the thread.
            lib.backend_log_callback(ffi.NULL, ffi.NULL, lib.BACKEND_LOG_LEVEL_INFO)
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while not self._stopped:
            lib.released_backend_log_wait(_WAIT_SECONDS)
            self.drain()


_drain = _Drain()


def _forget_parent() -> None:
    """In a forked child: the parent's thread does not exist here, and its lock may be held."""
    global _drain
    was_listening = _drain.is_listening
    _drain = _Drain()
    _drain.is_inherited = was_listening


def start() -> None:
    """Has the engine keep its records for Python, from now on."""
    _drain.open()
    lib.backend_restart_callback(lib.listen_in_child, ffi.NULL)


def drain() -> None:
    """Logs what the engine has said so far, and sees that somebody listens to what it says later."""
    _drain.drain()
    _drain.ensure_thread()


@ffi.def_extern()  # type: ignore[untyped-decorator,unused-ignore]
def listen_in_child(_user_data: Any) -> None:
    """In a forked child, when it first uses a store: listens again, if the parent did. (Not at the fork: the
    child may be about to become another program.)"""
    if _drain.is_inherited:
        _drain.ensure_thread()


def stop() -> None:
    """Logs what is left, and stops listening: the interpreter is about to end."""
    _drain.stop()


os.register_at_fork(after_in_child=_forget_parent)
