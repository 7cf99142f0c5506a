"""Standard input and pipes of a command, read as files are."""

from __future__ import annotations

import codecs
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastrnn.data.readers import MARKS, decoded

_INPUT = "standard input"


def lines_of_input(encoding: str | None = None) -> list[str]:
    """Standard input's lines that are not blank; ValueError if there are none.

    `encoding`: by default the one that Python found for the stream, UTF-8 for ASCII.
    """
    raw = _bytes_of_input()
    found = [
        line for line in decoded(raw, _INPUT, encoding or _guess(raw)).split("\n") if line.strip()
    ]
    if not found:
        raise ValueError("there is no text in the input")
    return found


def _bytes_of_input() -> bytes:
    if sys.stdin is None or getattr(sys.stdin, "closed", False):
        raise ValueError(f"{_INPUT} is closed, expected text")
    if hasattr(sys.stdin, "buffer"):
        return bytes(sys.stdin.buffer.read())
    return sys.stdin.read().encode("utf-8", "surrogatepass")  # a stream of text, as StringIO


def _guess(raw: bytes) -> str:
    """A byte order mark says more than the settings of a terminal."""
    if any(raw.startswith(mark) for mark, _ in MARKS) or not hasattr(sys.stdin, "buffer"):
        return "utf-8"
    name = codecs.lookup(sys.stdin.encoding or "utf-8").name
    return "utf-8" if name == "ascii" else name


class _Copy(os.PathLike[str]):
    """A file that holds what came from elsewhere: errors, which take its str, say from where."""

    def __init__(self, path: str, origin: str) -> None:
        self._path, self._origin = path, origin

    def __fspath__(self) -> str:
        return self._path

    def __str__(self) -> str:
        return self._origin


@contextmanager
def as_file(path: str | None) -> Iterator[str | os.PathLike[str]]:
    """A path whose file can be opened several times: a pipe, and standard input (None), is copied.

    Its str is what was given.
    """
    if path is not None and (os.path.isfile(path) or not os.path.exists(path)):
        yield path
        return
    content = _bytes_of_input() if path is None else Path(path).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        copy = os.path.join(folder, "input")
        Path(copy).write_bytes(content)
        yield _Copy(copy, path or _INPUT)
