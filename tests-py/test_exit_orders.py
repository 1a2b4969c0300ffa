"""The end of a process in every order: with running threads, open scrapes, closed backends and lost servers
it ends in bounded time and without a crash, and after a normal end all counts have arrived.

Each scenario runs with each store, several times at once. The flush interval is so long that for Redis only
the end sends.
"""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import pytest

from programs import Program, running
from redis_server import Server
from shared_stores import LAZY, SOURCE, SharedStore

RUNS = 5

#: Turns a hang into a failure. No scenario takes a tenth of it.
PATIENCE = 120.0

#: Threads that are in every call when the program ends. Their counts are not compared, because they run until
#: the end.
DAEMONS = """
noise = Counter("noise_total", "help", required_labels=["a"])
log = logging.getLogger("pytheus_backend_rs")
log.addHandler(logging.NullHandler())
log.propagate = False
def scrape():
    try:
        generate_metrics()
    except BackendError:
        pass  # it is closed
def repeat(operation):
    while True:
        operation()
def make_metric():
    noise.labels(a=str(time.perf_counter_ns() % 50)).inc()
for operation in (noise.labels(a="busy").inc, scrape, make_metric, lambda: log.info("x")):
    threading.Thread(target=repeat, args=(operation,), daemon=True).start()
"""


class Scenario(NamedTuple):
    name: str
    source: str
    #: The counts in the store, by counter, that each run makes.
    counted: dict[str, float]
    code: int = 0
    #: The counts for a store that must send them.
    sent: dict[str, float] | None = None
    #: The beginning of the program.
    prelude: str = ""
    #: Whether the program must print nothing.
    is_quiet: bool = True


MAIN = {"main": 3.0}

SCENARIOS = [
    Scenario("the end of the program", "count('main', 3)", MAIN),
    Scenario("sys.exit", "count('main', 3); sys.exit(3)", MAIN, code=3),
    Scenario("an unhandled exception", "count('main', 3); raise RuntimeError", MAIN, code=1, is_quiet=False),
    Scenario(
        "SIGINT while counting",
        """
        import signal
        count("main", 3)
        # A shell that starts the tests in the background ignores the signal for them.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True:
            gauge.inc(0)
        """,
        MAIN,
        code=-2,
        is_quiet=False,
    ),
    Scenario(
        "a handler of SIGTERM that exits",
        """
        import signal
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        count("main", 3)
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGTERM)).start()
        while True:
            gauge.inc(0)
        """,
        MAIN,
        code=7,
    ),
    Scenario(
        "SIGTERM, which ends a process at once",
        """
        import signal
        count("main", 3)
        generate_metrics()
        count("unsent")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        """,
        {"main": 3, "unsent": 1},
        code=-15,
        sent=MAIN,
    ),
    Scenario(
        "os._exit",
        "count('main', 3); generate_metrics(); count('unsent'); os._exit(5)",
        {"main": 3, "unsent": 1},
        code=5,
        sent=MAIN,
    ),
    Scenario(
        "exec",
        "count('main', 3); generate_metrics(); count('unsent'); os.execv('/bin/sh', ['sh', '-c', 'exit 6'])",
        {"main": 3, "unsent": 1},
        code=6,
        sent=MAIN,
    ),
    Scenario(
        "an exit in a thread while the main thread waits",
        """
        def work():
            count("main", 3)
            sys.exit(9)  # ends the thread
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """,
        MAIN,
    ),
    Scenario(
        "a thread that outlives the main thread",
        """
        def work():
            threading.main_thread().join()
            count("main", 3)
            generate_metrics()
        threading.Thread(target=work).start()
        """,
        MAIN,
    ),
    Scenario("daemon threads that go on", DAEMONS + "count('main', 3)", MAIN),
    Scenario("daemon threads and sys.exit", DAEMONS + "count('main', 3)\nsys.exit(3)", MAIN, code=3),
    Scenario(
        "handlers of the program before and after ours",
        """
        import atexit
        atexit.register(count, "main", 2)
        atexit.register(generate_metrics)
        count("main")
        """,
        MAIN,
        # A handler that is registered before the package is imported runs after the store is closed. It does
        # not crash, and the server does not get its counts.
        prelude="import atexit\natexit.register(lambda: count('late'))\n",
    ),
    Scenario(
        "metrics that count when they are torn down",
        """
        class Last:
            def __del__(self):
                self.count.inc(0)
        cycle = Last()
        cycle.count, cycle.self, sys.keep = gauge, cycle, Last()
        sys.keep.count = counter.labels(who="main")
        count("main", 3)
        """,
        MAIN,
    ),
    Scenario(
        "logging that is shut down, and a closed standard error",
        """
        logging.basicConfig(level=logging.INFO)
        log = logging.getLogger("pytheus_backend_rs")
        count("main", 3)
        logging.shutdown()
        sys.stderr.close()
        os.close(2)
        log.handlers.clear()
        """,
        MAIN,
    ),
    Scenario(
        "a log handler that fails",
        """
        class Failing(logging.Handler):
            def emit(self, record):
                raise RuntimeError("no disk")
        logging.getLogger().addHandler(Failing())
        logging.getLogger().setLevel(logging.DEBUG)
        count("main", 3)
        """,
        MAIN,
        is_quiet=False,
    ),
    Scenario(
        "a forked child, by every end",
        """
        def end_of(kind):
            if kind == 0:
                sys.exit(0)
            if kind == 1:
                raise KeyError("unhandled")
            if kind == 2:
                threading.Thread(target=count, args=("main", 0)).start()
        for kind, code in ((0, 0), (1, 1), (2, 0)):
            child = os.fork()
            if child == 0:
                count("main")
                end_of(kind)
                break
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
        """,
        MAIN,
        is_quiet=False,
    ),
    Scenario(
        "a backend that is being loaded by a daemon thread",
        """
        kind = getattr(pytheus_backend_rs, config["class"])
        def load():
            while True:
                try:
                    load_backend(kind, config["options"])
                except BackendError:
                    pass
        count("main", 3)
        threading.Thread(target=load, daemon=True).start()
        """,
        MAIN,
    ),
    Scenario(
        "logging that daemon threads start again and again, as each load does",
        """
        from pytheus_backend_rs import _logging
        def start():
            while True:
                _logging.start()
        count("main", 3)
        sys.setswitchinterval(1e-6)
        for _ in range(2):
            threading.Thread(target=start, daemon=True).start()
        """,
        MAIN,
    ),
    Scenario(
        "a pool of threads that scrapes",
        """
        import concurrent.futures
        pool = concurrent.futures.ThreadPoolExecutor(4)
        for _ in range(20):
            pool.submit(generate_metrics)
        count("main", 3)
        """,
        MAIN,
    ),
]


def end_all(programs: list[Program], code: int, is_quiet: bool) -> None:
    for program in programs:
        done = program.finish(PATIENCE)
        assert done.returncode == code, f"exit code {done.returncode}, expected {code}:\n{done.stdout}"
        assert "Fatal Python error" not in done.stdout, done.stdout
        assert not is_quiet or not done.stdout, done.stdout


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_end_is_orderly_and_nothing_is_lost(store: SharedStore, scenario: Scenario) -> None:
    prelude = scenario.prelude + SOURCE
    with contextlib.ExitStack() as stack:
        programs = [
            stack.enter_context(running(scenario.source, store.config(**LAZY), prelude=prelude))
            for _ in range(RUNS)
        ]
        end_all(programs, scenario.code, scenario.is_quiet)
    counted = store.counted()
    expected = scenario.sent if store.is_redis and scenario.sent is not None else scenario.counted
    late = counted.pop("late", 0)
    assert late in (0, RUNS)
    assert counted.pop("total") == sum(expected.values()) * RUNS + late
    assert counted == {who: amount * RUNS for who, amount in expected.items()}


#: The state of a program when its server is stalled or gone.
TROUBLES = {
    "something to send": "count('main')",
    "a scrape in a daemon thread": "threading.Thread(target=scrape, daemon=True).start(); count('main')",
    "scrapes in threads that are waited for": "[threading.Thread(target=scrape).start() for _ in range(3)]",
    "a scrape in the main thread, and SIGINT": """
        import signal
        # A shell that starts the tests in the background ignores the signal for them.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        scrape()
        time.sleep(60)
        """,
    "a scrape in an exit handler": "import atexit; atexit.register(scrape); count('main')",
    "a forked child": """
        child = os.fork()
        count("main")
        if child:
            assert os.waitpid(child, 0)[1] == 0
        """,
    "logging that is shut down": "count('main'); logging.shutdown(); sys.stderr.close()",
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("state", ["stalled", "gone"])
def test_the_end_without_a_server_is_bounded(own_server: Server, state: str, trouble: str) -> None:
    """The timeouts for a scrape and for the end bound it."""
    source = f"""
        def scrape():
            try:
                generate_metrics()
            except BackendError:
                pass
        count("before")
        generate_metrics()
        print("ready", flush=True)
        sys.stdin.readline()
        {TROUBLES[trouble]}
        """
    options = {"collect_timeout": 1, "shutdown_timeout": 0.5, "socket_timeout": 100, "connect_timeout": 100}
    config = {"class": "RedisBackend", "options": {**own_server.config, **options}}
    with contextlib.ExitStack() as stack:
        programs = [stack.enter_context(running(source, config, prelude=SOURCE)) for _ in range(2)]
        for program in programs:
            assert program.line() == "ready"
        own_server.pause() if state == "stalled" else own_server.kill()
        for program in programs:
            program.say()
        end_all(programs, -2 if "SIGINT" in trouble else 0, is_quiet=False)
