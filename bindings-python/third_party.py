"""Lists the crates that the extension and the side-car contain, with the texts of their licences.

setup.py writes the list into the wheel. By hand: `python3 bindings-python/third_party.py`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from native_header import ENGINE


def crates() -> "list[dict[str, Any]]":
    """Returns cargo's description of each crate that is linked for this machine, sorted by name.

    Crates that only tests or build scripts use are left out.
    """
    target = _line_of(["rustc", "-vV"], "host: ")
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    metadata = json.loads(subprocess.run(command, cwd=ENGINE, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    found: set[str] = set()
    waiting = list(metadata["workspace_members"])
    while waiting:
        package = waiting.pop()
        # A procedural macro runs in the compiler, and nothing of it or of its dependencies is linked.
        is_macro = any("proc-macro" in target["kind"] for target in packages[package]["targets"])
        if package in found or is_macro:
            continue
        found.add(package)
        for dependency in nodes[package]["deps"]:
            if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                waiting.append(dependency["pkg"])
    linked = found - set(metadata["workspace_members"])
    descriptions = [packages[one] for one in linked]
    return sorted(descriptions, key=lambda package: (package["name"], package["version"]))


def text() -> str:
    """Returns the list as text: a line for each crate, then the licences' texts, each once."""
    lines = ["The engine contains these crates. Their licences follow.", ""]
    texts: dict[str, list[str]] = {}
    for crate in crates():
        licence = crate["license"] or "see its text"
        name = f"{crate['name']} {crate['version']}"
        lines.append(f"{name}: {licence}")
        for path in sorted(Path(crate["manifest_path"]).parent.iterdir()):
            if path.is_file() and path.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE")):
                texts.setdefault(path.read_text(encoding="utf-8", errors="replace").strip(), []).append(name)
    for licence, names in texts.items():
        lines += ["", "-" * 80, "", ", ".join(dict.fromkeys(names)), "", licence]
    return "\n".join(lines) + "\n"


def _line_of(command: "list[str]", prefix: str) -> str:
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return next(line.removeprefix(prefix) for line in output.splitlines() if line.startswith(prefix))


if __name__ == "__main__":
    sys.stdout.write(text())
