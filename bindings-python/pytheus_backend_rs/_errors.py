"""The exceptions of the package: one for each failing status of the engine.

Each derives from `BackendError` and from the built-in exception that a Python programmer would expect.
"""

from __future__ import annotations

from typing import Any

from pytheus_backend_rs._native import ffi, lib


class BackendError(Exception):
    """An operation of a backend failed. The message says which, with which value, and what to do."""


class NullPointerError(BackendError, RuntimeError):
    """A defect of this package: it gave the engine no pointer where one is needed."""


class InvalidArgumentError(BackendError, ValueError):
    """A name, label, amount or bucket bound is not acceptable."""


class ConfigurationError(BackendError, ValueError):
    """The backend's configuration is not acceptable."""


class ConflictError(BackendError, ValueError):
    """A metric of this name exists with another definition."""


class WrongTypeError(BackendError, TypeError):
    """The type of the metric has no such operation."""


class NotFoundError(BackendError, LookupError):
    """The series or the bucket does not exist."""


class UnavailableError(BackendError, ConnectionError):
    """The store cannot be reached, refuses to serve, or is closed."""


class BackendTimeoutError(BackendError, TimeoutError):
    """The store did not answer in time."""


class StoreError(BackendError, RuntimeError):
    """The store answered, but refused: a key holds another program's data, or a file is damaged."""


class PanicError(BackendError, RuntimeError):
    """A defect of the engine."""


_BY_STATUS: dict[int, type[BackendError]] = {
    lib.BACKEND_STATUS_NULL_POINTER: NullPointerError,
    lib.BACKEND_STATUS_INVALID_ARGUMENT: InvalidArgumentError,
    lib.BACKEND_STATUS_CONFIGURATION: ConfigurationError,
    lib.BACKEND_STATUS_CONFLICT: ConflictError,
    lib.BACKEND_STATUS_WRONG_TYPE: WrongTypeError,
    lib.BACKEND_STATUS_NOT_FOUND: NotFoundError,
    lib.BACKEND_STATUS_UNAVAILABLE: UnavailableError,
    lib.BACKEND_STATUS_TIMEOUT: BackendTimeoutError,
    lib.BACKEND_STATUS_STORE: StoreError,
    lib.BACKEND_STATUS_PANIC: PanicError,
}


def exception_class(status: int) -> type[BackendError]:
    """Returns the class of exception for a failing status."""
    return _BY_STATUS.get(status, BackendError)


class ErrorSlot:
    """Receives the error of one call: pass `slot.pointer` to the call, then its status to `check`."""

    __slots__ = ("pointer",)

    def __init__(self) -> None:
        self.pointer: Any = ffi.new("BackendError **")

    def check(self, status: int) -> None:
        """Raises the exception for a failing status; does nothing for OK."""
        if status == lib.BACKEND_STATUS_OK:
            return
        error = self.pointer[0]
        message = ffi.string(lib.backend_error_message(error)).decode("utf-8", "replace")
        lib.backend_error_free(error)
        raise exception_class(status)(message)
