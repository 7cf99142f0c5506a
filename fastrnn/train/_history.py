"""What happened in a training, as one JSON object per line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from io import RawIOBase
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class History:
    """Appends records to a file, to a list, or nowhere."""

    def __init__(self, path: Path | None, records: list[Record] | None) -> None:
        self.path, self.records = path, records
        self._file: RawIOBase | None = None

    def open(self, size: int | None) -> None:
        """Continue after the first `size` bytes, as what came later is done again; None: all."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
        if size is not None and self._file.tell() > size:
            self._file.truncate(size)

    def close(self) -> None:
        """Called once, at the end."""
        if self._file is not None:
            self._file.close()

    def add(self, record: Record) -> None:
        """Append one object; a reader sees it at once."""
        if self.records is not None:
            self.records.append(record)
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(record).encode() + b"\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def sync(self) -> int:
        """Bring the file to the disk; gives its size in bytes."""
        if self._file is None:
            return 0
        os.fsync(self._file.fileno())
        return self._file.tell()


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
            record = json.loads(line)
        except ValueError as error:
            if number == len(lines) and not line.endswith("\n"):
                return
            raise ValueError(f"{path} line {number} is no JSON object: {error}") from error
        if not isinstance(record, dict):
            raise ValueError(f"{path} line {number} is no JSON object: {line[:40]!r}")
        yield record
