"""The store in which the metrics count: which one, and the engine that has it open.

A program names the store, or its environment does. Otherwise the file stands in the directory of
prometheus_client's multi-process mode, or all processes of the service find one by themselves.
"""

from __future__ import annotations

import os

from pytheus_backend_rs import _config, _engine, _logging
from pytheus_backend_rs._engine import Engine
from pytheus_backend_rs._errors import ConfigurationError

#: The environment variable that names the store.
VARIABLE = "PYTHEUS_BACKEND_RS_STORE"

#: The variables of prometheus_client's multi-process mode, the second of which is deprecated.
_DIRECTORY_VARIABLES = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")

#: The engine while prometheus_client uses it.
_engine_in_use: Engine | None = None


def engine() -> Engine | None:
    """Returns the engine that prometheus_client uses at present."""
    return _engine_in_use


def use(store: str | os.PathLike[str] | None) -> Engine:
    """Opens the store and uses it from now on: see `url_of`."""
    global _engine_in_use
    _logging.start()
    url = url_of(store)
    _engine_in_use = Engine(url, is_shared=not url.startswith("memory:"))
    return _engine_in_use


def stop_using() -> None:
    """Uses no store any more. Metrics that count in one keep it open."""
    global _engine_in_use
    _engine_in_use = None


def url_of(store: str | os.PathLike[str] | None) -> str:
    """Returns the URL of a store, given as a URL or as the path of a file; None leaves it to the
    environment."""
    named = store if store is not None else os.environ.get(VARIABLE)
    if not named:
        folder = next((os.environ[name] for name in _DIRECTORY_VARIABLES if os.environ.get(name)), None)
        if folder is None:
            return _config.shared_memory_url({})
        os.makedirs(folder, exist_ok=True)
        return _config.shared_memory_url({"path": os.path.join(folder, "metrics.shm")})
    text = os.fspath(named)
    if store is None and len(text.split()) > 1:
        # The side-car takes several. The text may hold a password, so it is not shown.
        raise ConfigurationError(
            f"{VARIABLE} has a space in it: expected one store, a URL or the path of a file; in a URL a "
            "space is %20"
        )
    if ":" not in text.partition("/")[0]:
        return _config.shared_memory_url({"path": text})
    if text == "shm:":
        return _config.shared_memory_url({})
    if text.startswith("redis") and "required=" not in text:
        # A server that is away must not keep the program from starting.
        return _config.with_options(text, {"required": False})
    return text


_engine.find_loaded_engine_by(engine)
