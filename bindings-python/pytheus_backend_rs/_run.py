"""`python -m pytheus_backend_rs run -- gunicorn shop:app`: runs a Python program with prometheus_client on
this engine, without a change to the program.

The program's interpreter imports a module `sitecustomize` when it starts. The one of this package calls
`prometheus.install`, and then runs the one that it hides.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

NAME = "python -m pytheus_backend_rs run"


def run(arguments: list[str]) -> NoReturn:
    """Becomes the program that the arguments name."""
    command = arguments[1:] if arguments[:1] == ["--"] else arguments
    if not command or command[0].startswith("-"):
        sys.exit(f"usage: {NAME} -- program [argument ...]")
    folder = Path(__file__).resolve().parent / "_site"
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *([known] if known else [])])
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{NAME}: {command[0]} cannot be run: {error.strerror}")
