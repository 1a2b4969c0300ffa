"""`python -m pytheus_backend_rs run`: prometheus_client on the engine in a program that was not changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from programs import python_path

PROGRAM = """
import os, signal
from prometheus_client import CollectorRegistry, Counter
registry = CollectorRegistry()
counter = Counter("jobs", "Jobs.", registry=registry)
for _ in range(3):
    child = os.fork()
    if child == 0:
        counter.inc(2)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
print(registry.get_sample_value("jobs_total"), os.environ.get("HIDDEN"))
"""


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHEUS_BACKEND_RS_STORE": str(folder / "metrics.shm"),
        "PYTHONPATH": python_path(folder),
    }
    return subprocess.run(
        [sys.executable, "-m", "pytheus_backend_rs", "run", *command],
        env=environment,
        timeout=120,
        capture_output=True,
        text=True,
    )


def test_a_program_counts_in_the_store_unchanged(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nos.environ['HIDDEN'] = 'ran'\n")
    done = run("--", sys.executable, "-c", PROGRAM, folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "6.0 ran\n"), done.stderr
    assert (tmp_path / "metrics.shm").exists()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run("--", "no-such-program", folder=tmp_path)
    assert done.returncode == 1
    assert "no-such-program cannot be run" in done.stderr
    assert "usage" in run(folder=tmp_path).stderr
