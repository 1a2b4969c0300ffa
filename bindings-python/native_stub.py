"""Writes the types of the extension module to `pytheus_backend_rs/_native.pyi`, from the engine's C header.

    python bindings-python/native_stub.py            # write the file
    python bindings-python/native_stub.py --check    # fail if the checked-in file is another

In the stub the name of an opaque type or a struct stands for a pointer to it, since Python has nothing else:
a `Backend` is a `Backend *`, and a `Pointer[Backend]` a `Backend **` or an array of `Backend *`. cffi gives
pointers to structs the attributes of the struct. `NULL` is `Any`, because C accepts it as every pointer.
"""

import difflib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from native_header import BLOCKING, HEADER, Function, Header, read

STUB = Path(__file__).resolve().parent / "pytheus_backend_rs" / "_native.pyi"

#: The longest line of the stub.
COLUMNS = 110

#: The Python types of what C has by value.
SCALARS = {
    "void": "None",
    "double": "float",
    "BackendStatus": "int",
    **dict.fromkeys(("size_t", "int32_t", "uint8_t", "uint16_t", "uint32_t", "uint64_t"), "int"),
}

INTRODUCTION = '''\
# Written by native_stub.py from include/pytheus_backend_rs.cffi.h: do not edit.
#
# The name of an opaque type or a struct stands for a pointer to it: a `Backend` is a `Backend *` in C.
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Literal, SupportsInt, TypeVar, overload

_T = TypeVar("_T")

class Pointer(Generic[_T]):
    """A pointer to a value, or an array of values."""

    def __getitem__(self, index: int, /) -> _T: ...
    def __setitem__(self, index: int, value: _T, /) -> None: ...
    def __len__(self) -> int: ...

class Buffer:
    """The memory behind a pointer. Slices of it are copies."""

    def __getitem__(self, index: slice, /) -> bytes: ...
    def __len__(self) -> int: ...
'''

FFI_METHODS = """\
    def gc(self, handle: _T, destructor: Callable[[_T], None]) -> _T: ...
    def release(self, handle: object) -> None: ...
    def string(self, text: Pointer[bytes]) -> bytes: ...
    def unpack(self, values: Pointer[_T], length: int) -> list[_T]: ...
    def buffer(self, data: Pointer[bytes], size: int) -> Buffer: ...
"""


def python_type(c_type: str, header: Header) -> str:
    """The type of a value in Python."""
    plain = re.sub(r"\bconst\b", "", c_type).replace(" ", "")
    name, stars = plain.rstrip("*"), plain.count("*")
    if name in header.callbacks or (name, stars) == ("void", 1):
        return "Any"
    if name in header.handles or name in header.structs:
        inner, stars = name, stars - 1
    elif name == "char":
        inner, stars = "Pointer[bytes]", stars - 1
    else:
        inner = SCALARS[name]
    return "Pointer[" * stars + inner + "]" * stars


def parameter_type(c_type: str, header: Header) -> str:
    """As `python_type`, for arguments: cffi converts bytes to a C string."""
    python = python_type(c_type, header)
    return "bytes | Pointer[bytes]" if c_type == "const char *" else python


def stub(header: Header) -> str:
    return "\n".join([INTRODUCTION, *_types(header), *_lib(header), *_ffi(header)])


def _types(header: Header) -> Iterator[str]:
    for name in header.handles:
        yield f"class {name}: ..."
    yield ""
    for name, fields in header.structs.items():
        yield f"class {name}:"
        yield from (f"    {field.name}: {python_type(field.type, header)}" for field in fields)
        yield ""


def _lib(header: Header) -> Iterator[str]:
    yield "class Lib:"
    yield from (f"    {name}: int" for name in header.macros + header.constants)
    yield ""
    for function in header.functions.values():
        yield _method(function.name, function, header)
    yield ""
    yield "    # These release the GIL."
    for name in BLOCKING:
        yield _method(f"released_{name}", header.functions[name], header)
    yield ""


def _method(name: str, function: Function, header: Header) -> str:
    parameters = [f"{one.name}: {parameter_type(one.type, header)}" for one in function.parameters]
    result = python_type(function.result, header)
    return _fitted(f"    def {name}(", ["self", *parameters, "/"], f") -> {result}: ...")


def _fitted(opening: str, arguments: "list[str]", closing: str) -> str:
    """The line, or several where one would be too long."""
    line = f"{opening}{', '.join(arguments)}{closing}"
    if len(line) <= COLUMNS:
        return line
    return "\n".join([opening, *(f"        {argument}," for argument in arguments), f"    {closing}"])


def _ffi(header: Header) -> Iterator[str]:
    yield "class FFI:"
    yield "    NULL: Any"
    for name in header.handles:
        yield _overload("new", f"{name} **", "", f"Pointer[{name}]")
        yield _overload("new", f"{name} *[]", f"init: Sequence[{name}]", f"Pointer[{name}]")
    for name in header.structs:
        yield _overload("new", f"{name} *", "init: Mapping[str, Any] = ...", name)
    yield _overload("new", "char **", "", "Pointer[Pointer[bytes]]")
    yield _overload("new", "char[]", "init: bytes", "Pointer[bytes]")
    yield _overload("new", "char *[]", "init: Sequence[Pointer[bytes]]", "Pointer[Pointer[bytes]]")
    for name, python in (("double", "float"), ("int32_t", "int"), ("size_t", "int")):
        yield _overload("new", f"{name} *", f"init: {python} = ...", f"Pointer[{python}]")
        yield _overload("new", f"{name}[]", f"init: Sequence[{python}] | int", f"Pointer[{python}]")
    for name in header.handles:
        yield _overload("cast", f"{name} *", "address: int", name)
    yield _overload("cast", "uintptr_t", "pointer: object", "SupportsInt")
    structs = [f'"{name}"' for name in header.structs]
    yield _fitted("    def sizeof(self, struct: Literal[", structs, "], /) -> int: ...")
    yield FFI_METHODS
    yield "ffi: FFI"
    yield "lib: Lib"
    yield ""


def _overload(method: str, c_type: str, argument: str, result: str) -> str:
    parameters = ["self", f'c_type: Literal["{c_type}"]', argument, "/"]
    parameters = [parameter for parameter in parameters if parameter]
    return "    @overload\n" + _fitted(f"    def {method}(", parameters, f") -> {result}: ...")


def main(arguments: "list[str]") -> int:
    expected = stub(read(HEADER.read_text(encoding="utf-8")))
    if arguments != ["--check"]:
        STUB.write_text(expected, encoding="utf-8")
        return 0
    found = STUB.read_text(encoding="utf-8")
    if found != expected:
        lines = difflib.unified_diff(
            found.split("\n"), expected.split("\n"), "checked in", "generated", lineterm=""
        )
        print("\n".join(lines))
    return int(found != expected)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
