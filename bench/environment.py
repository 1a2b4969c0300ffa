"""Prepares the virtual environment of the peers, and describes the machine and versions behind the
figures."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from peers import VERSIONS

ROOT = Path(__file__).parent.parent
PEERS_FOLDER = ROOT / "build" / "venv-peers"


def prepare_peers() -> tuple:
    """Makes the environment of the peers. Returns its interpreter, and for each missing package the
    reason."""
    python = PEERS_FOLDER / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", PEERS_FOLDER], check=True)
    installed = packages(str(python))
    missing = {}
    for name, version in VERSIONS.items():
        if installed.get(_normal(name)) == version:
            continue
        requirement = f"{name}=={version}"
        print(f"  installing {requirement} in {PEERS_FOLDER.relative_to(ROOT)}", flush=True)
        # One by one, so that a package that cannot be installed does not prevent the others.
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            missing[name] = f"pip cannot install {requirement}: {done.stdout.strip()[-500:]}"
    return str(python), missing


def packages(python: str) -> dict:
    """Returns the versions of the packages in an environment."""
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"],
        check=True,
        stdout=subprocess.PIPE,
    )
    return {_normal(package["name"]): package["version"] for package in json.loads(listed.stdout)}


def _normal(name: str) -> str:
    """Returns the package name with dashes: pip uses dashes and underscores."""
    return name.lower().replace("_", "-")


def machine() -> dict:
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "load before": load(),
    }


def load() -> float:
    """Returns the load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def versions(peers_python: str) -> dict:
    ours, peers = packages(sys.executable), packages(peers_python)
    commit = _first_line("git", "describe", "--always", "--dirty")
    return {
        "Python": platform.python_version(),
        "ours": f"pytheus-backend-rs {ours['pytheus-backend-rs']} ({commit}) with pytheus {ours['pytheus']}",
        **{name: peers.get(_normal(name), "missing") for name in VERSIONS},
        "redis-server": _match(r"v=(\S+)", _first_line("redis-server", "--version")),
        "rustc": _first_line("rustc", "--version"),
        "cc": _first_line("cc", "--version"),
        **crates(),
        "prometheus-cpp": _prometheus_cpp(),
    }


def crates() -> dict:
    """Returns the versions of the crates that bench/engines measures against."""
    lock = (ROOT / "bench" / "engines" / "Cargo.lock").read_text()
    names = ("metrics", "metrics-exporter-prometheus", "prometheus", "prometheus-client")
    return {f"crate {name}": _match(rf'name = "{name}"\nversion = "([^"]+)"', lock) for name in names}


def _prometheus_cpp() -> str:
    for description in Path("/usr/lib").glob("*/pkgconfig/prometheus-cpp-core.pc"):
        return _match(r"Version: (.*)", description.read_text())
    return "missing"


def _processor() -> str:
    try:
        return _match(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        return platform.processor() or platform.machine()


def _match(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else "unknown"


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT)
    except OSError:
        return "unknown"
    return (done.stdout.splitlines() or ["unknown"])[0]
