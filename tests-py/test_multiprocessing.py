"""`multiprocessing`, by fork, spawn and forkserver: processes, daemonic ones, pools and executors.

Their children run no exit handlers, but finalizers; with the next regular flush far away, those are what
sends for Redis. (What is declared when a program is imported is declared again in children that import it
again.)
"""

from __future__ import annotations

import pytest

from programs import run_program
from shared_stores import LAZY, SOURCE, SharedStore

METHODS = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])

#: A spawned child imports the program again. Only the first process runs its main part.
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
    source = PROGRAM.format(
        method=method, body="\n".join("    " + line.removeprefix(" " * 8) for line in lines)
    )
    output = run_program(source, store.config(**{**LAZY, **redis_options}), prelude=SOURCE)
    assert output == ""


@METHODS
def test_counts_of_an_executors_children_arrive(store: SharedStore, method: str) -> None:
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
def test_counts_of_a_pools_children_arrive_when_it_is_closed(store: SharedStore, method: str) -> None:
    """Some children are replaced after a few tasks. Their counts arrive, too."""
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
def test_a_terminated_pool_loses_no_sent_count(store: SharedStore, method: str) -> None:
    """`terminate` and the end of `with` send SIGTERM to the children. Redis loses their counts since the last
    flush."""
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
def test_a_terminated_daemonic_process_loses_no_sent_count(store: SharedStore, method: str) -> None:
    """The end of the parent sends SIGTERM to the child. Its earlier changes have been sent."""
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
def test_a_daemonic_process_that_ends_normally_sends_its_counts(store: SharedStore, method: str) -> None:
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
