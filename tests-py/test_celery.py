"""A Celery worker with a prefork pool: the backend is loaded once, in the worker's main process, and tasks
count in its children. They are forked by billiard and end by `os._exit`, so neither exit handlers nor the
finalizers of `multiprocessing` run there.

The broker is a folder of files, so that a test needs no server for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from programs import HANG, python_path, run_program
from shared_stores import LAZY, SOURCE, SharedStore
from waiting import wait_until

CHILDREN = 4

#: Each task appends a byte to the file `done`. Appends of one byte do not overwrite each other.
TASKS = f"""{SOURCE}
from celery import Celery
from celery.signals import worker_process_shutdown
folder = os.path.dirname(os.path.abspath(__file__))
# A worker could read a message while it is written, so finished messages are in another folder.
folders = {{"data_folder_in": "queue", "data_folder_out": "written", "control_folder": "control"}}
options = {{name: os.path.join(folder, subfolder) for name, subfolder in folders.items()}}
app = Celery("tasks", broker="filesystem://", broker_transport_options=options)
app.conf.task_ignore_result = True
done = os.open(os.path.join(folder, "done"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
@app.task
def work():
    count(str(os.getpid()))
    os.write(done, b".")
@worker_process_shutdown.connect
def ended(**_):
    if "COUNT_AT_THE_END" in os.environ:
        count("end")
"""

PUBLISH = """
import os, sys
import tasks
with tasks.app.connection_for_write() as connection, connection.SimpleQueue("celery").producer as producer:
    for _ in range(int(sys.argv[1])):
        tasks.work.apply_async(producer=producer)
for name in sorted(os.listdir("written")):
    os.rename(os.path.join("written", name), os.path.join("queue", name))
"""


class Worker:
    """A running worker."""

    def __init__(self, directory: Path, store: SharedStore, *options: str, **environment: str) -> None:
        self._directory = directory
        self._log = directory / "celery.log"
        command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool", "prefork"]
        command += ["--concurrency", str(CHILDREN), "--loglevel", "INFO"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat", *options]
        config = json.dumps(store.config(**LAZY))
        (directory / "tasks.py").write_text(TASKS, encoding="utf-8")
        for folder in ("queue", "written", "control"):
            (directory / folder).mkdir()
        self._environment = {
            **os.environ,
            "TEST_CONFIG": config,
            "PYTHONPATH": python_path(directory),
            **environment,
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self._environment,
            )

    @property
    def text(self) -> str:
        return self._log.read_text(encoding="utf-8")

    def run_tasks(self, number: int) -> None:
        """Runs this many tasks and waits for them."""
        publish = [sys.executable, "-c", PUBLISH, str(number)]
        subprocess.run(publish, check=True, env=self._environment, cwd=self._directory, timeout=HANG)
        done = self._directory / "done"

        def all_are_done() -> bool:
            assert self.process.poll() is None, self.text
            return done.exists() and done.stat().st_size >= number

        wait_until(all_are_done, f"{number} tasks are done; see {self._log}", timeout=HANG)

    def stop(self) -> None:
        """Ends the worker by a warm shutdown."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(HANG) == 0, self.text

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def worker(directory: Path, store: SharedStore, *options: str, **environment: str) -> Iterator[Worker]:
    running = Worker(directory, store, *options, **environment)
    try:
        yield running
    finally:
        running.close()


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
