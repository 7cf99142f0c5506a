"""The way back through a layer, which is walked once."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def once(way_back: Callable[P, R], owner: str) -> Callable[P, R]:
    """`way_back`, which a second call refuses; what it holds on to is freed by the first one."""
    remaining = [way_back]

    def pullback(*args: P.args, **kwargs: P.kwargs) -> R:
        if not remaining:
            raise RuntimeError(
                f"this pullback of {owner} was called before, expected one call for each vjp"
            )
        return remaining.pop()(*args, **kwargs)

    return pullback
