"""The activation of gates: a sigmoid, or a hard sigmoid max(0, min(1, alpha x + beta))."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fastrnn._arrays import as_finite, shown

__all__ = ["GateActivation", "as_gate_activation"]

GateActivation = str | tuple[Literal["hard_sigmoid"], float, float]

_HARD = "hard_sigmoid", 1 / 6, 0.5  # Keras 3 and torch.nn.Hardsigmoid


def as_gate_activation(value: object) -> GateActivation:
    """Gate activation as layers keep it: "sigmoid", or ("hard_sigmoid", alpha, beta).

    The plain "hard_sigmoid" is Keras 3's and PyTorch's, alpha 1/6 and beta 0.5; ONNX and Keras 2
    have alpha 0.2. alpha is positive, both are finite in float32.
    """
    if isinstance(value, str) and value in ("sigmoid", "hard_sigmoid"):
        return "sigmoid" if value == "sigmoid" else _HARD  # type: ignore[return-value]
    if isinstance(value, (str, bytes)) or not isinstance(value, (tuple, list)):
        raise _refusal(value)
    if len(value) != 3 or value[0] != "hard_sigmoid":
        raise _refusal(value)
    alpha = as_finite(value[1], "alpha of recurrent_activation")
    beta = as_finite(value[2], "beta of recurrent_activation")
    if not np.float32(alpha) > 0:
        raise ValueError(f"alpha of recurrent_activation is {alpha}, expected a positive number")
    return "hard_sigmoid", alpha, beta


def _refusal(value: object) -> ValueError:
    return ValueError(
        f'recurrent_activation is {shown(value)}, expected "sigmoid", "hard_sigmoid" or '
        f'("hard_sigmoid", alpha, beta)'
    )
