"""Builds the Rust engine, and links it into the one extension module of the package; and the side-car, which
the package carries as it is.

Everything else about the package is in pyproject.toml.
"""

import json
import os
import re
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

ENGINE = Path(__file__).resolve().parent.parent
LIBRARY = "libpytheus_backend_rs.a"
COMMAND = "pytheus-backend-rs"


def engine_version() -> str:
    """The crate's version is the package's: it stands in one place."""
    manifest = (ENGINE / "Cargo.toml").read_text(encoding="utf-8")
    match = re.search(r'^version = "([^"]+)"$', manifest, re.MULTILINE)
    if match is None:
        raise SystemExit(f"no version in {ENGINE / 'Cargo.toml'}")
    return match.group(1)


class BuildEngineFirst(build_ext):
    """`build_ext` that has cargo build the static library that the extension links, and the side-car."""

    def run(self) -> None:
        library, command = build_engine()
        for extension in self.extensions:
            extension.extra_objects.append(library)
            # What setuptools compares with the last build, to see whether to link again.
            extension.depends.append(library)
        super().run()
        folder = Path(self.get_ext_fullpath("pytheus_backend_rs._native")).parent / "_bin"
        self.mkpath(str(folder))
        self.copy_file(command, str(folder / COMMAND))


def build_engine() -> "tuple[str, str]":
    """The static library, and the executable of the side-car: both of one build of the engine."""
    command = ["cargo", "build", "--release", "--workspace", "--lib", "--bin", COMMAND, "--locked"]
    command += ["--message-format", "json-render-diagnostics"]
    try:
        output = subprocess.run(command, cwd=ENGINE, check=True, stdout=subprocess.PIPE).stdout
    except FileNotFoundError:
        raise SystemExit("building pytheus-backend-rs from source needs Rust: no cargo in PATH") from None
    built: dict[str, str] = {}
    for line in output.splitlines():
        message = json.loads(line)
        built.update((os.path.basename(path), path) for path in message.get("filenames") or ())
    try:
        return built[LIBRARY], built[COMMAND]
    except KeyError as error:
        raise SystemExit(f"cargo did not say where it put {error.args[0]}") from None


setup(
    version=engine_version(),
    cffi_modules=["build_native.py:ffibuilder"],
    cmdclass={"build_ext": BuildEngineFirst},
    # The extension uses the stable ABI: one wheel serves CPython 3.9 and newer.
    options={"bdist_wheel": {"py_limited_api": "cp39"}},
)
