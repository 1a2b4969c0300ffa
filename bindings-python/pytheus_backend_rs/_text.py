"""Python text as the engine takes it: UTF-8 without NUL characters."""

from __future__ import annotations


def c_text(text: str) -> bytes:
    """Returns `text` for a C string.

    A C string cannot hold lone surrogates and NULs: they become escapes, as in `\\udcff` and `\\x00`.
    Programs put text of their clients into labels, which must not fail a request.
    """
    return text.encode("utf-8", "backslashreplace").replace(b"\0", b"\\x00")


def is_plain(text: str) -> bool:
    """Returns whether the engine has a text as Python has it."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def plain_text(value: object) -> str:
    """Returns the text of a label value as the engine has it."""
    return c_text(str(value)).decode()


def header_text(header: str) -> bytes:
    """Returns an HTTP header for a C string, without the characters that it cannot hold."""
    return header.replace("\0", "").encode("utf-8", "replace")
