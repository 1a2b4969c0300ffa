"""Runs a Redis server for each peer that needs one, and reads its statistics of traffic."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "python"))
from local_redis import local_redis

GIVE_UP_SECONDS = 120


@contextlib.contextmanager
def servers(peers):
    """Starts the servers and yields their ports by the name of the peer."""
    with contextlib.ExitStack() as stack:
        yield {peer.name: stack.enter_context(local_redis()) for peer in peers if peer.store == "redis"}


def empty(port: int) -> None:
    _ask(port, "FLUSHALL")


def traffic(port: int) -> dict:
    """Returns the commands and bytes received so far, without those of this module."""
    commands = 0
    for name, calls in re.findall(
        r"^cmdstat_([^:]+):calls=(\d+)", _ask(port, "INFO commandstats"), re.MULTILINE
    ):
        if name not in ("info", "flushall"):
            commands += int(calls)
    received = re.search(r"^total_net_input_bytes:(\d+)", _ask(port, "INFO stats"), re.MULTILINE)
    return {"commands": commands, "bytes": int(received[1])}


def wait_until_quiet(port: int, client_pid: int, quiet_seconds: float = 0.05) -> float:
    """Waits until the server has been idle for a moment and no thread of its client runs, so that everything
    counted has arrived. Returns when the last of it arrived, by `time.perf_counter`."""
    commands = traffic(port)["commands"]
    last_command = quiet_since = time.perf_counter()
    give_up_at = quiet_since + GIVE_UP_SECONDS
    while time.perf_counter() < min(quiet_since + quiet_seconds, give_up_at):
        time.sleep(0.005)
        now = traffic(port)["commands"]
        if now != commands:
            commands, last_command = now, time.perf_counter()
            quiet_since = last_command
        elif _is_running(client_pid):
            quiet_since = time.perf_counter()
    return last_command


def _is_running(pid: int) -> bool:
    """Returns whether a thread of the process is running or runnable, where /proc can tell."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(") ")[2].startswith("R"):
                return True
    return False


def _ask(port: int, command: str) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(command.encode() + b"\r\n")
        with connection.makefile("rb") as answer:
            head = answer.readline().decode()
            if head.startswith("$"):
                return answer.read(int(head[1:])).decode()
            if not head.startswith("+"):
                raise RuntimeError(f"redis-server answered {command} with {head!r}")
            return head
