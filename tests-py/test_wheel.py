"""The package as it is installed: one wheel for every CPython from 3.9 on, with its type hints.

The wheel is built once, from this tree; each interpreter that the machine has gets a fresh virtual
environment with this same file.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from programs import AT_SHUTDOWN, run_program
from redis_server import Server

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "bindings-python"


def run(*command: str | Path, timeout: float = 900) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        text=True,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}"
    return done.stdout


def interpreters() -> dict[str, str]:
    """One CPython of each minor version from 3.9 on: `{"3.9": path}`."""
    candidates = sorted(str(path) for path in Path.home().glob(".pyenv/versions/*/bin/python"))
    candidates += [path for minor in range(9, 30) if (path := shutil.which(f"python3.{minor}"))]
    candidates.append(sys.executable)
    ask = """if True:
        import sys
        threads = "t" in getattr(sys, "abiflags", "")
        print(sys.implementation.name, "%d.%d" % sys.version_info[:2], threads)
    """
    found: dict[str, str] = {}
    for candidate in candidates:
        done = subprocess.run([candidate, "-c", ask], capture_output=True, text=True)
        # (A pyenv shim of a version that is not active fails; a free-threaded build has no abi3.)
        if done.returncode == 0 and done.stdout.startswith("cpython") and done.stdout.endswith("False\n"):
            version = done.stdout.split()[1]
            if tuple(map(int, version.split("."))) >= (3, 9):
                found.setdefault(version, candidate)
    return found


INTERPRETERS = interpreters()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", directory, PACKAGE)
    (path,) = directory.glob("*.whl")
    return path


def test_the_wheel_is_for_the_stable_abi_of_3_9(wheel: Path) -> None:
    match = re.fullmatch(r"pytheus_backend_rs-(.+?)-cp39-abi3-\w+\.whl", wheel.name)
    assert match, wheel.name
    assert f'version = "{match[1]}"' in (ROOT / "Cargo.toml").read_text()


def test_the_wheel_has_the_extension_and_the_type_marker_and_no_sources_of_the_build(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "pytheus_backend_rs/_native.abi3.so" in names
    assert "pytheus_backend_rs/py.typed" in names
    assert "pytheus_backend_rs/__init__.py" in names
    strays = [name for name in names if not re.match(r"pytheus_backend_rs(/|-.*\.dist-info/)", name)]
    assert not strays
    assert not [name for name in names if name.endswith((".c", ".o", ".pyc"))]


def test_the_wheel_carries_the_side_car_as_a_program(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    program = archive.getinfo("pytheus_backend_rs/_bin/pytheus-backend-rs")
    # The permissions that pip gives it.
    assert program.external_attr >> 16 & 0o111 == 0o111
    assert archive.read(program).startswith(b"\x7fELF")
    (entry_points,) = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
    assert "pytheus-backend-rs = pytheus_backend_rs.__main__:main" in archive.read(entry_points).decode()


def test_the_wheel_has_the_licences_of_all_it_contains(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    for own in ("LICENSE-MIT", "LICENSE-APACHE"):
        assert any(name.endswith(f".dist-info/licenses/{own}") for name in names), names
    listed = archive.read("pytheus_backend_rs/_bin/THIRD-PARTY-LICENSES.txt").decode()
    # Crates that every build links, one of them by way of another; and one that only the tests use.
    for crate in ("redis", "hyper", "clap", "ring"):
        assert re.search(rf"^{crate} \d\S*: .", listed, re.MULTILINE), crate
    assert not re.search(r"^(loom|cbindgen) ", listed, re.MULTILINE)
    assert "Permission is hereby granted" in listed


def test_the_wheel_says_what_it_needs(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = archive.read(name).decode()
    assert "Requires-Python: >=3.9" in metadata
    assert "Requires-Dist: pytheus" in metadata
    assert "Requires-Dist: cffi" in metadata
    assert "MIT OR Apache-2.0" in metadata


def test_a_python_was_found() -> None:
    assert INTERPRETERS


SMOKE = """
import gc
from pytheus_backend_rs import SharedMemoryBackend
for backend_class in (SingleProcessBackend, SingleProcessAtomicBackend, SharedMemoryBackend, RedisBackend):
    REGISTRY.set_registry(CollectorRegistry())
    load_backend(backend_class, config if backend_class is RedisBackend else {})
    counter = Counter("requests_total", "help", required_labels=["a"])
    histogram = Histogram("size", "help", buckets=[1, 10.0])
    gauge = Gauge("level", "help")
    for _ in range(1000):
        counter.labels(a="x").inc()
        histogram.observe(5)
    gauge.set(2.5)
    gauge.dec(1)
    text = generate_metrics()
    lines = ('requests_total{a="x"} 1000.0', 'size_bucket{le="10.0"} 1000.0', "size_sum 5000.0", "level 1.5")
    for line in lines:
        assert f"\\n{line}\\n" in text, text
    try:
        gauge.set("x")
    except TypeError as error:
        assert "'x'" in str(error)
    gc.collect()
child = os.fork()
if child == 0:
    counter.labels(a="x").inc()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert '{a="x"} 1001.0' in generate_metrics()
counter.labels(a="x").inc()
print("works", sys.version_info[:2])
"""


@pytest.fixture(scope="session", params=INTERPRETERS)
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Each interpreter in turn, in a fresh environment that has the wheel."""
    directory = tmp_path_factory.mktemp("venv")
    run(INTERPRETERS[request.param], "-m", "venv", directory)
    python = directory / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", "--only-binary", ":all:", "cffi")
    run(*pip, "install", "--quiet", wheel, "pytheus==0.6.1")
    return python


def test_the_wheel_works(python: Path, server: Server) -> None:
    output = run_program(SMOKE, server.config, interpreter=python, environment={"PYTHONWARNINGS": "ignore"})
    assert re.fullmatch(r"works \(3, \d+\)\n", output)
    assert server.client().hget("requests_total", '{"a":"x"}') == "1002"
    dump = run(python.with_name("pytheus-backend-rs"), "dump", "--store", f"redis://127.0.0.1:{server.port}")
    assert '\nrequests_total{a="x"} 1002\n' in dump


def test_a_backend_is_loaded_while_the_interpreter_shuts_down(python: Path) -> None:
    output = run_program(AT_SHUTDOWN, {}, prelude="", interpreter=python)
    assert "\nrequests_total 1.0\n" in output and "Traceback" not in output, output


SUB_INTERPRETERS = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

PROGRAM = '''
from pytheus.backends import load_backend
from pytheus.metrics import Counter
from pytheus_backend_rs import SharedMemoryBackend, generate_metrics
load_backend(SharedMemoryBackend, {"path": PATH})
counter = Counter("requests_total", "help")
counter.inc()
print(generate_metrics().splitlines()[-1], flush=True)
'''.replace("PATH", repr(config["path"]))

def run(interpreter, program):
    # Up to 3.12 a failure is raised, and from 3.13 on it is returned.
    failure = interpreters.run_string(interpreter, program)
    assert failure is None, failure

exec(PROGRAM)
# What uwsgi and mod_wsgi make: interpreters that share the lock of the main one.
for _ in range(2):
    shared = interpreters.create("legacy") if sys.version_info >= (3, 13) else interpreters.create(isolated=False)
    run(shared, PROGRAM)
    interpreters.destroy(shared)
if sys.version_info >= (3, 12):
    isolated = interpreters.create()
    run(isolated, "try: import pytheus_backend_rs\\nexcept ImportError as error: print(error, flush=True)")
    interpreters.destroy(isolated)

# Their end has closed nothing here, and a record that waits is logged by the next call.
from pytheus_backend_rs._native import ffi, lib
logging.basicConfig(stream=sys.stdout, format="logged: %(message)s")
lib.backend_panic(ffi.NULL)
counter.inc()
print(generate_metrics().splitlines()[-1], flush=True)
"""


def test_sub_interpreters_count_and_end(python: Path, tmp_path: Path) -> None:
    config = {"path": str(tmp_path / "metrics")}
    lines = run_program(SUB_INTERPRETERS, config, interpreter=python).splitlines()
    counts = [line for line in lines if line.startswith("requests_total")]
    assert counts == [f"requests_total {count}" for count in (1, 2, 3, 4)], lines
    assert any(line.startswith("logged: ") and "backend_panic" in line for line in lines), lines
    # An interpreter with a lock of its own needs modules of a kind that cffi does not make: CPython says so.
    others = [line for line in lines if not line.startswith(("requests_total", "logged: "))]
    assert all("does not support loading in subinterpreters" in line for line in others), lines


def mypy(*arguments: str | Path) -> str:
    cache = ["--cache-dir", os.devnull, "--python-executable", sys.executable]
    return run(sys.executable, "-m", "mypy", "--strict", *cache, *arguments)


def test_the_package_type_checks() -> None:
    assert "Success" in mypy(PACKAGE / "pytheus_backend_rs")


def test_a_program_that_uses_the_package_type_checks() -> None:
    import pytheus_backend_rs

    installed = Path(pytheus_backend_rs.__file__).parent
    assert (installed / "py.typed").exists()
    assert "Success" in mypy("--python-version", "3.10", ROOT / "tests-py" / "typed_usage.py")
