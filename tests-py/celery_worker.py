"""A Celery worker with a prefork pool, as tests start it, in a folder with a module `tasks`.

The broker is a folder of files, so that a test needs no server for it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from programs import HANG, python_path
from server_process import ServerProcess
from waiting import wait_until

CHILDREN = 4

#: The end of a module `tasks`, which begins with a function `work`, of which it makes a task. Each task appends a
#: byte to the file `done`. Appends of one byte do not overwrite each other.
APPLICATION = """
import os
from celery import Celery
folder = os.path.dirname(os.path.abspath(__file__))
# A worker could read a message while it is written, so finished messages are in another folder.
folders = {"data_folder_in": "queue", "data_folder_out": "written", "control_folder": "control"}
options = {name: os.path.join(folder, subfolder) for name, subfolder in folders.items()}
app = Celery("tasks", broker="filesystem://", broker_transport_options=options)
app.conf.task_ignore_result = True
done = os.open(os.path.join(folder, "done"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
count_one = work
@app.task(name="tasks.work")
def work():
    count_one()
    os.write(done, b".")
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


class Worker(ServerProcess):
    """A running worker."""

    def __init__(self, directory: Path, source: str, *options: str, **environment: str) -> None:
        self._directory = directory
        self._published = 0
        command = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "--pool", "prefork"]
        command += ["--concurrency", str(CHILDREN), "--loglevel", "INFO"]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat", *options]
        (directory / "tasks.py").write_text(source + APPLICATION, encoding="utf-8")
        for folder in ("queue", "written", "control"):
            (directory / folder).mkdir()
        self._environment = {**os.environ, "PYTHONPATH": python_path(directory), **environment}
        super().__init__(command, directory, directory / "celery.log", self._environment)

    def run_tasks(self, number: int) -> None:
        """Runs this many tasks more and waits for them."""
        self._published += number
        publish = [sys.executable, "-c", PUBLISH, str(number)]
        subprocess.run(publish, check=True, env=self._environment, cwd=self._directory, timeout=HANG)
        done = self._directory / "done"

        def all_are_done() -> bool:
            assert self.process.poll() is None, self.text
            return done.exists() and done.stat().st_size >= self._published

        wait_until(all_are_done, f"{number} tasks are done; see {self._log}", timeout=HANG)


@contextlib.contextmanager
def celery_worker(directory: Path, source: str, *options: str, **environment: str) -> Iterator[Worker]:
    running = Worker(directory, source, *options, **environment)
    try:
        yield running
    finally:
        running.close()
