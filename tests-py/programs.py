"""Runs Python programs in processes of their own, as a user would: from a file, with a time limit.

The limit is hang protection. A program is started as the leader of a process group, and when it hangs the
group that it leads is ended, so that its children do not outlive the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: The beginning of most programs. `config` is the configuration of the backend.
PRELUDE = """
import json, logging, os, sys, threading, time
from pytheus.backends import load_backend
from pytheus.exposition import generate_metrics
from pytheus.metrics import Counter, CustomCollector, Gauge, Histogram, Summary
from pytheus.registry import REGISTRY, CollectorRegistry
from pytheus_backend_rs import BackendError, RedisBackend, SingleProcessAtomicBackend, SingleProcessBackend
config = json.loads(os.environ["TEST_CONFIG"])
"""

#: Loads a backend and scrapes it while the interpreter shuts down. From 3.12 on CPython then starts no more
#: threads.
AT_SHUTDOWN = """
    import atexit
    def use():
        from pytheus.backends import load_backend
        from pytheus.exposition import generate_metrics
        from pytheus.metrics import Counter
        from pytheus_backend_rs import SharedMemoryBackend
        load_backend(SharedMemoryBackend, {})
        Counter("requests_total", "help").inc()
        print(generate_metrics())
    atexit.register(use)
"""

#: From 3.12 on CPython warns of a fork in a process with threads, and counts the engine's. A package without a
#: compiled module warns that it is slower.
IGNORED_WARNINGS = "ignore::DeprecationWarning,ignore::RuntimeWarning:pytheus_backend_rs._installed"

HANG = 120.0


def python_path(folder: Path) -> str:
    """Returns a PYTHONPATH with this folder first. The package under test may be in the others."""
    return os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])


class Program:
    """A running program, with pipes as its standard streams."""

    def __init__(
        self,
        source: str,
        config: dict[str, Any],
        *,
        prelude: str = PRELUDE,
        interpreter: str | Path = sys.executable,
        environment: dict[str, str] | None = None,
        stderr: int = subprocess.STDOUT,
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="tests-py-program-")
        path = Path(self._directory.name) / "program.py"
        path.write_text(prelude + textwrap.dedent(source), encoding="utf-8")
        self.process = subprocess.Popen(
            [str(interpreter), "-X", "faulthandler", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
            env={
                **os.environ,
                "TEST_CONFIG": json.dumps(config),
                "PYTHONWARNINGS": IGNORED_WARNINGS,
                **(environment or {}),
            },
        )

    def say(self, line: str = "") -> None:
        """Writes a line to the program's standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """Returns the next line that the program prints."""
        assert self.process.stdout is not None
        # Byte by byte, because `finish` reads the pipe itself and would miss what a buffer had read ahead.
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = os.read(self.process.stdout.fileno(), 1)
            assert byte, f"the program ended with {self.process.wait(HANG)}, and said no more"
            line += byte
        return line[:-1].decode()

    def finish(self, timeout: float = HANG) -> subprocess.CompletedProcess[str]:
        """Waits for the end of the program."""
        try:
            stdout, stderr = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.close()
            raise AssertionError(f"the program did not end within {timeout:.0f} s") from None
        return subprocess.CompletedProcess([], self.process.returncode, stdout, stderr)

    def close(self) -> None:
        # The group has the process id of the program that leads it; children may outlive the leader.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._directory.cleanup()


@contextlib.contextmanager
def running(source: str, config: dict[str, Any], **options: Any) -> Iterator[Program]:
    """Runs a program while the body of the `with` statement runs."""
    program = Program(source, config, **options)
    try:
        yield program
    finally:
        program.close()


def run_program(
    source: str, config: dict[str, Any], *, timeout: float = HANG, code: int = 0, **options: Any
) -> str:
    """Runs a program to its end, which must have this exit code, and returns what it printed."""
    with running(source, config, **options) as program:
        done = program.finish(timeout)
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}:\n{done.stdout}"
    return done.stdout
