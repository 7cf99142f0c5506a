"""The history of a training: one JSON object per line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from io import RawIOBase
from pathlib import Path
from typing import Any

from fastrnn._json import read_json

Record = dict[str, Any]

_BLOCK = 1 << 16  # bytes that are searched at a time


class History:
    """Appends records to a file, to a list, or nowhere."""

    def __init__(self, path: Path | None, records: list[Record] | None) -> None:
        self.path, self.records = path, records
        self._file: RawIOBase | None = None

    def open(self, size: int | None) -> None:
        """Continue after the first `size` bytes (None: all); later records will be made again.

        An incomplete last record, as a kill or a partial copy leaves it, is taken out.
        """
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115
        end = self._file.seek(0, os.SEEK_END)
        if size is not None and end > size:
            end = self._file.truncate(size)
        _end_line(self._file, end)
        self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Bring the file to the disk and close it."""
        if self._file is not None:
            self._file.close()

    def add(self, record: Record) -> None:
        """Append one object; a reader sees it at once."""
        if self.records is not None:
            self.records.append(record)
        if self._file is None:
            return
        line = memoryview(json.dumps(record).encode() + b"\n")
        try:
            while line:  # a signal or a full disk may cut a write short
                line = line[self._file.write(line) or 0 :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def sync(self) -> int:
        """Bring the file to the disk; gives its size in bytes."""
        if self._file is None:
            return 0
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size


def _end_line(file: RawIOBase, end: int) -> None:
    """Take out an incomplete last record, or add the newline that a complete one lacks."""
    start = _line_start(file, end)
    file.seek(start)
    line = file.read(end - start) or b""
    if not line:
        return
    try:
        json.loads(line)
    except ValueError:
        if line.startswith(b"{"):
            file.truncate(start)
            return
    file.write(b"\n")


def _line_start(file: RawIOBase, end: int) -> int:
    """Position of the last line's first byte; the end of the file if that ends a line."""
    while end > 0:
        start = max(0, end - _BLOCK)
        file.seek(start)
        found = (file.read(end - start) or b"").rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def read_history(path: str | os.PathLike[str]) -> list[Record]:
    """The objects of a history.jsonl; a last line cut short by a kill is left out.

    ValueError for any other line that is no JSON object.
    """
    with open(path, encoding="utf-8") as file:
        lines = [line for line in file if line.strip()]
    return list(_parsed(lines, os.fspath(path)))


def _parsed(lines: list[str], path: str) -> Iterable[Record]:
    for number, line in enumerate(lines, 1):
        try:
            record = read_json(line, finite=False)
        except ValueError as error:
            if number == len(lines) and not line.endswith("\n"):
                return
            raise ValueError(f"{path} line {number} is no JSON object: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path} line {number} is no JSON object: {line[:40]!r}")
        yield record
