"""The engine's log records in Python's logging: which calls deliver them, what a log handler may do, and that
no thread, lock or fork stands in the way. The servers that fork or patch threads are in test_uwsgi.py and
test_green_threads.py.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import pytheus_backend_rs
from pytheus import backends
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter, Gauge, Histogram, Summary
from pytheus_backend_rs import RedisBackend, SharedMemoryBackend, SingleProcessAtomicBackend
from pytheus_backend_rs._native import ffi, lib

from programs import AT_SHUTDOWN, run_program
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


def log_an_error() -> None:
    """Makes the engine log a record. The call itself does not deliver it."""
    lib.backend_panic(ffi.NULL)


@pytest.fixture
def memory() -> None:
    backends.load_backend(SingleProcessAtomicBackend, {})


@pytest.fixture
def add_handler() -> Iterator[Callable[[Callable[[logging.LogRecord], None]], None]]:
    """Adds a log handler that calls a function with each record."""
    logger, added = logging.getLogger(LOGGER), []

    def add(emit: Callable[[logging.LogRecord], None]) -> None:
        handler = logging.Handler()
        setattr(handler, "emit", emit)  # noqa: B010 (mypy refuses to assign to a method)
        added.append(handler)
        logger.addHandler(handler)

    yield add
    for handler in added:
        logger.removeHandler(handler)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == LOGGER]


# --- The start ------------------------------------------------------------------------------------------


def test_the_lines_of_0_0_9_are_logged_when_load_backend_returns(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    backends.load_backend(RedisBackend, server.config)
    assert messages(caplog) == START
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    caplog.clear()
    backends.load_backend(RedisBackend, {**server.config, "pipeline_threads": 2})
    assert messages(caplog) == [*START[:2], *START[4:]]


def test_basic_config_shows_the_lines_of_0_0_9(server: Server) -> None:
    output = run_program(
        """
        logging.basicConfig(level=logging.INFO)
        load_backend(backend_class=RedisBackend, backend_config=config)
        print("loaded", file=sys.stderr)
        """,
        server.config,
    )
    assert output.splitlines() == [f"INFO:{LOGGER}:{line}" for line in START] + ["loaded"]


def test_nothing_is_printed_without_logging(server: Server) -> None:
    assert run_program("load_backend(RedisBackend, config); Counter('a', 'b').inc()", server.config) == ""


# --- Which calls deliver --------------------------------------------------------------------------------


def make_calls(config: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    """Loads a backend and returns calls that deliver waiting records."""
    backends.load_backend(SharedMemoryBackend, config)
    counter = Counter("requests_total", "help")
    labelled = Counter("labelled_total", "help", required_labels=["a"])
    labelled.labels(a="x")
    gauge = Gauge("level", "help")
    histogram = Histogram("size", "help")
    summary = Summary("latency", "help")
    return {
        "counter.inc": counter.inc,
        "counter.inc(2)": lambda: counter.inc(2),
        "counter.inc of an odd number": lambda: counter.inc(Fraction(1)),
        "gauge.inc": gauge.inc,
        "gauge.dec": gauge.dec,
        "gauge.set": lambda: gauge.set(3),
        "histogram.observe": lambda: histogram.observe(1),
        "summary.observe": lambda: summary.observe(1),
        "labels": lambda: labelled.labels(a="x"),
        "labels of a new child": lambda: labelled.labels(a=str(time.perf_counter_ns())),
        "generate_metrics of pytheus": generate_metrics,
        "generate_metrics": pytheus_backend_rs.generate_metrics,
        "load_backend": lambda: backends.load_backend(SharedMemoryBackend, config),
    }


@pytest.mark.parametrize("native_methods", [True, False], ids=["native methods", "Python methods"])
def test_each_call_delivers_the_waiting_records(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, native_methods: bool
) -> None:
    config = {"path": tmp_path / "metrics", "native_methods": native_methods}
    calls = make_calls(config)
    if not native_methods:
        # `labels` is then pytheus' own method. Creating its child does not deliver: a handler that renders
        # metrics would meet a half-made one.
        del calls["labels"], calls["labels of a new child"]
    for name, call in calls.items():
        caplog.clear()
        log_an_error()
        assert messages(caplog) == [], f"before {name}"
        call()
        assert len(messages(caplog)) == 1, name


def test_the_exit_delivers_the_waiting_records() -> None:
    program = """
        from pytheus_backend_rs._native import ffi, lib
        logging.basicConfig()
        load_backend(SingleProcessAtomicBackend, {})
        lib.backend_panic(ffi.NULL)
        print("the end", file=sys.stderr)
    """
    first, *rest = run_program(program, {}).splitlines()
    assert first == "the end"
    assert any(line.startswith(f"ERROR:{LOGGER}:") and "backend_panic was called" in line for line in rest)


def test_a_lost_store_is_logged_once_and_so_is_its_return(
    own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    backends.load_backend(RedisBackend, own_server.config)
    counter = Counter("requests_total", "help")
    counter.inc()
    generate_metrics()
    caplog.clear()

    def count_until_logged(part: str) -> None:
        wait_until(lambda: (counter.inc(), part in caplog.text)[1], f"{part!r} is logged")

    own_server.kill()
    count_until_logged("lost")
    own_server.start()
    count_until_logged(f":{own_server.port} is back")
    lost, forgotten, back = messages(caplog)
    assert "lost" in lost and str(own_server.port) in lost
    assert "has lost 1 metric family" in forgotten and str(own_server.port) in forgotten
    assert "back" in back and str(own_server.port) in back
    levels = [record.levelno for record in caplog.records if record.name == LOGGER]
    assert levels == [logging.ERROR, logging.WARNING, logging.INFO]


def test_a_record_has_the_time_at_which_it_was_made(memory: None, caplog: pytest.LogCaptureFixture) -> None:
    counter = Counter("requests_total", "help")
    before = time.time()
    log_an_error()
    made = time.time()
    wait_until(lambda: time.time() > made + 0.05, "the clock advances")
    counter.inc()
    delivered = time.time()
    logging_began = getattr(logging, "_startTime", 0.0)
    (record,) = caplog.records
    assert before <= record.created <= made
    assert record.msecs == pytest.approx(record.created % 1 * 1000, abs=1.5)
    assert record.relativeCreated < (delivered - logging_began) * 1000 - 45 or sys.version_info >= (
        3,
        13,
    )
    assert (record.name, record.levelno, record.args) == (LOGGER, logging.ERROR, ())


def test_a_full_queue_drops_records_and_counts_them(memory: None, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(1_250):
        log_an_error()
    Counter("requests_total", "help").inc()
    texts = messages(caplog)
    assert "250 log records were dropped" in texts[-1]
    assert len(texts) == 1_001
    assert caplog.records[-1].levelno == logging.WARNING


def test_a_level_that_is_not_enabled_is_not_logged(memory: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, LOGGER)
    log_an_error()
    Counter("requests_total", "help").inc()
    assert messages(caplog) == []


# --- What a handler may do ------------------------------------------------------------------------------


def test_a_handler_may_count_and_render_metrics(memory: None, add_handler: Any) -> None:
    counter = Counter("log_records_total", "help")
    texts: list[str] = []

    def count(record: logging.LogRecord) -> None:
        counter.inc()
        texts.append(pytheus_backend_rs.generate_metrics())
        texts.append(generate_metrics())

    add_handler(count)
    log_an_error()
    Gauge("level", "help").set(1)
    assert len(texts) == 2
    assert "\nlog_records_total 1\n" in texts[0] and "\nlog_records_total 1.0\n" in texts[1]


def test_a_handler_whose_own_calls_log_does_not_keep_a_call_busy(memory: None, add_handler: Any) -> None:
    counter = Counter("requests_total", "help")
    seen: list[str] = []

    def log_more(record: logging.LogRecord) -> None:
        seen.append(record.getMessage())
        log_an_error()
        counter.inc()

    add_handler(log_more)
    log_an_error()
    for calls in range(1, 4):
        counter.inc()
        assert len(seen) == calls


def test_a_handler_that_takes_long_delays_no_other_thread(memory: None, add_handler: Any) -> None:
    counter = Counter("requests_total", "help")
    is_handling, may_end = threading.Event(), threading.Event()
    handled_by: list[str] = []

    def wait(record: logging.LogRecord) -> None:
        handled_by.append(threading.current_thread().name)
        is_handling.set()
        may_end.wait(60)

    add_handler(wait)
    log_an_error()
    slow = threading.Thread(target=counter.inc, name="slow")
    slow.start()
    assert is_handling.wait(60)
    # Records that come in the meantime wait, and these calls do not.
    log_an_error()
    counter.inc()
    assert "\nrequests_total 2.0\n" in generate_metrics()
    backends.load_backend(SingleProcessAtomicBackend, {})
    assert handled_by == ["slow"]
    may_end.set()
    slow.join()
    counter.inc()
    assert handled_by == ["slow", threading.current_thread().name]


def test_a_handler_that_fails_does_not_fail_the_call(
    memory: None, add_handler: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = Counter("requests_total", "help")

    def fail(record: logging.LogRecord) -> None:
        raise OSError("no disk")

    add_handler(fail)
    log_an_error()
    counter.inc()
    assert counter._metric_value_backend is not None
    assert counter._metric_value_backend.get() == 1
    error = capsys.readouterr().err
    assert "--- Logging error ---" in error and "OSError: no disk" in error


def test_an_interrupt_in_a_handler_reaches_the_program(
    memory: None, add_handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    counter = Counter("requests_total", "help")
    interrupts = [KeyboardInterrupt]

    def interrupt(record: logging.LogRecord) -> None:
        if interrupts:
            raise interrupts.pop()

    add_handler(interrupt)
    log_an_error()
    log_an_error()
    with pytest.raises(KeyboardInterrupt):
        counter.inc()
    # The count is made, and the next call delivers the rest.
    caplog.clear()
    counter.inc()
    assert len(messages(caplog)) == 1
    assert counter._metric_value_backend is not None
    assert counter._metric_value_backend.get() == 2


# --- Threads, forks and limits --------------------------------------------------------------------------


def test_the_package_starts_no_python_thread(own_server: Server) -> None:
    """Not when it is loaded, not when its store is lost, and not in a forked child."""
    program = """
        logging.basicConfig(level=logging.INFO)
        load_backend(RedisBackend, config)
        counter = Counter("requests_total", "help")
        def count_until_lost():
            lost = threading.Event()
            handler = logging.Handler()
            handler.emit = lambda record: lost.set() if "lost" in record.getMessage() else None
            logging.getLogger().addHandler(handler)
            while not lost.is_set():
                counter.inc()
            assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
        os.kill(int(os.environ["SERVER"]), 9)
        count_until_lost()
        child = os.fork()
        if child == 0:
            count_until_lost()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        os._exit(0)
    """
    run_program(program, own_server.config, environment={"SERVER": str(own_server.pid)})


def test_a_forked_child_does_not_repeat_records(server: Server) -> None:
    output = run_program(
        """
        from pytheus_backend_rs._native import ffi, lib
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(process)d %(message)s")
        load_backend(RedisBackend, config)
        counter = Counter("requests_total", "help")
        sys.stdout.flush()
        lib.backend_panic(ffi.NULL)  # waits at the fork
        child = os.fork()
        if child == 0:
            counter.inc()
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        counter.inc()
        print("parent", os.getpid())
        """,
        server.config,
    )
    parent = output.split()[-1]
    assert output.startswith("".join(f"{parent} {line}\n" for line in START))
    assert output.count("RedisBackend initialized") == 1
    assert output.count("backend_panic was called") == 1
    assert re.search(rf"^{parent} panicked", output, re.MULTILINE), output


#: Forks as C code does, without Python's fork hooks, in the middle of a handler of another thread.
FORK_IN_C = """
    import ctypes
    from pytheus_backend_rs._native import ffi, lib
    load_backend(getattr(__import__("pytheus_backend_rs"), config["class"]), config["options"])
    counter = Counter("requests_total", "help")
    is_handling, may_end = threading.Event(), threading.Event()
    class Slow(logging.Handler):
        def handle(self, record):  # without the handler's lock, which the child would inherit
            if os.getpid() == parent:
                is_handling.set()
                may_end.wait()
            else:
                print("child:", record.getMessage(), flush=True)
    parent = os.getpid()
    logging.getLogger().addHandler(Slow())
    lib.backend_panic(ffi.NULL)
    thread = threading.Thread(target=counter.inc, daemon=True)
    thread.start()
    is_handling.wait()
    child = ctypes.PyDLL(None).fork()
    if child == 0:
        counter.inc()
        lib.backend_panic(ffi.NULL)
        counter.inc()
        print("counted", flush=True)
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    may_end.set()
    thread.join()
    print(generate_metrics())
"""


def test_a_child_that_c_code_forks_logs_and_ends(store: Any) -> None:
    """uwsgi forks like this. The thread that delivers records in the parent does not exist in the child."""
    output = run_program(FORK_IN_C, store.config())
    before, _, after = output.partition("counted\n")
    assert before.startswith("child: ") and "backend_panic was called" in before, output
    assert "\nrequests_total 3.0\n" in after, output


NO_THREADS = """
    import resource
    from pytheus_backend_rs import SharedMemoryBackend, generate_metrics as render
    load_backend(SingleProcessBackend, {})  # imports everything while this user can read it
    if os.getuid() == 0:
        os.setuid(65534)  # the limit does not apply to root
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    try:
        threading.Thread(target=int).start()
    except RuntimeError:
        print("no thread")
    logging.basicConfig()
    for backend in (SingleProcessBackend, SingleProcessAtomicBackend, SharedMemoryBackend):
        REGISTRY.set_registry(CollectorRegistry())
        load_backend(backend, {"path": config["path"]} if backend is SharedMemoryBackend else {})
        Counter("requests_total", "help").inc()
        assert "\\nrequests_total 1" in render()
        assert "\\nrequests_total 1.0\\n" in generate_metrics()
    load_backend(RedisBackend, config["redis"])
    Counter("other_total", "help", required_labels=["a"]).labels(a="x").inc()
    try:
        generate_metrics()
    except BackendError as error:
        print(error)
    print("the end")
"""


def test_a_program_that_cannot_start_threads_loads_counts_scrapes_and_ends(
    server: Server, tmp_path: Path
) -> None:
    """Only a scrape of Redis needs a thread, and says so."""
    config: dict[str, Any] = {"path": f"/dev/shm/{tmp_path.name}-{server.port}", "redis": server.config}
    try:
        output = run_program(NO_THREADS, config)
    finally:
        Path(config["path"]).unlink(missing_ok=True)
    assert output.startswith("no thread\n"), output
    assert f"\ncannot start a thread for Redis at 127.0.0.1:{server.port}" in output, output
    assert "\nthe end\n" in output and "Traceback" not in output, output


def test_a_backend_is_loaded_and_scraped_while_the_interpreter_shuts_down() -> None:
    """test_wheel.py does the same with each installed CPython."""
    output = run_program(AT_SHUTDOWN, {}, prelude="")
    assert "\nrequests_total 1.0\n" in output
    assert "Traceback" not in output, output
