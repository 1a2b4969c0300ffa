"""A terminal that runs a program, and the contents of its screen.

The program has a real pseudo-terminal; `pyte` keeps the screen that its output makes.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from types import TracebackType

import pyte

from programs import HANG


class Terminal:
    """Runs `command` in a terminal of 100 columns and 24 lines."""

    def __init__(self, command: list[str]) -> None:
        self._master, self._slave = pty.openpty()
        self._screen = pyte.Screen(100, 24)
        self._stream = pyte.ByteStream(self._screen)
        #: The program's whole output.
        self.output = b""
        self._set_size(100, 24)
        self._cooked = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    @property
    def lines(self) -> list[str]:
        """Returns the lines of the screen."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def is_raw(self) -> bool:
        """Tells whether the program has changed the modes of the terminal."""
        return termios.tcgetattr(self._slave) != self._cooked

    @property
    def has_alternate_screen(self) -> bool:
        return self.output.rfind(b"\x1b[?1049h") > self.output.rfind(b"\x1b[?1049l")

    @property
    def is_cursor_hidden(self) -> bool:
        return self.output.rfind(b"\x1b[?25l") > self.output.rfind(b"\x1b[?25h")

    def press(self, *keys: str) -> None:
        for key in keys:
            os.write(self._master, key.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Resizes the terminal like a window."""
        self._screen.resize(lines, columns)
        # The kernel notifies the program.
        self._set_size(columns, lines)

    def wait_for(self, condition: Callable[[list[str]], bool], what: str) -> None:
        """Waits until the screen satisfies `condition`."""
        deadline = time.monotonic() + HANG
        while not condition(self.lines):
            assert time.monotonic() < deadline, f"waited in vain: {what}\n" + "\n".join(self.lines)
            assert self.process.poll() is None, f"the program ended: {self.output!r}"
            self._read(0.1)

    def wait(self) -> int:
        """Reads the program's output until its end and returns the exit code."""
        deadline = time.monotonic() + HANG
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "the program does not end\n" + "\n".join(self.lines)
            self._read(0.1)
        while self._read(0):
            pass
        return self.process.returncode

    def _read(self, timeout: float) -> bool:
        if not select.select([self._master], [], [], timeout)[0]:
            return False
        output = os.read(self._master, 65536)
        self.output += output
        self._stream.feed(output)
        return True

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
