"""Base of RNN, LSTM and GRU and of their cells: checks, packed weights, the way through a call.

Letters: T steps, N rows, I inputs, H units, P projected size, R = P or H (what a layer hands on),
D directions.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from fastrnn import _core
from fastrnn._arrays import (
    MAX_LAYERS,
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    IntArray,
    as_choice,
    as_flag,
    as_int,
    as_prefix,
    as_probability,
    as_size,
)
from fastrnn.nn import state_dict
from fastrnn.nn.gate_activation import GateActivation, as_gate_activation
from fastrnn.nn.gradient_flow import GradientFlow
from fastrnn.nn.making import check_at_hand, unfilled
from fastrnn.nn.module import LoadReport, Module, TensorSpec, fill_uniform
from fastrnn.nn.packed import PackedSequence, checked, sorted_lengths, starts
from fastrnn.nn.stream import Stream, stack_stream
from fastrnn.nn.tape import Pullback, Recording, Tokens, as_budget

if TYPE_CHECKING:
    from typing_extensions import Self


# Of a Stack: cell, input and hidden size, layers, directions, projected size, bias, sum, gates.
Sizes = tuple[str, int, int, int, int, int, bool, bool, GateActivation]


_GATES = {cell.name: cell.gates for cell in _core.cells()}


class RecurrentModule(Module):
    """Parameters of a recurrent stack, which the kernels read packed."""

    _family: ClassVar[str]  # how checkpoint readers call the class
    _derived = Module._derived | {"_stack"}
    _is_packed_whole = True
    _options: ClassVar[tuple[str, ...]] = ("input_size", "hidden_size", "bias")
    _unsaid = frozenset(("recurrent_activation",))
    recurrent_activation: GateActivation = "sigmoid"  # in pickles of 0.1

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        bias: bool,
        recurrent_activation: GateActivation,
    ) -> None:
        self.input_size = as_size(input_size, "input_size", MAX_SIZE)
        self.hidden_size = as_size(hidden_size, "hidden_size", MAX_SIZE)
        self.bias = as_flag(bias, "bias")
        self.recurrent_activation = as_gate_activation(recurrent_activation)
        self._cell = cell

    @property
    def has_cell(self) -> bool:
        """Whether the state is (h, c)."""
        return self._stack.has_cell

    def _build(self) -> None:
        """Take memory for the parameters, once all arguments are checked."""
        check_at_hand(type(self).__name__, _core.parameter_tensors(*self._sizes()))
        self._stack = self._new_stack()
        self._allocate(self._tensors())
        self._fill()

    def _new_stack(self) -> _core.Stack:
        return _core.Stack(*self._sizes())

    def _sizes(self) -> Sizes:
        """Arguments of the core's Stack."""
        raise NotImplementedError

    def _tensors(self) -> list[TensorSpec]:
        """The parameters by name."""
        raise NotImplementedError

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw all parameters anew, uniform in +-1/sqrt(hidden_size), as PyTorch does.

        A learned initial state becomes zero.
        """
        fill_uniform(self._weights, self.hidden_size**-0.5, seed)
        self.flat[len(self._weights) :] = 0.0
        self.repack()

    def repack(self) -> None:
        self._stack = self._stack.renewed(self._weights)  # whoever computes keeps the old one
        super().repack()

    def trim(self) -> None:
        self._stack.store.trim()

    @property
    def _weights(self) -> FloatArray:
        """The part of `flat` that the kernels know; a learned initial state stands behind it."""
        return self.flat[: self._stack.num_parameters]

    def _restore(self, parameters: dict[str, FloatArray], gradients: dict[str, FloatArray]) -> None:
        self._stack = self._new_stack()
        super()._restore(parameters, gradients)

    @classmethod
    def from_state_dict(
        cls,
        mapping: Mapping[str, ArrayLike],
        prefix: str = "",
        *,
        rename: Mapping[str, str] | None = None,
        **overrides: Any,
    ) -> Self:
        """A layer or cell with the parameters of `mapping`, sizes taken from names and shapes.

        Only names that start with `prefix` count; `overrides` are constructor arguments that
        shapes do not show (batch_first, dropout, nonlinearity, reset), or agree with them.
        `rename`: exact names, without `prefix`, to a layer's, e.g. {"enc_w_ih": "weight_ih_l0"}.
        Also taken: a cell's names (`weight_ih`); a list of cells or single layers (`0.weight_ih`);
        one bias in place of two, with zeros as the other (`bias_ih`, `bias_hh`, or `bias`, which is
        bias_ih: a GRU's b_hn is zero); a learned initial state `h_0`, `c_0` (or `h0`, `c0`), also
        from a module around the layer if it fits no other layer there. A cell takes one layer of
        one direction, without such a state, which only a layer keeps. ValueError for another
        family, and for parameters that do not fit together.
        """
        told, tensors = state_dict.read_layer(mapping, prefix, rename, cls._family)
        with unfilled():
            module = cls(**state_dict.agreed(told, overrides))
        module.load_state_dict(tensors)
        return module


class Cell(RecurrentModule):
    """One step of one layer; parameters are named weight_ih, weight_hh, bias_ih, bias_hh."""

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        bias: bool,
        recurrent_activation: GateActivation,
    ) -> None:
        super().__init__(cell, input_size, hidden_size, bias, recurrent_activation)
        self._build()

    def _sizes(self) -> Sizes:
        sizes = self.input_size, self.hidden_size
        return self._cell, *sizes, 1, 1, 0, self.bias, False, self.recurrent_activation

    def _new_stack(self) -> _core.Stack:
        return _core.Stack(*self._sizes(), single_step=True)

    def _tensors(self) -> list[TensorSpec]:
        return [(n.removesuffix("_l0"), shape, at) for n, shape, at in self._stack.tensors]


class Recurrent(RecurrentModule):
    """A stack of recurrent layers; RNN, LSTM and GRU only name their cell and their options."""

    last_flow: GradientFlow | None = None
    _backward_weights: _core.BackwardWeights | None = None
    _derived = RecurrentModule._derived | {"_backward_weights", "_first_state"}
    _memory_budget: int | None = None
    _gates: ClassVar[str]  # a letter for each gate of a unit, in the order of the parameters
    # In the order of PyTorch's text, then our own, then those of one family.
    _options: ClassVar[tuple[str, ...]] = (
        "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout",
        "bidirectional", "merge", "learned_state",
    )  # fmt: skip
    _unsaid = RecurrentModule._unsaid | {"learned_state"}
    _first_state: list[FloatArray]  # the learned h_0 and, for an LSTM, c_0; else nothing

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        merge: str,
        proj_size: int = 0,
        learned_state: bool = False,
        recurrent_activation: GateActivation = "sigmoid",
    ) -> None:
        super().__init__(cell, input_size, hidden_size, bias, recurrent_activation)
        self.num_layers = as_size(num_layers, "num_layers", MAX_LAYERS)
        self.batch_first = as_flag(batch_first, "batch_first")
        self.bidirectional = as_flag(bidirectional, "bidirectional")
        self.merge = as_choice(merge, "merge", ("concat", "sum"))
        self.proj_size = _as_proj_size(proj_size, self.hidden_size)
        self.dropout = as_probability(dropout, "dropout")
        self.learned_state = as_flag(learned_state, "learned_state")
        if self.dropout > 0 and self.num_layers == 1:
            warnings.warn(
                f"dropout={dropout} acts after every layer but the last, and there is only one",
                stacklevel=3,
            )
        self._build()

    @property
    def _reads(self) -> int:
        return self.input_size

    @property
    def num_directions(self) -> int:
        """2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    @property
    def state_size(self) -> int:
        """R, the width of h: proj_size, or hidden_size without a projection."""
        return self.proj_size or self.hidden_size

    @property
    def output_size(self) -> int:
        """The width of y: R, or 2 * R if two directions are concatenated."""
        return self.state_size * (self.num_directions if self.merge == "concat" else 1)

    def _sizes(self) -> Sizes:
        return (
            self._cell,
            self.input_size,
            self.hidden_size,
            self.num_layers,
            self.num_directions,
            self.proj_size,
            self.bias,
            self.merge == "sum",
            self.recurrent_activation,
        )

    def _tensors(self) -> list[TensorSpec]:
        """The weights, and behind them a learned state: h_0 (L*D, R), an LSTM's c_0 (L*D, H)."""
        tensors, end = list(self._stack.tensors), self._stack.num_parameters
        depth = self.num_layers * self.num_directions
        for name, size in self._first_sizes().items():
            tensors.append((name, (depth, size), end))
            end += depth * size
        return tensors

    def _first_sizes(self) -> dict[str, int]:
        """The parameters that are a learned initial state, and their widths."""
        sizes = {"h_0": self.state_size, "c_0": self.hidden_size}
        if not self.has_cell:
            del sizes["c_0"]
        return sizes if self.learned_state else {}

    def _bind_own(self) -> None:
        super()._bind_own()
        self._first_state = [self.parameters[name] for name in self._first_sizes()]

    def _shared_stack(self) -> _core.Stack:
        """The packed weights, which are never written again."""
        return self._stack

    def repack(self) -> None:
        self._backward_weights = None
        super().repack()

    def _current_backward_weights(self) -> _core.BackwardWeights:
        """The weights as the backward pass reads them; its `stack` has them for the way there."""
        stack, weights = self._stack, self._backward_weights
        if weights is None or weights.stack is not stack:
            weights = self._backward_weights = _core.BackwardWeights(stack, self._weights)
        return weights

    @property
    def memory_budget(self) -> int | None:
        """Bytes that training may use for tapes and workspace; None (the default) for no limit.

        With a limit the backward pass computes parts of the forward pass again where it must, with
        the same bits as a result. Inputs and outputs of the layers do not count.
        """
        return self._memory_budget

    @memory_budget.setter
    def memory_budget(self, value: int | None) -> None:
        self._memory_budget = as_budget(value)

    def _forward_folded(self, tokens: IntArray, state: Any, table: _core.Table) -> Any:
        """Results of the call on the embedding of tokens (T, N) or (T,) that the table folds."""
        return table.stack.forward(
            self, "state", tokens, state, None, None, False, self._first_state, table
        )

    @staticmethod
    def _unpack(x: PackedSequence) -> tuple[PackedSequence, IntArray, IntArray]:
        """For the core: a packed batch, checked, the lengths of its rows and where steps start."""
        packed = checked(x)
        sizes = packed.batch_sizes
        return packed, sorted_lengths(sizes), starts(sizes)

    def vjp(
        self,
        x: ArrayLike,
        state: Any = None,
        lengths: ArrayLike | None = None,
        *,
        flow: bool = False,
    ) -> tuple[tuple[Any, Any], Pullback]:
        """(y, state), pullback: the outputs of the call in training mode, with dropout on.

        dx, dstate = pullback(dy, dstate=None), once, adds to `grads`; dy is shaped like y, dstate
        like the last state, None for zeros. x, y and the parameters must stay as they are until
        then. Without `state`, a learned initial state gets its gradient too.
        With `flow`, the pullback sets `last_flow` (see GradientFlow).
        """
        return self._record(x, state, lengths, flow)

    def _record(
        self,
        x: ArrayLike,
        state: Any,
        lengths: ArrayLike | None,
        flow: bool,
        tokens: Tokens | None = None,
    ) -> tuple[tuple[Any, Any], Pullback]:
        """`vjp`; with an embedding of tokens, x are those (T, N) or (T,), and dx is None.

        Then the first layer multiplies every token of the vocabulary with its weights once, not
        every step: the same y, and gradients that are first added up per token.
        """
        weights = self._current_backward_weights()
        table = (
            None if tokens is None else _core.Table(weights.stack, tokens.embedding, tokens.name)
        )
        batch = weights.stack.batch(
            self, "state", x, state, None, lengths, self.batch_first, self._first_state, table
        )
        generator = self.generator if self.dropout else None
        recording = Recording(weights, batch, self.dropout, generator, self._memory_budget)
        report = self._keep_flow if flow else None
        return recording.outputs, Pullback(recording, self._gradients, report, tokens)

    def _gradients(self) -> tuple[FloatArray, list[FloatArray]]:
        """Gradients that a pullback adds to: all, and among them those of a learned state."""
        return self.flat_grad, [self.grads[name] for name in self._first_sizes()]

    def _keep_flow(self, observed: FloatArray, rows: IntArray) -> None:
        gates = max(1, _GATES[self._cell] - 1)  # that can saturate: all but the candidate
        units = self.hidden_size * gates
        self.last_flow = GradientFlow.of(observed, rows * units, self.num_directions)

    def stream(self, batch_size: int = 1) -> Stream:
        """A stream of `batch_size` rows that starts from the zero state, or the learned one.

        A bidirectional layer cannot stream (ValueError): it would have to see the future.
        """
        self._check_streams()
        return stack_stream(self._stack, batch_size, self.fingerprint(), self._first_state)

    def _check_streams(self, place: str = "") -> None:
        """Refuse two directions; `place`: what a layer within a network is called."""
        if self.bidirectional:
            kind = f"a bidirectional {type(self).__name__}"
            subject = f"{place} is {kind}, which" if place else kind
            raise ValueError(f"{subject} cannot stream: it needs the whole sequence")

    def load_state_dict(
        self, mapping: Mapping[str, ArrayLike], prefix: str = "", strict: bool = True
    ) -> LoadReport:
        """As `Module.load_state_dict`; a learned initial state around the layer is refused."""
        if as_prefix(prefix) and not self.learned_state:
            known = (self._family, *self._sizes()[1:4], self.bidirectional, self.proj_size)
            state_dict.refuse_states_around(mapping, prefix, known)
        return super().load_state_dict(mapping, prefix, strict)


def _as_proj_size(proj_size: int, hidden_size: int) -> int:
    size = as_int(proj_size, "proj_size")
    if not 0 <= size < hidden_size:
        raise ValueError(f"proj_size is {size}, expected 0 (none) to {hidden_size - 1}")
    return size
