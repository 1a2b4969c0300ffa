"""Measures a call without Python: the engine from C and Rust, and the libraries that such programs use
otherwise.

Builds the programs in `engines/` and lets them run their rounds in turn: each answers a line with lines of
`engine, work, ns`. A call from two threads is the time that it takes in the thread that makes it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import redis_server
from environment import ROOT
from peers import REDIS

TOPIC = "engine"
CALLS = 2_000_000
FEW_CALLS = 300_000
SOURCES = Path("bench/engines")
BUILD = Path("build/bench/engines")

INC, OBSERVE = "inc", "observe"
OURS_C, OURS_SHARED_LIBRARY = "ours, memory (C, static)", "ours, memory (C, shared library)"
OURS_RUST = "ours, memory (Rust)"
BARE_ADD_C, BARE_CAS_C = "bare fetch_add on u64 (C)", "bare CAS loop on double (C)"
#: The least that a C function does which makes the same checks.
CHECKED_C = "floor: a C call that checks, then adds (C)"
FLOAT_COUNTERS = (
    "crate prometheus, Counter",
    "crate prometheus-client, Counter<f64>",
    "prometheus-cpp, Counter",
)
INTEGER_COUNTERS = (
    "crate prometheus, IntCounter",
    "crate prometheus-client, Counter<u64>",
    "crate metrics, Counter",
)


@dataclass
class Program:
    name: str
    command: list
    process: subprocess.Popen | None = None


def measure(rounds) -> None:
    rounds.progress("building the programs in bench/engines")
    calls = FEW_CALLS if rounds.is_quick else CALLS
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        programs = _build(rounds, calls, folder)
        with ExitStack() as stack:
            for program in programs:
                _start(program)
                stack.callback(_end, program)
            for _ in rounds.numbers("engine from C and Rust"):
                for program in list(programs):
                    if not _round(rounds, program):
                        programs.remove(program)


def _build(rounds, calls: int, folder: str) -> list:
    """Builds the programs and returns those that could be built."""
    programs = []

    def build(name: str, command: list, steps: list) -> None:
        for step in steps:
            done = subprocess.run(step, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if done.returncode != 0:
                rounds.fail(TOPIC, name, f"{' '.join(map(str, step))}: {done.stdout.strip()[-1000:]}")
                return
        programs.append(Program(name, [str(part) for part in command]))

    (ROOT / BUILD / "c").mkdir(parents=True, exist_ok=True)
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    library = (ROOT / target / "release").resolve()
    cargo = ["cargo", "build", "--release", "--locked", "--manifest-path", SOURCES / "Cargo.toml"]
    compiler = ["-O2", "-Wall", "-Iinclude"]
    memory, shm = "memory:", f"shm://{folder}/"
    stores = {OURS_C: memory, "ours, shared memory (C, static)": f"{shm}c"}
    if REDIS in rounds.redis_ports:
        stores["ours, Redis (C, static)"] = f"redis://127.0.0.1:{rounds.redis_ports[REDIS]}"
    ours_arguments = [argument for store in stores.items() for argument in store]

    build(
        "ours from C, static library",
        [BUILD / "c/ours_static", calls, *ours_arguments],
        [
            ["cc", *compiler, SOURCES / "c/ours.c", "-o", BUILD / "c/ours_static"]
            + [library / "libpytheus_backend_rs.a", "-lpthread", "-ldl", "-lm"]
        ],
    )
    build(
        "ours from C, shared library",
        [BUILD / "c/ours_shared", calls, OURS_SHARED_LIBRARY, memory],
        [
            # The dynamic linker looks for the library under its SONAME.
            ["ln", "-sf", library / "libpytheus_backend_rs.so", BUILD / "c/libpytheus_backend_rs.so.1"],
            ["cc", *compiler, SOURCES / "c/ours.c", "-o", BUILD / "c/ours_shared", f"-L{library}"]
            + ["-lpytheus_backend_rs", f"-Wl,-rpath,{ROOT / BUILD / 'c'}", "-lpthread"],
        ],
    )
    build(
        "bare loops in C",
        [BUILD / "c/bare", calls],
        [
            [
                "cc",
                *compiler,
                SOURCES / "c/bare.c",
                SOURCES / "c/checked_add.c",
                "-o",
                BUILD / "c/bare",
                "-lpthread",
            ]
        ],
    )
    build(
        "prometheus-cpp",
        [BUILD / "c/prometheus_cpp", calls],
        [
            ["scripts/need", "c++", "prometheus-cpp"],
            ["c++", *compiler, SOURCES / "c/prometheus_cpp.cpp", "-o", BUILD / "c/prometheus_cpp"]
            + ["-lprometheus-cpp-core", "-lpthread"],
        ],
    )
    for name in ("bare", "ours", "prometheus", "prometheus_client", "metrics"):
        arguments = [f"{folder}/rust"] if name == "ours" else []
        step = [*cargo, "--target-dir", BUILD, "--bin", name]
        build(f"{name} in Rust", [BUILD / "release" / name, calls, *arguments], [step])
    return programs


def _start(program: Program) -> None:
    program.process = subprocess.Popen(
        program.command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _round(rounds, program: Program) -> bool:
    """Runs one round of the program and returns whether it succeeded."""
    try:
        program.process.stdin.write("round\n")
        program.process.stdin.flush()
        while (line := program.process.stdout.readline()) != "\n":
            if not line:
                raise BrokenPipeError
            engine, work, ns = line.rstrip("\n").split("\t")
            rounds.figures.add(TOPIC, work, engine, float(ns), "ns")
        if REDIS in rounds.redis_ports:
            redis_server.wait_until_quiet(rounds.redis_ports[REDIS], program.process.pid)
    except BrokenPipeError:
        rounds.fail(TOPIC, program.name, f"its process ended with {program.process.wait()}")
        return False
    return True


def _end(program: Program) -> None:
    program.process.stdin.close()
    try:
        program.process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        program.process.kill()
        program.process.wait()
    program.process.stdout.close()
