"""Nested states as JSON with the arrays beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastrnn._arrays import AnyArray

_ARRAY, _TUPLE = "__array__", "__tuple__"


def split(tree: Any, name: str, arrays: dict[str, AnyArray]) -> Any:
    """The JSON part of `tree`; its arrays go into `arrays` under names that start with `name`."""
    if isinstance(tree, np.ndarray):
        arrays[name] = tree
        return {_ARRAY: name}
    if isinstance(tree, np.generic):
        return tree.item()
    if isinstance(tree, Mapping):
        return {str(key): split(part, f"{name}/{key}", arrays) for key, part in tree.items()}
    if isinstance(tree, (list, tuple)):
        parts = [split(part, f"{name}/{i}", arrays) for i, part in enumerate(tree)]
        return {_TUPLE: parts} if isinstance(tree, tuple) else parts
    if tree is None or isinstance(tree, (bool, int, float, str)):
        return tree
    raise TypeError(f"{name} is a {type(tree).__name__}, expected numbers, text and arrays")


def join(tree: Any, arrays: Mapping[str, AnyArray]) -> Any:
    """The inverse of `split`."""
    if isinstance(tree, list):
        return [join(part, arrays) for part in tree]
    if not isinstance(tree, dict):
        return tree
    if _ARRAY in tree:
        return arrays[tree[_ARRAY]].copy()
    if _TUPLE in tree:
        return tuple(join(part, arrays) for part in tree[_TUPLE])
    return {key: join(part, arrays) for key, part in tree.items()}
