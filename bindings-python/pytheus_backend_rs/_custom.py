"""Tells whether this thread runs a custom collector's `collect`.

The metrics that a custom collector makes there are values of one scrape. They must not be shared: each
process makes its own, each time anew. pytheus calls `collect` when a scrape comes, and once when the
collector is registered.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_state = threading.local()


@contextmanager
def collecting() -> Iterator[None]:
    """Around a custom collector's `collect`, in a scrape."""
    before = getattr(_state, "is_collecting", False)
    _state.is_collecting = True
    try:
        yield
    finally:
        _state.is_collecting = before


def is_collecting() -> bool:
    """Whether `collect` runs, for a scrape or for a registration."""
    return getattr(_state, "is_collecting", False) or _is_registering()


def _is_registering() -> bool:
    """Whether pytheus' registry is on the stack: it does not say why it calls `collect`. A metric that
    registers itself has no backend yet at that time, so whoever asks here was made by a `collect`."""
    from pytheus.registry import CollectorRegistry

    code = getattr(CollectorRegistry.register, "__code__", None)
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
