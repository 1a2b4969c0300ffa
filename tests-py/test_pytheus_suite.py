"""pytheus' own test-suite on each of the classes.

The tests run against the installed pytheus, in a process of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from programs import python_path
from redis_server import Server
from sdists import suite_of

VERSION = "0.6.1"
TESTS = 149
#: These compare a whole text. The shared stores show the samples of a histogram in the order of pytheus' own
#: Redis backend and of pytheus-backend-rs 0.0.9: buckets, `_count`, `_sum`. pytheus' memory backend has
#: `_sum` first.
ORDER_TESTS = {
    "test_generate_metrics_histogram",
    "test_generate_metrics_histogram_with_labels",
    "test_generate_metrics_histogram_with_labels_and_default_labels",
}
HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """pytheus' tests."""
    return suite_of("pytheus", VERSION, tmp_path_factory.mktemp("pytheus"))


@pytest.mark.parametrize(
    ("name", "loads_again"),
    [
        ("SingleProcessBackend", False),
        ("SingleProcessAtomicBackend", False),
        ("RedisBackend", False),
        ("RedisBackend", True),
        ("SharedMemoryBackend", False),
        ("SharedMemoryBackend", True),
    ],
)
def test_pytheus_own_suite_passes(suite: Path, server: Server, name: str, loads_again: bool) -> None:
    report = suite.parent / f"{name}-{loads_again}.xml"
    configs: dict[str, dict[str, Any]] = {
        "RedisBackend": server.config,
        "SharedMemoryBackend": {"path": str(suite.parent / "metrics")},
    }
    environment = {
        **os.environ,
        "PYTHONPATH": python_path(HERE),
        "SUITE_CLASS": name,
        "SUITE_CONFIG": json.dumps(configs.get(name, {})),
        "SUITE_LOADS_AGAIN": "yes" if loads_again else "",
    }
    command = [sys.executable, "-m", "pytest", "-p", "pytheus_suite_plugin", "-p", "no:cacheprovider", "-q"]
    command += ["-c", os.devnull, "--rootdir", str(suite), "--junitxml", str(report), str(suite)]
    done = subprocess.run(
        command, env=environment, cwd=suite, timeout=300, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    text = done.stdout.decode(errors="replace")
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failed = {case.attrib["name"] for case in cases if len(case)}
    assert failed == (ORDER_TESTS if name in configs else set()), text
    assert len(cases) == TESTS, text
