"""A Celery worker with a prefork pool: the backend is loaded once, in the worker's main process, and tasks
count in its children. They are forked by billiard and end by `os._exit`, so neither exit handlers nor the
finalizers of `multiprocessing` run there.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from celery_worker import CHILDREN, Worker, celery_worker
from programs import run_program
from shared_stores import LAZY, SOURCE, SharedStore

TASKS = f"""{SOURCE}
from celery.signals import worker_process_shutdown
def work():
    count(str(os.getpid()))
@worker_process_shutdown.connect
def ended(**_):
    if "COUNT_AT_THE_END" in os.environ:
        count("end")
"""


@contextlib.contextmanager
def worker(directory: Path, store: SharedStore, *options: str, **environment: str) -> Iterator[Worker]:
    config = json.dumps(store.config(**LAZY))
    with celery_worker(directory, TASKS, *options, TEST_CONFIG=config, **environment) as running:
        yield running


def test_every_task_of_a_prefork_pool_is_counted(store: SharedStore, tmp_path: Path) -> None:
    """The flush interval is so long that only the end of a child sends its counts."""
    with worker(tmp_path, store) as celery:
        celery.run_tasks(1_000)
        celery.stop()
    counted = store.counted()
    assert counted["total"] == 1_000
    assert 1 < len(counted) - 1 <= CHILDREN, counted


def test_children_that_are_replaced_while_working_lose_no_count(store: SharedStore, tmp_path: Path) -> None:
    with worker(tmp_path, store, "--max-tasks-per-child", "25") as celery:
        celery.run_tasks(200)
        celery.stop()
    counted = store.counted()
    assert counted["total"] == 200
    assert len(counted) - 1 >= 8, counted
    assert max(value for who, value in counted.items() if who != "total") <= 25, counted


def test_counts_of_receivers_at_the_end_of_a_child_arrive(store: SharedStore, tmp_path: Path) -> None:
    """A receiver of the signal that the package listens to counts, too."""
    with worker(tmp_path, store, COUNT_AT_THE_END="1") as celery:
        celery.run_tasks(20)
        celery.stop()
    counted = store.counted()
    assert counted["end"] == CHILDREN
    assert counted["total"] == 20 + CHILDREN


def test_counts_of_a_billiard_process_arrive(store: SharedStore) -> None:
    """Tasks use billiard, Celery's version of `multiprocessing`. It knows no parent process."""
    run_program(
        """
        import billiard
        children = [billiard.Process(target=count, args=("child",)) for _ in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join()
            assert child.exitcode == 0
        """,
        store.config(**LAZY),
        prelude=SOURCE,
    )
    assert store.counted() == {"child": 2, "total": 2}
