"""Stands in for the compiled module where there is none: Python prefers `_native.abi3.so` to this file.

`ffi` and `lib` are then those of an installed library, called through cffi's ABI mode. `_native.pyi` has
their types.
"""

from pytheus_backend_rs._installed import ffi as ffi
from pytheus_backend_rs._installed import lib as lib
