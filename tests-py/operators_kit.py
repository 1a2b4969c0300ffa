"""The files of contrib/, and the side-car as an operator runs it: the program, without Python before it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytheus_backend_rs
from pytheus_backend_rs.__main__ import NAME, installed_program

from programs import HANG

ROOT = Path(__file__).resolve().parent.parent
KIT = ROOT / "contrib"

#: Where the files of the kit expect the side-car and the script.
INSTALLED_SIDE_CAR = "/usr/local/bin/pytheus-backend-rs"
INSTALLED_SCRIPT = "/usr/local/libexec/pytheus-store-check"
SCRIPT = KIT / "prometheus" / "pytheus-store-check"


def side_car() -> str:
    """Returns the path of the side-car that belongs to the package under test."""
    carried = Path(pytheus_backend_rs.__file__).parent / "_bin" / NAME
    program = str(carried) if carried.exists() else installed_program()
    assert program, "there is no side-car"
    return program


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end, with these environment variables beside those of the test."""
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=HANG,
        env={**os.environ, **environment},
    )


def command_of_unit(name: str, **settings: str) -> list[str]:
    """Returns the command of a systemd unit for the instance `shop`, with `settings` as its environment."""
    unit = (KIT / "systemd" / name).read_text("utf-8")
    (command,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    command = command.replace("%i", "shop")
    for variable, value in settings.items():
        command = command.replace(f"${{{variable}}}", value)
    programs = {INSTALLED_SIDE_CAR: side_car(), INSTALLED_SCRIPT: str(SCRIPT)}
    return [programs.get(part, part) for part in shlex.split(command)]


def options_of(command: str) -> set[str]:
    """Returns the long options that a command of the side-car knows."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", run(side_car(), command, "--help").stdout))


@contextlib.contextmanager
def serving(command: Sequence[str], **environment: str) -> Iterator[int]:
    """Runs `serve` with this command line, and returns the port that it prints."""
    process = subprocess.Popen(
        [side_car(), *command], stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.fullmatch(r"serving \S+ on http://127\.0\.0\.1:(\d+)/metrics\n", line)
        assert match, (line, process.poll())
        yield int(match[1])
    finally:
        process.terminate()
        process.communicate(timeout=HANG)
