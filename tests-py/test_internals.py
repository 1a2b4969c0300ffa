"""The one module that knows private names of pytheus: they are there, and another version is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pytheus import metrics
from pytheus_backend_rs.pytheus import internals

PACKAGE = Path(internals.__file__).resolve().parent


def test_every_private_name_is_there() -> None:
    histogram, summary = metrics.Histogram("size", "help", registry=None), metrics.Summary("time", "help")
    objects = {
        "_MetricCollector": histogram._collector,
        "_Metric": histogram,
        "Histogram": histogram,
        "Summary": summary,
    }
    for owner, names in internals.PRIVATE_NAMES.items():
        for name in names:
            assert hasattr(objects[owner], name), f"{owner}.{name}"
    for owner, name in internals.HOT_METHODS.values():
        assert name in vars(getattr(metrics, owner))
    assert internals.CHILDREN in internals.PRIVATE_NAMES["_MetricCollector"]


def test_no_other_module_uses_them() -> None:
    names = {name for names in internals.PRIVATE_NAMES.values() for name in names}
    alternatives = "|".join(names)
    # Modules of this package, and the suffixes of samples, may have such names.
    pattern = re.compile(rf"(?<!pytheus_backend_rs)\.(?:{alternatives})\b|attr\(\w+, \"(?:{alternatives})\"")
    for path in PACKAGE.parent.rglob("*.py"):
        if path.name != "internals.py":
            assert not pattern.findall(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize(("version", "is_told"), [("0.5.9", True), ("0.6.1", False), ("0.7.0", True)])
def test_an_untested_version_is_told_once(
    version: str, is_told: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(internals, "_installed_version", lambda: version)
    internals.warn_if_untested.cache_clear()
    for _ in range(2):
        internals.warn_if_untested()
    internals.warn_if_untested.cache_clear()
    assert [version in record.getMessage() for record in caplog.records] == [True] * is_told


def test_the_installed_version_is_found_and_tested() -> None:
    found = internals._installed_version()
    assert found is not None and internals.TESTED_VERSIONS[0] <= tuple(map(int, found.split(".")[:2]))
