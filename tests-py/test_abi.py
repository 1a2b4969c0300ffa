"""The package and the engine must have the same binary interface."""

from __future__ import annotations

import pytest
from pytheus_backend_rs import _abi
from pytheus_backend_rs._native import lib


def test_the_interface_of_the_engine_is_the_one_of_the_header() -> None:
    assert lib.BACKEND_ABI_VERSION == lib.backend_abi_version() > 0
    _abi.check()


def test_another_interface_is_refused_with_both_numbers() -> None:
    with pytest.raises(ImportError, match=r"interface 1 .* the interface 2: install"):
        _abi.compare(1, 2)
