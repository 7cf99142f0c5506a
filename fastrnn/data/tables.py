"""Tables of numbers from CSV files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from fastrnn._arrays import as_flag, as_int, shown
from fastrnn._errors import ArgumentError, counted
from fastrnn.data._cells import is_like_a_number
from fastrnn.data._columns import Column, Doubles, is_header
from fastrnn.data._csv import checked_delimiter, csv_rows
from fastrnn.data.readers import PathLike, read_one

_DELIMITERS = ",;\t"
_TOP = 8  # lines that tell what stands between cells
_MOST_NAMES = 12  # of columns, in an error
_ROWS = 4096  # that are read at a time

Rows = Iterable[tuple[int, list[str]]]  # the number of each line and its cells


class Table(NamedTuple):
    """`values` (steps, features) float64, and the names of the features."""

    values: Doubles
    columns: tuple[str, ...]


def read_csv(
    path: PathLike,
    columns: Sequence[str | int] | None = None,
    *,
    delimiter: str | None = None,
    header: bool | None = None,
    encoding: str = "utf-8",
    skip_text: bool = False,
) -> Table:
    """The numbers of a CSV file, time downwards, with all digits that float64 has.

    `columns`: names or positions of those that are wanted, all by default; only these must be
    numbers. `delimiter`: by default comma, semicolon or tab, whichever divides the first lines
    evenly. `header`: whether the first line holds names; by default it does if it has text above a
    number. `skip_text`: leave out the columns that hold text alone, as dates.
    ValueError names the line, the column and the text of what is no number (a gap, a decimal comma,
    a sign between thousands, what float64 cannot hold), and lines that are too short or too long.
    """
    if as_flag(skip_text, "skip_text") and columns is not None:
        raise ValueError("skip_text is True, but columns says which ones are read")
    lines = read_one(path, encoding).split("\n")
    separator = _delimiter(lines) if delimiter is None else checked_delimiter(delimiter)
    rows = (row for _, row in csv_rows(lines, path, separator) if row)
    first = [cell.strip() for cell in next(rows, ())]
    if not first:
        raise ValueError(f"{path} is empty")
    has_header = is_header(first, rows) if header is None else as_flag(header, "header")
    names = tuple(first) if has_header else tuple(map(str, range(len(first))))
    wanted = _positions(names, columns, path)
    found = [Column(path, names[i], must=not skip_text) for i in wanted]
    body = _body(csv_rows(lines, path, separator), len(names), has_header, path)
    for numbers, cells in _pieces(body):
        for i, column in zip(wanted, found, strict=True):
            column.take(numbers, cells[i])
    while skip_text and found and found[-1].is_delimiter(has_header):
        found.pop()
    kept = {c: values for c in found if (values := c.numbers()) is not None}
    if not kept:
        raise ValueError(f"{path} has no column of numbers below {shown(list(names))}")
    return Table(np.stack(list(kept.values()), axis=1), tuple(c.name for c in kept))


def _delimiter(lines: Sequence[str]) -> str:
    """The delimiter between cells: it divides the first lines evenly and is part of no number."""
    top = list(islice((line for line in lines if line.strip(" ")), _TOP))

    def fit(delimiter: str) -> tuple[bool, bool, int]:
        try:
            rows = [row for _, row in csv_rows(top, "", delimiter)]
        except ValueError:  # quotes that are none, if this is the delimiter
            return False, False, top[0].count(delimiter) + 1
        width = len(rows[0]) if rows else 0
        if width < 2:
            return False, False, width
        others = [d for d in ";\t" if d != delimiter]  # a comma may be in a number
        joins_numbers = any(_joins(cell, others) for row in rows for cell in row)
        return all(len(row) == width for row in rows), not joins_numbers, width

    return max(_DELIMITERS, key=fit)


def _joins(cell: str, delimiters: Sequence[str]) -> bool:
    return any(d in cell and any(map(is_like_a_number, cell.split(d))) for d in delimiters)


def _body(
    rows: Rows, width: int, has_header: bool, path: PathLike
) -> Iterator[tuple[int, list[str]]]:
    """The rows below the header; all have the same width, and the table has at least one.

    A blank line is nothing, but within a table of one column it is a gap.
    """
    has_begun, count, blank = False, 0, 0
    for number, row in rows:
        if not row:
            blank = blank or number
            continue
        if has_begun and blank and width == 1:
            raise ValueError(f"{path} has '' in line {blank}, expected a number and no gap")
        if len(row) != width:
            there = counted(len(row), "column")
            raise ValueError(f"{path} has {there} in line {number}, expected {width}")
        if has_begun or not has_header:
            count += 1
            yield number, row
        has_begun, blank = True, 0
    if not count:
        raise ValueError(f"{path} has no numbers below its header")


def _pieces(
    rows: Iterator[tuple[int, list[str]]],
) -> Iterator[tuple[tuple[int, ...], list[tuple[str, ...]]]]:
    """Some rows at a time: the numbers of their lines, and their cells column by column."""
    while piece := list(islice(rows, _ROWS)):
        numbers, cells = zip(*piece, strict=True)
        yield numbers, list(zip(*cells, strict=True))


def _positions(
    names: tuple[str, ...], columns: Sequence[str | int] | None, path: PathLike
) -> list[int]:
    if isinstance(columns, str):
        raise TypeError(f"columns is a str, expected a list: [{columns!r}]")
    if columns is None:
        return list(range(len(names)))
    chosen = [column for column in columns if isinstance(column, str)]
    places = dict(zip(chosen, places_of(chosen, names, str(path)), strict=True))
    found = [places[c] if isinstance(c, str) else as_int(c, "columns") for c in columns]
    if not found:
        raise ArgumentError("columns", columns, "at least one column", "columns is empty")
    for position in found:
        if not 0 <= position < len(names):
            there = counted(len(names), "column")
            raise ArgumentError(
                "columns",
                position,
                f"0 to {len(names) - 1}",
                f"columns holds {position}, {path} has {there}",
            )
    return found


def in_a_row(names: Sequence[str]) -> str:
    """Some names in a row, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    plain = (name if name.isprintable() else shown(name) for name in names[:_MOST_NAMES])
    return f"{', '.join(plain)}{more}"


def places_of(wanted: Sequence[str], names: Sequence[str], owner: str) -> list[int]:
    """Positions of columns; ValueError if `owner` has no column of a name, or several."""
    places, counts = {name: i for i, name in enumerate(names)}, Counter(names)
    for name in wanted:
        if name not in places:
            raise ValueError(f"{owner} has no column {shown(name)}, it has {in_a_row(names)}")
        if counts[name] > 1:
            raise ValueError(f"{owner} has {counts[name]} columns {shown(name)}, expected one")
    return [places[name] for name in wanted]
