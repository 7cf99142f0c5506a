"""A head for a few of its outputs: decoding over a large vocabulary."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np

from fastrnn import _core
from fastrnn._arrays import (
    ArrayLike,
    FloatArray,
    as_int64,
    check_indices,
    with_article,
)
from fastrnn.nn.linear import Linear


class Shortlist:
    """The outputs `ids` (K,) of a linear head, without computing the others.

    x (*, in_features) -> (*, K), in the order of `ids`, which are distinct ints from 0 to
    out_features - 1. Keeps the weights that the head had when it was made. Source: Jean et al., On
    using very large target vocabulary for neural machine translation, 2015.
    """

    def __init__(self, head: Linear, ids: ArrayLike) -> None:
        if not isinstance(head, Linear):
            kind = with_article(type(head).__name__)
            raise TypeError(f"head is {kind}, expected a fastrnn.Linear, such as model.head")
        self.ids = as_int64(ids, "ids").copy()
        if self.ids.ndim != 1 or not self.ids.size:
            raise ValueError(f"ids has shape {self.ids.shape}, expected ids in one dimension")
        if np.unique(self.ids).size < self.ids.size:
            raise ValueError("ids holds an id twice, expected distinct ones")
        check_indices(self.ids, head.out_features, "ids")
        self.in_features, self.out_features = head.in_features, head.out_features
        bias = head.parameters["bias"][self.ids] if head.bias else None
        self._pack(head.parameters["weight"][self.ids], bias)

    def _pack(self, weight: FloatArray, bias: FloatArray | None) -> None:
        self._weight, self._bias = weight, bias
        blank = _core.Dense(self.in_features, len(self.ids), bias is not None)
        self.dense = blank.renewed(weight, bias)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "dense"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._pack(self._weight, self._bias)

    def __copy__(self) -> Shortlist:
        return deepcopy(self)

    def __call__(self, x: ArrayLike) -> FloatArray:
        """The listed outputs."""
        return self.dense.run(x, self)

    def full(self, x: ArrayLike) -> FloatArray:
        """The same among all outputs (*, out_features), -inf for those that are not listed."""
        y = self(x)
        logits = np.full((*y.shape[:-1], self.out_features), -np.inf, np.float32)
        logits[..., self.ids] = y
        return logits

    def __repr__(self) -> str:
        return f"Shortlist({len(self.ids)} of {self.out_features} outputs)"
