"""Metric families that the engine renders but does not have: those of custom collectors, or of another
backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytheus_backend_rs._engine import TYPES
from pytheus_backend_rs._errors import ErrorSlot
from pytheus_backend_rs._native import ffi, lib
from pytheus_backend_rs._text import c_text


class ForeignFamilies:
    """Families with samples for one scrape, in the order in which they are added.

    The engine checks each call, so a wrong sample costs itself and not the scrape.
    """

    def __init__(self) -> None:
        handle = ffi.new("MetricsForeign **")
        error = ErrorSlot()
        error.check(lib.metrics_foreign_new(handle, error.pointer))
        self.handle: Any = ffi.gc(handle[0], lib.metrics_foreign_free)

    def add_family(self, name: str, help_text: str, type_: str, position: int) -> None:
        """Adds a family without samples, to be shown before the family of the engine at this position.

        `name` is shown as it is, without the prefix of the scrape. Raises `InvalidArgumentError`.
        """
        # `family` only borrows: these must live until the call returns.
        texts = [ffi.new("char[]", c_text(text)) for text in (name, help_text)]
        family = ffi.new("MetricsForeignFamily *")
        family.size = ffi.sizeof("MetricsForeignFamily")
        family.name, family.help = texts
        family.metric_type = TYPES[type_]
        family.position = position
        error = ErrorSlot()
        error.check(lib.metrics_foreign_family(self.handle, family, error.pointer))

    def add_sample(self, suffix: str, labels: Mapping[str, Any], value: float) -> None:
        """Adds a sample to the family that was added last. Raises `InvalidArgumentError`."""
        names = [ffi.new("char[]", c_text(name)) for name in labels]
        values = [ffi.new("char[]", c_text(str(value))) for value in labels.values()]
        name_list, value_list = ffi.new("char *[]", names), ffi.new("char *[]", values)
        suffix_text = ffi.new("char[]", c_text(suffix))
        sample = ffi.new("MetricsForeignSample *")
        sample.size = ffi.sizeof("MetricsForeignSample")
        sample.suffix = suffix_text
        sample.label_names, sample.label_values, sample.label_count = name_list, value_list, len(names)
        sample.value = value
        error = ErrorSlot()
        error.check(lib.metrics_foreign_sample(self.handle, sample, error.pointer))
