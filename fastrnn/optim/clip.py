"""Clipping of gradients, by their norm or value by value."""

from __future__ import annotations

import math

from fastrnn import _core
from fastrnn.optim.optimizer import Model, as_number


def clip_grad_norm(model: Model, max_norm: float) -> float:
    """Scale all gradients so that their norm is at most `max_norm`; returns the norm before.

    The factor is min(1, max_norm / (norm + 1e-6)). Source: torch.nn.utils.clip_grad_norm_.
    """
    limit = as_number("max_norm", max_norm)
    norm = math.sqrt(_core.squared_norm(model.flat_grad))
    factor = limit / (norm + 1e-6)
    if not factor >= 1.0:  # also NaN, which no gradient may hide
        _core.scale(model.flat_grad, factor)
    return norm


def clip_grad_value(model: Model, clip_value: float) -> None:
    """Limit all gradients to +-clip_value. Source: torch.nn.utils.clip_grad_value_."""
    _core.clip(model.flat_grad, as_number("clip_value", clip_value))
