"""How the engine's log records come to Python's logging.

The lines of the start are those that users of pytheus-backend-rs 0.0.9 know; a store that is lost is worth
one record, and one when it is back, however often the engine tries.
"""

from __future__ import annotations

import logging
import socket
import threading

import pytest
from pytheus import backends
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter
from pytheus_backend_rs import RedisBackend, SingleProcessBackend, _logging
from pytheus_backend_rs._native import ffi, lib

from programs import run_program
from redis_server import Server
from waiting import wait_until

LOGGER = "pytheus_backend_rs"
START = [
    "Starting pipeline thread....0",
    "Starting pipeline thread....1",
    "Starting pipeline thread....2",
    "Starting pipeline thread....3",
    "Starting BackendAction thread....",
    "RedisBackend initialized",
]


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


def test_the_seed_lines_are_logged_when_load_backend_returns(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(20):
        caplog.clear()
        backends.load_backend(RedisBackend, server.config)
        assert messages(caplog) == START
        assert {record.levelno for record in caplog.records} == {logging.INFO}


def test_basic_config_shows_the_seed_lines(server: Server) -> None:
    output = run_program(
        """
        logging.basicConfig(level=logging.INFO)
        load_backend(backend_class=RedisBackend, backend_config=config)
        print("loaded", file=sys.stderr)
        """,
        server.config,
    )
    assert output.splitlines() == [f"INFO:{LOGGER}:{line}" for line in START] + ["loaded"]


def test_there_is_a_line_for_each_pipeline_thread(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    backends.load_backend(RedisBackend, {**server.config, "pipeline_threads": 2})
    assert messages(caplog) == [*START[:2], *START[4:]]


def test_nothing_is_printed_without_logging(server: Server) -> None:
    assert run_program("load_backend(RedisBackend, config); Counter('a', 'b').inc()", server.config) == ""


def test_memory_backends_start_no_threads(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    backends.load_backend(SingleProcessBackend, {})
    assert messages(caplog) == []


class Refuser:
    """Listens in the place of a server, and closes every connection at once."""

    def __init__(self, port: int) -> None:
        self.attempts = 0
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", port))
        self._listener.listen()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.attempts += 1
            connection.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


def test_a_store_is_lost_once_and_back_once(own_server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    backends.load_backend(RedisBackend, own_server.config)
    counter = Counter("requests_total", "help")
    counter.inc()
    generate_metrics()
    caplog.clear()
    own_server.kill()
    refuser = Refuser(own_server.port)
    counter.inc(2)
    wait_until(lambda: refuser.attempts >= 5, "the engine tries to connect again and again")
    wait_until(lambda: messages(caplog), "the loss is logged")
    refuser.close()
    own_server.start()
    wait_until(lambda: own_server.client().get("requests_total") == "2", "the change arrives")
    wait_until(lambda: len(messages(caplog)) > 2, "the return is logged")
    counter.inc()
    generate_metrics()
    lost, forgotten, back = messages(caplog)
    assert "lost" in lost and str(own_server.port) in lost
    assert "has lost 1 metric family" in forgotten and str(own_server.port) in forgotten
    assert "back" in back and str(own_server.port) in back
    levels = [record.levelno for record in caplog.records if record.name == LOGGER]
    assert levels == [logging.ERROR, logging.WARNING, logging.INFO]


def test_a_connection_that_can_be_made_again_at_once_is_not_worth_a_record(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    backends.load_backend(RedisBackend, server.config)
    caplog.clear()
    counter = Counter("requests_total", "help")
    for _ in range(3):
        counter.inc()
        RedisBackend._current.flush(30)
        server.client().client_kill_filter(_type="normal", skipme=True)
    counter.inc()
    assert "requests_total 4.0\n" in generate_metrics()
    assert messages(caplog) == []


def test_a_full_queue_drops_records_and_counts_them(caplog: pytest.LogCaptureFixture) -> None:
    backends.load_backend(SingleProcessBackend, {})
    # As if a log handler took its time: nothing is taken from the queue meanwhile.
    with _logging._drain._lock:
        for _ in range(1_250):
            lib.backend_panic(ffi.NULL)
    wait_until(lambda: "dropped" in caplog.text, "the drop counter is logged")
    texts = messages(caplog)
    assert "250 log records were dropped" in texts[-1]
    assert len(texts) == 1_001
    assert caplog.records[-1].levelno == logging.WARNING


def test_records_come_while_the_program_does_other_things(
    own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    backends.load_backend(RedisBackend, own_server.config)
    counter = Counter("requests_total", "help")
    own_server.kill()
    counter.inc()
    wait_until(lambda: "lost" in caplog.text, "the loss is logged without a call from us")


def test_a_forked_child_does_not_repeat_records(server: Server) -> None:
    output = run_program(
        """
        from pytheus_backend_rs import _logging
        from pytheus_backend_rs._native import ffi, lib
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(process)d %(message)s")
        load_backend(RedisBackend, config)
        sys.stdout.flush()
        # A record that is in the queue at the fork.
        with _logging._drain._lock:
            lib.backend_panic(ffi.NULL)
            child = os.fork()
            if child == 0:
                sys.exit(0)
        os.waitpid(child, 0)
        print("parent", os.getpid())
        """,
        server.config,
    )
    parent = output.split()[-1]
    assert output.startswith("".join(f"{parent} {line}\n" for line in START))
    assert output.count("RedisBackend initialized") == 1
    assert output.count("backend_panic was called") == 1
    assert output.count(f"{parent} ") == len(START) + 1, output


CHILD_LOGS = """
    from pytheus_backend_rs._native import ffi, lib
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(process)d %(message)s")
    seen = threading.Event()
    class Seen(logging.Handler):
        def emit(self, record):
            if "backend_panic was called" in record.getMessage():
                seen.set()
    load_backend(RedisBackend, config)
    counter = Counter("requests_total", "help")
    def work():
        logging.getLogger("pytheus_backend_rs").addHandler(Seen())
        counter.inc()  # the child's own threads start
        lib.backend_panic(ffi.NULL)
        sys.exit(0 if seen.wait(10) else 3)
"""


def test_a_forked_child_logs_while_it_runs(server: Server) -> None:
    """A worker that loses its store must say so when it happens, not when it ends."""
    run_program(
        CHILD_LOGS
        + """
    child = os.fork()
    if child == 0:
        work()
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
        server.config,
    )


def test_a_log_handler_may_count(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    backends.load_backend(RedisBackend, server.config)
    counter = Counter("log_records_total", "help")
    texts: list[str] = []

    class Counting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            counter.inc()
            texts.append(generate_metrics())

    handler = Counting()
    logging.getLogger(LOGGER).addHandler(handler)
    try:
        lib.backend_panic(ffi.NULL)
        wait_until(lambda: texts, "the record is logged, and the handler has counted and scraped")
    finally:
        logging.getLogger(LOGGER).removeHandler(handler)
    assert "log_records_total 1.0\n" in texts[0]
