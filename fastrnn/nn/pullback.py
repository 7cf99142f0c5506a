"""Pullbacks that are callable once, and gradients that several threads add to."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from threading import Lock
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

# Buffers of gradients share these locks, so that no buffer has to carry one: copies, views and
# pickles of gradients stay plain arrays. Two buffers that meet in one lock wait for each other.
_NUM_LOCKS = 61
_locks: list[Lock] = []


def _renew_locks() -> None:
    """Locks that nobody holds; a forked child has none of the threads that held the old ones."""
    _locks[:] = [Lock() for _ in range(_NUM_LOCKS)]


_renew_locks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)


def adding_to(*gradients: Any) -> AbstractContextManager[Any]:
    """While it is entered, no other thread adds to these arrays (None: no array) or their owners.

    The owner of an array is the buffer that it is a view of, so tied parameters have one lock.
    """
    places = {_place(array) for array in gradients if array is not None}
    if len(places) == 1:
        return _locks[places.pop()]
    stack = ExitStack()
    for place in sorted(places):  # the same order for all threads
        stack.enter_context(_locks[place])
    return stack


def _place(array: Any) -> int:
    owner = array if array.base is None else array.base
    return (id(owner) >> 4) % _NUM_LOCKS


def once(way_back: Callable[P, R], owner: str) -> Callable[P, R]:
    """`way_back`, which a second call refuses; what it holds on to is freed by the first one."""
    remaining = [way_back]

    def pullback(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            only = remaining.pop()  # of several threads, one succeeds
        except IndexError:
            raise RuntimeError(
                f"this pullback of {owner} was called before, expected one call for each vjp"
            ) from None
        return only(*args, **kwargs)

    return pullback
