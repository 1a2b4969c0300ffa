"""prometheus_client on the engine in a Celery worker with a prefork pool, of which one process is killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from celery_worker import CHILDREN, celery_worker
from programs import run_program
from waiting import wait_until

TASKS = """
import os
import pytheus_backend_rs.prometheus
pytheus_backend_rs.prometheus.install()
from prometheus_client import Counter
DONE = Counter("tasks", "Tasks.", ["worker"])
def work():
    DONE.labels(os.getpid()).inc()
"""

#: Prints how many tasks each process has done.
READ = """
    import json
    import pytheus_backend_rs.prometheus
    pytheus_backend_rs.prometheus.install()
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    print(json.dumps({one.labels["worker"]: one.value for one in samples if one.name == "tasks_total"}))
"""


@pytest.mark.parametrize("variable", ["PYTHEUS_BACKEND_RS_STORE", "PROMETHEUS_MULTIPROC_DIR"])
def test_every_task_is_counted_though_a_child_is_killed(tmp_path: Path, variable: str) -> None:
    store = tmp_path if variable == "PROMETHEUS_MULTIPROC_DIR" else tmp_path / "metrics.shm"
    environment = {variable: str(store)}

    def counted() -> dict[str, float]:
        found: dict[str, float] = json.loads(run_program(READ, {}, environment=environment))
        return found

    with celery_worker(tmp_path, TASKS, **environment) as celery:
        celery.run_tasks(200)
        first = counted()
        assert sum(first.values()) == 200
        assert 1 < len(first) <= CHILDREN
        celery.run_tasks(200)
        # When all tasks have ended: Celery may lose those that it gives to a child that is being killed.
        os.kill(int(max(first, key=lambda worker: first[worker])), signal.SIGKILL)
        wait_until(lambda: "SIGKILL" in celery.text, "the worker has noticed")
    # The worker is killed, too: if the child had the lock of the queue of tasks, no other one would end.
    assert sum(counted().values()) == 400
