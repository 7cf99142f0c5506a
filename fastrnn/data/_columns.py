"""The columns of a table while they are read: numbers in float64, or text that is left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from fastrnn._arrays import shown
from fastrnn.data._cells import EXACT, fault, is_gap, is_like_a_number

Doubles = npt.NDArray[np.float64]
PathLike = str | os.PathLike[str]


class ColumnError(ValueError):
    """A column that is not numbers alone, or text alone; `problem` is the text without advice."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return self.told("`columns`")

    def told(self, columns: str) -> str:
        """The text; `columns`: what the reader calls the argument that names columns."""
        return f"{self.problem}; {columns} can name the columns to read"


class Column:
    """One column, some rows at a time. What it holds is decided by its first cell that is no gap.

    `must`: it has to be numbers. Without, it may be text; but a column that holds both numbers and
    text, or gaps alone, is a ValueError: one cell must not decide that all others are dropped.
    """

    def __init__(self, path: PathLike, name: str, must: bool) -> None:
        self.path, self.name = path, name
        self._rows_of_nothing: int | None = 0  # None where there is something
        self._first: tuple[int, str] | None = None  # the line and the cell of its first gap or text
        self._is_text: bool | None = False if must else None  # None: nothing but gaps so far
        self._parts: list[Doubles] = []

    def take(self, lines: Sequence[int], cells: Sequence[str]) -> None:
        """The next rows: the numbers of their lines, and their cells."""
        if self._is_text is None:
            self._begin(lines, cells)
        if self._is_text:
            self._check_text(lines, cells)
        elif self._is_text is False:
            self._parts.append(self._as_numbers(lines, cells))

    def numbers(self) -> Doubles | None:
        """All of its numbers; None for text."""
        if self._is_text is None and self._first is not None:
            self._refuse(*self._first, "a number and no gap")
        return None if self._is_text else np.concatenate(self._parts)

    def is_delimiter(self, has_header: bool) -> bool:
        """True for a column that is only a delimiter at the end of every line, of several lines."""
        rows = self._rows_of_nothing or 0
        return rows > 0 and not self.name if has_header else rows > 1

    def _begin(self, lines: Sequence[int], cells: Sequence[str]) -> None:
        """Decide by the first cell that is no gap; all gaps decide nothing."""
        at = next((i for i, cell in enumerate(cells) if not is_gap(cell)), None)
        is_blank = self._rows_of_nothing is not None and not any(cells)
        self._rows_of_nothing = (self._rows_of_nothing or 0) + len(cells) if is_blank else None
        if at is None:
            self._first = self._first or (lines[0], cells[0])
            return
        self._is_text = not is_like_a_number(cells[at])
        if self._is_text:
            self._first = lines[at], cells[at]
        elif self._first is not None:  # a gap among the rows before these
            self._refuse(*self._first, "a number and no gap")

    def _as_numbers(self, lines: Sequence[int], cells: Sequence[str]) -> Doubles:
        try:
            values = np.fromiter(map(float, cells), np.float64, len(cells))
            is_plain = bool((np.abs(values) < EXACT).all()) and "_" not in "".join(cells)
        except ValueError:
            is_plain = False
        if not is_plain:
            for line, cell in zip(lines, cells, strict=True):
                wrong = fault(cell)
                if wrong is not None:
                    self._refuse(line, cell, wrong)
        return values

    def _check_text(self, lines: Sequence[int], cells: Sequence[str]) -> None:
        assert self._first is not None
        for line, cell in zip(lines, cells, strict=True):
            if is_like_a_number(cell) and not is_gap(cell):
                there, text = self._first
                raise ColumnError(
                    f"{self.path} has {shown(text)} in line {there} and {shown(cell)} in line "
                    f"{line} of column {shown(self.name)}, expected numbers or text alone"
                )

    def _refuse(self, line: int, cell: str, wanted: str) -> None:
        raise ColumnError(
            f"{self.path} has {shown(cell)} in line {line}, column {shown(self.name)}, expected "
            f"{wanted}"
        )


def is_header(first: Sequence[str], below: Iterator[list[str]]) -> bool:
    """True for a first row that holds names: text above a number, with gaps between or not.

    A date above a date of the same form is no name. If no column decides it, the first row is a
    header if it has text and no number.
    """
    names = {i for i, c in enumerate(first) if not is_gap(c) and not is_like_a_number(c)}
    if not names:
        return False
    decided = False
    for row in below:
        for i in names.intersection(range(len(row))):
            if is_gap(row[i]):
                continue
            if any(map(str.isdigit, row[i])) and _form(row[i]) == _form(first[i]):
                return False
            decided |= is_like_a_number(row[i])
            names.remove(i)
        if not names or decided:
            break
    return decided or not any(map(is_like_a_number, first))


def _form(cell: str) -> str:
    """A cell with all of its digits alike, as 0000-00-00."""
    return re.sub(r"\d", "0", cell.strip())
