"""docs/guarantees.md names the tests of its promises. All of them exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: How a test, or a part of one, is defined in each language.
DEFINITIONS = {".py": r"def {}\(", ".rs": r"fn {}\(\)", ".c": r"static void {}\(", ".rb": r'it "{}" do'}


def rows() -> list[str]:
    """The rows of the tables."""
    lines = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("| ") and not line.startswith("| fault |")]


def test_every_promise_names_existing_tests() -> None:
    assert len(rows()) > 30
    missing = []
    for row in rows():
        fault, _, shown_by, _ = (cell.strip() for cell in row.strip("|").split(" |"))
        tests = re.findall(r"`([\w./-]+)::(\w+)`", shown_by)
        assert tests, f"nothing shows what is promised for: {fault}"
        assert len(tests) == shown_by.count("`") // 2, f"expected `file::name` only: {shown_by}"
        for file, name in tests:
            path = ROOT / file
            # The name of an example in Ruby is a sentence.
            defined = name.replace("_", " ") if path.suffix == ".rb" else name
            definition = DEFINITIONS[path.suffix].format(defined)
            if not path.is_file() or not re.search(definition, path.read_text(encoding="utf-8")):
                missing.append(f"{file}::{name}")
    assert not missing, "docs/guarantees.md names tests that are not there:\n" + "\n".join(missing)
