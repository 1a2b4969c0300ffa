"""What the tests share: one real redis-server for the session, and for each test an empty database, an
empty registry and no engine that an earlier test has left behind.

A missing redis-server is an error and not a reason to skip: without it nothing here shows anything.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytheus_backend_rs
from pytheus import backends
from pytheus_backend_rs import RedisBackend, SharedMemoryBackend, _logging

import package_variants
from engines import forget_engines
from redis_server import Server
from shared_stores import SharedStore

CLASSES = [
    pytheus_backend_rs.RedisBackend,
    pytheus_backend_rs.SharedMemoryBackend,
    pytheus_backend_rs.SingleProcessBackend,
    pytheus_backend_rs.SingleProcessAtomicBackend,
]


def pytest_sessionstart() -> None:
    if shutil.which("redis-server") is None:
        pytest.exit(
            "tests-py needs a real redis-server in PATH: install it (Debian: apt-get install redis-server)",
            returncode=1,
        )


def pytest_report_header() -> str:
    return f"the package under test: {package_variants.under_test()}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what does not apply to the build of the package that is under test."""
    variant = package_variants.under_test()
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        name = item.path.name + "::" + item.nodeid.partition("::")[2]
        entry = package_variants.reason_to_leave_out(variant, name)
        (kept if entry is None else left_out).append(item)
        if entry is not None:
            _left_out[entry] += 1
    files = {item.path.name for item in items}
    idle = [
        beginning
        for beginning, reason in package_variants.LEFT_OUT[variant].items()
        if beginning.partition("::")[0] in files and not _left_out[beginning, reason]
    ]
    if idle and not config.option.keyword and not any("::" in argument for argument in config.args):
        raise pytest.UsageError(f"package_variants.py leaves out tests that do not exist: {', '.join(idle)}")
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


#: How many tests each entry of `package_variants.LEFT_OUT` has left out.
_left_out: Counter[tuple[str, str]] = Counter()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    variant = package_variants.under_test()
    terminalreporter.write_line(f"the package under test: {variant}")
    for (beginning, reason), count in _left_out.items():
        terminalreporter.write_line(f"left out: {count} of {beginning.rstrip(':')}: {reason}")


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(shared_server: Server) -> Server:
    """Returns the session's server, emptied. A test that stops or kills its server uses `own_server`."""
    shared_server.client().flushall()
    return shared_server


@pytest.fixture
def start_server() -> Iterator[Callable[..., Server]]:
    """Starts a server for one test, with options for the command line of redis-server."""
    servers: list[Server] = []

    def start(*options: str) -> Server:
        servers.append(Server(*options))
        return servers[-1]

    yield start
    for server in servers:
        # A server that the test has killed cannot be resumed.
        with contextlib.suppress(AssertionError):
            server.resume()
    forget_engines()
    for server in servers:
        server.close()


@pytest.fixture
def own_server(start_server: Callable[..., Server]) -> Server:
    """Returns a server that the test may pause, kill and start again."""
    return start_server()


@pytest.fixture(autouse=True)
def clean_process() -> Iterator[None]:
    yield
    forget_engines()
    # What the engines logged at their end belongs to this test, and not to the next one.
    _logging.deliver()


@pytest.fixture(params=CLASSES, ids=lambda backend_class: backend_class.__name__)
def backend_class(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def config(backend_class: Any, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Returns a configuration for `backend_class`."""
    if backend_class is RedisBackend:
        server: Server = request.getfixturevalue("server")
        return server.config
    if backend_class is SharedMemoryBackend:
        return {"path": str(request.getfixturevalue("tmp_path") / "metrics")}
    return {}


@pytest.fixture
def backend(backend_class: Any, config: dict[str, Any]) -> Any:
    """Loads each of the classes in turn as the backend of pytheus."""
    backends.load_backend(backend_class, config)
    return backend_class


@pytest.fixture(params=["RedisBackend", "SharedMemoryBackend"])
def store(request: pytest.FixtureRequest) -> SharedStore:
    """Returns each of the shared stores in turn, empty."""
    if request.param == "RedisBackend":
        server: Server = request.getfixturevalue("server")
        return SharedStore(request.param, server.config)
    return SharedStore(request.param, {"path": str(request.getfixturevalue("tmp_path") / "metrics")})


@pytest.fixture
def redis_backend(server: Server) -> Callable[..., None]:
    """Loads `RedisBackend` on the session's server. Calling the result loads it again with other options."""

    def load(**options: Any) -> None:
        backends.load_backend(RedisBackend, {**server.config, **options})

    load()
    return load
