"""A learned mix of the layers of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fastrnn import _core
from fastrnn._arrays import MAX_LAYERS, ArrayLike, FloatArray, as_float32, as_size
from fastrnn.nn.embedding import check_shape
from fastrnn.nn.module import Module, one_after_another
from fastrnn.nn.pullback import adding_to, once
from fastrnn.nn.registry import registered


@registered
class ScalarMix(Module):
    """y = gamma * sum_k softmax(weight)_k x_k: `size` arrays of one shape (*) -> (*).

    What a task takes from all layers of a language model, as its `embed_layers` gives them. Starts
    with equal shares and gamma 1. Parameters: weight (size,), gamma (1,). Source: Peters et al.,
    Deep contextualized word representations, 2018; AllenNLP's ScalarMix.
    """

    _derived = Module._derived | {"_factors"}
    _factors: tuple[int, list[float]] | None = None  # of which version

    _options = ("size",)

    def __init__(self, size: int) -> None:
        self.size = as_size(size, "size", MAX_LAYERS + 1)
        self._allocate(one_after_another([("weight", (self.size,)), ("gamma", (1,))]))
        self._fill()

    def reset_parameters(self, seed: int | None = None) -> None:
        """Set weight to 0 and gamma to 1."""
        self.parameters["weight"].fill(0.0)
        self.parameters["gamma"].fill(1.0)
        self.repack()

    @property
    def shares(self) -> FloatArray:
        """softmax(weight) (size,): how much of each layer is in the mix."""
        wide = self.parameters["weight"].astype(np.float64)
        powers = np.exp(wide - wide.max())
        shares: FloatArray = (powers / powers.sum()).astype(np.float32)
        return shares

    def __call__(self, layers: Sequence[ArrayLike]) -> FloatArray:
        """The mix of `size` arrays (*)."""
        return self._mixed(layers if isinstance(layers, (list, tuple)) else list(layers))

    def vjp(
        self, layers: Sequence[ArrayLike]
    ) -> tuple[FloatArray, Callable[[ArrayLike], list[FloatArray]]]:
        """y as the call gives it, and pullback(dy) -> the gradients of all layers."""
        x = [as_float32(part, f"layers[{k}]") for k, part in enumerate(layers)]
        y = self._mixed(x)

        def pullback(dy: ArrayLike) -> list[FloatArray]:
            dy = as_float32(dy, "dy")
            check_shape(dy, x[0].shape, "dy")
            shares, gamma = self.shares, self.parameters["gamma"][0]
            slopes = np.array([(dy * part).sum(dtype=np.float64) for part in x])
            mean = (shares * slopes).sum()  # dy . sum_k s_k x_k
            dweight = (gamma * shares * (slopes - mean)).astype(np.float32)
            with adding_to(self.flat_grad):
                self.grads["gamma"] += np.float32(mean)
                self.grads["weight"] += dweight
            return [dy * factor for factor in gamma * shares]

        return y, once(pullback, "a ScalarMix")

    def _mixed(self, layers: Sequence[ArrayLike]) -> FloatArray:
        if len(layers) != self.size:
            raise ValueError(f"layers has {len(layers)} arrays, this ScalarMix expects {self.size}")
        y: FloatArray | None = None
        for k, factor in enumerate(self._current_factors()):
            y = _core.add_scaled(layers[k], factor, y, f"layers[{k}]")
        assert y is not None
        return y

    def _current_factors(self) -> list[float]:
        """gamma times the shares, made anew after every `repack`."""
        version, found = self._version, self._factors
        if found is None or found[0] != version:
            factors = (self.parameters["gamma"][0] * self.shares).tolist()
            found = self._factors = version, factors
        return found[1]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.size})"
