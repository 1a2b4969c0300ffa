"""Brings the engine's log records to Python's logging, on the program's own threads.

The engine never calls Python. It keeps its records in a bounded queue and sets a byte while some wait. The
native calls, loading, scrapes and the exit look at that byte, and the thread that finds it set delivers the
records after its own work. An idle process delivers at its next call.

So the package has no thread that a fork, a patched `threading` (gevent, eventlet), a limit of the system or
the end of the interpreter could break, and it holds no lock while a handler runs.
"""

from __future__ import annotations

import logging

from pytheus_backend_rs._callables import callables
from pytheus_backend_rs._native import ffi, lib

logger = logging.getLogger("pytheus_backend_rs")

_LEVELS = {
    lib.BACKEND_LOG_LEVEL_ERROR: logging.ERROR,
    lib.BACKEND_LOG_LEVEL_WARNING: logging.WARNING,
    lib.BACKEND_LOG_LEVEL_INFO: logging.INFO,
    lib.BACKEND_LOG_LEVEL_DEBUG: logging.DEBUG,
}

#: Reports the exceptions of other handlers, as every handler reports its own.
_failures = logging.NullHandler()

#: The byte that the engine sets while records wait.
_waiting = lib.backend_log_waiting()

_is_stopped = False


def start() -> None:
    """Makes the engine keep its records for Python from now on."""
    if not _is_stopped:
        lib.backend_log_queue(lib.BACKEND_LOG_LEVEL_INFO)


def deliver() -> None:
    """Logs the waiting records, unless another thread, or an outer call of this one, does that already.

    Records that come in the meantime wait for the next call, so a handler whose own calls cause records
    cannot keep this call busy.
    """
    if _waiting[0]:
        count = lib.backend_log_claim()
        if count:
            try:
                _log(count)
            finally:
                lib.backend_log_release()


def stop() -> None:
    """Logs the records that are left and keeps no more, because the interpreter is about to end."""
    global _is_stopped
    _is_stopped = True
    lib.backend_log_callback(ffi.NULL, ffi.NULL, lib.BACKEND_LOG_LEVEL_INFO)
    # Without a claim: a daemon thread that holds one may never run again.
    while _log(1):
        pass


def _log(count: int) -> bool:
    """Logs up to `count` records. Returns whether there were as many."""
    level, time, message = ffi.new("int32_t *"), ffi.new("double *"), ffi.new("char **")
    for _ in range(count):
        if lib.backend_log_next(0.0, level, time, message) != lib.BACKEND_STATUS_OK:
            return False
        text = ffi.string(message[0]).decode("utf-8", "replace")
        lib.backend_string_free(message[0])
        if logger.isEnabledFor(_LEVELS[level[0]]):
            _handle(_LEVELS[level[0]], time[0], text)
    return True


def _handle(level: int, time: float, text: str) -> None:
    """Gives a record to the handlers, with the time at which the engine made it."""
    record = logger.makeRecord(logger.name, level, logger.name, 0, text, (), None, "(engine)")
    record.relativeCreated -= (record.created - time) * 1000
    record.created = time
    record.msecs = float(int(time % 1 * 1000))
    try:
        logger.handle(record)
    except Exception:
        # A handler's failure must not reach the program's `inc()`. KeyboardInterrupt and its like do.
        _failures.handleError(record)


callables.deliver_logs_by(deliver)
