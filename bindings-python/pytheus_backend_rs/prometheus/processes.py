"""What the system and Python say about each process of the service, in place of prometheus_client's
collectors, which show the process that is scraped.

They stand in a file of shared memory only: other stores have no values of each process.
"""

from __future__ import annotations

from typing import Any

from pytheus_backend_rs import process
from pytheus_backend_rs._engine import Engine, Family
from pytheus_backend_rs.prometheus import internals

#: The families in the store, by what they show: see `internals.PROCESS`.
_families: dict[str, list[Family]] = {}


def show(engine: Engine) -> None:
    """Shows this process in the store of an engine from now on, and its children."""
    if engine.url.startswith("shm:"):
        _families.update(process.follow(engine, "").families())


def hide(engine: Engine | None) -> None:
    """Updates what the store shows of this process no more."""
    _families.clear()
    if engine is not None:
        process.unfollow(engine)


def families_for(collector: Any) -> list[Family]:
    """Returns the families that stand for a collector of prometheus_client; none if it shows its own."""
    found = _families.get(internals.process_part(collector) or "", [])
    return [] if any(family.engine.is_closed for family in found) else found
