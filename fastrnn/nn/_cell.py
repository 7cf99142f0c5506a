"""What RNNCell, LSTMCell and GRUCell share: a stack of one layer that runs for one step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from fastrnn import _core
from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    as_flag,
    as_size,
    with_article,
)
from fastrnn.nn.gate_activation import GateActivation, as_gate_activation, unusual
from fastrnn.nn.module import Module, check_at_hand, fill_uniform, unfilled
from fastrnn.nn.state_dict import agreed, read_layer

if TYPE_CHECKING:
    from typing_extensions import Self


class Cell(Module):
    """One step of one layer; parameters are named weight_ih, weight_hh, bias_ih, bias_hh."""

    has_cell: ClassVar[bool] = False  # whether the state is (h, c)
    _family: ClassVar[str]  # how checkpoint readers call the cell
    _derived = Module._derived | {"_stack"}

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        bias: bool,
        recurrent_activation: object = "sigmoid",
    ) -> None:
        self.input_size = as_size(input_size, "input_size", MAX_SIZE)
        self.hidden_size = as_size(hidden_size, "hidden_size", MAX_SIZE)
        self.bias = as_flag(bias, "bias")
        self.recurrent_activation = as_gate_activation(recurrent_activation)
        self._cell = cell
        check_at_hand(type(self).__name__, _core.parameter_tensors(*self._sizes()))
        self._stack = self._new_stack()
        self._allocate([(n[: -len("_l0")], shape, at) for n, shape, at in self._stack.tensors])
        self._fill()

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw all parameters anew, uniform in +-1/sqrt(hidden_size), as PyTorch does."""
        fill_uniform(self.flat, self.hidden_size**-0.5, seed)
        self.repack()

    def repack(self) -> None:
        self._stack = self._stack.renewed(self.flat)  # calls of other threads keep the old one
        super().repack()

    def _new_stack(self) -> _core.Stack:
        return _core.Stack(*self._sizes())

    def _sizes(self) -> tuple[str, int, int, int, int, int, bool, bool, GateActivation]:
        """What the core has to know."""
        sizes = self.input_size, self.hidden_size, 1, 1, 0
        return self._cell, *sizes, self.bias, False, self.recurrent_activation

    def _restore(self, parameters: dict[str, FloatArray], gradients: dict[str, FloatArray]) -> None:
        self._stack = self._new_stack()
        super()._restore(parameters, gradients)

    def trim(self) -> None:
        self._stack.store.trim()

    def _config(self, **options: Any) -> dict[str, Any]:
        sizes = {"input_size": self.input_size, "hidden_size": self.hidden_size}
        return {**sizes, "bias": self.bias, **unusual(self.recurrent_activation), **options}

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
        told |= found.cell_options()
        with unfilled():
            cell = cls(**agreed(told, overrides))
        cell.load_state_dict({key.removesuffix("_l0"): t for key, t in tensors.items()})
        return cell
