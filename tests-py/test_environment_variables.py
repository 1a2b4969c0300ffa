"""The environment variables: the table in docs/operating.md names those that the sources read, and no other."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pytheus_backend_rs import ConfigurationError
from pytheus_backend_rs.prometheus.store import url_of

from programs import HANG

ROOT = Path(__file__).resolve().parent.parent

#: Where the sources of each language are.
SOURCES = [
    ("src", "*.rs"),
    ("side-car/src", "*.rs"),
    ("bindings-python", "*.py"),
    ("bindings-ruby/lib", "*.rb"),
]

#: Variables of the tools that build and start the packages, which the pages of those tools describe.
OF_TOOLS = {"PKG_CONFIG", "PYTHONPATH", "UPDATE_PAGES"}

#: Variables that a library reads: rustls-native-certs.
OF_LIBRARIES = {"SSL_CERT_FILE", "SSL_CERT_DIR"}

#: A call that reads a variable, with its name in quotes.
READS = re.compile(
    r"""(?:os\.environ(?:\.get\(|\[)|getenv\(|env::var(?:_os)?\(|ENV(?:\.fetch\(|\[))"(\w+)\""""
)

#: A name that belongs to this project, to prometheus_client or to systemd, wherever it stands in quotes.
NAMED = re.compile(r""""(PYTHEUS_\w+|PROMETHEUS_MULTIPROC_DIR|prometheus_multiproc_dir|LISTEN_\w+)\"""")


def read_by_the_sources() -> set[str]:
    found = set(OF_LIBRARIES)
    for folder, pattern in SOURCES:
        for path in (ROOT / folder).rglob(pattern):
            text = path.read_text(encoding="utf-8")
            found |= {*READS.findall(text), *NAMED.findall(text)}
    return found - OF_TOOLS


def test_the_page_names_every_variable() -> None:
    page = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    table = page[page.index("<!-- environment -->") : page.index("<!-- end of environment -->")]
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split(" | ")[0])}
    assert named == read_by_the_sources()
    assert "PYTHEUS_BACKEND_RS_STORE" in named


def test_a_service_refuses_several_stores_and_shows_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHEUS_BACKEND_RS_STORE", "redis://:secret@one redis://two")
    with pytest.raises(ConfigurationError, match="PYTHEUS_BACKEND_RS_STORE has a space") as raised:
        url_of(None)
    assert "secret" not in str(raised.value)


def test_a_service_and_the_side_car_read_one_variable(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHEUS_BACKEND_RS_STORE": str(tmp_path / "metrics")}
    program = """
import pytheus_backend_rs.prometheus; pytheus_backend_rs.prometheus.install()
from prometheus_client import Counter; Counter("requests", "help").inc(3)
"""

    def output_of(*command: str) -> str:
        return subprocess.run(
            [sys.executable, *command],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=HANG,
            env=environment,
        ).stdout

    output_of("-c", program)
    assert "\nrequests_total 3\n" in output_of("-m", "pytheus_backend_rs", "dump")
