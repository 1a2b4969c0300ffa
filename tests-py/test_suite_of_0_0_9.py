"""The test-suite of pytheus-backend-rs 0.0.9, unchanged: this package is a drop-in for that one.

Its tests need Redis on port 6379, and empty it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from redis_server import Server
from sdists import suite_of

PORT = 6379
TESTS = 24

#: Its tests give a count 10 ms to reach the server, which a busy machine may take for anything.
ATTEMPTS = 5


@pytest.fixture
def server_on_6379() -> Iterator[Server]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError as error:
            pytest.fail(
                f"the suite of 0.0.9 empties the Redis server on port {PORT}, so that must be free: {error}"
            )
    server = Server(port=PORT)
    yield server
    server.close()


@pytest.mark.usefixtures("server_on_6379")
def test_the_suite_of_0_0_9_passes(tmp_path: Path) -> None:
    suite = suite_of("pytheus-backend-rs", "0.0.9", tmp_path / "sdist")
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio", "-q"]
    command += ["-c", os.devnull, "--rootdir", str(suite), "--junitxml", str(report), str(suite)]
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            command, cwd=suite, timeout=300, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if done.returncode == 0:
            break
    text = done.stdout.decode(errors="replace")
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    assert {case.attrib["name"] for case in cases if len(case)} == set(), text
    assert len(cases) == TESTS, text
