"""The affine map."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
from fastrnn._module import Module, fill_uniform, one_after_another
from fastrnn._pullback import once
from fastrnn.layers.embedding import check_shape


class Linear(Module):
    """y = x W^T + b: x (*, in_features) -> (*, out_features).

    Starts uniform in +-1/sqrt(in_features). Source: torch.nn.Linear.
    """

    _owner: Module | None = None  # of the weight, if that is tied
    _packed_version = 0  # the owner's, when its weight was packed
    _transposed: _core.Dense | None = None  # for the way back
    _transposed_is_current = False

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        self.in_features = as_size(in_features, "in_features", MAX_SIZE)
        self.out_features = as_size(out_features, "out_features", MAX_SIZE)
        self.bias = as_flag(bias, "bias")
        self._dense, self._dense_is_shared = self._new_dense(), False
        shape = (self.out_features, self.in_features)
        shapes: list[tuple[str, tuple[int, ...]]] = [("weight", shape)]
        self._allocate(one_after_another(shapes + [("bias", shape[:1])] * bias))
        self._fill()

    @property
    def config(self) -> dict[str, Any]:
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias,
        }

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw all parameters anew."""
        fill_uniform(self.flat, self.in_features**-0.5, seed)
        self.repack()

    def repack(self) -> None:
        self._pack()
        super().repack()

    def _pack(self) -> None:
        # A stream keeps the weights it was made with.
        dense = self._new_dense() if self._dense_is_shared else self._dense
        version = 0 if self._owner is None else self._owner._version
        dense.pack(self.parameters["weight"], self.parameters.get("bias"))
        self._dense, self._dense_is_shared, self._packed_version = dense, False, version
        self._transposed_is_current = False

    def tie(self, owner: Module) -> None:
        """From now on use the weight (out_features, in_features) of `owner`.

        What changes it there and calls `owner.repack()` changes it here. Among the parts of a model
        the owner comes first, so that its tensors have moved when this module's do.
        """
        bias = self.parameters.get("bias")
        self._owner = owner
        self._allocate(one_after_another([] if bias is None else [("bias", bias.shape)]))
        if bias is not None:
            self.parameters["bias"][...] = bias
        self.repack()

    def _live_in(self, flat: FloatArray, flat_grad: FloatArray) -> None:
        super()._live_in(flat, flat_grad)
        if self._owner is not None:
            self.parameters = {"weight": self._owner.parameters["weight"], **self.parameters}
            self.grads = {"weight": self._owner.grads["weight"], **self.grads}

    def _follow(self) -> None:
        """Pack a tied weight anew if its owner was changed by itself.

        Into new memory: another thread's call may be reading the old one.
        """
        if self._owner is not None and self._packed_version != self._owner._version:
            self._dense_is_shared = True
            self._pack()

    def _shared_dense(self) -> _core.Dense:
        """The packed weights, never to be written again."""
        self._follow()
        self._dense_is_shared = True
        return self._dense

    def _new_dense(self) -> _core.Dense:
        return _core.Dense(self.in_features, self.out_features, self.bias)

    def __call__(self, x: ArrayLike) -> FloatArray:
        """The map applied to every vector of x."""
        return self._forward(self._checked(x))

    def vjp(self, x: ArrayLike) -> tuple[FloatArray, Callable[[ArrayLike], FloatArray]]:
        """y as the call gives it, and a pullback (*, out_features) -> (*, in_features).

        x and the parameters must stay as they are until the pullback is called.
        """
        x = self._checked(x)
        y = self._forward(x)

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
        _core.linear_gradient(inputs, outputs, self.grads["weight"], self.grads.get("bias"))
        rows = dy.reshape(-1, self.out_features)
        self._back().forward(rows, dx.reshape(-1, self.in_features))
        return dx

    def _back(self) -> _core.Dense:
        """The map y -> y W, packed."""
        self._follow()
        if self._transposed is None:
            self._transposed = _core.Dense(self.out_features, self.in_features, False)
        if not self._transposed_is_current:
            self._transposed.pack_transposed(self.parameters["weight"])
            self._transposed_is_current = True
        return self._transposed

    def _checked(self, value: ArrayLike) -> FloatArray:
        x = as_float32(value, "x")
        if x.ndim == 0:
            raise ValueError("x has 0 dimensions, this Linear expects at least 1")
        if x.shape[-1] != self.in_features:
            raise ValueError(
                f"x has {x.shape[-1]} features, this Linear expects {self.in_features}"
            )
        return x

    def _forward(self, x: FloatArray) -> FloatArray:
        self._follow()
        y = np.empty((*x.shape[:-1], self.out_features), np.float32)
        if y.size:
            self._dense.forward(x.reshape(-1, self.in_features), y.reshape(-1, self.out_features))
        return y

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.config.items())
        return f"Linear({options})"
