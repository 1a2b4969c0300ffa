# The extension module that build_native.py makes: the functions and constants of the engine's header.
from typing import Any

ffi: Any
lib: Any
