"""Modules that are made to be loaded: without first values, and no larger than their file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from fastrnn._arrays import ArrayLike
from fastrnn._errors import with_article

_unfilled: ContextVar[bool] = ContextVar("unfilled", default=False)


_FEW = 1 << 16  # numbers that any file may ask for, and be told in detail that they do not fit

# How many numbers a file holds, while a module is made of what the file says.
_at_hand: ContextVar[int | None] = ContextVar("at_hand", default=None)


@contextmanager
def only_from(tensors: Mapping[str, ArrayLike]) -> Iterator[None]:
    """No layer made inside may have more parameters than there are numbers in these tensors.

    So a description of a few bytes cannot ask for more memory than the tensors take themselves,
    times the layers that one model is made of; what fits no better is told when it is loaded.
    """
    token = _at_hand.set(sum(int(np.size(tensor)) for tensor in tensors.values()))
    try:
        yield
    finally:
        _at_hand.reset(token)


def check_at_hand(kind: str, specs: Iterable[tuple[str, tuple[int, ...], int]]) -> None:
    """ValueError for a layer that is larger than what it is made from, before it takes memory."""
    at_hand = _at_hand.get()
    if at_hand is None:
        return
    sizes = [(math.prod(shape), name, shape) for name, shape, _ in specs]
    count = sum(size for size, _, _ in sizes)
    if count > max(at_hand, _FEW):
        _, name, shape = max(sizes)
        raise ValueError(
            f"cannot allocate the {count} numbers of {with_article(kind)}, {name} {shape} and "
            f"others: these parameters do not fit a file that holds {at_hand} in all"
        )


@contextmanager
def unfilled() -> Iterator[None]:
    """Modules made inside keep zeros, unpacked, because they are about to be loaded."""
    token = _unfilled.set(True)
    try:
        yield
    finally:
        _unfilled.reset(token)


def is_unfilled() -> bool:
    """Whether modules that are made now are about to be loaded."""
    return _unfilled.get()
