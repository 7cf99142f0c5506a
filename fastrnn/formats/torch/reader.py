"""Bounded reading of bytes, numbers and lines."""

from __future__ import annotations

import re
from typing import BinaryIO

from fastrnn.formats.errors import CheckpointError

__all__ = ["Reader", "bytes_of", "python2_text", "text_of", "unescaped"]

MAX_LINE = 512  # bytes of a line that is no text, e.g. of a name

_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|[0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f",
            b"v": b"\v", b"\n": b"", b"\\": b"\\", b"'": b"'", b'"': b'"'}  # fmt: skip


class Python2Text(str):
    """A Python 2 string that is no ASCII, with the bytes it was: they may be an array's."""

    __slots__ = ("raw",)

    raw: bytes


def text_of(data: bytes) -> str:
    """UTF-8 text, or Latin-1 where a Python 2 string is no UTF-8."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def python2_text(data: bytes) -> str:
    """A Python 2 string, which may be text or bytes."""
    if data.isascii():
        return data.decode("ascii")
    text = Python2Text(text_of(data))
    text.raw = data
    return text


def bytes_of(value: object) -> bytes | bytearray | None:
    """The bytes that a value of a pickle stands for; None if it is none."""
    if isinstance(value, (bytes, bytearray)):
        return value
    if isinstance(value, Python2Text):
        return value.raw
    return value.encode() if isinstance(value, str) and value.isascii() else None


def unescaped(line: bytes) -> bytes:
    """The bytes of a Python 2 string as its source text in quotes."""
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise CheckpointError("a text in the pickle without quotes")
    return _ESCAPE.sub(_unescape, line[1:-1])


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if code[:1] == b"x" and len(code) == 3:
        return bytes([int(code[1:], 16)])
    if code[:1].isdigit() and code[:1] < b"8":
        return bytes([int(code, 8) & 255])
    return _LETTERS.get(code, match[0])


class Reader:
    """A binary file from its current position on, whose `take` fails at the end of the file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self.position = file.tell()
        self._size = size

    def take(self, count: int) -> bytes:
        """The next `count` bytes, or CheckpointError when the file has fewer."""
        if count > self._size - self.position:
            raise CheckpointError(
                f"truncated: {count} bytes expected at {self.position} of {self._size}"
            )
        data = self._file.read(count)
        if len(data) != count:
            raise CheckpointError(f"truncated: the file ended at {self.position + len(data)}")
        self.position += count
        return data

    def number(self, count: int, *, signed: bool = False) -> int:
        """A little-endian integer of `count` bytes."""
        return int.from_bytes(self.take(count), "little", signed=signed)

    def line(self, limit: int = MAX_LINE) -> bytes:
        """The bytes up to the next newline, which comes within `limit` bytes."""
        data = self._file.readline(limit)
        self.position += len(data)
        if not data.endswith(b"\n"):
            raise CheckpointError("a line in the pickle without an end")
        return data[:-1]

    def long_line(self) -> bytes:
        """The bytes up to the next newline, wherever it comes."""
        return self.line(self._size - self.position)
