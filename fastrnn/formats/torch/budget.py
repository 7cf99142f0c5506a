"""Limits of the walk over a pickle's object, by the size of the pickle."""

from __future__ import annotations

from fastrnn.formats.errors import CheckpointError

__all__ = ["Budget"]

# Every entry of a dictionary takes three bytes or more of the pickle, so that only dictionaries
# which are shared can come to more. Text: names repeat the prefixes of the dictionaries above.
FREE_ENTRIES = 10_000
FREE_TEXT = 1 << 20
TEXT_RATIO = 64


class Budget:
    """Entries to visit and characters of names to make, each linear in the pickle's bytes."""

    def __init__(self, nbytes: int) -> None:
        self._entries = FREE_ENTRIES + nbytes
        self._text = FREE_TEXT + TEXT_RATIO * nbytes
        self._nbytes = nbytes

    def spend(self, entries: int) -> None:
        """Count `entries`; CheckpointError when they are too many."""
        self._entries -= entries
        if self._entries < 0:
            raise CheckpointError(
                f"dictionaries that are shared unfold to more than {FREE_ENTRIES + self._nbytes} "
                f"entries, from a pickle of {self._nbytes} bytes"
            )

    def name(self, prefix: str, key: str) -> str:
        """`prefix + key`; CheckpointError when all names together are too long."""
        self._text -= len(prefix) + len(key)
        if self._text < 0:
            limit = FREE_TEXT + TEXT_RATIO * self._nbytes
            raise CheckpointError(f"the names in the checkpoint exceed {limit} characters")
        return prefix + key
