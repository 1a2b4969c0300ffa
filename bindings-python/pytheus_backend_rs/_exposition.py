"""What a scrape of a pytheus registry answers: text for Prometheus, rendered by the engine.

The engine reads and renders the metrics that it has, without the GIL. Only what it cannot know is written
here: the samples of custom collectors, and of metrics that count elsewhere (made before `load_backend`, or
before it was called again).
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from pytheus_backend_rs import _custom, _foreign, _logging, _scrape
from pytheus_backend_rs._backends import loaded_engine
from pytheus_backend_rs._engine import Engine, Family, header_text
from pytheus_backend_rs._errors import BackendError
from pytheus_backend_rs._native import ffi, lib

if TYPE_CHECKING:
    from pytheus.metrics import _MetricCollector
    from pytheus.registry import Registry

    from pytheus_backend_rs._foreign import ForeignFamily

_TYPE_LINE = re.compile(rb"^# TYPE (\S+) ", re.MULTILINE)

#: Fast, and small enough: the text of a scrape shrinks to a tenth or less.
_GZIP_LEVEL = 1


class Answer(NamedTuple):
    """What a scraper gets. `status`: 200, or 503 if the store could not be read; then the body says why."""

    status: int
    content_type: str
    body: bytes
    is_gzip: bool


def generate_metrics(registry: Registry | None = None, *, include_others: bool | None = None) -> str:
    """The metrics of a registry (by default pytheus' `REGISTRY`) as Prometheus text 0.0.4.

    A drop-in for `pytheus.exposition.generate_metrics`: the same families in the same order with the same
    values, many times faster, and without holding the GIL while the store is read and the text is written.

    Behind them come, with `include_others`, the families that other processes of the service have registered in
    the store, and this one has not; by default they do in a scrape of `REGISTRY`.

    Raises `UnavailableError` or `BackendTimeoutError` if the store cannot be read.
    """
    return render(registry, None, include_others)[1].decode()


def answer(
    registry: Registry | None, accept: str | None, accept_encoding: str | None, include_others: bool | None
) -> Answer:
    """What a scraper gets that sends these `Accept` and `Accept-Encoding` headers."""
    try:
        content_type, body = render(registry, accept, include_others)
    except BackendError as error:
        _logging.logger.error("a scrape failed: %s", error)
        return Answer(503, "text/plain; charset=utf-8", f"{error}\n".encode(), False)
    is_gzip = _accepts_gzip(accept_encoding)
    if is_gzip:
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
    return Answer(200, content_type, body, is_gzip)


def _accepts_gzip(accept_encoding: str | None) -> bool:
    header = ffi.NULL if accept_encoding is None else ffi.new("char[]", header_text(accept_encoding))
    return bool(lib.metrics_accepts_gzip(header))


def render(registry: Registry | None, accept: str | None, include_others: bool | None) -> tuple[str, bytes]:
    """The content type and the text of a registry for a scraper that sends this `Accept` header."""
    import pytheus.exposition
    from pytheus.registry import REGISTRY

    if registry is None:
        registry = REGISTRY
    if include_others is None:
        include_others = registry is REGISTRY
    engine = loaded_engine()
    if engine is None:
        # Another backend than one of ours is loaded.
        return pytheus.exposition.PROMETHEUS_CONTENT_TYPE, pytheus.exposition.generate_metrics(registry).encode()
    _logging.drain()
    sections = list(_sections(engine, registry))
    _scrape.flush_others(engine)
    families = [section for section in sections if isinstance(section, Family)]
    rendered = engine.render(families, accept, registry.prefix, include_others)
    return rendered.content_type, _join(sections, rendered)


def _sections(engine: Engine, registry: Registry) -> Iterator[Union[Family, ForeignFamily]]:
    """What the engine renders and what is rendered here, in the order of the registry."""
    from pytheus.metrics import _MetricCollector

    for collector in list(registry.collect()):
        if isinstance(collector, _MetricCollector):
            yield from _own_sections(engine, collector, registry.prefix)
        elif hasattr(collector, "description"):
            yield _foreign.of_collector(collector, registry.prefix, collector.collect())
        else:
            with _custom.collecting():
                metrics = list(collector.collect())
            # As with pytheus, these have no prefix.
            yield from (_foreign.of_collector(one._collector, None, one._collector.collect()) for one in metrics)


def _own_sections(
    engine: Engine, collector: _MetricCollector[Any], prefix: str | None
) -> Iterator[Union[Family, ForeignFamily]]:
    if not _collects_itself(collector):
        yield _foreign.of_collector(collector, prefix, collector.collect())
        return
    try:
        family = engine.family(collector)
    except (BackendError, ValueError) as error:
        # It is refused for its own sake (a conflict, a bad bucket): the others must be shown.
        _scrape.report(collector.name, error)
        return
    if all(_counts_in(engine, metric) for metric in _scrape.observable(collector)):
        yield family
    else:
        yield _foreign.of_collector(collector, prefix, _scrape.samples_of(engine, collector))


def _counts_in(engine: Engine, metric: Any) -> bool:
    """Whether the engine has the metric's values: it may count through another one that has the same store."""
    found = _scrape.engine_of(metric)
    return found is engine or (found is not None and found.store == engine.store)


def _collects_itself(collector: _MetricCollector[Any]) -> bool:
    """Whether the samples are those of pytheus' own classes, and not of a program's."""
    from pytheus.metrics import _MetricCollector

    return (
        type(collector).collect is _MetricCollector.collect
        and type(collector._metric).collect.__module__ == _MetricCollector.__module__
    )


def _join(sections: list[Union[Family, ForeignFamily]], rendered: Any) -> bytes:
    """The engine's text, with that of the foreign families in its places."""
    if not any(isinstance(section, _foreign.ForeignFamily) for section in sections):
        return bytes(rendered.text)
    # A scraper would refuse the whole text for a name that is there twice.
    names = {name.decode() for name in _TYPE_LINE.findall(rendered.text)}
    pieces: list[Any] = []
    start = 0
    ends = iter(rendered.family_ends)
    for section in sections:
        if isinstance(section, _foreign.ForeignFamily):
            name = _foreign.shown_name(section, rendered.content_type)
            if name in names:
                _scrape.report(section.name, ValueError(f"another metric family is shown as {name!r}"))
                continue
            names.add(name)
            pieces.append(_foreign.write(section, rendered.content_type).encode())
        else:
            end = next(ends)
            pieces.append(rendered.text[start:end])
            start = end
    pieces.append(rendered.text[start:])
    return b"".join(pieces)
