"""The last counts of a process: they arrive at its end, and an end without a server is bounded and says what
is lost. The orders in which a program can end are in test_exit_orders.py.

Every program here ends right after its last `inc()`. The flush interval is so long that only the exit sends.
"""

from __future__ import annotations

import time

import pytest

from programs import run_program, running
from redis_server import Server

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
    ("method", "loaded_by"),
    [("fork", "module"), ("fork", "child"), ("spawn", "module"), ("forkserver", "child")],
)
def test_counts_of_a_multiprocessing_child_arrive(server: Server, method: str, loaded_by: str) -> None:
    """The child returns from its function without running the interpreter's exit handlers. It has the backend
    from its parent or its main module, or loads it itself."""
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


def test_counts_of_a_multiprocessing_child_that_fails_arrive(server: Server) -> None:
    program = f"""{COUNT}
import multiprocessing
def work():
    count()
    raise RuntimeError("unhandled")
if __name__ == "__main__":
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
"""
    run_program(program, {**server.config, **LAZY})
    assert counted(server) == (1, 1)


def test_counts_of_a_forked_child_arrive_once(server: Server) -> None:
    """At the fork the parent has pending changes. Only the parent sends them."""
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
    """As under gunicorn without --preload: the parent has only imported the package."""
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
    # The counter has 1 change, the histogram 2 (bucket and sum), the other counter 1. A metric whose changes
    # are not in a batch yet counts as 1.
    assert "changes could not be sent" in done.stdout, done.stdout
    assert 3 <= int(done.stdout.split(" changes could not be sent")[0].split()[-1]) <= 4, done.stdout
    assert str(own_server.port) in done.stdout
    # The shutdown timeout is 0.5 s, all others are 100 s.
    assert took < 60, f"the end took {took:.1f} s"


def test_an_end_without_servers_is_bounded_for_all_engines_together(own_server: Server) -> None:
    """Each of eight loaded engines has changes to send."""
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


def test_the_changes_of_an_engine_that_is_garbage_arrive(server: Server) -> None:
    """The metrics and their engine are garbage-collected before the program ends."""
    program = """
    import gc
    load_backend(RedisBackend, config)
    Counter("requests_total", "help", registry=None).inc(5)
    load_backend(SingleProcessBackend, {})
    RedisBackend._loaded = None
    gc.collect()
    """
    run_program(program, {**server.config, **LAZY})
    assert server.client().get("requests_total") == "5"


def test_an_exit_before_anything_was_loaded_is_quiet(server: Server) -> None:
    assert run_program("", server.config) == ""
