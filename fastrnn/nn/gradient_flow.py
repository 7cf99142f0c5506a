"""How gradients flowed back through a recurrent layer, and how saturated its gates were."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastrnn._arrays import FloatArray, IntArray


@dataclass(frozen=True)
class GradientFlow:
    """What one backward pass met at every layer and time step.

    `norm` (layers*D, T): norm of dL/dh_t over all rows and units. `saturated` (layers*D, T): share
    of gates out of (0.1, 0.9), for an RNN of tanh units beyond 0.9. Source: Karpathy et al. 2015,
    Visualizing and Understanding Recurrent Networks. Unequal shapes are a ValueError.
    """

    norm: FloatArray
    saturated: FloatArray
    directions: int = 1

    def __post_init__(self) -> None:
        if self.norm.ndim != 2 or self.norm.shape != self.saturated.shape:
            raise ValueError(
                f"norm and saturated have shapes {self.norm.shape} and {self.saturated.shape}, "
                f"expected (layers*D, T) for both"
            )

    @classmethod
    def of(cls, observed: FloatArray, gates: IntArray, directions: int) -> GradientFlow:
        """The flow of (layers*D, T, 2): squared norms and saturated gates, of `gates` (T,) each."""
        share = observed[..., 1] / np.maximum(gates, 1)
        return cls(np.sqrt(observed[..., 0]), share.astype(np.float32), directions)

    @property
    def names(self) -> list[str]:
        """What to call the rows, the first layer first: "layer 1", "layer 1 reverse", ..."""
        suffixes = ["", " reverse"][: self.directions]
        layers = len(self.norm) // self.directions
        return [f"layer {i + 1}{suffix}" for i in range(layers) for suffix in suffixes]
