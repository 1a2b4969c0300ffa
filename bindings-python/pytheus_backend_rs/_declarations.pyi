# The build of a package without a compiled module writes `_declarations.py` from the C header.
from typing import Any

ffi: Any
