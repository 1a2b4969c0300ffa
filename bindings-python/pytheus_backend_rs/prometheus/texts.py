"""Infos and enums: prometheus_client keeps their values in the process, and here the store has them, too.

The object in the process stays as prometheus_client made it. A scrape prefers what the store has, because any
process may have set it.
"""

from __future__ import annotations

from typing import Any

from pytheus_backend_rs._engine import Family, metric_of
from pytheus_backend_rs._native import lib
from pytheus_backend_rs._text import c_text, plain_text
from pytheus_backend_rs.prometheus import binding, internals, store


def shared_family(metric: Any) -> Family | None:
    """Returns the family of an info or enum, if the store is shared and takes it."""
    engine = store.engine()
    if engine is None or not engine.is_shared or engine.is_closed:
        return None
    try:
        return binding.family_of(engine, metric)
    except Exception as error:
        binding.report(metric, error)
        return None
    finally:
        binding.deliver()


def share(metric: Any) -> None:
    """Brings the value of an info or enum to the store."""
    family = shared_family(metric)
    if family is None:
        return
    names, values = internals.label_names(metric), internals.label_values(metric)
    labels = dict(zip(names, map(plain_text, values)))
    try:
        if family.definition.type_ == "info":
            family.set_info(labels, internals.info_of(metric))
        else:
            owner = family.metric(labels)
            lib.metric_choose_state(metric_of(owner), c_text(internals.state_of(metric)))
    except Exception as error:
        binding.report(metric, error)
    finally:
        binding.deliver()
