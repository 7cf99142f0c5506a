"""Bounded reading of bytes, numbers and lines."""

from __future__ import annotations

from typing import BinaryIO

from ._errors import CheckpointError

__all__ = ["Reader", "text_of"]

MAX_LINE = 512


def text_of(data: bytes) -> str:
    """UTF-8 text, or Latin-1 where a Python 2 string is no UTF-8."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("latin-1")


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

    def line(self) -> str:
        """Text up to the next newline."""
        data = self._file.readline(MAX_LINE)
        self.position += len(data)
        if not data.endswith(b"\n"):
            raise CheckpointError("a line in the pickle without an end")
        return text_of(data[:-1])
