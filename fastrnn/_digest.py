"""A fingerprint of the values of arrays, at a cost that is bounded however large they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from fastrnn._arrays import AnyArray

# Values of one array of which all are read, in about half a second. Of a larger one as many are
# read, in pieces that are spread evenly from its first value to its last.
WHOLE = 1 << 26
_PIECE = 1 << 13


def digest_of(arrays: Iterable[AnyArray]) -> str:
    """The same text for arrays of the same shapes and values, whatever their layout and width."""
    from hashlib import blake2b  # loads OpenSSL: not at import

    digest = blake2b(digest_size=16)
    for array in arrays:
        kind = "i" if array.dtype.kind == "u" else array.dtype.kind
        digest.update(f"{kind}{array.shape}".encode())
        for piece in _pieces(array.reshape(1) if array.ndim == 0 else array):
            digest.update(_plain(piece))
    return digest.hexdigest()


def arrays_of(tree: Any) -> list[AnyArray]:
    """The arrays of a batch: of one value, or of nested tuples of them; None has none."""
    if tree is None:
        return []
    if isinstance(tree, tuple):
        return [array for part in tree for array in arrays_of(part)]
    return [np.asarray(tree)]


def _pieces(array: AnyArray) -> Iterator[AnyArray]:
    """All of the array, or some of its rows from everywhere."""
    rows = max(1, _PIECE // max(1, array[:1].size))
    starts = np.arange(0, len(array), rows)
    if array.size > WHOLE and len(starts) > WHOLE // _PIECE:
        starts = np.linspace(0, len(array) - rows, WHOLE // _PIECE).astype(np.int64)
    for start in starts.tolist():
        yield array[start : start + rows]


def _plain(piece: AnyArray) -> bytes:
    """The values in the widest type of their kind."""
    if piece.dtype.hasobject:
        return repr(piece.tolist()).encode()
    wide = {"i": np.int64, "u": np.int64, "f": np.float64}.get(piece.dtype.kind)
    return (piece if wide is None else piece.astype(wide)).tobytes()
