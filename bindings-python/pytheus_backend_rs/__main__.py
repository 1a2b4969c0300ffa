"""`python -m pytheus_backend_rs`: the side-car, which looks at the metrics of a service from outside.

It is a program of its own; Python only finds it, and becomes it. The wheel carries it. A package that was
built for an installed library uses the side-car that was installed with the library. The command `run` alone
is that of `_run.py`.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

from pytheus_backend_rs import _run

NAME = "pytheus-backend-rs"


def main() -> NoReturn:
    if sys.argv[1:2] == ["run"]:
        _run.run(sys.argv[2:])
    carried = Path(__file__).resolve().parent / "_bin" / NAME
    program = str(carried) if carried.exists() else installed_program()
    if program is None:
        sys.exit(
            f"{NAME}: neither {carried} nor a program of that name in PATH: install the package "
            "pytheus-backend-rs again, or the side-car (make install)"
        )
    try:
        os.execv(program, [NAME, *sys.argv[1:]])
    except OSError as error:
        sys.exit(
            f"{NAME}: {program} cannot be run: {error.strerror}; install the package pytheus-backend-rs again"
        )


def installed_program() -> str | None:
    """Returns the side-car in PATH. A script of that name is of another Python package, and may lead back
    here."""
    for folder in os.get_exec_path():
        program = shutil.which(NAME, path=folder)
        if program is not None:
            with open(program, "rb") as file:
                if file.read(2) != b"#!":
                    return program
    return None


if __name__ == "__main__":
    main()
