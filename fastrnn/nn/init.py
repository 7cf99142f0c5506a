"""Other first values than PyTorch's defaults, for layers, cells and whole models."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from fastrnn._arrays import FloatArray, as_float, as_seed, shown
from fastrnn.nn.module import Module

__all__ = ["forget_bias", "orthogonal"]

_RECURRENT = re.compile(r"((?:.*\.)?)weight_hh((?:_l\d+)?(?:_reverse)?)")


def orthogonal(layer: Module, seed: int | None = None) -> None:
    """Make every gate's recurrent weights W (H, R) orthogonal: W^T W = 1, as one of H = R is.

    The same for the same `seed`, for every layer and direction in `layer`, which may be a model.
    Source: Saxe, McClelland and Ganguli 2014; torch.nn.init.orthogonal_ for each gate.
    """
    generator = np.random.default_rng(as_seed(seed))
    for prefix, suffix in _recurrent(layer):
        weight = layer.parameters[f"{prefix}weight_hh{suffix}"]
        for gate in weight.reshape(-1, _units(layer, prefix, suffix), weight.shape[1]):
            gate[...] = _orthogonal_columns(generator, *gate.shape)
    layer.repack()


def forget_bias(layer: Module, value: float = 1.0) -> None:
    """Make the two biases of every LSTM's forget gate add up to `value`: bias_ih has it all.

    For every layer and direction in `layer`, which may be a model. A ValueError if there is no
    forget gate with a bias. Source: Jozefowicz, Zaremba and Sutskever 2015.
    """
    if not abs(as_float(value)) <= np.finfo(np.float32).max:
        raise ValueError(f"value is {shown(value)}, expected a finite number")
    found = list(_recurrent(layer))
    for prefix, suffix in found:
        units = _units(layer, prefix, suffix)
        if len(layer.parameters[f"{prefix}weight_hh{suffix}"]) != 4 * units:
            raise ValueError("layer is no LSTM, expected one: others have no forget gate")
        if f"{prefix}bias_ih{suffix}" not in layer.parameters:
            raise ValueError("layer has no biases, expected an LSTM with bias=True")
    for prefix, suffix in found:
        units = _units(layer, prefix, suffix)
        layer.parameters[f"{prefix}bias_ih{suffix}"][units : 2 * units] = value  # order i f g o
        layer.parameters[f"{prefix}bias_hh{suffix}"][units : 2 * units] = 0.0
    layer.repack()


def _recurrent(layer: Module) -> Iterator[tuple[str, str]]:
    """What stands before and after `weight_hh` in the names of the recurrent weights."""
    found = [match for name in layer.parameters if (match := _RECURRENT.fullmatch(name))]
    if not found:
        raise ValueError(f"layer is a {type(layer).__name__} without recurrent weights")
    for match in found:
        yield match[1], match[2]


def _units(layer: Module, prefix: str, suffix: str) -> int:
    """H, which a projection hides from the shape of weight_hh."""
    projection = layer.parameters.get(f"{prefix}weight_hr{suffix}")
    owner = layer.parameters[f"{prefix}weight_hh{suffix}"] if projection is None else projection
    return int(owner.shape[1])


def _orthogonal_columns(generator: np.random.Generator, rows: int, columns: int) -> FloatArray:
    """A uniformly drawn (rows, columns) matrix with orthonormal columns; rows >= columns."""
    q, r = np.linalg.qr(generator.standard_normal((rows, columns)))
    return (q * np.sign(np.diag(r))).astype(np.float32)  # the signs make the draw uniform
