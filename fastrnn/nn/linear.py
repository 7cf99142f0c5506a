"""The affine map."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastrnn import _core
from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    as_flag,
    as_float32,
    as_size,
)
from fastrnn.nn.embedding import check_shape
from fastrnn.nn.module import Module, fill_uniform, one_after_another
from fastrnn.nn.pullback import adding_to, once
from fastrnn.nn.registry import registered


@registered
class Linear(Module):
    """y = x W^T + b: x (*, in_features) -> (*, out_features).

    Starts uniform in +-1/sqrt(in_features). Source: torch.nn.Linear.
    """

    _derived = Module._derived | {"_dense", "_packed", "_transposed"}
    _packed: tuple[int, ...] = ()  # versions of what was packed
    # For the backward pass, and the versions that it is made of.
    _transposed: tuple[tuple[int, ...], _core.Dense] | None = None

    _options = ("in_features", "out_features", "bias")

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features = as_size(in_features, "in_features", MAX_SIZE)
        self.out_features = as_size(out_features, "out_features", MAX_SIZE)
        self.bias = as_flag(bias, "bias")
        shape = (self.out_features, self.in_features)
        shapes: list[tuple[str, tuple[int, ...]]] = [("weight", shape)]
        self._allocate(one_after_another(shapes + [("bias", shape[:1])] * bias))
        self._dense = _core.Dense(self.in_features, self.out_features, self.bias)
        self._fill()

    @property
    def _reads(self) -> int:
        return self.in_features

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw all parameters anew; a tied weight is left to its owner."""
        fill_uniform(self.flat, self.in_features**-0.5, seed)
        self.repack()

    def _reset_tied(self, seed: int | None) -> None:
        if "weight" in self._tied:
            fill_uniform(self.parameters["weight"], self.in_features**-0.5, seed)
            self.repack()

    def repack(self) -> None:
        super().repack()
        self._pack()

    def _pack(self) -> None:
        versions = self._versions()
        weight, bias = self.parameters["weight"], self.parameters.get("bias")
        self._dense = self._dense.renewed(weight, bias)  # streams and calls keep the old one
        self._packed = versions

    def _follow(self) -> None:
        """Pack tied parameters anew if they were changed through their owner."""
        if self._tied and self._packed != self._versions():
            self._pack()

    def _restore(self, parameters: dict[str, FloatArray], gradients: dict[str, FloatArray]) -> None:
        self._dense = _core.Dense(self.in_features, self.out_features, self.bias)
        super()._restore(parameters, gradients)

    def trim(self) -> None:
        self._dense.store.trim()

    def _shared_dense(self) -> _core.Dense:
        """The packed weights, which are never written again."""
        self._follow()
        return self._dense

    def __call__(self, x: ArrayLike) -> FloatArray:
        """The map applied to every vector of x."""
        self._follow()
        return self._dense.run(x, self)

    def vjp(self, x: ArrayLike) -> tuple[FloatArray, Callable[[ArrayLike], FloatArray]]:
        """y as the call gives it, and a pullback (*, out_features) -> (*, in_features).

        x and the parameters must stay as they are until the pullback is called.
        """
        x = as_float32(x, "x")
        self._follow()
        y = self._dense.run(x, self)

        def pullback(dy: ArrayLike) -> FloatArray:
            dy = as_float32(dy, "dy")
            check_shape(dy, y.shape, "dy")
            return self._backward(x, dy)

        return y, once(pullback, "a Linear")

    def _backward(self, x: FloatArray, dy: FloatArray) -> FloatArray:
        """dx = dy W; dW += dy^T x and db += the sum of dy, the last step first."""
        dx = np.zeros_like(x)
        if not x.size:
            return dx
        steps = len(x) if x.ndim > 1 else 1
        inputs = x.reshape(steps, -1, self.in_features)
        outputs = dy.reshape(steps, -1, self.out_features)
        weight, bias = self.grads["weight"], self.grads.get("bias")
        with adding_to(weight, bias):
            _core.linear_gradient(inputs, outputs, weight, bias)
        rows = dy.reshape(-1, self.out_features)
        self._back().forward(rows, dx.reshape(-1, self.in_features))
        return dx

    def _back(self) -> _core.Dense:
        """The map y -> y W, packed."""
        self._follow()
        version, found = self._packed, self._transposed
        if found is None or found[0] != version:
            self._dense.store.trained = True
            blank = _core.Dense(self.out_features, self.in_features) if found is None else found[1]
            blank.store.trained = True
            found = version, blank.renewed_transposed(self.parameters["weight"])
            self._transposed = found
        return found[1]

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.config.items())
        return f"{type(self).__name__}({options})"
