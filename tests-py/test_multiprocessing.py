"""`multiprocessing`, by fork, spawn and forkserver: processes, daemonic ones, pools and executors.

Their children run no exit handlers, but finalizers; with the next regular flush far away, those are what sends
for Redis. (What is declared when a program is imported is declared again in children that import it again.)
"""

from __future__ import annotations

import pytest

from programs import run_program
from shared_stores import LAZY, SOURCE, SharedStore

METHODS = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])

#: A child that imports the program again runs this again; only the first process goes on.
PROGRAM = """
import concurrent.futures, multiprocessing, signal
def work(number=0):
    count("child")
    return number
def work_for_ever(event):
    count("child")
    event.set()
    while True:
        time.sleep(60)
def wait_until_sent(total):
    while not is_shown(total, generate_metrics()):
        time.sleep(0.005)
def main():
    context = multiprocessing.get_context("{method}")
{body}
if __name__ == "__main__":
    main()
"""


def run(store: SharedStore, method: str, body: str, **redis_options: object) -> None:
    lines = body.splitlines()
    source = PROGRAM.format(method=method, body="\n".join("    " + line.removeprefix(" " * 8) for line in lines))
    output = run_program(source, store.config(**{**LAZY, **redis_options}), prelude=SOURCE)
    assert output == ""


@METHODS
def test_what_the_children_of_an_executor_count_arrives(store: SharedStore, method: str) -> None:
    run(
        store,
        method,
        """
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            assert sorted(pool.map(work, range(20))) == list(range(20))
        count("parent")
        """,
    )
    assert store.counted() == {"child": 20, "parent": 1, "total": 21}


@METHODS
def test_what_the_children_of_a_pool_count_arrives_when_it_is_closed(store: SharedStore, method: str) -> None:
    """Also of those that are replaced after some tasks."""
    run(
        store,
        method,
        """
        pool = context.Pool(2, maxtasksperchild=4)
        assert sorted(pool.map(work, range(20), chunksize=1)) == list(range(20))
        pool.close()
        pool.join()
        count("parent")
        """,
    )
    assert store.counted() == {"child": 20, "parent": 1, "total": 21}


@METHODS
def test_a_pool_that_is_terminated_has_lost_nothing_that_was_sent(store: SharedStore, method: str) -> None:
    """`terminate`, and the end of `with`, send SIGTERM to the children: what they have counted since the last
    flush is lost, unless it is in shared memory."""
    run(
        store,
        method,
        """
        with context.Pool(2) as pool:
            assert sorted(pool.map(work, range(20))) == list(range(20))
            wait_until_sent(20)
        count("parent")
        """,
        flush_interval_ms=5,
    )
    assert store.counted() == {"child": 20, "parent": 1, "total": 21}


@METHODS
def test_a_daemonic_process_is_terminated_and_has_lost_nothing_that_was_sent(
    store: SharedStore, method: str
) -> None:
    """The end of its parent ends it with SIGTERM. With the usual flush interval, its changes are sent soon."""
    run(
        store,
        method,
        """
        event = context.Event()
        child = context.Process(target=work_for_ever, args=(event,), daemon=True)
        child.start()
        event.wait()
        wait_until_sent(1)
        count("parent")
        """,
        flush_interval_ms=5,
    )
    assert store.counted() == {"child": 1, "parent": 1, "total": 2}


@METHODS
def test_a_daemonic_process_that_ends_by_itself_sends_what_it_has(store: SharedStore, method: str) -> None:
    run(
        store,
        method,
        """
        child = context.Process(target=work, daemon=True)
        child.start()
        child.join()
        assert child.exitcode == 0
        """,
    )
    assert store.counted() == {"child": 1, "total": 1}


def test_a_child_of_a_thread_counts_while_others_count(store: SharedStore) -> None:
    run(
        store,
        "fork",
        """
        def start_children():
            for _ in range(3):
                child = context.Process(target=work)
                child.start()
                child.join()
                assert child.exitcode == 0
        starting = threading.Thread(target=start_children)
        starting.start()
        counted = 0
        while starting.is_alive():
            count("parent")
            counted += 1
        assert f'requests_total{{who="parent"}} {counted}.0\\n' in generate_metrics()
        """,
    )
    assert store.counted()["child"] == 3
