"""Every function of the C interface refuses every invalid argument."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_every_function_refuses_every_invalid_argument() -> None:
    program = Path(__file__).with_name("c_arguments.py")
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=120, check=False)
    assert (run.returncode, run.stdout) == (0, ""), run.stderr[-2000:]
