"""Puts this package under prometheus_client, and takes it away again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pytheus_backend_rs import _config, _logging
from pytheus_backend_rs._callables import is_portable
from pytheus_backend_rs._engine import Engine
from pytheus_backend_rs._errors import BackendError
from pytheus_backend_rs.prometheus import (
    adoption,
    binding,
    internals,
    native_methods,
    processes,
    removal,
    scrape,
    store,
    text,
    texts,
)

#: What was replaced: the object, the name of its attribute, and the original.
_replaced: list[tuple[Any, str, Any]] = []


#: Whether `install` was told which store.
_is_named = False


def install(
    store: str | os.PathLike[str] | None = None,
    *,
    process_metrics: bool = True,
    exemplars: bool | Sequence[str] = False,
) -> None:
    """Makes prometheus_client keep its values in a store that all processes of the service share.

    `store` is a URL (`shm:///run/shop.shm`, `redis://host`, `memory:`) or the path of a file. Without it, the
    environment variable `PYTHEUS_BACKEND_RS_STORE` names the store; or it is the file `metrics.shm` in the
    directory `PROMETHEUS_MULTIPROC_DIR`; or all processes that descend from one program by fork or by
    `multiprocessing` find one file by themselves.

    Call it before the workers are forked, or at the start of each of them. Metrics that exist are adopted
    with their values: what a worker has inherited when it calls this, it adds to the store. If the store
    cannot be used, the log says why, and prometheus_client works as it does without this package.

    A second call does nothing, unless it names a store and no earlier call has: then the metrics move there.
    What counters of a shared store have counted until then stays where it is; they begin again at 0.

    In shared memory, the metrics `process_*`, `python_gc_*` and `python_info` are those of every process of
    the service, with the label `pid` where processes cannot be added up. With `process_metrics=False` the
    store has none, and the collectors of prometheus_client show the process that is scraped.

    With `exemplars=True`, the store keeps the exemplars of counters and histograms, and a scrape of a
    registry shows those of all processes. A list has the names of the metrics whose exemplars it keeps
    (`requests_total`). The exemplars of other metrics stay in each process.
    """
    global _is_named
    keeps_exemplars = _config.exemplars({"exemplars": exemplars})
    if _replaced:
        if store is None or _is_named:
            return
        uninstall()
    try:
        if not internals.is_tested():
            _logging.logger.warning(
                "prometheus_client %s is not a version that was tested: %d.%d to %d.%d",
                internals.version(),
                *internals.TESTED[0],
                *internals.TESTED[1],
            )
        engine = _open(store)
        engine.keeps_exemplars = keeps_exemplars
        for place, name, replacement in _replacements():
            _replaced.append((place, name, place.__dict__[name]))
            setattr(place, name, replacement)
        _is_named = store is not None
        adoption.adopt_all()
        if process_metrics:
            _show_processes(engine)
    except Exception as error:
        uninstall()
        if isinstance(error, BackendError) and isinstance(error, ValueError) and store is not None:
            # A mistake in the argument is one of the program.
            raise
        _logging.logger.error("prometheus_client keeps its values in each process: %s", error)
    finally:
        binding.deliver()


def uninstall() -> None:
    """Undoes `install`, as after a test. Metrics that exist keep counting in the store, by the methods of
    prometheus_client; those that are made from now on count in this process."""
    if _replaced:
        for metric in internals.all_metrics():
            native_methods.remove(metric)
            for _, child in internals.children_of(metric):
                native_methods.remove(child)
    while _replaced:
        setattr(*_replaced.pop())
    processes.hide(store.engine())
    store.stop_using()


def is_installed() -> bool:
    """Tells whether prometheus_client uses a store of this package."""
    return bool(_replaced)


_open = store.use


def _show_processes(engine: Engine) -> None:
    try:
        processes.show(engine)
    except Exception as error:
        _logging.logger.error("the store shows no metrics of the processes: %s", error)


def _replacements() -> Iterable[tuple[Any, str, Any]]:
    base = internals.BASE
    for kind in internals.NUMBERS:
        yield kind, "_metric_init", binding.init
    for kind, name in zip(internals.TEXTS, ("info", "state")):
        yield kind, name, _shared(kind.__dict__[name])
    for kind in internals.PROCESS:
        yield kind, "collect", scrape.collect_process
    yield base, "labels", _labels(base.labels)
    yield base, "collect", scrape.collect
    yield base, "remove", removal.remove(base.remove)
    yield base, "clear", removal.clear(base.clear)
    if "remove_by_labels" in base.__dict__:
        # Since 0.23.
        yield base, "remove_by_labels", removal.remove_by_labels(base.remove_by_labels)
    if "warnings" in vars(internals.MODULES[0]):
        yield internals.MODULES[0], "warnings", removal.Warnings()
    yield internals.REGISTRY, "collect", scrape.collect_registry
    if not is_portable() and internals.has_short_exponents():
        yield from _generators()
    yield internals.MULTI_PROCESS, "__init__", _multi_process_init
    yield internals.MULTI_PROCESS, "collect", _multi_process_collect
    yield internals.MODULES[1], "mark_process_dead", _mark_process_dead


def _generators() -> Iterable[tuple[Any, str, Any]]:
    name = "generate_latest"
    # Programs compare the function of one module with that of the other.
    of_text = text.generator(internals.TEXT_MODULES[0].generate_latest, is_open_metrics=False)
    for module in internals.TEXT_MODULES:
        yield module, name, of_text
    module = internals.OPEN_METRICS_MODULE
    yield module, name, text.generator(module.generate_latest, is_open_metrics=True)


def _labels(original: Callable[..., Any]) -> Callable[..., Any]:
    """Makes the method that finds or makes a child. If a tool has patched that of prometheus_client, before
    `install` or since, each call goes through its patch."""
    is_original = internals.is_original(original)

    def labels(self: Any, *labelvalues: Any, **labelkwargs: Any) -> Any:
        is_plain = is_original and getattr(type(self), "labels", None) is labels
        child = internals.known_child(self, labelvalues, labelkwargs) if is_plain else None
        if child is None:
            try:
                with binding.making_child_of(self):
                    child = original(self, *labelvalues, **labelkwargs)
            finally:
                binding.deliver()
        if is_plain:
            native_methods.install_labels(self)
        return child

    labels.__doc__ = original.__doc__
    return labels


def _shared(original: Callable[..., None]) -> Callable[..., None]:
    """Makes the method that sets an info or enum."""

    def set_it(self: Any, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        texts.share(self)

    set_it.__name__, set_it.__doc__ = original.__name__, original.__doc__
    return set_it


def _multi_process_init(self: Any, registry: Any, path: str | None = None) -> None:
    """The store has all values, so there is no directory to look for."""
    self._path = path
    if registry:
        registry.register(self)


def _multi_process_collect(self: Any) -> Iterable[Any]:
    engine = store.engine()
    return [] if engine is None else scrape.collect_store(engine)


def _mark_process_dead(pid: int, path: str | None = None) -> None:
    """Does nothing: the store sees by itself which processes live."""
