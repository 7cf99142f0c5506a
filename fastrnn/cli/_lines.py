"""Texts from standard input."""

from __future__ import annotations

import sys


def lines_of_input() -> list[str]:
    """Standard input's lines that are not blank; ValueError if there are none."""
    found = [line for line in (line.rstrip("\r\n") for line in sys.stdin) if line.strip()]
    if not found:
        raise ValueError("there is no text in the input")
    return found
