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
_TIMES = 4  # how often the numbers of a file may be allocated, as those that are tied are at first
_MOST_MODULES = 10_000  # of one file


class _AtHand:
    """Limits of a module while it is made of what a file says."""

    def __init__(self, size: int) -> None:
        self.size = size  # numbers in the file
        self.left = _TIMES * size + _FEW
        self.modules = _MOST_MODULES


_at_hand: ContextVar[_AtHand | None] = ContextVar("at_hand", default=None)


@contextmanager
def only_from(tensors: Mapping[str, ArrayLike]) -> Iterator[None]:
    """No layer made inside may have more parameters than there are numbers in these tensors.

    Nor may all together have many more, nor be there very many of them: so a description of a few
    bytes cannot ask for more memory than a few times that of the tensors. What fits no better is
    told when it is loaded.
    """
    token = _at_hand.set(_AtHand(sum(int(np.size(tensor)) for tensor in tensors.values())))
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
    if count > max(at_hand.size, _FEW):
        _, name, shape = max(sizes)
        raise ValueError(
            f"cannot allocate the {count} numbers of {with_article(kind)}, {name} {shape} and "
            f"others: these parameters do not fit a file that holds {at_hand.size} in all"
        )


def take(kind: str, specs: Iterable[tuple[str, tuple[int, ...], int]]) -> None:
    """As `check_at_hand`, for a layer that takes its memory now, and for all of them together."""
    specs = list(specs)
    check_at_hand(kind, specs)
    at_hand = _at_hand.get()
    if at_hand is None:
        return
    at_hand.left -= sum(math.prod(shape) for _, shape, _ in specs)
    at_hand.modules -= 1
    if at_hand.modules < 0:
        raise ValueError(f"there are more than {_MOST_MODULES} modules in one file")
    if at_hand.left < 0:
        raise ValueError(
            f"cannot allocate {with_article(kind)} as well: together these parameters do not fit "
            f"a file that holds {at_hand.size} in all"
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
    """True while modules are made to be loaded at once."""
    return _unfilled.get()
