"""Reads the declarations of the engine's C header.

build_native.py and native_stub.py take the signatures from here, so that the header alone declares them. The
header is generated, so its layout is known: each declaration begins at the start of a line, and each struct
field has a line of its own.
"""

import re
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
#: The folder of the engine's sources. An sdist carries them inside; in the repository they are around it.
ENGINE = HERE / "engine" if (HERE / "engine").is_dir() else HERE.parent
HEADER = ENGINE / "include" / "pytheus_backend_rs.cffi.h"

#: The functions that may wait for a server, a thread or a lock. Python calls each through a C function named
#: `released_…`, which releases the GIL around it.
BLOCKING = (
    "backend_new",
    "backend_close",
    "backend_close_all",
    "backend_flush",
    "backend_free",
    "backend_process_metrics",
    "backend_statistics",
    "metric_family_new",
    "metric_family_clear",
    "metric_family_set_info",
    "metric_new",
    "metric_remove",
    "metric_get",
    "metric_get_sum",
    "metric_get_count",
    "metric_get_bucket",
    "metric_get_cell",
    "metric_get_state",
    "metrics_snapshot_new",
    "metrics_render",
    "metrics_serve",
    "metrics_server_free",
)


class Variable(NamedTuple):
    """A parameter or a struct field: its C type and its name."""

    type: str
    name: str


class Function(NamedTuple):
    """An exported function."""

    result: str
    name: str
    parameters: "list[Variable]"

    def declaration(self, name: str) -> str:
        """The C declaration of the same function by another name."""
        parameters = ", ".join(" ".join(parameter) for parameter in self.parameters)
        return f"{self.result} {name}({parameters or 'void'})"


class Header(NamedTuple):
    """The declarations of a header, in its order."""

    #: Macros with a number.
    macros: "list[str]"
    constants: "list[str]"
    #: The opaque types: a program only has pointers to them.
    handles: "list[str]"
    callbacks: "list[str]"
    structs: "dict[str, list[Variable]]"
    functions: "dict[str, Function]"


def number(name: str) -> int:
    """The value of a macro of the header: a part of its version, or the number of the binary interface."""
    match = re.search(rf"^#define {name} (\d+)$", HEADER.read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise ValueError(f"{HEADER} does not define {name}")
    return int(match.group(1))


def read(text: str) -> Header:
    functions = re.findall(r"^(?!typedef)(\w[\w ]*?[ *]+)(\w+)\(([^)]*)\);", text, re.MULTILINE)
    structs = re.findall(r"^typedef struct \{\n(.*?);\n\} (\w+);", text, re.MULTILINE | re.DOTALL)
    return Header(
        macros=re.findall(r"^#define (\w+) \d+$", text, re.MULTILINE),
        constants=re.findall(r"^  ([A-Z][A-Z_0-9]+) = ", text, re.MULTILINE),
        handles=re.findall(r"^typedef struct (\w+) \1;", text, re.MULTILINE),
        callbacks=re.findall(r"^typedef void \(\*(\w+)\)", text, re.MULTILINE),
        structs={name: [_variable(field) for field in fields.split(";")] for fields, name in structs},
        functions={
            name: Function(result.strip(), name, _parameters(parameters))
            for result, name, parameters in functions
        },
    )


def _parameters(text: str) -> "list[Variable]":
    return [] if text == "void" else [_variable(parameter) for parameter in text.split(",")]


def _variable(text: str) -> Variable:
    match = re.fullmatch(r"(.*?[ *])(\w+)", text.strip(), re.DOTALL)
    if match is None:
        raise ValueError(f"not a declaration: {text!r}")
    return Variable(match.group(1).strip(), match.group(2))
