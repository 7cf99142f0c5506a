"""Layer normalisation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastrnn import _core
from fastrnn._arrays import MAX_SIZE, ArrayLike, FloatArray, as_float, as_float32, as_size, shown
from fastrnn.nn.embedding import check_shape
from fastrnn.nn.module import Module, one_after_another
from fastrnn.nn.pullback import adding_to, once
from fastrnn.nn.registry import registered


@registered
class LayerNorm(Module):
    """y = (x - mean) / sqrt(variance + eps) * weight + bias over the last axis: (*, size).

    Means and variances are summed in float64. Starts with weight 1 and bias 0.
    Source: torch.nn.LayerNorm; Ba, Kiros and Hinton 2016.
    """

    _options = ("size", "eps")

    def __init__(self, size: int, eps: float = 1e-5) -> None:
        self.size = as_size(size, "size", MAX_SIZE)
        self.eps = as_float(eps)
        if not 0 < self.eps < 1:
            raise ValueError(f"eps is {shown(eps)}, expected a number between 0 and 1")
        self._allocate(one_after_another([("weight", (self.size,)), ("bias", (self.size,))]))
        self._fill()

    @property
    def _reads(self) -> int:
        return self.size

    def reset_parameters(self, seed: int | None = None) -> None:
        """Set weight to 1 and bias to 0."""
        self.parameters["weight"].fill(1.0)
        self.parameters["bias"].fill(0.0)
        self.repack()

    def __call__(self, x: ArrayLike) -> FloatArray:
        """Every vector of x, normalised."""
        p = self.parameters
        return _core.layer_norm(x, p["weight"], p["bias"], self.eps, self)

    def vjp(self, x: ArrayLike) -> tuple[FloatArray, Callable[[ArrayLike], FloatArray]]:
        """y as the call gives it, and a pullback (*, size) -> (*, size).

        The parameters must stay as they are until the pullback is called.
        """
        x = as_float32(x, "x")
        weight, bias = self.parameters["weight"], self.parameters["bias"]
        normal = np.empty((x.size // self.size, self.size), np.float32)
        inverse = np.empty(len(normal), np.float32)
        y = _core.layer_norm(x, weight, bias, self.eps, self, normal, inverse)
        shape = y.shape

        def pullback(dy: ArrayLike) -> FloatArray:
            dy = as_float32(dy, "dy")
            check_shape(dy, shape, "dy")
            dweight, dbias = self.grads["weight"], self.grads["bias"]
            with adding_to(dweight, dbias):
                return _core.layer_norm_back(dy, weight, normal, inverse, dweight, dbias, self)

        return y, once(pullback, "a LayerNorm")
