"""Reads what a Redis server has done since it started, from its `INFO`."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass

_QUESTION = b"INFO all\r\n"


@dataclass(frozen=True)
class Reading:
    """The server's counters at one time, or how much they have grown between two times."""

    #: Seconds, by `time.perf_counter`.
    time: float
    #: Processor time, user and system.
    cpu_us: float
    #: Calls by command, in lower case, without INFO. Those that a script makes count, too.
    calls: dict[str, int]
    bytes_in: int
    bytes_out: int

    def __sub__(self, earlier: Reading) -> Reading:
        return Reading(
            self.time - earlier.time,
            self.cpu_us - earlier.cpu_us,
            _growth(earlier.calls, self.calls),
            self.bytes_in - earlier.bytes_in,
            self.bytes_out - earlier.bytes_out,
        )

    @property
    def all_calls(self) -> int:
        return sum(self.calls.values())


class ServerReader:
    """A connection for `INFO` and other questions. What it sends and receives itself is left out of readings."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._answers = self._socket.makefile("rb")
        self._own_in = self._own_out = 0

    def close(self) -> None:
        self._answers.close()
        self._socket.close()

    def read(self) -> Reading:
        # The server counts a request when it arrives, and a reply when it leaves.
        own_in, own_out = self._own_in + len(_QUESTION), self._own_out
        text = self.ask(_QUESTION.decode().strip())
        commands = {
            name: int(calls)
            for name, calls in re.findall(r"^cmdstat_(\S+?):calls=(\d+)", text, re.MULTILINE)
            if name not in ("info", "memory", "memory|usage")
        }
        cpu = float(_value(text, "used_cpu_user")) + float(_value(text, "used_cpu_sys"))
        return Reading(
            time.perf_counter(),
            cpu * 1e6,
            commands,
            int(_value(text, "total_net_input_bytes")) - own_in,
            int(_value(text, "total_net_output_bytes")) - own_out,
        )

    def value(self, name: str) -> str:
        """Returns one value of `INFO`."""
        return _value(self.ask("INFO all"), name)

    def memory_of(self, key: str) -> int:
        """Returns the bytes that a key and its value take."""
        return int(self.ask(f"MEMORY USAGE {key} SAMPLES 0") or 0)

    def ask(self, command: str) -> str:
        request = command.encode() + b"\r\n"
        self._socket.sendall(request)
        head = self._answers.readline()
        body = b""
        if head.startswith(b"$") and head != b"$-1\r\n":
            body = self._answers.read(int(head[1:]) + 2)
        elif head.startswith(b"-"):
            raise RuntimeError(f"redis-server answered {command} with {head!r}")
        self._own_in += len(request)
        self._own_out += len(head) + len(body)
        return body.decode().strip() if head.startswith(b"$") else head[1:].decode().strip()


def _growth(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    grown = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in grown.items() if count}


def _value(text: str, name: str) -> str:
    found = re.search(rf"^{name}:(\S*)", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"the server's INFO has no {name}")
    return found[1]
