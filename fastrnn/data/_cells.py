"""Kinds of a table's cells: a number, a gap, text written like a number, or other text."""

from __future__ import annotations

import math
import re

_GAPS = {
    "", "na", "n/a", "n.a.", "<na>", "nan", "+nan", "-nan", "nat", "null", "none", "nil",
    "missing", "nodata", "no data", "\\n", "-", "--", "---", "\u2013", "\u2014", "?", "??",
    ".", "..", "...", "*",
    "#n/a", "#na", "#nv", "#value!", "#div/0!", "#num!", "#ref!", "#name?", "#null!", "1.#qnan",
    "1.#ind", "-1.#ind",
}  # fmt: skip
_GROUP = r"[ ,.'_\u2019\u00a0\u2009\u202f]"  # separators of thousands
_LIKE_A_NUMBER = re.compile(
    r"[+\-\u2212]?\s*[$\u20ac\u00a3\u00a5]?\s*"
    rf"(\d{{1,3}}({_GROUP}\d{{2,3}})*{_GROUP}\d{{3}}([.,]\d*)?|\d+([.,_]\d*)?|[.,]\d+)"
    r"(e[+\-]?\d+)?\s*[%\u2030\u20ac]?",
    re.IGNORECASE,
)
_INTEGER = re.compile(r"\s*[+-]?0*(\d+)\s*")
EXACT = 2.0**53  # below it float64 holds every integer


def is_gap(cell: str) -> bool:
    """True for a cell that stands for a missing number."""
    return len(cell) < 32 and cell.strip().casefold() in _GAPS


def is_like_a_number(cell: str) -> bool:
    """True for text that a person reads as a number, as with a decimal comma or thousands."""
    try:
        float(cell)
    except ValueError:
        visible = cell if cell.isprintable() else "".join(filter(str.isprintable, cell))
        return _LIKE_A_NUMBER.fullmatch(visible.strip()) is not None
    return not is_gap(cell)


def fault(cell: str) -> str | None:
    """Expectation for an error message; None for a number that float64 holds."""
    if is_gap(cell):
        return "a number and no gap"
    try:
        value = math.nan if "_" in cell else float(cell)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        if is_like_a_number(cell):
            return "a number with a point before its decimals and no other signs"
        return "a number"
    if math.isinf(value):
        return "a number that float64 can hold"
    digits = _INTEGER.fullmatch(cell) if abs(value) >= EXACT else None
    if digits and int(digits[1]) != abs(value):
        return "a number that float64 can hold exactly"
    return None
