"""Writes the metric families that the engine does not have: those of custom collectors, and metrics that
count in another backend.

The engine renders everything else. What is written here stands between its families, in the same format.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pytheus_backend_rs._engine import ForeignFamily, Rendered, Section
from pytheus_backend_rs._logging import logger

_OPEN_METRICS = "application/openmetrics-text"


_TYPE_LINE = re.compile(rb"^# TYPE (\S+) ", re.MULTILINE)


def join(sections: Sequence[Section], content_type: str, text: bytes, ends: Sequence[int]) -> Rendered:
    """The engine's text, with that of the foreign families in its places."""
    names = {name.decode() for name in _TYPE_LINE.findall(text)}
    pieces: list[bytes] = []
    start = 0
    end = iter(ends)
    for section in sections:
        if isinstance(section, ForeignFamily):
            name = shown_name(section, content_type)
            if name in names:
                logger.error("%s is left out of scrapes: another metric family is shown as %r", section.name, name)
                continue
            names.add(name)
            pieces.append(write(section, content_type).encode())
        else:
            stop = next(end)
            pieces.append(text[start:stop])
            start = stop
    pieces.append(text[start:])
    return Rendered(content_type, b"".join(pieces))


def write(family: ForeignFamily, content_type: str) -> str:
    """The family as text, in the format of this content type."""
    lines = _open_metrics(family) if _is_open_metrics(content_type) else _text(family)
    return "".join(f"{line}\n" for line in lines)


def shown_name(family: ForeignFamily, content_type: str) -> str:
    """The name under which the family stands in a text of this content type."""
    is_total = family.type_ == "counter" and family.name.endswith("_total")
    return family.name[: -len("_total")] if is_total and _is_open_metrics(content_type) else family.name


def _is_open_metrics(content_type: str) -> bool:
    return content_type.startswith(_OPEN_METRICS)


def _text(family: ForeignFamily) -> Iterable[str]:
    yield f"# HELP {family.name} {_escaped(family.help)}"
    yield f"# TYPE {family.name} {family.type_}"
    for sample in family.samples:
        yield f"{family.name}{sample.suffix}{_labels(sample.labels)} {_number(sample.value)}"


def _open_metrics(family: ForeignFamily) -> Iterable[str]:
    is_counter = family.type_ == "counter"
    name = shown_name(family, _OPEN_METRICS)
    yield f"# HELP {name} {_quoted(family.help)}"
    yield f"# TYPE {name} {'unknown' if family.type_ == 'untyped' else family.type_}"
    for sample in family.samples:
        suffix = sample.suffix or ("_total" if is_counter else "")
        labels = sample.labels
        if suffix == "_bucket" and labels and "le" in labels:
            labels = {**labels, "le": canonical_bound(float(labels["le"]))}
        yield f"{name}{suffix}{_labels(labels)} {_number(sample.value)}"


def _labels(labels: dict[str, Any] | None) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_quoted(str(value))}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')


def _number(value: float) -> str:
    """As the engine writes numbers."""
    value = float(value)
    if math.isinf(value) or math.isnan(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 1e17 else repr(value)


def canonical_bound(bound: float) -> str:
    """A bucket bound as OpenMetrics spells it: `1.0`, `0.25`, `1e+06`, `+Inf`."""
    if math.isinf(bound):
        return "+Inf" if bound > 0 else "-Inf"
    text = repr(bound)
    point = text.find(".")
    if "e" in text or point <= 6:
        return text
    # From a million on with an exponent, which Python writes only from 1e16 on.
    digits = (text[:point] + text[point + 1 :]).rstrip("0")
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{mantissa}e+{point - 1:02}"
