"""The package as it is built and installed: which one is under test, and which tests do not apply to it.

- `wheel`: the extension carries the engine. This is what `make test-python` installs.
- `system`: the extension is linked with an installed library (PYTHEUS_BACKEND_RS_SYSTEM=1).
- `fresh`: the same wheel, where neither Rust nor a compiler can be found. `make test-python` runs most tests so.
- `pure`: there is no extension, and the package opens an installed library (PYTHEUS_BACKEND_RS_PURE=1).

`conftest.py` leaves out the tests that are listed here, and the end of the run names and counts them. Run as a
program, this file builds a variant and runs tests with it:

    python tests-py/package_variants.py pure tests-py -q
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from programs import IGNORED_WARNINGS

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "bindings-python"
RELEASE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "release"

SWITCH = {"system": "PYTHEUS_BACKEND_RS_SYSTEM", "pure": "PYTHEUS_BACKEND_RS_PURE"}

WHEEL = "it builds the wheel that carries the engine, and looks into it"
BUILDS = "it builds the variants itself"
SITE = "`make test-docs` runs it, where a browser is"
COMMAND = "the command is the installed side-car, and not a script of the package"

#: The tests that do not apply to a variant, by the beginning of their id, and why.
LEFT_OUT: dict[str, dict[str, str]] = {
    "wheel": {},
    "fresh": {
        "test_wheel.py::": WHEEL,
        "test_installed_library.py::": BUILDS,
        "test_docs.py::test_a_c_example_compiles": "it compiles the examples in C",
        "test_examples.py::test_a_c_program_": "it compiles a program in C",
        "test_site.py::": SITE,
        "test_containers.py::test_cargo_reads": "it calls cargo",
    },
    "system": {
        "test_wheel.py::": WHEEL,
        "test_site.py::": SITE,
        "test_installed_library.py::": BUILDS,
        "test_command.py::test_the_command_has_a_script_of_its_own": COMMAND,
    },
    "pure": {
        "test_wheel.py::": WHEEL,
        "test_site.py::": SITE,
        "test_installed_library.py::": BUILDS,
        "test_command.py::test_the_command_has_a_script_of_its_own": COMMAND,
        "test_pyinstaller.py::": "a bundle has no installed library",
    },
}


def under_test() -> str:
    """Returns the name of the variant that this process has imported."""
    from pytheus_backend_rs import _native

    if (_native.__file__ or "").endswith(".py"):
        return "pure"
    if not Path(_native.__file__ or "").with_name("_bin").exists():
        return "system"
    return "wheel" if shutil.which("cc") else "fresh"


def reason_to_leave_out(variant: str, node: str) -> tuple[str, str] | None:
    """Returns the entry of `LEFT_OUT` for a test."""
    for beginning, reason in LEFT_OUT[variant].items():
        if node.startswith(beginning):
            return beginning, reason
    return None


def install_library(prefix: Path) -> None:
    """Installs the C library as `make install` does."""
    run("cargo", "build", "--quiet", "--release", "--locked", "--workspace", cwd=ROOT)
    run(ROOT / "scripts" / "install", "install", RELEASE, prefix)


def build_wheel(variant: str, prefix: Path, folder: Path) -> Path:
    """Builds the wheel of a variant for the library in `prefix`, on a machine without cargo."""
    folder.mkdir()
    cargo = folder / "cargo"
    cargo.write_text("#!/bin/sh\necho 'this build must not call cargo' >&2\nexit 1\n")
    cargo.chmod(0o755)
    environment = {
        **os.environ,
        SWITCH[variant]: "1",
        "PATH": f"{folder}:{os.environ['PATH']}",
        "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig"),
        # The prefix is in no folder that the dynamic linker searches.
        "LDFLAGS": f"-Wl,-rpath,{prefix / 'lib'}",
    }
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder), str(PACKAGE)]
    run(*pip, environment=environment)
    (wheel,) = folder.glob("*.whl")
    return wheel


def environment_of(wheel: Path, prefix: Path, site: Path) -> dict[str, str]:
    """Unpacks a wheel, and returns the environment in which this Python imports it before any other."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    run(*pip, "--target", site, wheel)
    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
        # The side-car that was installed with the library.
        "PATH": f"{prefix / 'bin'}:{os.environ['PATH']}",
    }
    if "none-any" in wheel.name:
        # The tests compare what programs print.
        environment["PYTHONWARNINGS"] = IGNORED_WARNINGS
        environment["PYTHEUS_BACKEND_RS_LIBRARY"] = str(prefix / "lib" / "libpytheus_backend_rs.so")
    return environment


def run(
    *command: str | Path, environment: dict[str, str] | None = None, cwd: Path | None = None, code: int = 0
) -> str:
    """Runs a program, which must have this exit code (any but 0 for -1), and returns what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=1800,
        text=True,
        env=environment,
        cwd=cwd,
    )
    as_expected = done.returncode != 0 if code == -1 else done.returncode == code
    assert as_expected, f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}"
    return done.stdout


def defined_in_c() -> set[str]:
    """Returns the names of the functions that native_methods.c and client_methods.c give to Python."""
    names: set[str] = set()
    for file, table in (("native_methods.c", "module_functions"), ("client_methods.c", "client_functions")):
        text = (PACKAGE / file).read_text(encoding="utf-8")
        match = re.search(rf"{table}\[\] = \{{(.*?)\n\}};", text, re.DOTALL)
        assert match is not None
        names.update(re.findall(r'\{"(\w+)"', match.group(1)))
    return names


def main(variant: str, *arguments: str) -> int:
    with tempfile.TemporaryDirectory(prefix="tests-py-variant-") as folder:
        prefix = Path(folder) / "prefix"
        install_library(prefix)
        wheel = build_wheel(variant, prefix, Path(folder) / "wheel")
        environment = environment_of(wheel, prefix, Path(folder) / "site")
        return subprocess.run(
            [sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environment
        ).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
