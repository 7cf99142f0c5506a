"""Learned maps of every channel by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn import _core
from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    as_array,
    as_finite,
    as_float,
    as_float32,
    as_size,
)
from fastrnn.nn.module import Module, one_after_another
from fastrnn.nn.pullback import adding_to, once
from fastrnn.nn.registry import registered

if TYPE_CHECKING:
    from typing_extensions import Self


@registered
class ScaleShift(Module):
    """y = x weight + bias for every channel: x (*, num_features) -> (*, num_features).

    What a batch normalisation is once its statistics are fixed: see `from_batch_norm`. Parameters:
    weight (num_features,), which starts at 1, and bias (num_features,), which starts at 0.
    """

    _options = ("num_features",)

    def __init__(self, num_features: int) -> None:
        self.num_features = as_size(num_features, "num_features", MAX_SIZE)
        shape = (self.num_features,)
        self._allocate(one_after_another([("weight", shape), ("bias", shape)]))
        self._fill()

    @property
    def _reads(self) -> int:
        return self.num_features

    @classmethod
    def from_batch_norm(
        cls,
        weight: ArrayLike | None,
        bias: ArrayLike | None,
        running_mean: ArrayLike,
        running_var: ArrayLike,
        eps: float = 1e-5,
    ) -> Self:
        """The map (x - mean) / sqrt(var + eps) * weight + bias, folded in float64.

        weight None stands for ones, bias None for zeros. Source: torch.nn.BatchNorm1d in eval mode.
        """
        mean, variance = _vector(running_mean, "running_mean"), _vector(running_var, "running_var")
        scale = np.ones_like(mean) if weight is None else _vector(weight, "weight")
        shift = np.zeros_like(mean) if bias is None else _vector(bias, "bias")
        for name, vector in (("running_var", variance), ("weight", scale), ("bias", shift)):
            if vector.shape != mean.shape:
                raise ValueError(f"{name} has shape {vector.shape}, expected {mean.shape}")
        if not as_float(eps) >= 0 or not np.all(variance + float(eps) > 0):
            raise ValueError("running_var + eps must be above 0, got a value that is not")
        scale = scale / np.sqrt(variance + float(eps))
        made = cls(len(mean))
        made.load_state_dict({"weight": scale, "bias": shift - mean * scale})
        return made

    def reset_parameters(self, seed: int | None = None) -> None:
        """Set weight to 1 and bias to 0."""
        self.parameters["weight"].fill(1.0)
        self.parameters["bias"].fill(0.0)
        self.repack()

    def __call__(self, x: ArrayLike) -> FloatArray:
        """Every vector of x, scaled and shifted."""
        p = self.parameters
        return _core.scale_channels(x, p["weight"], p["bias"], self)

    def vjp(self, x: ArrayLike) -> tuple[FloatArray, Callable[[ArrayLike], FloatArray]]:
        """y as the call gives it, and a pullback (*, num_features) -> (*, num_features).

        x and the parameters must stay as they are until the pullback is called.
        """
        x = as_float32(x, "x")
        weight, bias = self.parameters["weight"], self.parameters["bias"]
        y = _core.scale_channels(x, weight, bias, self)

        def pullback(dy: ArrayLike) -> FloatArray:
            with adding_to(self.flat_grad):
                return _core.scale_channels_back(
                    x, weight, dy, self.grads["weight"], self.grads["bias"], self
                )

        return y, once(pullback, "a ScaleShift")


@registered
class PReLU(Module):
    """y = x where x > 0, else weight x: x (*, C), weight (1,) for all channels or (C,).

    Channels come last, unlike torch.nn.PReLU's second axis. Source: torch.nn.PReLU.
    """

    _options = ("num_parameters", "init")
    _keeps_shape = True
    _derived = Module._derived | {"_repeated"}
    _repeated: tuple[int, FloatArray] | None = None  # for many channels: of which version, what

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        count = as_size(num_parameters, "num_parameters", MAX_SIZE)
        self.init = as_finite(init, "init")
        self._allocate(one_after_another([("weight", (count,))]))
        self._fill()

    @property
    def _reads(self) -> int | None:
        return self.num_parameters if self.num_parameters > 1 else None

    def reset_parameters(self, seed: int | None = None) -> None:
        """Set weight to `init`."""
        self.parameters["weight"].fill(self.init)
        self.repack()

    def __call__(self, x: ArrayLike) -> FloatArray:
        """Every vector of x, rectified."""
        x = as_float32(x, "x")
        return _core.scale_channels(x, self._slopes(x), None, self)

    def vjp(self, x: ArrayLike) -> tuple[FloatArray, Callable[[ArrayLike], FloatArray]]:
        """y as the call gives it, and a pullback (*, C) -> (*, C).

        x and the parameters must stay as they are until the pullback is called.
        """
        x = as_float32(x, "x")
        slopes = self._slopes(x)
        y = _core.scale_channels(x, slopes, None, self)

        def pullback(dy: ArrayLike) -> FloatArray:
            dslopes = np.zeros_like(slopes)
            dx = _core.scale_channels_back(x, slopes, dy, dslopes, None, self)
            with adding_to(self.flat_grad):
                self.grads["weight"] += dslopes.reshape(self.num_parameters, -1).sum(axis=1)
            return dx

        return y, once(pullback, "a PReLU")

    def _slopes(self, x: FloatArray) -> FloatArray:
        """The weight of every channel, kept until the next `repack`."""
        weight = self.parameters["weight"]
        channels = x.shape[-1] if x.ndim else 1
        if len(weight) > 1 or channels < 2:
            return weight
        version, found = self._version, self._repeated
        if found is None or found[0] != version or len(found[1]) != channels:
            found = self._repeated = version, weight.repeat(channels)
        return found[1]

    def __repr__(self) -> str:
        return f"PReLU(num_parameters={self.num_parameters})"


def _vector(value: ArrayLike, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    array = as_array(value, name).astype(np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}, expected (num_features,)")
    return array
