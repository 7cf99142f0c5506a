"""The layers around a recurrent one: Embedding and Linear."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastrnn import _core
from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    as_flag,
    as_float32,
    as_int64,
    as_seed,
    as_size,
    check_indices,
)
from fastrnn._module import Module, fill_uniform, one_after_another


class Embedding(Module):
    """A table of vectors: indices (*) ints from 0 to num-1 -> (*, dim).

    Starts as standard normal draws. Source: torch.nn.Embedding.
    """

    def __init__(self, num: int, dim: int) -> None:
        self.num = as_size(num, "num")
        self.dim = as_size(dim, "dim", MAX_SIZE)
        self._allocate(one_after_another([("weight", (self.num, self.dim))]))
        self._fill()

    @property
    def weight(self) -> FloatArray:
        """The table (num, dim), a view."""
        return self.parameters["weight"]

    @property
    def config(self) -> dict[str, Any]:
        return {"num": self.num, "dim": self.dim}

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw all parameters anew."""
        generator = np.random.default_rng(as_seed(seed))
        generator.standard_normal(dtype=np.float32, out=self.weight)
        self.repack()

    def __call__(self, indices: ArrayLike) -> FloatArray:
        """The vectors at `indices`, a copy; an index outside is a ValueError."""
        positions = as_int64(indices, "indices")
        check_indices(positions, self.num, "indices")
        return np.take(self.weight, positions, axis=0)


class Linear(Module):
    """y = x W^T + b: x (*, in_features) -> (*, out_features).

    Starts uniform in +-1/sqrt(in_features). Source: torch.nn.Linear.
    """

    _tied: tuple[FloatArray, FloatArray] | None = None  # another module's weight and its gradient

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
        if self._dense_is_shared:  # by a stream, which keeps the weights it was made with
            self._dense, self._dense_is_shared = self._new_dense(), False
        self._dense.pack(self.parameters["weight"], self.parameters.get("bias"))
        super().repack()

    def tie(self, weight: FloatArray, grad: FloatArray) -> None:
        """From now on use `weight` (out_features, in_features), which another module owns."""
        bias = self.parameters.get("bias")
        self.share(weight, grad)
        self._allocate(one_after_another([] if bias is None else [("bias", bias.shape)]))
        if bias is not None:
            self.parameters["bias"][...] = bias
        self.repack()

    def share(self, weight: FloatArray, grad: FloatArray) -> None:
        """The tied weight has a new place."""
        self._tied = weight, grad
        self.parameters["weight"], self.grads["weight"] = weight, grad

    def _live_in(self, flat: FloatArray, flat_grad: FloatArray) -> None:
        super()._live_in(flat, flat_grad)
        if self._tied is not None:
            weight, grad = self._tied
            self.parameters = {"weight": weight, **self.parameters}
            self.grads = {"weight": grad, **self.grads}

    def _shared_dense(self) -> _core.Dense:
        """The packed weights, never to be written again."""
        self._dense_is_shared = True
        return self._dense

    def _new_dense(self) -> _core.Dense:
        return _core.Dense(self.in_features, self.out_features, self.bias)

    def __call__(self, x: ArrayLike) -> FloatArray:
        """The map applied to every vector of x."""
        x = as_float32(x, "x")
        if x.ndim == 0:
            raise ValueError("x has 0 dimensions, this Linear expects at least 1")
        if x.shape[-1] != self.in_features:
            raise ValueError(
                f"x has {x.shape[-1]} features, this Linear expects {self.in_features}"
            )
        y = np.empty((*x.shape[:-1], self.out_features), np.float32)
        if y.size:
            self._dense.forward(x.reshape(-1, self.in_features), y.reshape(-1, self.out_features))
        return y

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in self.config.items())
        return f"Linear({options})"
