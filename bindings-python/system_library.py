"""Finds the shared library that the system has, for a build with PYTHEUS_BACKEND_RS_SYSTEM=1.

A distribution builds the package against its own libpytheus_backend_rs.so. setup.py asks here for the flags
of the linker; pkg-config knows them. A library that does not fit the package fails the build.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

from native_header import number

PACKAGE = "pytheus_backend_rs"


class SystemLibrary(NamedTuple):
    """The installed library, as the linker needs it."""

    version: str
    flags: "list[str]"


def find(package_version: str) -> SystemLibrary:
    """Returns the installed library. Ends the build if there is none, or if it does not fit."""
    pkg_config("--exists", "--print-errors")
    version = pkg_config("--modversion")
    # pkg-config leaves out a folder that the compiler searches anyway, so this asks for the variable.
    header = Path(pkg_config("--variable=includedir")) / f"{PACKAGE}.h"
    match = re.search(
        r"^#define BACKEND_ABI_VERSION (\d+)$", header.read_text(encoding="utf-8"), re.MULTILINE
    )
    found, expected = match and int(match.group(1)), number("BACKEND_ABI_VERSION")
    if found != expected:
        raise SystemExit(
            f"pytheus-backend-rs {package_version} needs the binary interface {expected} of its engine, but "
            f"the installed library (version {version}, {header}) has the interface {found}: install the "
            "library of the same release"
        )
    if numbers(version) < numbers(package_version):
        raise SystemExit(
            f"the installed library is version {version}, older than pytheus-backend-rs {package_version}: "
            "install the library of the same release, or a newer one"
        )
    return SystemLibrary(version, shlex.split(pkg_config("--libs")))


def numbers(version: str) -> "tuple[int, ...]":
    """The three numbers of a version; a suffix does not count."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def pkg_config(*arguments: str) -> str:
    command = [os.environ.get("PKG_CONFIG", "pkg-config"), *arguments, PACKAGE]
    try:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    except FileNotFoundError:
        raise SystemExit(f"PYTHEUS_BACKEND_RS_SYSTEM=1 needs {command[0]}, which is not in PATH") from None
    except subprocess.CalledProcessError:
        raise SystemExit(
            f"PYTHEUS_BACKEND_RS_SYSTEM=1: `{' '.join(command)}` failed: install the C library (make "
            "install), and name the folder of its .pc file in PKG_CONFIG_PATH"
        ) from None
