"""Processes that count on one Redis server: starts them, tells them what to do, and ends them."""

from __future__ import annotations

import contextlib
import multiprocessing
from pathlib import Path
from typing import Any

import fleet_writer

ANSWER_SECONDS = 120


class Fleet:
    def __init__(self, count: int, setting: fleet_writer.Setting) -> None:
        # A forked process has the modules already, so that starting fifty takes a second.
        context = multiprocessing.get_context("fork")
        self._processes = []
        self._connections = []
        for number in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=fleet_writer.run, args=(theirs, number, setting), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._connections.append(ours)
        self.answers()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.send(None)
        for process in self._processes:
            process.join(ANSWER_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()

    def tell(self, method: str, **arguments: Any) -> None:
        """Lets each process begin to do something."""
        for connection in self._connections:
            connection.send((method, arguments))

    def answers(self) -> list[Any]:
        """Waits until each process has done it."""
        return [self._answer(connection) for connection in self._connections]

    def ask(self, number: int, method: str, **arguments: Any) -> Any:
        """Lets one process do something, and waits for it."""
        self._connections[number].send((method, arguments))
        return self._answer(self._connections[number])

    def engine_cpu_us(self) -> float:
        """Returns the processor time of the engine's threads, of all processes together."""
        total = 0
        for process in self._processes:
            for task in Path(f"/proc/{process.pid}/task").iterdir():
                # The main thread is the program's own.
                if task.name != str(process.pid):
                    with contextlib.suppress(OSError):
                        total += int((task / "schedstat").read_text().split()[0])
        return total / 1000

    @staticmethod
    def _answer(connection: Any) -> Any:
        if not connection.poll(ANSWER_SECONDS):
            raise RuntimeError(f"a process of the fleet did not answer for {ANSWER_SECONDS} s")
        return connection.recv()
