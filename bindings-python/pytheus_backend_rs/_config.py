"""Turns a configuration dictionary into the engine's store URL.

`OWN_OPTIONS` lists the options of this package: where the store is, `native_methods`,
`native_histograms`, `exemplars`, `gauge_modes` and `metric_ttls`. Every other option goes into the URL's
query as it is. The engine declares those, and refuses unknown ones by name.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from pytheus_backend_rs._engine import GAUGE_MODES
from pytheus_backend_rs._errors import ConfigurationError

_NATIVE_METHODS = "native_methods"
_NATIVE_HISTOGRAMS = "native_histograms"
_EXEMPLARS = "exemplars"
_GAUGE_MODES = "gauge_modes"
_METRIC_TTLS = "metric_ttls"

#: The most seconds that a series may be unused.
MAX_SERIES_TTL = 315_360_000

#: The options that the engine does not know, by store. Tests hold the docstrings and the documentation
#: against this.
OWN_OPTIONS = {
    "redis": (
        "host",
        "port",
        "unix_socket_path",
        "url",
        "ssl",
        "sentinels",
        "service_name",
        "cluster",
        "startup_nodes",
        _NATIVE_METHODS,
        _NATIVE_HISTOGRAMS,
        _EXEMPLARS,
        _GAUGE_MODES,
        _METRIC_TTLS,
    ),
    "shm": ("path", "url", _NATIVE_METHODS, _NATIVE_HISTOGRAMS, _EXEMPLARS, _GAUGE_MODES, _METRIC_TTLS),
    "memory": (_NATIVE_METHODS, _NATIVE_HISTOGRAMS, _EXEMPLARS, _GAUGE_MODES, _METRIC_TTLS),
}

#: The options whose values no message shows.
_SECRETS = ("password", "sentinel_password", "url")

_EXPECTED_HOSTS = 'expected a list of pairs of host and port, as in [("10.0.0.1", 26379)]'

#: How similar an unknown option must be to one of `OWN_OPTIONS` to be taken for it, from 0 to 1.
_NEAR_MISS = 0.75

#: How those options of the engine begin that resemble `sentinels`.
_SENTINEL = "sentinel_"


def refuse_misspelled(config: Mapping[str, Any], store: str) -> None:
    """Refuses an option that is nearly one of this package's own. The engine suggests its own options
    only."""
    own = OWN_OPTIONS[store]
    for name in config:
        if name not in own and not str(name).startswith(_SENTINEL):
            # Imported here, because only a mistake needs it.
            import difflib

            for near in difflib.get_close_matches(str(name), own, 1, _NEAR_MISS):
                raise ConfigurationError(
                    f"unknown option {name!r} for the {store} store; did you mean {near!r}?"
                )


def native_methods(config: Mapping[str, Any]) -> bool:
    """Tells whether metrics get native methods: the option `native_methods`, which is on by default."""
    value = config.get(_NATIVE_METHODS)
    return value is None or _boolean(_NATIVE_METHODS, value)


def native_histograms(config: Mapping[str, Any]) -> Callable[[str], bool]:
    """Returns a test that tells by its name whether a histogram gets native buckets: the option
    `native_histograms`, which is True, False (the default), or a list of names."""
    return _names(config, _NATIVE_HISTOGRAMS)


def exemplars(config: Mapping[str, Any]) -> Callable[[str], bool]:
    """Returns a test that tells by its name whether a counter or histogram keeps exemplars: the option
    `exemplars`, which is True, False (the default), or a list of names."""
    return _names(config, _EXEMPLARS)


def _names(config: Mapping[str, Any], option: str) -> Callable[[str], bool]:
    """Returns the test of an option that is for all names, for none (the default), or for some."""
    value = config.get(option)
    if value is None or isinstance(value, bool):
        return lambda _: bool(value)
    if isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(name, str) for name in value):
        return frozenset(value).__contains__
    raise ConfigurationError(f"option {option!r} is {value!r}: expected True, False or a list of names")


def gauge_modes(config: Mapping[str, Any]) -> Mapping[str, str]:
    """Returns the modes of gauges by their names: the option `gauge_modes`."""
    modes = config.get(_GAUGE_MODES)
    if modes is None:
        return {}
    if isinstance(modes, Mapping) and all(isinstance(name, str) for name in modes):
        for name, mode in modes.items():
            if mode not in GAUGE_MODES:
                known = ", ".join(GAUGE_MODES)
                raise ConfigurationError(
                    f"option {_GAUGE_MODES!r}: the mode of {name!r} is {mode!r}: expected one of {known}"
                )
        return dict(modes)
    raise ConfigurationError(f"option {_GAUGE_MODES!r} is {modes!r}: expected a dict of names and modes")


def metric_ttls(config: Mapping[str, Any]) -> Mapping[str, float]:
    """Returns after how many seconds without use series end, by the names of their metrics: the option
    `metric_ttls`."""
    ttls = config.get(_METRIC_TTLS)
    if ttls is None:
        return {}
    if isinstance(ttls, Mapping) and all(isinstance(name, str) for name in ttls):
        for name, ttl in ttls.items():
            is_number = isinstance(ttl, (int, float)) and not isinstance(ttl, bool)
            if not is_number or not (ttl == float("inf") or (1 <= ttl <= MAX_SERIES_TTL and ttl == int(ttl))):
                raise ConfigurationError(
                    f"option {_METRIC_TTLS!r}: the time of {name!r} is {ttl!r}: expected a whole number of "
                    f"seconds from 1 to {MAX_SERIES_TTL}"
                )
        return dict(ttls)
    raise ConfigurationError(f"option {_METRIC_TTLS!r} is {ttls!r}: expected a dict of names and seconds")


def engine_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options for the engine: all but `native_methods`, `native_histograms`, `exemplars`,
    `gauge_modes` and `metric_ttls`, which are checked."""
    native_methods(config)
    native_histograms(config)
    exemplars(config)
    gauge_modes(config)
    metric_ttls(config)
    own = (_NATIVE_METHODS, _NATIVE_HISTOGRAMS, _EXEMPLARS, _GAUGE_MODES, _METRIC_TTLS)
    return {name: value for name, value in config.items() if name not in own}


def redis_url(config: Mapping[str, Any]) -> str:
    """Returns the store URL for the options of a `RedisBackend`.

    `url`, or `host`, `port` (default 127.0.0.1:6379), or `unix_socket_path`, or `sentinels` and
    `service_name`, or `cluster` with `startup_nodes` or a host; `ssl`; and the engine's.
    """
    options = {name: value for name, value in config.items() if value is not None}
    url = options.pop("url", None)
    socket_path = options.pop("unix_socket_path", None)
    place = {name: options.pop(name) for name in ("host", "port") if name in options}
    sentinels, service = options.pop("sentinels", None), options.pop("service_name", None)
    is_cluster = _boolean("cluster", options.pop("cluster", False))
    nodes = options.pop("startup_nodes", None)
    if nodes is not None and not is_cluster:
        raise ConfigurationError("option startup_nodes needs cluster=True")
    places = (
        ("url", url),
        ("unix_socket_path", socket_path),
        ("sentinels", sentinels),
        ("startup_nodes", nodes),
    )
    given = [name for name, value in places if value] + list(place)
    if len(given) > 1 and given != ["host", "port"]:
        raise ConfigurationError(f"options {' and '.join(given)} exclude each other: expected one of them")
    scheme = "rediss" if _boolean("ssl", options.pop("ssl", False)) else "redis"
    other = next((name for name, value in places[:3] if value), None)
    if is_cluster and other is not None:
        raise ConfigurationError(
            f"options cluster and {other} exclude each other: expected host and port, or startup_nodes"
        )
    if (sentinels is None) != (service is None):
        raise ConfigurationError("options sentinels and service_name go together: expected both or none")
    if sentinels is not None:
        hosts = _hosts("sentinels", sentinels)
        base = f"{scheme}-sentinel://{hosts}/{quote(_text('service_name', service), safe='')}"
    elif is_cluster:
        node = (place.get("host", "127.0.0.1"), place.get("port", 6379))
        base = f"{scheme}-cluster://{_hosts('startup_nodes', [node] if nodes is None else nodes)}"
    elif url is not None:
        base = _text("url", url)
    elif socket_path is not None:
        base = "redis+unix://" + quote(_text("unix_socket_path", socket_path))
    else:
        base = f"{scheme}://{_host(place.get('host', '127.0.0.1'))}:{_port(place.get('port', 6379))}"
    return with_options(base, options)


def shared_memory_url(config: Mapping[str, Any]) -> str:
    """Returns the store URL for the options of a `SharedMemoryBackend`.

    `path`, or `url`, or neither; `size_limit`; `start`; `mode`, as a number (0o600) or in octal digits
    ("0600").
    """
    options = {name: value for name, value in config.items() if value is not None}
    path, url = options.pop("path", None), options.pop("url", None)
    if url is not None:
        if path is not None:
            raise ConfigurationError("options path and url exclude each other: expected one of them")
        if not _text("url", url).startswith("shm:"):
            raise ConfigurationError("option 'url' names another store: expected shm:///path")
        return with_options(url, options)
    mode = options.get("mode")
    if isinstance(mode, int) and not isinstance(mode, bool):
        if mode > 0o777:
            raise ConfigurationError(
                f"option 'mode' is {mode}: write permissions in octal, as in 0o660 or \"660\""
            )
        options["mode"] = f"{mode:o}"
    if path is None:
        return with_options("shm:", {**_multiprocessing_parent(), **options})
    return with_options("shm://" + quote(_absolute(path)), options)


def _multiprocessing_parent() -> dict[str, int]:
    """Returns the process that started this one through `multiprocessing`, as the engine's option
    `parent`."""
    # Not imported here: a process that was started so has imported it.
    process: Any = sys.modules.get("multiprocessing.process")
    parent = process.parent_process() if process is not None else None
    return {} if parent is None else {"parent": parent.pid}


def _absolute(path: Any) -> bytes:
    """Returns the absolute path as bytes, because the name of a file need not be text."""
    if not isinstance(path, (str, bytes, os.PathLike)) or not path:
        raise ConfigurationError(f"option 'path' is {path!r}: expected a path")
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        raise ConfigurationError(f"option 'path' is {path!r}: a lone surrogate is no text") from None
    if b"\0" in name:
        raise ConfigurationError(f"option 'path' is {path!r}: expected a path without a NUL character")
    return os.path.abspath(name)


def with_options(base: str, options: Mapping[str, Any]) -> str:
    """Returns `base` with the options in its query."""
    query = urlencode({name: _value(name, value) for name, value in options.items()})
    if not query:
        return base
    return f"{base}{'&' if '?' in base else '?'}{query}"


def pipeline_threads(url: str) -> int:
    """Returns how many threads serve scrapes of the Redis store that `url` names, which the engine has
    accepted."""
    return int(parse_qs(urlsplit(url).query).get("pipeline_threads", ["4"])[-1])


def _host(host: Any) -> str:
    text = _text("host", host)
    return f"[{text}]" if ":" in text else quote(text)


def _hosts(name: str, hosts: Any) -> str:
    """Returns a list of pairs of host and port as a URL has it."""
    if not isinstance(hosts, (list, tuple)) or not hosts:
        raise ConfigurationError(f"option {name!r} is {hosts!r}: {_EXPECTED_HOSTS}")
    shown = []
    for pair in hosts:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ConfigurationError(f"option {name!r} has {pair!r}: {_EXPECTED_HOSTS}")
        shown.append(f"{_host(pair[0])}:{_port(pair[1])}")
    return ",".join(shown)


def _port(port: Any) -> int:
    is_number = isinstance(port, (int, str)) and not isinstance(port, bool) and str(port).isdecimal()
    number = int(port) if is_number else 0
    if not 1 <= number <= 65535:
        raise ConfigurationError(f"option 'port' is {port!r}: expected a number from 1 to 65535")
    return number


def _boolean(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"option {name!r} is {value!r}: expected True or False")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"option {name!r} is {_shown(name, value)}: expected a string")
    return _encodable(name, value)


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return _encodable(name, str(value))
    raise ConfigurationError(f"option {name!r} is {_shown(name, value)}: expected a string, number or bool")


def _encodable(name: str, text: str) -> str:
    """Returns `text` if a C string can hold it; raises ConfigurationError otherwise."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"option {name!r} is {_shown(name, text)}: a lone surrogate is no text"
        ) from None
    if "\0" in text:
        raise ConfigurationError(
            f"option {name!r} is {_shown(name, text)}: expected text without a NUL character"
        )
    return text


def _shown(name: str, value: Any) -> str:
    """Returns the value as an error message shows it: a value that may hold a password is left out."""
    return f"a secret of type {type(value).__name__}" if name in _SECRETS else repr(value)
