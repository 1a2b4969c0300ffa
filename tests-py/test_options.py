"""The options of the Python package: one table, which docstrings and documentation agree with."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytheus import backends
from pytheus_backend_rs import ConfigurationError, RedisBackend, SharedMemoryBackend, SingleProcessBackend
from pytheus_backend_rs._config import OWN_OPTIONS, refuse_misspelled

DOCS = Path(__file__).resolve().parent.parent / "docs"
CLASSES = {"redis": RedisBackend, "shm": SharedMemoryBackend, "memory": SingleProcessBackend}


@pytest.mark.parametrize("store", ["redis", "shm"])
def test_docstring_and_documentation_name_every_option(store: str) -> None:
    page = (DOCS / {"redis": "redis.md", "shm": "shared-memory.md"}[store]).read_text()
    common = (DOCS / "python.md").read_text()
    for option in OWN_OPTIONS[store]:
        assert f"`{option}`" in (CLASSES[store].__doc__ or ""), option
        assert re.search(rf'[`"]{option}[`"]', page + common), option


def engine_options(store: str) -> list[str]:
    """The options that the engine declares, from the table in the documentation."""
    page = (DOCS / {"redis": "redis.md", "shm": "shared-memory.md"}[store]).read_text()
    table = page[page.index(f"<!-- options: {store} -->") : page.index("<!-- end of options -->")]
    return re.findall(r"^\| `(\w+)`", table, re.MULTILINE)


@pytest.mark.parametrize("store", ["redis", "shm"])
def test_an_option_of_the_engine_is_never_taken_for_a_misspelled_one(store: str) -> None:
    options = engine_options(store)
    assert len(options) > 3
    refuse_misspelled(dict.fromkeys([*options, *OWN_OPTIONS[store]]), store)


MISSPELLED = [
    ("redis", "hots", "host"),
    ("redis", "prot", "port"),
    ("redis", "flush_interval", "flush_interval_ms"),
    ("shm", "pth", "path"),
    ("memory", "native_method", "native_methods"),
]


@pytest.mark.parametrize(("store", "option", "meant"), MISSPELLED)
def test_a_misspelled_option_is_told_with_the_one_that_was_meant(store: str, option: str, meant: str) -> None:
    config: dict[str, Any] = {option: 1}
    with pytest.raises(ConfigurationError, match="did you mean") as caught:
        backends.load_backend(CLASSES[store], config)
    assert meant in str(caught.value) and "its options are" not in str(caught.value)
    # One traceback: the reason is the mistake, and not another exception.
    assert caught.value.__context__ is None and caught.value.__cause__ is None


def test_the_import_needs_no_asyncio() -> None:
    """It is most of what an import would take."""
    source = "import pytheus_backend_rs, sys; print('asyncio' in sys.modules, 'difflib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
