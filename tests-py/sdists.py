"""Source distributions of other packages, whose own tests run here. Nothing of them is in this repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

CACHE = Path(tempfile.gettempdir()) / f"tests-py-sdists-{os.getuid()}"

# pip asks the build backend for the metadata of everything that it downloads. That would build a Rust crate,
# so this stands in for maturin.
MATURIN = """
import email, os, shutil
def get_requires_for_build_wheel(config_settings=None):
    return []
def prepare_metadata_for_build_wheel(directory, config_settings=None):
    with open("PKG-INFO") as file:
        info = email.message_from_file(file)
    name = info["Name"].replace("-", "_") + "-" + info["Version"] + ".dist-info"
    os.makedirs(os.path.join(directory, name))
    shutil.copy("PKG-INFO", os.path.join(directory, name, "METADATA"))
    return name
"""


def suite_of(package: str, version: str, directory: Path) -> Path:
    """Fetches a package's source with pip, and returns its `tests` in `directory`.

    They stand there alone: beside the source they would import it instead of the installed package.
    """
    archive = CACHE / f"{package.replace('-', '_')}-{version}.tar.gz"
    if not archive.exists():
        download(f"{package}=={version}")
    with tarfile.open(archive) as sdist:
        sdist.extractall(directory)
    (source,) = directory.iterdir()
    shutil.move(source / "tests", directory / "tests")
    shutil.rmtree(source)
    return directory / "tests"


def download(requirement: str) -> None:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
    environment = dict(os.environ)
    if requirement.startswith("pytheus-backend-rs"):
        stand_in = CACHE / "maturin"
        stand_in.mkdir(parents=True, exist_ok=True)
        (stand_in / "maturin.py").write_text(MATURIN)
        environment["PYTHONPATH"] = str(stand_in)
        command.append("--no-build-isolation")
    subprocess.run([*command, "--dest", str(CACHE), requirement], check=True, timeout=300, env=environment)
