"""Builds the Rust engine, and links it into the one extension module of the package.

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


def engine_version() -> str:
    """The crate's version is the package's: it stands in one place."""
    manifest = (ENGINE / "Cargo.toml").read_text(encoding="utf-8")
    match = re.search(r'^version = "([^"]+)"$', manifest, re.MULTILINE)
    if match is None:
        raise SystemExit(f"no version in {ENGINE / 'Cargo.toml'}")
    return match.group(1)


class BuildEngineFirst(build_ext):
    """`build_ext` that has cargo build the static library that the extension links."""

    def run(self) -> None:
        library = build_engine()
        for extension in self.extensions:
            extension.extra_objects.append(library)
            # What setuptools compares with the last build, to see whether to link again.
            extension.depends.append(library)
        super().run()


def build_engine() -> str:
    command = ["cargo", "rustc", "--release", "--lib", "--locked", "--crate-type", "staticlib"]
    command += ["--message-format", "json-render-diagnostics"]
    try:
        output = subprocess.run(command, cwd=ENGINE, check=True, stdout=subprocess.PIPE).stdout
    except FileNotFoundError:
        raise SystemExit("building pytheus-backend-rs from source needs Rust: no cargo in PATH") from None
    for line in output.splitlines():
        message = json.loads(line)
        for name in message.get("filenames") or ():
            if os.path.basename(name) == "libpytheus_backend_rs.a":
                return str(name)
    raise SystemExit("cargo did not say where it put the engine's static library")


setup(
    version=engine_version(),
    cffi_modules=["build_native.py:ffibuilder"],
    cmdclass={"build_ext": BuildEngineFirst},
    # The extension uses the stable ABI: one wheel serves CPython 3.9 and newer.
    options={"bdist_wheel": {"py_limited_api": "cp39"}},
)
