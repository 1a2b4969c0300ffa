"""The package with a library that was installed by `make install`: an extension that is linked with it, and no
extension at all (cffi's ABI mode).

Both pass the suite. `make test` runs a part of it here; `make test-python-system` and `make test-python-pure`
run all of it.
"""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pytheus_backend_rs._callables import callables

from package_variants import PACKAGE, ROOT, build_wheel, defined_in_c, environment_of, install_library, run
from programs import run_program
from redis_server import Server
from test_wheel import INTERPRETERS, SMOKE, SUB_INTERPRETERS

#: The files of the suite that `make test` runs with each variant: hot calls, errors, scrapes, logs, forks.
PART = [
    "test_abi.py",
    "test_c_arguments.py",
    "test_internals.py",
    "test_logging.py",
    "test_native_methods.py",
    "test_removal.py",
    "test_scrape.py",
    "test_values_and_errors.py",
]


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("installed") / "prefix"
    install_library(folder)
    return folder


class Variant:
    """A wheel that was built for the library in a prefix, and the environment in which Python imports it."""

    def __init__(self, name: str, prefix: Path, folder: Path) -> None:
        self.name = name
        self.wheel = build_wheel(name, prefix, folder / "wheel")
        self.site = folder / "site"
        self.environment = environment_of(self.wheel, prefix, self.site)

    def python(self, program: str, *, code: int = 0, **variables: str) -> str:
        environment = {**self.environment, **variables}
        return run(sys.executable, "-c", program, environment=environment, code=code)


@pytest.fixture(scope="session")
def system(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Variant:
    return Variant("system", prefix, tmp_path_factory.mktemp("system"))


@pytest.fixture(scope="session")
def pure(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Variant:
    return Variant("pure", prefix, tmp_path_factory.mktemp("pure"))


@pytest.fixture(params=["system", "pure"])
def variant(request: pytest.FixtureRequest) -> Variant:
    found: Variant = request.getfixturevalue(request.param)
    return found


def test_the_extension_is_linked_with_the_installed_library_and_has_no_engine(
    system: Variant, prefix: Path
) -> None:
    extension = system.site / "pytheus_backend_rs" / "_native.abi3.so"
    assert f"libpytheus_backend_rs.so.1 => {prefix}/lib/" in run("ldd", extension)
    symbols = run("nm", "--dynamic", extension)
    assert re.search(r"^ +U backend_new$", symbols, re.MULTILINE), symbols
    library = prefix / "lib" / "libpytheus_backend_rs.so"
    assert extension.stat().st_size < library.stat().st_size / 4
    assert not (system.site / "pytheus_backend_rs" / "_bin").exists()


def test_the_pure_wheel_is_for_every_platform_and_has_the_declarations(pure: Variant) -> None:
    assert pure.wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(pure.wheel).namelist()
    assert "pytheus_backend_rs/_declarations.py" in names
    assert not [name for name in names if re.search(r"\.so$|/_bin/", name)]


def test_a_part_of_the_suite_passes(variant: Variant) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *PART]
    output = run(*command, environment=variant.environment, cwd=ROOT / "tests-py")
    assert f"the package under test: {variant.name}" in output
    assert re.search(r"^\d{3,} passed", output, re.MULTILINE), output


def test_the_installed_side_car_is_found_and_no_second_command_is_installed(
    variant: Variant, prefix: Path
) -> None:
    command = [sys.executable, "-m", "pytheus_backend_rs", "--version"]
    expected = run(prefix / "bin" / "pytheus-backend-rs", "--version")
    assert run(*command, environment=variant.environment).endswith(expected)
    assert not (variant.site / "bin").exists()


def test_without_a_side_car_the_command_says_what_is_missing(variant: Variant) -> None:
    command = [sys.executable, "-m", "pytheus_backend_rs", "--version"]
    said = run(*command, environment={**variant.environment, "PATH": "/nonexistent"}, code=1)
    assert "install the package pytheus-backend-rs again, or the side-car (make install)" in said


@pytest.mark.parametrize(
    ("header", "package_config", "message"),
    [
        (("BACKEND_ABI_VERSION 1", "BACKEND_ABI_VERSION 2"), None, r"interface 1 .* has the interface 2"),
        (None, (r"Version: .*", "Version: 0.0.9"), r"is version 0\.0\.9, older than pytheus-backend-rs 0\."),
        (None, (r"Name: .*", "Requires: missing"), r"failed: install the C library \(make install\)"),
    ],
)
def test_a_build_against_another_library_is_refused(
    prefix: Path,
    tmp_path: Path,
    header: tuple[str, str] | None,
    package_config: tuple[str, str] | None,
    message: str,
) -> None:
    other = tmp_path / "other"
    shutil.copytree(prefix, other, symlinks=True)
    for path, change in (
        ("include/pytheus_backend_rs.h", header),
        ("lib/pkgconfig/pytheus_backend_rs.pc", package_config),
    ):
        if change is not None:
            file = other / path
            file.write_text(re.sub(*change, file.read_text(), count=1))
    with pytest.raises(AssertionError, match=message):
        build_wheel("system", other, tmp_path / "wheel")


def stranger(folder: Path, abi: int, version: str) -> str:
    """Makes a library under the name of ours, with another interface or version."""
    source = folder / "stranger.c"
    source.write_text(
        f"unsigned backend_abi_version(void) {{ return {abi}; }}\n"
        f'const char *backend_version(void) {{ return "{version}"; }}\n'
    )
    library = folder / "libpytheus_backend_rs.so.1"
    run("cc", "-shared", "-fPIC", "-Wl,-soname,libpytheus_backend_rs.so.1", source, "-o", library)
    return str(library)


@pytest.mark.parametrize(
    ("abi", "version", "message"),
    [
        (2, "9.0.0", r"interface 1 .*version 9\.0\.0\) has the interface 2: install"),
        (1, "0.0.9", r"loaded engine is version 0\.0\.9: install"),
    ],
)
def test_a_library_that_does_not_fit_is_refused_when_it_is_loaded(
    variant: Variant, tmp_path: Path, abi: int, version: str, message: str
) -> None:
    library = stranger(tmp_path, abi, version)
    said = variant.python(
        "import pytheus_backend_rs",
        code=1,
        # It comes before the folder that the extension names.
        LD_PRELOAD=library if variant.name == "system" else "",
        PYTHEUS_BACKEND_RS_LIBRARY=library,
        LD_BIND_NOW="",
    )
    assert re.search(f"ImportError: .*{message}", said), said


def test_without_a_library_the_import_says_how_to_get_one(pure: Variant) -> None:
    program = "import pytheus_backend_rs"
    said = pure.python(program, code=1, PYTHEUS_BACKEND_RS_LIBRARY="", PKG_CONFIG_PATH="")
    assert re.search(r"ImportError: .* no compiled module .*libpytheus_backend_rs\.so\.1", said), said
    assert "make install" in said and "PYTHEUS_BACKEND_RS_LIBRARY" in said
    said = pure.python(program, code=1, PYTHEUS_BACKEND_RS_LIBRARY="/nonexistent.so")
    assert re.search(r"ImportError: .* was found \(.*/nonexistent\.so", said), said


@pytest.mark.parametrize("by", ["LD_LIBRARY_PATH", "PKG_CONFIG_PATH"])
def test_the_library_is_found_by_the_system_and_by_pkg_config(pure: Variant, prefix: Path, by: str) -> None:
    folder = prefix / "lib" / ("pkgconfig" if by == "PKG_CONFIG_PATH" else "")
    program = "import pytheus_backend_rs, sys; print(pytheus_backend_rs._installed.path)"
    expected = "libpytheus_backend_rs.so.1"
    if by == "PKG_CONFIG_PATH":
        expected = str(prefix / "lib" / ".." / "lib" / "libpytheus_backend_rs.so")
    environment = {**pure.environment, "PYTHEUS_BACKEND_RS_LIBRARY": "", by: str(folder)}
    said = run(sys.executable, "-c", program, environment=environment).splitlines()[-1]
    assert Path(said).resolve() == Path(expected).resolve() or said == expected


def test_the_pure_package_says_once_that_it_is_slower(pure: Variant) -> None:
    program = "import pytheus_backend_rs; from pytheus_backend_rs import _engine, _logging, pytheus"
    assert (
        pure.python(program, PYTHONWARNINGS="default").count(
            "RuntimeWarning: pytheus_backend_rs has no compiled module"
        )
        == 1
    )
    assert pure.python(program) == ""


@pytest.mark.parametrize("interpreter", [min, max])
def test_the_pure_wheel_works_with_the_oldest_and_the_newest_interpreter(
    pure: Variant, server: Server, tmp_path: Path, interpreter: Callable[..., str]
) -> None:
    version = interpreter(INTERPRETERS, key=lambda name: int(name.partition(".")[2]))
    run(INTERPRETERS[version], "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(
        python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", pure.wheel, "pytheus==0.6.1"
    )
    library = pure.environment["PYTHEUS_BACKEND_RS_LIBRARY"]
    environment = {"PYTHONWARNINGS": "ignore", "PYTHEUS_BACKEND_RS_LIBRARY": library, "PYTHONPATH": ""}
    smoke = run_program(SMOKE, server.config, interpreter=python, environment=environment)
    assert re.fullmatch(r"works \(3, \d+\)\n", smoke)
    config = {"path": str(tmp_path / "metrics")}
    lines = run_program(SUB_INTERPRETERS, config, interpreter=python, environment=environment).splitlines()
    counts = [line for line in lines if line.startswith("requests_total")]
    assert counts == [f"requests_total {count}" for count in (1, 2, 3, 4)], lines


def test_a_package_that_has_lost_its_extension_uses_an_installed_library(
    system: Variant, prefix: Path
) -> None:
    extension = system.site / "pytheus_backend_rs" / "_native.abi3.so"
    lost = extension.rename(extension.with_suffix(".lost"))
    try:
        program = "import pytheus_backend_rs; print(pytheus_backend_rs._installed.path)"
        library = str(prefix / "lib" / "libpytheus_backend_rs.so")
        said = system.python(program, PYTHEUS_BACKEND_RS_LIBRARY=library)
        assert "RuntimeWarning" in said and said.splitlines()[-1] == library
    finally:
        lost.rename(extension)


def test_both_implementations_of_the_callables_have_the_same_functions(pure: Variant) -> None:
    names = defined_in_c()
    assert len(names) >= 11 and all(callable(getattr(callables, name)) for name in names)
    program = "from pytheus_backend_rs import _portable; print(*vars(_portable))"
    found = pure.python(program).split()
    assert names <= set(found), names - set(found)


def test_the_library_has_all_names_of_the_compiled_module(pure: Variant) -> None:
    stub = (PACKAGE / "pytheus_backend_rs" / "_native.pyi").read_text(encoding="utf-8")
    body = stub[stub.index("class Lib:") : stub.index("class FFI:")]
    names = set(re.findall(r"^    (?:def )?(\w+)[:(]", body, re.MULTILINE))
    assert "backend_new" in names and "released_backend_new" in names and "BACKEND_ABI_VERSION" in names
    program = "from pytheus_backend_rs._native import lib; print(*vars(lib))"
    found = set(pure.python(program).split())
    assert names <= found, names - found


def test_an_owner_is_no_object_of_the_garbage_collector(pure: Variant) -> None:
    # Otherwise its finalizer might run before one that still uses the handle.
    program = (
        "import gc; from pytheus_backend_rs._portable import own_metric; print(gc.is_tracked(own_metric(0)))"
    )
    assert pure.python(program) == "False\n"


def test_the_switches_are_documented() -> None:
    page = (ROOT / "docs" / "packaging.md").read_text(encoding="utf-8")
    for name in ("PYTHEUS_BACKEND_RS_SYSTEM", "PYTHEUS_BACKEND_RS_PURE", "PYTHEUS_BACKEND_RS_LIBRARY"):
        assert name in page
