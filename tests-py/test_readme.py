"""The examples of the README run as they stand, but for ports and paths.

Each ```python block is a program of its own.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from programs import run_program
from redis_server import Server

README = Path(__file__).resolve().parent.parent / "README.md"


def examples() -> list[str]:
    if not README.exists():
        return []
    return re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_the_readme_has_the_usage_example_of_0_0_9() -> None:
    assert README.exists(), f"{README} is missing"
    assert any("load_backend(" in example and "RedisBackend" in example for example in examples())


@pytest.mark.parametrize("example", examples() or ["raise SystemExit('the README has no example')"])
def test_an_example_runs_as_it_stands(server: Server, tmp_path: Path, example: str) -> None:
    example = example.replace("6379", str(server.port)).replace("9464", "0")
    example = example.replace("/dev/shm/my-service-metrics", str(tmp_path / "metrics"))
    run_program(example, server.config, prelude="")
