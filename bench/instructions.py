"""Counts the instructions of the hot calls and of a scrape under callgrind, and compares them with
results/instructions.json.

    make test-instructions            # fails if a count has grown by more than 3 %
    make test-instructions UPDATE=1   # writes the counts of this tree

Counts are the same on a busy machine, where times are not. Only instructions of the engine's own library count: the
C library picks its copy of `memcpy` by the processor, and the work of its allocator depends on what was freed before.
So that a copy or an allocation more is seen, the calls that leave the engine's library count, too. A Redis server is
counted with TLS and without, which must make no difference; `redis-server` must have been built with TLS, as Debian's.

The counts of calls are the same in each run of one build. Those of scrapes and look-ups differ by up to 0.7 %,
because hash tables have random keys. The bound is 3 %: several times that noise, and less than one instruction more
in the shortest call, which has about 30. Another compiler makes other code, so the bound is 25 % then, which still
finds a call that takes a lock or allocates.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "python"))
from local_redis import free_port, local_redis

ROOT = Path(__file__).parent.parent
BASELINE = Path(__file__).parent / "results" / "instructions.json"
SOURCES = ROOT / "bench" / "counted"
BUILD = ROOT / "build" / "bench" / "counted"
#: By how much a count may grow with the compilers of the baseline, and with others.
BOUND, BOUND_OF_OTHER_COMPILERS = 0.03, 0.25
#: Nothing is sent while the calls are counted, so no change has to queue its metric again.
SEND_LATER = "flush_interval_ms=60000&max_flush_interval_ms=60000"
INSTRUCTIONS, CALLS = "instructions", "calls of other libraries"


def main() -> int:
    options = arguments()
    overrides = [name for name in os.environ if name.startswith("CARGO_PROFILE_RELEASE_")]
    if overrides or os.environ.get("RUSTFLAGS"):
        print(f"The baseline is of the release profile: unset {' '.join(overrides) or 'RUSTFLAGS'}.")
        return 2
    counts = count()
    baseline = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    machine, compilers = platform.machine(), versions()
    if options.update:
        baseline[machine] = {"compilers": compilers, "counts": counts}
        BASELINE.write_text(json.dumps(baseline, indent=1, sort_keys=True) + "\n")
        print(f"Written: {BASELINE.relative_to(ROOT)}")
    if machine not in baseline:
        print(f"{BASELINE.relative_to(ROOT)} has no counts of {machine}: nothing is compared.")
        baseline[machine] = {"compilers": compilers, "counts": {}}
    return compare(baseline[machine], compilers, counts)


def arguments():
    parser = argparse.ArgumentParser(prog="make test-instructions", description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="write the baseline")
    return parser.parse_args()


def count() -> dict:
    """Returns for each work the instructions and calls per unit of work."""
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    target = (ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release").resolve()
    library = target / "libpytheus_backend_rs.so"
    # The dynamic linker looks for the library under its SONAME.
    (BUILD / "libpytheus_backend_rs.so.1").symlink_to(library)
    compiler = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-Iinclude"]
    run([*compiler, "-shared", "-fPIC", SOURCES / "marks.c", "-o", BUILD / "libmarks.so"])
    run(
        [*compiler, SOURCES / "calls.c", "-o", BUILD / "calls", f"-L{BUILD}", f"-L{target}"]
        + ["-lmarks", "-lpytheus_backend_rs", f"-Wl,-rpath,{BUILD}"]
    )
    memory_folder = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory_folder) as folder:
        certificate, *tls = certify(folder)
        tls_port = free_port()
        with local_redis("--tls-port", str(tls_port), *tls) as port:
            stores = {
                "memory": "memory:",
                "shared memory": f"shm://{folder}/metrics",
                "Redis": f"redis://127.0.0.1:{port}?{SEND_LATER}",
                "Redis, TLS": f"rediss://127.0.0.1:{tls_port}?ssl_ca_certs={certificate}&{SEND_LATER}",
            }
            named = [part for store in stores.items() for part in store]
            return callgrind([BUILD / "calls", *named], library.name)


def certify(folder: str) -> list:
    """Makes an authority and a certificate of 127.0.0.1. Returns the file of the former, and options of the server."""
    authority, authority_key, certificate, key = (
        f"{folder}/{name}.pem" for name in ("authority", "authority-key", "certificate", "key")
    )
    new = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-noenc",
        "-days",
        "2",
    ]
    run([*new, "-subj", "/CN=authority", "-keyout", authority_key, "-out", authority])
    signed = ["-CA", authority, "-CAkey", authority_key, "-addext", "basicConstraints=CA:FALSE"]
    names = ["-subj", "/CN=server", "-addext", "subjectAltName=IP:127.0.0.1"]
    run([*new, *signed, *names, "-keyout", key, "-out", certificate])
    files = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", authority]
    return [authority, *files, "--tls-auth-clients", "no"]


def run(command: list) -> None:
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-3000:]}")


def callgrind(command: list, engine: str) -> dict:
    """Counts what the main thread of the command does between its marks, in objects whose name has `engine`."""
    with tempfile.TemporaryDirectory() as folder:
        valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes"]
        valgrind += ["--compress-strings=no", "--compress-pos=no", f"--callgrind-out-file={folder}/counts"]
        run([*valgrind, *command])
        counts = {}
        for path in sorted(Path(folder).iterdir(), key=lambda path: path.stat().st_mtime_ns):
            text = path.read_text(errors="replace")
            name = re.search(r"^desc: Trigger: Client Request: (.+)\|(\d+)\|(.+)$", text, re.MULTILINE)
            if name and re.search(r"^thread: 1$", text, re.MULTILINE):
                instructions, calls = of_engine(text, engine)
                per = int(name[2])
                counts[f"{name[1]}, per {name[3]}"] = {
                    INSTRUCTIONS: round(instructions / per, 2),
                    CALLS: round(calls / per, 2),
                }
        return counts


def of_engine(text: str, engine: str) -> tuple:
    """Returns the instructions in the engine's object, and its calls of other objects."""
    instructions = calls = 0
    is_ours = is_call = False
    called = ""
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            if key == "ob":
                is_ours = engine in value
            elif key == "cob":
                called = value
            elif key == "calls":
                # A call in the same object names no object. The next line has what the call took.
                is_call = True
                if is_ours and called and engine not in called:
                    calls += int(value.split()[0])
                called = ""
        elif cost := re.match(r"\d+ (\d+)$", line):
            if is_ours and not is_call:
                instructions += int(cost[1])
            is_call = False
    return instructions, calls


def versions() -> dict:
    def first_line(*command):
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        return done.stdout.partition("\n")[0]

    return {"rustc": first_line("rustc", "--version"), "cc": first_line("cc", "--version")}


def compare(baseline: dict, compilers: dict, counts: dict) -> int:
    """Prints the counts and returns 1 if one has grown beyond the bound."""
    expected = baseline["counts"]
    bound = BOUND
    if compilers != baseline["compilers"]:
        bound = BOUND_OF_OTHER_COMPILERS
        was, now = (", ".join(kept.values()) for kept in (baseline["compilers"], compilers))
        print(f"The baseline was made by {was}; this is {now}. A count may grow by {bound:.0%}.")
    print(f"\n{'':<58} {'instructions':>13} {'before':>9} {'calls':>8} {'before':>8}")
    grown = []
    for work, measured in counts.items():
        known = expected.get(work, {})
        columns = []
        for what in (INSTRUCTIONS, CALLS):
            now, before = measured[what], known.get(what)
            columns += [f"{now:,.2f}", "-" if before is None else f"{before:,.2f}"]
            # Less than 0.05 of a call each is the growth of a table between two of them.
            if before is not None and now > before * (1 + bound) + 0.05:
                grown.append(
                    f"{work}: {what} grew from {before:,.2f} to {now:,.2f} ({now / before - 1:+.1%})"
                )
        print(f"{work:<58} {columns[0]:>13} {columns[1]:>9} {columns[2]:>8} {columns[3]:>8}")
    missing = [work for work in expected if work not in counts]
    grown += [f"{work}: it was not counted" for work in missing]
    for line in grown:
        print(f"FAILED: {line}", file=sys.stderr)
    if grown:
        print(
            f"A count may grow by {bound:.0%}. If the growth is worth it, run make test-instructions UPDATE=1."
        )
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
