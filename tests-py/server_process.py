"""A server that a test starts: a program with a session of its own, whose output goes to a file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from programs import HANG


class ServerProcess:
    """A running program in a folder. Its children end with it when it is closed."""

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        log: Path,
        environment: Mapping[str, str],
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=pass_fds,
                env=environment,
            )

    @property
    def text(self) -> str:
        """What the program has written so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """Ends the program by SIGTERM, and checks that it says that nothing went wrong."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(HANG) == 0, self.text

    def close(self) -> None:
        """Kills the program and its children."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
