"""Tells whether this thread is inside a custom collector's `collect`.

The metrics that a custom collector makes there are values of one scrape. They must not be shared, because
each process makes its own, anew each time. pytheus calls `collect` for a scrape, and once when the collector
is registered.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pytheus_backend_rs.pytheus import internals

_state = threading.local()


@contextmanager
def collecting() -> Iterator[None]:
    """Marks this thread as being inside a custom collector's `collect`, for a scrape."""
    before = getattr(_state, "is_collecting", False)
    _state.is_collecting = True
    try:
        yield
    finally:
        _state.is_collecting = before


def is_collecting() -> bool:
    """Tells whether `collect` runs, for a scrape or for a registration.

    A metric that registers itself gets its backend objects after its registration, so a metric that asks here
    during a registration was made by a `collect`.
    """
    return getattr(_state, "is_collecting", False) or internals.is_registering()
