"""The package and the engine must fit: one binary interface, and an engine that is not older."""

from __future__ import annotations

import pytest
from pytheus_backend_rs import _abi
from pytheus_backend_rs._native import ffi, lib

BUILT = (0, 2, 0)


def test_the_interface_of_the_engine_is_the_one_of_the_header() -> None:
    assert lib.BACKEND_ABI_VERSION == lib.backend_abi_version() > 0
    _abi.check(ffi, lib)


def test_another_interface_is_refused_with_both_numbers() -> None:
    with pytest.raises(
        ImportError, match=r"_rs 0\.2\.0 .* interface 1 .*1\.0\.0\) has the interface 2: install"
    ):
        _abi.compare(BUILT, 1, "1.0.0", 2)


def test_an_older_engine_is_refused_with_both_versions() -> None:
    with pytest.raises(ImportError, match=r"_rs 0\.2\.0 .* is version 0\.1\.9: install"):
        _abi.compare(BUILT, 1, "0.1.9", 1)
    for newer in ("0.2.0", "0.2.1", "0.10.0", "1.0.0-rc.1"):
        _abi.compare(BUILT, 1, newer, 1)
