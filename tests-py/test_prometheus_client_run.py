"""`python -m pytheus_backend_rs run`: prometheus_client on the engine in a program that was not changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def run(*command: str, folder: Path, has_store: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": python_path(folder)}
    if has_store:
        environment["PYTHEUS_BACKEND_RS_STORE"] = str(folder / "metrics.shm")
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


@pytest.mark.parametrize(
    "naming",
    [
        "os.environ['PYTHEUS_BACKEND_RS_STORE'] = path",
        "os.environ['PROMETHEUS_MULTIPROC_DIR'] = os.path.dirname(path)",
        "import pytheus_backend_rs.prometheus as p; p.install(path)",
        "import prometheus_client, pytheus_backend_rs.prometheus as p; p.install(path)",
    ],
)
def test_a_program_may_name_the_store_itself(naming: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.shm"
    # Programs look whether the package is there.
    looking = "import importlib.util; assert importlib.util.find_spec('prometheus_client')"
    program = f"import os\npath = {str(path)!r}\n{looking}\n{naming}\n{PROGRAM}"
    done = run("--", sys.executable, "-c", program, folder=tmp_path, has_store=False)
    assert (done.returncode, done.stdout) == (0, "6.0 None\n"), done.stderr
    assert path.exists()


def test_a_program_without_prometheus_client_opens_no_store(tmp_path: Path) -> None:
    program = "import sys; print('pytheus_backend_rs' in sys.modules)"
    done = run("--", sys.executable, "-c", program, folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
    assert not (tmp_path / "metrics.shm").exists()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run("--", "no-such-program", folder=tmp_path)
    assert done.returncode == 1
    assert "no-such-program cannot be run" in done.stderr
    assert "usage" in run(folder=tmp_path).stderr
