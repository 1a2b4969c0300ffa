"""The objects in which prometheus_client keeps numbers: each is one cell of a native metric.

prometheus_client has one such object for a counter or gauge, and several for a summary or histogram. All
objects of one metric share a `Record`, so a program that changes the sum and a bucket by itself changes what
`observe` changes.
"""

from __future__ import annotations

import weakref
from typing import Any

from pytheus_backend_rs import _exemplars, _logging
from pytheus_backend_rs._engine import Family, metric_of
from pytheus_backend_rs._errors import BackendError, ErrorSlot, NotFoundError
from pytheus_backend_rs._native import ffi, lib
from pytheus_backend_rs.prometheus import native_methods

#: The families without exemplars in the store of which a metric may have one in this process.
with_exemplars: weakref.WeakSet[Family] = weakref.WeakSet()


class Record:
    """The native metric of a metric."""

    __slots__ = ("family", "is_removed", "labels", "metric", "native")

    def __init__(self, metric: Any, family: Family, labels: dict[str, str]) -> None:
        self.metric = metric
        self.family = family
        self.labels = labels
        #: Whether this process has removed the metric. What a child that the program has kept counts then is
        #: shown nowhere, as in prometheus_client.
        self.is_removed = False
        self.bind()

    def bind(self) -> None:
        """Finds the metric in the store, or makes it."""
        owner = self.family.metric(self.labels)
        #: The object that keeps the native metric, and its handle. A call holds the pair until it returns:
        #: another thread may make the metric again meanwhile, and the handle is freed with its owner.
        self.native: tuple[Any, Any] = owner, metric_of(owner)
        native_methods.install(self.metric, self)

    def renew(self) -> bool:
        """Makes the metric again if another process has removed it. Returns whether it is there."""
        if self.is_removed:
            return False
        try:
            self.bind()
        except BackendError:
            # The store is closed.
            return False
        return True

    def begin_again(self) -> None:
        """Removes the metric from the store and makes it again, so that it begins at 0."""
        try:
            self.family.remove(self.labels)
        except NotFoundError:
            pass
        self.renew()


class Cell:
    """One number."""

    __slots__ = ("_exemplar", "_index", "_record")

    #: prometheus_client's own values in files have True here.
    _multiprocess = False

    def __init__(self, record: Record, index: int) -> None:
        self._record = record
        self._index = index
        self._exemplar: Any = None

    @property
    def record(self) -> Record:
        """The native metric."""
        return self._record

    def inc(self, amount: float) -> None:
        """Adds `amount`."""
        record = self._record
        native = record.native
        status = lib.metric_cell_add(native[1], self._index, amount)
        if status == lib.BACKEND_STATUS_NOT_FOUND and record.renew():
            native = record.native
            lib.metric_cell_add(native[1], self._index, amount)
        _logging.deliver()

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Replaces the number. The store notes the time itself where it needs one."""
        record = self._record
        native = record.native
        status = lib.metric_cell_set(native[1], self._index, value)
        if status == lib.BACKEND_STATUS_NOT_FOUND and record.renew():
            native = record.native
            lib.metric_cell_set(native[1], self._index, value)
        elif status == lib.BACKEND_STATUS_WRONG_TYPE:
            # A counter on a server, which only takes additions.
            record.begin_again()
            native = record.native
            lib.metric_cell_add(native[1], self._index, value)
        _logging.deliver()

    def get(self) -> float:
        """Reads the number from the store; a bucket's is not cumulated. It may wait for a server."""
        value, error, native = ffi.new("double *"), ErrorSlot(), self._record.native
        try:
            error.check(lib.released_metric_get_cell(native[1], self._index, value, error.pointer))
        except NotFoundError:
            return 0.0
        finally:
            _logging.deliver()
        return value[0]

    def set_exemplar(self, exemplar: Any) -> None:
        """Keeps an exemplar in this process, and in the store if the family has exemplars there."""
        self._exemplar = exemplar
        family = self._record.family
        if exemplar is None:
            return
        if not family.definition.exemplars:
            with_exemplars.add(family)
            return
        native = self._record.native
        try:
            _exemplars.count("keep", native[1], exemplar.value, exemplar.labels)
        except (BackendError, TypeError, OverflowError):
            # The store has stricter rules for labels.
            pass

    def get_exemplar(self) -> Any:
        """Returns the exemplar that this process has kept last."""
        return self._exemplar
