"""Time series from CSV files and NumPy files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from fastrnn._arrays import AnyArray, FloatArray
from fastrnn.data.readers import PathLike, read_one

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
    `header`: whether the first line holds names; by default it does if a cell of it is no number.
    ValueError names the line and the column of what is no number, and of lines too short or long.
    """
    file = Path(path)
    lines = read_one(file, encoding).splitlines(keepends=True)
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise ValueError(f"{path} is empty")
    separator = max(_DELIMITERS, key=first.count) if delimiter is None else delimiter
    cells = [cell.strip() for cell in next(csv.reader([first], delimiter=separator))]
    has_header = not all(map(_is_number, cells)) if header is None else header
    names = tuple(cells) if has_header else tuple(map(str, range(len(cells))))
    wanted = _positions(names, columns, path)
    below = lines[lines.index(first) + has_header :]
    if not any(line.strip() for line in below):
        raise ValueError(f"{path} has no numbers below its header")
    _check_widths(below, separator, len(names), len(lines) - len(below), path)
    try:
        values = np.loadtxt(
            below, np.float32, None, separator, usecols=wanted, ndmin=2, quotechar='"'
        )
    except ValueError as error:
        _find_text(below, separator, names, wanted, len(lines) - len(below), path)
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


def _check_widths(lines: list[str], separator: str, width: int, above: int, path: PathLike) -> None:
    """Every line has as many columns as the first one; `above` lines come before."""
    reader = csv.reader(lines, delimiter=separator)
    for row in reader:
        if row and len(row) != width:
            raise ValueError(
                f"{path} has {len(row)} columns in line {above + reader.line_num}, expected {width}"
            )


def _find_text(
    lines: list[str],
    separator: str,
    names: tuple[str, ...],
    wanted: list[int],
    above: int,
    path: PathLike,
) -> None:
    """ValueError that shows the first cell that is no number, if there is one."""
    reader = csv.reader(lines, delimiter=separator)
    for row in filter(None, reader):
        for i in wanted:
            if not _is_number(row[i]):
                raise ValueError(
                    f"{path} has {row[i]!r} in line {above + reader.line_num}, column "
                    f"{names[i]!r}, expected a number; `columns` can name the columns to read"
                )


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
