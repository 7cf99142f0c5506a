"""Time series from CSV files and NumPy files."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from fastrnn._arrays import AnyArray, FloatArray
from fastrnn.data.readers import PathLike, csv_rows, read_one

_DELIMITERS = ",;\t"


class Table(NamedTuple):
    """`values` (steps, features) float32, and the names of the features."""

    values: FloatArray
    columns: tuple[str, ...]


def read_csv(
    path: PathLike,
    columns: Sequence[str | int] | None = None,
    *,
    delimiter: str | None = None,
    header: bool | None = None,
    encoding: str = "utf-8",
) -> Table:
    """The numbers of a CSV file, time downwards.

    `columns`: names or positions of those that are wanted, all by default; only these must be
    numbers. `delimiter`: by default comma, semicolon or tab, whichever the first line has most of.
    `header`: whether the first line holds names; by default it does if it has text
    where the next line has a number.
    ValueError names the line and the column of what is no number, and of lines too short or long.
    """
    lines = list(StringIO(read_one(Path(path), encoding)))
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise ValueError(f"{path} is empty")
    separator = max(_DELIMITERS, key=lines[first].count) if delimiter is None else delimiter
    rows = csv_rows(lines[first:], path, first, delimiter=separator)
    top = [[cell.strip() for cell in row] for _, row in islice(rows, 2)]
    has_header = _names_columns(*top) if header is None else header
    names = tuple(top[0]) if has_header else tuple(map(str, range(len(top[0]))))
    above = first + has_header
    return _read_numbers(lines[above:], above, separator, names, columns, path)


def _names_columns(first: list[str], second: Sequence[str] = ()) -> bool:
    """Whether the first line is a header: text where the next line has a number."""
    if not second:
        return not all(map(_is_number, first))
    return any(not _is_number(a) and _is_number(b) for a, b in zip(first, second, strict=False))


def _read_numbers(
    lines: list[str],
    above: int,
    separator: str,
    names: tuple[str, ...],
    columns: Sequence[str | int] | None,
    path: PathLike,
) -> Table:
    """The wanted columns of lines without a header; `above` lines come before."""
    wanted = _positions(names, columns, path)
    if not any(line.strip() for line in lines):
        raise ValueError(f"{path} has no numbers below its header")
    for number, row in csv_rows(lines, path, above, delimiter=separator):
        if len(row) != len(names):
            raise ValueError(
                f"{path} has {len(row)} columns in line {number}, expected {len(names)}"
            )
    try:
        values = np.loadtxt(
            lines, np.float32, None, separator, usecols=wanted, ndmin=2, quotechar='"'
        )
    except ValueError as error:
        for number, row in csv_rows(lines, path, above, delimiter=separator):
            for i in wanted:
                if not _is_number(row[i]):
                    raise ValueError(
                        f"{path} has {row[i]!r} in line {number}, column {names[i]!r}, expected a "
                        f"number; `columns` can name the columns to read"
                    ) from None
        raise ValueError(f"{path} cannot be read: {error}") from None
    return Table(values, tuple(names[i] for i in wanted))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _positions(
    names: tuple[str, ...], columns: Sequence[str | int] | None, path: PathLike
) -> list[int]:
    if isinstance(columns, str):
        raise TypeError(f"columns is a str, expected a list: [{columns!r}]")
    found = []
    for column in range(len(names)) if columns is None else columns:
        if isinstance(column, str) and column not in names:
            raise ValueError(f"{path} has no column {column!r}, it has {', '.join(names)}")
        position = names.index(column) if isinstance(column, str) else column
        if not 0 <= position < len(names):
            raise ValueError(f"columns holds {column}, {path} has {len(names)} columns")
        found.append(position)
    if not found:
        raise ValueError("columns is empty")
    return found


def read_numpy(path: PathLike, name: str | None = None) -> AnyArray:
    """The array of a .npy file, which stays on disk until it is read, or one of a .npz file.

    `name` says which one of a .npz file that holds several. Files with pickled objects are refused.
    """
    try:
        with Path(path).open("rb") as file:
            if file.read(2) != b"PK":
                return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                names = arrays.files
                if name is None and len(names) == 1:
                    name = names[0]
                if name in names:
                    return np.asarray(arrays[name])
    except (ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is no .npy or .npz file of plain arrays: {error}") from None
    asked = f"none called {name!r}" if name is not None else f"{len(names)}, name one of them"
    raise ValueError(f"{path} holds {', '.join(names)}: {asked}")
