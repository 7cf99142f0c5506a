"""What RNNCell, LSTMCell and GRUCell share: a stack of one layer that runs for one step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastrnn import _core
from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    as_flag,
    as_float32,
    as_size,
    with_article,
)
from fastrnn._module import Module, fill_uniform, unfilled
from fastrnn._statedict import agreed, read_layer

if TYPE_CHECKING:
    from typing_extensions import Self


class Cell(Module):
    """One step of one layer; parameters are named weight_ih, weight_hh, bias_ih, bias_hh."""

    has_cell: ClassVar[bool] = False  # whether the state is (h, c)
    _family: ClassVar[str]  # how checkpoint readers call the cell

    def __init__(self, cell: str, input_size: int, hidden_size: int, bias: bool) -> None:
        self.input_size = as_size(input_size, "input_size", MAX_SIZE)
        self.hidden_size = as_size(hidden_size, "hidden_size", MAX_SIZE)
        self.bias = as_flag(bias, "bias")
        sizes = (self.input_size, self.hidden_size)
        self._stack = _core.Stack(cell, *sizes, 1, 1, 0, bias, False)
        self._allocate([(n[: -len("_l0")], shape, at) for n, shape, at in self._stack.tensors])
        self._fill()

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw all parameters anew, uniform in +-1/sqrt(hidden_size), as PyTorch does."""
        fill_uniform(self.flat, self.hidden_size**-0.5, seed)
        self.repack()

    def repack(self) -> None:
        self._stack.pack(self.flat)
        super().repack()

    def _step(
        self, x: ArrayLike, h: ArrayLike | None, c: ArrayLike | None
    ) -> tuple[FloatArray, FloatArray | None]:
        """The next h and c, with a row dimension if x has one."""
        x = as_float32(x, "x")
        if x.ndim not in (1, 2):
            raise ValueError(f"x has {x.ndim} dimensions, {self._me} expects 1 or 2")
        if x.shape[-1] != self.input_size:
            raise ValueError(f"x has {x.shape[-1]} features, {self._me} expects {self.input_size}")
        shape = (*x.shape[:-1], self.hidden_size)
        h, c = self._state(h, shape, "h"), self._state(c, shape, "c")
        rows = len(x) if x.ndim == 2 else 1
        y = np.empty((1, rows, self.hidden_size), np.float32)
        c_n = np.empty_like(y) if self.has_cell else None
        if rows:
            x = x.reshape(1, rows, -1)
            self._stack.forward(x, y, h, c, None, c_n, None, None, False)
        return y.reshape(shape), None if c_n is None else c_n.reshape(shape)

    def _state(
        self, value: ArrayLike | None, shape: tuple[int, ...], name: str
    ) -> FloatArray | None:
        if value is None:
            return None
        array = as_float32(value, name)
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, {self._me} expects {shape}")
        return array.reshape(1, -1, self.hidden_size)

    def _config(self, **options: Any) -> dict[str, Any]:
        sizes = {"input_size": self.input_size, "hidden_size": self.hidden_size}
        return {**sizes, "bias": self.bias, **options}

    @property
    def _me(self) -> str:
        return f"this {type(self).__name__}"

    @classmethod
    def from_state_dict(
        cls,
        mapping: Mapping[str, ArrayLike],
        prefix: str = "",
        *,
        rename: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> Self:
        """A cell with the parameters of `mapping`, its sizes taken from their names and shapes.

        Only names that start with `prefix` count; `overrides` are constructor arguments that
        shapes do not show (nonlinearity, reset). Other names for the parameters: as a layer's
        from_state_dict takes them, a layer's own too, if it has one layer and one direction.
        ValueError for another cell's parameters, and for a learned initial state, which only a
        layer keeps.
        """
        found, tensors = read_layer(mapping, prefix, rename, cls._family)
        steps = found.num_layers, found.bidirectional, found.proj_size, found.learned_state
        if steps != (1, False, 0, False):
            raise ValueError(
                f"mapping has the parameters of {found.constructor()}, expected those of "
                f"{with_article(cls._family)}: one layer, one direction, no projection, no "
                f"learned initial state"
            )
        told: dict[str, Any] = {
            "input_size": found.input_size,
            "hidden_size": found.hidden_size,
            "bias": found.bias,
        }
        if cls.has_cell:
            told["peephole"] = found.peephole
        with unfilled():
            cell = cls(**agreed(told, overrides))
        cell.load_state_dict({key.removesuffix("_l0"): t for key, t in tensors.items()})
        return cell
