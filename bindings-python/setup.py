"""Builds the extension module of the package, in one of three ways.

By default, cargo builds the engine, which becomes a part of the extension, and the side-car, which the
package carries as it is. With PYTHEUS_BACKEND_RS_SYSTEM=1 the extension is linked with the shared library
that the system has, without cargo. With PYTHEUS_BACKEND_RS_PURE=1 there is no extension: the package loads an
installed library.

Everything else about the package is in pyproject.toml.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from cffi import FFI
from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
# The build backend runs this file without its folder in the path.
sys.path.insert(0, str(HERE))

import system_library  # noqa: E402
import third_party  # noqa: E402
from native_header import ENGINE, HEADER  # noqa: E402

LIBRARY = "libpytheus_backend_rs.a"
COMMAND = "pytheus-backend-rs"
#: What cargo needs to build the library and the side-car. `Cargo.toml` names the benchmark.
ENGINE_SOURCES = [
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
    "cbindgen.toml",
    "include",
    "src",
    "side-car",
    "bench/exposition.rs",
    "bench/file_index.rs",
    "README.md",
]
PYINSTALLER = {"pyinstaller40": ["hook-dirs = pytheus_backend_rs._pyinstaller:hook_directories"]}


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
        (folder / "THIRD-PARTY-LICENSES.txt").write_text(third_party.text(), encoding="utf-8")


class CarryEngine(sdist):
    """`sdist` that puts the sources of the engine into the folder `engine`, so that a build needs no other
    source."""

    def make_release_tree(self, base_dir: str, files: "list[str]") -> None:
        super().make_release_tree(base_dir, files)
        for name in ENGINE_SOURCES:
            source, target = ENGINE / name, Path(base_dir) / "engine" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copyfile(source, target)


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


class LinkSystemLibrary(build_ext):
    """`build_ext` that links the extension with the installed library, if it fits."""

    def run(self) -> None:
        library = system_library.find(engine_version())
        print(f"linking with the installed library {library.version}: {' '.join(library.flags)}")
        for extension in self.extensions:
            extension.extra_link_args += library.flags
        # An extension of the last build may have another library.
        self.force = True
        super().run()


class WriteDeclarations(build_py):
    """`build_py` that also writes the declarations for cffi's ABI mode, so that an import parses nothing."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            # It would have to be written among the sources.
            return
        builder = FFI()
        builder.cdef(HEADER.read_text(encoding="utf-8"))
        builder.set_source("pytheus_backend_rs._declarations", None)
        builder.emit_python_code(str(Path(self.build_lib) / "pytheus_backend_rs" / "_declarations.py"))


def variant() -> "dict[str, Any]":
    """What differs between the three ways. Each builds in a folder of its own, so that none finds files of
    another."""
    # In every package, since an extension may be for another platform, or be lost.
    declarations = {"build_py": WriteDeclarations}
    if is_set("PYTHEUS_BACKEND_RS_PURE"):
        return {
            "cmdclass": declarations,
            "options": {"build": {"build_base": "build/pure"}},
            "entry_points": PYINSTALLER,
        }
    extension: dict[str, Any] = {"cffi_modules": ["build_native.py:ffibuilder"]}
    # The extension uses the stable ABI: one wheel serves CPython 3.9 and newer.
    abi3 = {"bdist_wheel": {"py_limited_api": "cp39"}}
    if is_set("PYTHEUS_BACKEND_RS_SYSTEM"):
        return {
            **extension,
            "cmdclass": {**declarations, "build_ext": LinkSystemLibrary},
            "options": {**abi3, "build": {"build_base": "build/system"}},
            "entry_points": PYINSTALLER,
        }
    # An installed library comes with the command; the package's would be a second one of that name.
    scripts = [f"{COMMAND} = pytheus_backend_rs.__main__:main"]
    return {
        **extension,
        "cmdclass": {**declarations, "build_ext": BuildEngineFirst, "sdist": CarryEngine},
        "options": abi3,
        "entry_points": {"console_scripts": scripts, **PYINSTALLER},
    }


def is_set(variable: str) -> bool:
    return os.environ.get(variable, "") not in ("", "0")


setup(version=engine_version(), **variant())
