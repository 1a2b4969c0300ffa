"""`python -m pytheus_backend_rs`: the side-car, which looks at the metrics of a service from outside.

It is a program of its own that the package carries; Python only finds it, and becomes it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

NAME = "pytheus-backend-rs"


def main() -> NoReturn:
    program = Path(__file__).resolve().parent / "_bin" / NAME
    try:
        os.execv(program, [NAME, *sys.argv[1:]])
    except OSError as error:
        sys.exit(
            f"{NAME}: {program} cannot be run: {error.strerror}; install the package pytheus-backend-rs again"
        )


if __name__ == "__main__":
    main()
