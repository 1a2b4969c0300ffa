"""What a program gets that passes something that is not acceptable: the exception that a Python programmer
expects, with the value in its message, and no password.

A refused operation changes nothing.
"""

from __future__ import annotations

import contextlib
import decimal
import fractions
import functools
import logging
import re
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytheus_backend_rs
from pytheus import backends
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter, Gauge, Histogram, Summary
from pytheus_backend_rs import (
    BackendError,
    BackendTimeoutError,
    ConfigurationError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    PanicError,
    RedisBackend,
    StoreError,
    UnavailableError,
    WrongTypeError,
    _errors,
)
from pytheus_backend_rs._native import lib

from redis_server import Sentinel, Server, free_port

HEADER = Path(__file__).resolve().parent.parent / "include" / "pytheus_backend_rs.h"


class Number:
    def __float__(self) -> float:
        return 2.5


class Unwilling:
    def __float__(self) -> float:
        raise RuntimeError("not today")


def value_of(metric: Any) -> float:
    value: float = metric._metric_value_backend.get()
    return value


@pytest.mark.parametrize("value", [None, "5", "x", b"1", [1], {}, object(), 1j])
@pytest.mark.parametrize("operation", ["inc", "dec", "set"])
def test_a_value_that_is_not_a_number_is_a_type_error(backend: Any, operation: str, value: Any) -> None:
    gauge = Gauge("level", "help")
    gauge.set(1)
    with pytest.raises(TypeError) as caught:
        getattr(gauge, operation)(value)
    assert repr(value) in str(caught.value)
    assert operation in str(caught.value)
    assert value_of(gauge) == 1


@pytest.mark.parametrize("value", [None, "5", [1]])
def test_a_value_that_is_not_a_number_is_not_observed(backend: Any, value: Any) -> None:
    for metric in (Histogram("size", "help"), Summary("latency", "help")):
        with pytest.raises(TypeError) as caught:
            metric.observe(value)
        assert repr(value) in str(caught.value)
        assert (metric._sum.get(), metric._count.get()) == (0, 0)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (decimal.Decimal("2.5"), 2.5),
        (fractions.Fraction(5, 2), 2.5),
        (True, 1),
        (10**22, 1e22),
        (Number(), 2.5),
    ],
)
def test_every_kind_of_number_counts(backend: Any, value: Any, number: float) -> None:
    gauge = Gauge("level", "help")
    gauge.set(value)
    assert value_of(gauge) == number
    gauge.inc(value)
    assert value_of(gauge) == 2 * number


def test_an_int_that_is_too_large_is_an_overflow_error(backend: Any) -> None:
    gauge = Gauge("level", "help")
    for value in (10**400, -(10**400), 10**5000):
        for operation in (gauge.set, gauge.inc, gauge.dec):
            with pytest.raises(OverflowError, match="too large"):
                operation(value)
    assert value_of(gauge) == 0


def test_an_error_of_the_number_itself_is_not_hidden(backend: Any) -> None:
    gauge = Gauge("level", "help")
    with pytest.raises(RuntimeError, match="not today"):
        gauge.set(Unwilling())  # type: ignore[arg-type]
    assert value_of(gauge) == 0


@pytest.mark.parametrize("amount", [-1, -0.5, float("-inf")])
def test_a_counter_does_not_go_down(backend: Any, amount: float) -> None:
    counter = Counter("requests_total", "help")
    counter.inc(2)
    with pytest.raises(ValueError, match=re.escape(str(amount))):
        counter.inc(amount)
    # The same without pytheus' own check.
    with pytest.raises(InvalidArgumentError) as caught:
        counter._metric_value_backend.inc(amount)
    assert repr(amount) in str(caught.value)
    assert "requests_total" in str(caught.value)
    assert value_of(counter) == 2


def test_a_counter_takes_no_nan(backend: Any) -> None:
    counter = Counter("requests_total", "help")
    with pytest.raises(ValueError, match=r"inc\(nan\).*requests_total"):
        counter.inc(float("nan"))
    assert value_of(counter) == 0


def test_operations_that_a_type_does_not_have_are_type_errors(backend: Any) -> None:
    counter = Counter("requests_total", "help")
    histogram = Histogram("size", "help")
    for refused in (
        lambda: counter._metric_value_backend.dec(1),
        lambda: counter._metric_value_backend.set(1),
        lambda: histogram._sum.dec(1),
        lambda: histogram._sum.set(1),
    ):
        with pytest.raises(WrongTypeError) as caught:
            refused()
        assert isinstance(caught.value, TypeError)
        assert re.search("requests_total|size", str(caught.value))


def test_a_part_that_does_not_exist_is_named(backend: Any, config: dict[str, Any]) -> None:
    histogram = Histogram("size", "help", buckets=[1, 2])
    with pytest.raises(ValueError, match="'bogus'"):
        backend(config, histogram, "bogus")
    with pytest.raises(ValueError, match="None"):
        backend(config, histogram)
    with pytest.raises(NotFoundError, match=r'"size".*99') as caught:
        backend(config, histogram, "99").get()
    assert isinstance(caught.value, LookupError)


def test_a_metric_without_all_its_labels_is_refused(backend: Any, config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"'requests_total'.* a, b"):
        backend(config, Counter("requests_total", "help", required_labels=["b", "a"]))


ODD_TEXTS = {"a\0b": r"a\x00b", "\0": r"\x00", "\ud800": r"\ud800", "a\udc80b": r"a\udc80b"}


@pytest.mark.parametrize("text", ODD_TEXTS, ids=ascii)
def test_text_that_a_store_cannot_hold_is_escaped_and_does_not_raise(backend: Any, text: str) -> None:
    """A client of the program can choose a label value: the path of a request, for example."""
    counter = Counter("requests_total", f"help {text}", required_labels=["path"])
    counter.labels(path=text).inc(2)
    counter.labels(path=text).inc()
    counter.labels(path="a").inc()
    shown = ODD_TEXTS[text].replace("\\", "\\\\")
    answer = pytheus_backend_rs.generate_metrics()
    assert f'requests_total{{path="{shown}"}} 3\n' in answer
    assert 'requests_total{path="a"} 1\n' in answer
    assert f"# HELP requests_total help {shown}\n" in answer


def test_a_histogram_whose_bounds_do_not_increase_is_refused(backend: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r'"size".*1 is followed by 1'):
        Histogram("size", "help", buckets=[1, 1], registry=None)


def test_a_name_is_free_again_when_its_metrics_are_gone(redis_backend: Any) -> None:
    Counter("requests_total", "help", registry=None)
    gauge = Gauge("requests_total", "help", ["a"], registry=None).labels(a="x")
    assert gauge._metric_value_backend._family.engine is RedisBackend._engine()


def test_definitions_that_agree_share_their_value(redis_backend: Any) -> None:
    first = Counter("requests_total", "help", registry=None)
    second = Counter("requests_total", "other help", registry=None)
    first.inc(1)
    second.inc(2)
    assert value_of(first) == value_of(second) == 3


@pytest.mark.parametrize("option", ["bogus", "hots", "decode_responses", "1"])
def test_unknown_options_are_named(server: Server, backend_class: Any, option: str) -> None:
    config = server.config if backend_class is RedisBackend else {}
    with pytest.raises(ConfigurationError) as caught:
        backends.load_backend(backend_class, {**config, option: 1})
    assert isinstance(caught.value, ValueError)
    assert option in str(caught.value)


BAD_OPTIONS: list[dict[str, Any]] = [
    {"db": "x"},
    {"db": -1},
    {"db": 1.5},
    {"db": [1]},
    {"port": "x"},
    {"port": 0},
    {"port": 65536},
    {"port": []},
    {"host": 5},
    {"host": ""},
    {"host": b"127.0.0.1"},
    {"url": ""},
    {"url": "mysql://h"},
    {"url": 5},
    {"unix_socket_path": 5},
    {"unix_socket_path": "relative"},
    {"ssl": "yes"},
    {"required": "perhaps"},
    {"required": None, "expire_key_time": "soon"},
    {"expire_key_time": -1},
    {"expire_key_time": 1.5},
    {"flush_interval_ms": 0},
    {"connect_timeout": 0},
    {"connect_timeout": "nan"},
    {"socket_timeout": float("nan")},
    {"socket_timeout": float("inf")},
    {"collect_timeout": {}},
    {"shutdown_timeout": -1},
    {"pipeline_threads": 0},
    {"pipeline_threads": 1000},
    {"key_prefix": {}},
    {"socket_keepalive": 2},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=str)
def test_options_of_a_wrong_type_or_range_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        backends.load_backend(RedisBackend, options)
    name, value = list(options.items())[-1]
    message = str(caught.value)
    assert name in message or name in ("unix_socket_path", "url")
    assert str(value) in message or name in ("unix_socket_path", "url")


@pytest.mark.parametrize("port", [True, 6379.5])
def test_a_port_that_is_not_an_integer_is_refused(port: Any) -> None:
    with pytest.raises(ConfigurationError, match="port"):
        backends.load_backend(RedisBackend, {"port": port})


@pytest.mark.parametrize("option", ["host", "key_prefix", "password", "username", "client_name", "url"])
def test_an_option_with_a_lone_surrogate_is_named(option: str) -> None:
    with pytest.raises(ConfigurationError, match=option):
        backends.load_backend(RedisBackend, {option: "redis://a\ud800"})


def test_a_url_with_a_nul_is_refused(server: Server) -> None:
    """Not cut off there, and what follows ignored."""
    with pytest.raises(ConfigurationError):
        backends.load_backend(RedisBackend, {"url": f"redis://127.0.0.1:{server.port}/0\0?bogus=1"})


def test_places_that_exclude_each_other_are_refused() -> None:
    for options in (
        {"url": "redis://h", "host": "h"},
        {"url": "redis://h", "port": 1},
        {"unix_socket_path": "/s", "host": "h"},
        {"unix_socket_path": "/s", "url": "redis://h"},
    ):
        with pytest.raises(ConfigurationError, match="exclude each other") as caught:
            backends.load_backend(RedisBackend, options)
        assert all(name in str(caught.value) for name in options)


def test_a_mistake_in_the_options_for_sentinel_is_a_sentence() -> None:
    for options, part in (
        ({"sentinels": [("h", 1)]}, "go together"),
        ({"service_name": "mymaster"}, "go together"),
        ({"sentinels": "h:1", "service_name": "mymaster"}, "expected a list of pairs"),
        ({"sentinels": [], "service_name": "mymaster"}, "expected a list of pairs"),
        ({"sentinels": ["h:1"], "service_name": "mymaster"}, "'h:1': expected a list of pairs"),
        ({"sentinels": [("h", 0)], "service_name": "mymaster"}, "a number from 1 to 65535"),
        ({"sentinels": [("h", 1)], "service_name": "mymaster", "host": "h"}, "exclude each other"),
        ({"sentinel_password": "secret"}, "redis-sentinel:// only"),
        ({"sentinels": [("h", 1)], "service_name": "mymaster", "sentinel_ssl": "perhaps"}, "true or false"),
    ):
        with pytest.raises(ConfigurationError, match=part):
            backends.load_backend(RedisBackend, options)


def test_a_mistake_in_the_options_for_a_cluster_is_a_sentence(server: Server) -> None:
    for options, part in (
        ({"startup_nodes": [("h", 1)]}, "needs cluster=True"),
        ({"cluster": True, "startup_nodes": [("h", 1)], "host": "h"}, "exclude each other"),
        ({"cluster": True, "url": "redis://h"}, "cluster and url exclude each other"),
        ({"cluster": "yes"}, "expected True or False"),
        ({"cluster": True, "startup_nodes": []}, "expected a list of pairs"),
        ({"cluster": True, "host": "h", "db": 1}, "database 0 only"),
    ):
        with pytest.raises(ConfigurationError, match=part):
            backends.load_backend(RedisBackend, options)
    with pytest.raises(UnavailableError, match="cluster support disabled"):
        backends.load_backend(RedisBackend, {**server.config, "cluster": True})


def test_a_sentinel_names_the_server_and_may_not_know_a_master(server: Server) -> None:
    with contextlib.closing(Sentinel()) as sentinel:
        sentinel.watch("mymaster", server)
        place = {"sentinels": [("127.0.0.1", sentinel.port)], "service_name": "mymaster"}
        backends.load_backend(RedisBackend, place)
        total = Counter("sentinel_total", "help")
        total.inc(3)
        assert "sentinel_total 3" in generate_metrics()
        with pytest.raises(UnavailableError, match='does not know "other"'):
            backends.load_backend(RedisBackend, {**place, "service_name": "other"})


def test_a_mistake_in_the_options_for_tls_is_a_sentence() -> None:
    for options, part in (
        ({"ssl": True, "ssl_ca_certs": "/nowhere.pem"}, "/nowhere.pem"),
        ({"url": "rediss://127.0.0.1", "ssl_cert_reqs": "perhaps"}, "expected required or none"),
        ({"ssl_check_hostname": False}, "rediss://"),
    ):
        with pytest.raises(ConfigurationError, match=part):
            backends.load_backend(RedisBackend, options)


def test_a_server_that_is_missing_is_a_connection_error_that_names_it() -> None:
    port = free_port()
    with pytest.raises(UnavailableError, match=rf"127\.0\.0\.1:{port}") as caught:
        backends.load_backend(RedisBackend, {"host": "127.0.0.1", "port": port})
    assert isinstance(caught.value, ConnectionError)


def test_a_server_that_does_not_answer_is_given_up_after_connect_timeout(own_server: Server) -> None:
    own_server.pause()
    start = time.monotonic()
    with pytest.raises(BackendError, match=rf"127\.0\.0\.1:{own_server.port}") as caught:
        backends.load_backend(RedisBackend, {**own_server.config, "connect_timeout": 0.2})
    assert isinstance(caught.value, (ConnectionError, TimeoutError))
    # The default of 5 s, and that of a TCP stack, are both far away.
    assert time.monotonic() - start < 4


def test_a_server_that_is_not_required_may_start_later(own_server: Server) -> None:
    own_server.kill()
    backends.load_backend(RedisBackend, {**own_server.config, "required": False})
    counter = Counter("requests_total", "help")
    counter.inc(3)
    with pytest.raises(UnavailableError, match=str(own_server.port)):
        generate_metrics()
    own_server.start()
    RedisBackend._engine().flush(30)
    assert own_server.client().get("requests_total") == "3"
    assert "requests_total 3.0\n" in generate_metrics()


def test_counting_never_fails_and_a_scrape_fails_by_its_deadline(own_server: Server) -> None:
    backends.load_backend(RedisBackend, {**own_server.config, "collect_timeout": 0.3, "socket_timeout": 0.2})
    counter = Counter("requests_total", "help")
    counter.inc()
    assert "requests_total 1.0\n" in generate_metrics()
    own_server.pause()
    counter.inc(2)
    with pytest.raises(BackendError) as caught:
        generate_metrics()
    assert isinstance(caught.value, (TimeoutError, ConnectionError))
    assert str(own_server.port) in str(caught.value)
    with pytest.raises(BackendError):
        counter._metric_value_backend.get()
    own_server.resume()
    RedisBackend._engine().flush(30)
    assert own_server.client().get("requests_total") == "3"


def test_a_reading_that_takes_too_long_is_a_timeout_error(own_server: Server) -> None:
    backends.load_backend(RedisBackend, {**own_server.config, "collect_timeout": 0.2})
    counter = Counter("requests_total", "help")
    generate_metrics()
    own_server.pause()
    with pytest.raises(BackendTimeoutError) as caught:
        counter._metric_value_backend.get()
    assert isinstance(caught.value, TimeoutError)


def test_reading_a_key_of_another_type_is_a_store_error(server: Server, redis_backend: Any) -> None:
    server.client().lpush("requests_total", "x")
    with pytest.raises(StoreError, match="requests_total"):
        Counter("requests_total", "help")._metric_value_backend.get()


SECRET = "s3cr3t"


def raised_by(load: Any) -> str:
    """The error of a refused configuration as a log would show it."""
    with pytest.raises(Exception) as caught:
        load()
    return "".join(traceback.format_exception_only(type(caught.value), caught.value)) + repr(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"password": SECRET},
        {"username": "u", "password": SECRET},
        {"password": SECRET, "bogus": 1},
        {"password": SECRET, "db": "x"},
        {"password": (SECRET,)},
        {"password": [SECRET]},
        {"password": SECRET.encode()},
        {"url": f"redis://u:{SECRET}@127.0.0.1:notaport"},
        {"url": f"redis://u:{SECRET}@127.0.0.1:1/0"},
        {"url": f"redis://:{SECRET}@127.0.0.1:1/0", "host": "h"},
        {"url": f"redis://u:{SECRET}@127.0.0.1:1/x"},
        {"url": f"redis://u:{SECRET}@127.0.0.1:1/0?bogus=1"},
        {"url": f"redis://127.0.0.1:1/0?password={SECRET}&db=x"},
        {"url": f"u:{SECRET}@127.0.0.1"},
        {"host": f"u:{SECRET}@127.0.0.1"},
        # A password with characters that a URL needs escaped.
        {"url": f"redis://u:p@ss/{SECRET}@127.0.0.1:1/0"},
        {"url": f"redis://u:p@ss?{SECRET}@127.0.0.1:1/0"},
        # Text that was read as bytes.
        {"url": f"redis://u:{SECRET}@127.0.0.1:1/0".encode()},
    ],
    ids=str,
)
def test_no_error_shows_the_password(options: dict[str, Any]) -> None:
    options = {"port": 1, **options} if "url" not in options else options
    assert SECRET not in raised_by(lambda: backends.load_backend(RedisBackend, options))


def test_no_error_or_log_shows_a_password_that_the_server_refuses(
    start_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pytheus_backend_rs")
    server = start_server("--requirepass", "another")
    for options in ({"password": SECRET}, {"username": "u", "password": SECRET}):
        config = {**server.config, **options}
        message = raised_by(functools.partial(backends.load_backend, RedisBackend, config))
        assert "WRONGPASS" in message
        assert SECRET not in message
    backends.load_backend(RedisBackend, {**server.config, "password": "another"})
    Counter("requests_total", "help").inc()
    assert "requests_total 1.0" in generate_metrics()
    assert "another" not in repr(RedisBackend._engine())
    assert SECRET not in caplog.text
    assert "another" not in caplog.text


def test_no_error_or_log_shows_a_password_that_the_server_repeats(
    start_server: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    """A server without AUTH answers with the arguments of the command that it does not know."""
    server = start_server("--rename-command", "AUTH", "")
    options = {**server.config, "username": "u", "password": SECRET}
    assert SECRET not in raised_by(lambda: backends.load_backend(RedisBackend, options))
    backends.load_backend(RedisBackend, {**options, "required": False})
    assert SECRET not in raised_by(generate_metrics)
    assert "lost" in caplog.text
    assert SECRET not in caplog.text


def test_every_status_of_the_header_has_its_exception() -> None:
    header = HEADER.read_text(encoding="utf-8")
    statuses = dict(re.findall(r"^  (BACKEND_STATUS_\w+) = (\d+),$", header, re.MULTILINE))
    assert statuses.pop("BACKEND_STATUS_OK") == "0"
    assert len(statuses) >= 10
    classes = {name: _errors.exception_class(int(number)) for name, number in statuses.items()}
    assert len(set(classes.values())) == len(classes), "two statuses have the same exception"
    for name, exception in classes.items():
        assert int(statuses[name]) == getattr(lib, name)
        assert issubclass(exception, BackendError) and exception is not BackendError
        assert exception.__name__ in pytheus_backend_rs.__all__
        built_in = [base for base in exception.__mro__ if base.__module__ == "builtins"]
        assert built_in[0] is not Exception, f"{exception} is no built-in exception"


def test_exceptions_are_the_fitting_built_in_ones() -> None:
    for exception, built_in in {
        UnavailableError: ConnectionError,
        BackendTimeoutError: TimeoutError,
        InvalidArgumentError: ValueError,
        ConfigurationError: ValueError,
        ConflictError: ValueError,
        WrongTypeError: TypeError,
        NotFoundError: LookupError,
    }.items():
        assert issubclass(exception, built_in)
        assert issubclass(exception, BackendError)


def test_a_panic_of_the_engine_is_an_exception() -> None:
    slot = _errors.ErrorSlot()
    with pytest.raises(PanicError, match="backend_panic was called"):
        slot.check(lib.backend_panic(slot.pointer))
