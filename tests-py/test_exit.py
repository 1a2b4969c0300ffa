"""No lost tail: what a process has counted arrives however it ends, and its end neither hangs nor aborts.

Every program here ends a moment after its last `inc()`, long before the next regular flush, which is put
off to make sure that it is the exit that sends.
"""

from __future__ import annotations

import time

import pytest

from programs import run_program, running
from redis_server import Server

#: Far longer than any program here runs: only the exit can send.
LAZY = {"flush_interval_ms": 600_000}

COUNT = """
load_backend(RedisBackend, config)
counter = Counter("requests_total", "help")
histogram = Histogram("size", "help", buckets=[1], required_labels=["a"])
def count(amount=1):
    counter.inc(amount)
    histogram.labels(a="x").observe(0.5)
"""


def counted(server: Server) -> tuple[float, float]:
    client = server.client()
    return float(client.get("requests_total") or 0), float(client.hget("size", '{"a":"x"}#le=1') or 0)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("raise RuntimeError('unhandled')", 1),
        ("raise KeyboardInterrupt", None),
        ("import atexit; atexit.register(count, 0)", 0),
        ("threading.Thread(target=lambda: (time.sleep(0.05), count(0))).start()", 0),
    ],
)
def test_counts_arrive_when_a_program_ends(server: Server, end: str, code: int | None) -> None:
    with running(COUNT + f"count()\n{end}\n", {**server.config, **LAZY}) as program:
        done = program.finish()
    if code is not None:
        assert done.returncode == code, done.stdout
    expected = 2 if "count" in end else 1
    assert counted(server) == (1, expected)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("loaded_by", ["module", "child"])
def test_counts_of_a_multiprocessing_child_arrive(server: Server, method: str, loaded_by: str) -> None:
    """The child returns from its function; it does not run the interpreter's exit handlers. It has the
    backend from its parent or from the module it is started with, or loads it itself."""
    if loaded_by == "module":
        program = f"""{COUNT}
def work():
    count()
"""
    else:
        program = f"""
def work():
    setup = {COUNT!r}
    exec(setup, globals())
    count()
"""
    program += f"""
import multiprocessing
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    children = [context.Process(target=work) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    sys.exit(max(child.exitcode for child in children))
"""
    run_program(program, {**server.config, **LAZY})
    assert counted(server) == (2, 2)


@pytest.mark.parametrize("end", ["sys.exit(4)", "raise RuntimeError('unhandled')"])
def test_counts_of_a_multiprocessing_child_that_fails_arrive(server: Server, end: str) -> None:
    program = f"""{COUNT}
import multiprocessing
def work():
    count()
    {end}
if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
"""
    run_program(program, {**server.config, **LAZY})
    assert counted(server) == (1, 1)


def test_counts_of_a_process_pool_arrive(server: Server) -> None:
    program = f"""{COUNT}
import concurrent.futures, multiprocessing
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(count, [1] * 10))
"""
    run_program(program, {**server.config, **LAZY})
    assert counted(server) == (10, 10)


def test_counts_of_a_forked_child_arrive_once(server: Server) -> None:
    """Parent and child both have something pending at the fork; the parent sends what is the parent's."""
    program = f"""{COUNT}
count(100)
child = os.fork()
if child == 0:
    count(10)
    sys.exit(0)
count(1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run_program(program, {**server.config, **LAZY})
    assert counted(server) == (111, 3)


def test_a_child_that_never_counts_sends_nothing(server: Server) -> None:
    program = f"""{COUNT}
count(100)
child = os.fork()
if child == 0:
    sys.exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run_program(program, {**server.config, **LAZY})
    assert counted(server) == (100, 1)


def test_a_child_that_loads_the_backend_first_counts(server: Server) -> None:
    """As under gunicorn without --preload: the parent has imported the package, and nothing more."""
    program = f"""
child = os.fork()
if child == 0:
    exec({COUNT!r})
    count()
    sys.exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run_program(program, {**server.config, **LAZY})
    assert counted(server) == (1, 1)


@pytest.mark.parametrize("trouble", ["paused", "killed"])
def test_an_end_without_a_server_is_bounded_and_says_how_much_is_lost(
    own_server: Server, trouble: str
) -> None:
    program = f"""{COUNT}
other = Counter("other_total", "help")
count()
generate_metrics()
print("ready", flush=True)
sys.stdin.readline()
count()
other.inc()
"""
    config = {**own_server.config, "shutdown_timeout": 0.5, "connect_timeout": 100, "socket_timeout": 100}
    with running(program, config) as child:
        assert child.line() == "ready"
        own_server.pause() if trouble == "paused" else own_server.kill()
        child.say()
        start = time.monotonic()
        done = child.finish()
        took = time.monotonic() - start
    assert done.returncode == 0, done.stdout
    # counter: 1, histogram: bucket and sum, other: 1. (What has not been taken yet is counted by metric.)
    assert "changes could not be sent" in done.stdout, done.stdout
    assert 3 <= int(done.stdout.split(" changes could not be sent")[0].split()[-1]) <= 4, done.stdout
    assert str(own_server.port) in done.stdout
    # 0.5 s were asked for, and the other time-outs are 100.
    assert took < 60, f"the end took {took:.1f} s"


def test_an_end_without_servers_is_bounded_for_all_engines_together(own_server: Server) -> None:
    """load_backend was called eight times, and each of the eight engines has something to send."""
    program = """
    counters = []
    for index in range(8):
        load_backend(RedisBackend, config)
        counters.append(Counter(f"requests{index}_total", "help"))
        counters[-1].inc()
        generate_metrics()
    print("ready", flush=True)
    sys.stdin.readline()
    for counter in counters:
        counter.inc()
    """
    shutdown_timeout = 8
    with running(program, {**own_server.config, "shutdown_timeout": shutdown_timeout}) as child:
        assert child.line() == "ready"
        own_server.pause()
        child.say()
        start = time.monotonic()
        done = child.finish()
        took = time.monotonic() - start
    assert done.returncode == 0, done.stdout
    assert took < 6 * shutdown_timeout, f"the end took {took:.1f} s: eight times the shutdown_timeout is 64 s"


def test_a_refused_key_does_not_hold_up_the_end(server: Server) -> None:
    server.client().lpush("requests_total", "not ours")
    program = COUNT + "count()\nother = Counter('other_total', 'help')\nother.inc()\n"
    start = time.monotonic()
    output = run_program(program, {**server.config, **LAZY, "shutdown_timeout": 100})
    assert time.monotonic() - start < 60
    assert "1 change could not be sent" in output
    assert server.client().get("other_total") == "1"


DAEMONS = f"""{COUNT}
def work(operation):
    while True:
        operation()
def scrape():
    try:
        generate_metrics()
    except BackendError:
        pass  # it is closed
label = lambda: histogram.labels(a=str(time.perf_counter_ns() % 50)).observe(1)
for operation in (counter.inc, scrape, label, lambda: logging.getLogger("pytheus_backend_rs").info("x")):
    threading.Thread(target=work, args=(operation,), daemon=True).start()
other = Counter("other_total", "help")
other.inc(7)
time.sleep(int(os.environ["ROUND"]) / 1000)
"""


def test_daemon_threads_do_not_abort_the_end(server: Server) -> None:
    for round_ in range(30):
        server.client().flushall()
        output = run_program(DAEMONS, server.config, environment={"ROUND": str(round_)})
        assert output == "", f"round {round_}: {output}"
        assert server.client().get("other_total") == "7"


def test_a_daemon_thread_that_waits_for_a_server_does_not_hold_up_the_end(own_server: Server) -> None:
    program = f"""{COUNT}
generate_metrics()
print("ready", flush=True)
sys.stdin.readline()
def scrape():
    try:
        generate_metrics()
    except Exception:
        pass
for _ in range(3):
    threading.Thread(target=scrape, daemon=True).start()
time.sleep(0.05)
"""
    config = {**own_server.config, "shutdown_timeout": 0.3, "collect_timeout": 100, "socket_timeout": 100}
    with running(program, config) as child:
        assert child.line() == "ready"
        own_server.pause()
        child.say()
        done = child.finish(30)
    assert done.returncode == 0, done.stdout


def test_a_scrape_in_an_exit_handler_of_a_forked_child_works(server: Server) -> None:
    program = f"""{COUNT}
import atexit
child = os.fork()
if child == 0:
    count()
    atexit.register(lambda: print(generate_metrics()))
    sys.exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    output = run_program(program, server.config)
    assert "requests_total 1.0\n" in output


def test_what_an_unused_engine_had_to_send_arrives(server: Server) -> None:
    """The metrics and their engine are garbage before the program ends."""
    program = """
    import gc
    load_backend(RedisBackend, config)
    Counter("requests_total", "help", registry=None).inc(5)
    load_backend(SingleProcessBackend, {})
    RedisBackend._current = None
    gc.collect()
    """
    run_program(program, {**server.config, **LAZY})
    assert server.client().get("requests_total") == "5"


def test_an_exit_before_anything_was_loaded_is_quiet(server: Server) -> None:
    assert run_program("", server.config) == ""
