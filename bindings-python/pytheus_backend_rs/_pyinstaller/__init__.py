"""Tells PyInstaller where the hook of this package is; the entry point `pyinstaller40` names this
function."""

from __future__ import annotations

import os


def hook_directories() -> list[str]:
    """Returns the folder of `hook-pytheus_backend_rs.py`."""
    return [os.path.dirname(__file__)]
