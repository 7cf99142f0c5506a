"""What RNN, LSTM and GRU share: constructor checks, parameters, and the call over a sequence.

Letters: T steps, N rows, I inputs, H units, P projected size, R = P or H (what a layer hands on),
D directions.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np

from fastrnn import _core
from fastrnn._arrays import (
    MAX_LAYERS,
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    IntArray,
    as_choice,
    as_flag,
    as_float32,
    as_int,
    as_lengths,
    as_one,
    as_pair,
    as_prefix,
    as_probability,
    as_size,
)
from fastrnn.nn import initial_state, state_dict
from fastrnn.nn.gradient_flow import GradientFlow
from fastrnn.nn.module import LoadReport, Module, check_at_hand, fill_uniform, unfilled
from fastrnn.nn.packed import PackedSequence, checked, is_packed, sorted_lengths, starts
from fastrnn.nn.stream import Stream, stack_stream
from fastrnn.nn.tape import Batch, Frame, Pullback, Recording, Tokens, as_budget

if TYPE_CHECKING:
    from typing_extensions import Self


class Recurrent(Module):
    """A stack of recurrent layers; RNN, LSTM and GRU only name their cell and their options."""

    has_cell: ClassVar[bool] = False  # whether the state is (h, c)
    _family: ClassVar[str]  # how checkpoint readers call the cell
    _num_saturable: ClassVar[int] = 1  # gates per unit whose saturation is observed
    last_flow: GradientFlow | None = None
    _transpose: _core.Transpose | None = None
    _derived = Module._derived | {"_stack", "_transpose"}
    _memory_budget: int | None = None

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
    ) -> None:
        self.input_size = as_size(input_size, "input_size", MAX_SIZE)
        self.hidden_size = as_size(hidden_size, "hidden_size", MAX_SIZE)
        self.num_layers = as_size(num_layers, "num_layers", MAX_LAYERS)
        self.bias = as_flag(bias, "bias")
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
        self._cell = cell
        check_at_hand(type(self).__name__, _core.parameter_tensors(*self._sizes()))
        self._stack = self._new_stack()
        self._allocate(self._stack.tensors + initial_state.tensors_of(self))
        self._fill()

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

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw all parameters anew, uniform in +-1/sqrt(hidden_size), as PyTorch does.

        A learned initial state becomes zero.
        """
        fill_uniform(self._weights, self.hidden_size**-0.5, seed)
        self.flat[len(self._weights) :] = 0.0
        self.repack()

    def repack(self) -> None:
        self._transpose = None
        self._stack = self._stack.renewed(self._weights)  # whoever computes keeps the old one
        super().repack()

    def trim(self) -> None:
        self._stack.store.trim()

    @property
    def _weights(self) -> FloatArray:
        """The part of `flat` that the kernels know; a learned initial state stands behind it."""
        return self.flat[: self._stack.num_parameters]

    @property
    def _weight_grads(self) -> FloatArray:
        """The same part of `flat_grad`."""
        return self.flat_grad[: self._stack.num_parameters]

    @property
    def _first_state(self) -> list[FloatArray]:
        """What the layer has learned to start from: h_0 and, for an LSTM, c_0; else nothing."""
        names = ("h_0", "c_0")[: 1 + self.has_cell] if self.learned_state else ()
        return [self.parameters[name] for name in names]

    def _shared_stack(self) -> _core.Stack:
        """The packed weights, which are never written again."""
        return self._stack

    def _restore(self, parameters: dict[str, FloatArray], gradients: dict[str, FloatArray]) -> None:
        self._stack = self._new_stack()
        super()._restore(parameters, gradients)

    def _new_stack(self) -> _core.Stack:
        return _core.Stack(*self._sizes())

    def _sizes(self) -> tuple[str, int, int, int, int, int, bool, bool]:
        """What the core has to know."""
        return (
            self._cell,
            self.input_size,
            self.hidden_size,
            self.num_layers,
            self.num_directions,
            self.proj_size,
            self.bias,
            self.merge == "sum",
        )

    def _current_transpose(self) -> _core.Transpose:
        """The weights as the backward pass reads them; its `stack` has them for the way there."""
        stack, transpose = self._stack, self._transpose
        if transpose is None or transpose.stack is not stack:
            transpose = self._transpose = _core.Transpose(stack, self._weights)
        return transpose

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
        learned = state is None and self.learned_state
        h, c = self._split_state(initial_state.for_input(self, x) if learned else state, "state")
        if is_packed(x):
            if lengths is not None:
                raise ValueError("lengths and a packed x exclude each other: x has its own lengths")
            return self._vjp_packed(x, h, c, flow, learned)
        x = as_float32(x, "x")
        if x.ndim not in (2, 3):
            raise ValueError(f"x has {x.ndim} dimensions, {self._me} expects 2 or 3")
        row_axis = None
        if x.ndim == 2:
            if lengths is not None:
                raise ValueError("lengths needs a batch, but x has 2 dimensions")
            row_axis = 0 if self.batch_first else 1
            x = np.expand_dims(x, row_axis)
            h, c = _with_row_axis(h, "h_0"), _with_row_axis(c, "c_0")
        self._check_features(x)
        rows, steps = x.shape[:2] if self.batch_first else x.shape[1::-1]
        if steps == 0:
            raise ValueError(f"x has 0 steps, {self._me} expects at least 1")
        counts = None if lengths is None else as_lengths(lengths, rows, steps)
        h, c, h_n, c_n = self._states(h, c, rows)
        batch = Batch(x, h, c, counts, None, self.batch_first, learned)
        return self._record(batch, h_n, c_n, Frame(row_axis), flow)

    def _vjp_tokens(
        self, tokens: Tokens, state: Any, lengths: ArrayLike | None, flow: bool
    ) -> tuple[tuple[Any, Any], Pullback]:
        """`vjp` of x = embedding[indices], indices (T, N) or (T,), one direction; dx is None.

        The first layer multiplies every token of the vocabulary with its weights once, not every
        step: the same y, and gradients that are first added up per token.
        """
        learned = state is None and self.learned_state
        row_axis = 1 if tokens.indices.ndim == 1 else None
        rows = None if row_axis else tokens.indices.shape[1]
        h, c = self._split_state(initial_state.for_rows(self, rows) if learned else state, "state")
        if row_axis is not None:
            tokens = tokens._replace(indices=tokens.indices[:, None])
            h, c = _with_row_axis(h, "h_0"), _with_row_axis(c, "c_0")
        steps, rows = tokens.indices.shape
        counts = None if lengths is None else as_lengths(lengths, rows, steps)
        h, c, h_n, c_n = self._states(h, c, rows)
        batch = Batch(tokens, h, c, counts, None, False, learned)
        return self._record(batch, h_n, c_n, Frame(row_axis), flow)

    def _vjp_packed(
        self, x: Any, h: ArrayLike | None, c: ArrayLike | None, flow: bool, learned: bool
    ) -> tuple[tuple[Any, Any], Pullback]:
        packed = checked(x)
        data = as_float32(packed.data, "x.data")
        if data.ndim != 2:
            raise ValueError(f"x.data has {data.ndim} dimensions, {self._me} expects 2")
        self._check_features(data)
        sizes, order = packed.batch_sizes, packed.sorted_indices
        h, c, h_n, c_n = self._states(h, c, int(sizes[0]))
        h, c = _reordered(h, order), _reordered(c, order)
        batch = Batch(data, h, c, sorted_lengths(sizes), starts(sizes), False, learned)
        return self._record(batch, h_n, c_n, Frame(packed=packed), flow)

    def _record(
        self, batch: Batch, h_n: FloatArray, c_n: FloatArray | None, frame: Frame, flow: bool
    ) -> tuple[tuple[Any, Any], Pullback]:
        recording = Recording(self, batch, h_n, c_n)
        outputs = frame.output(recording.y), frame.states_out(h_n, c_n)
        return outputs, Pullback(recording, frame, flow)

    def _split_state(self, state: Any, name: str) -> tuple[ArrayLike | None, ArrayLike | None]:
        """h and c of a state; an RNN and a GRU have no c."""
        return as_pair(state, name) if self.has_cell else (as_one(state, name), None)

    def stream(self, batch_size: int = 1) -> Stream:
        """A stream of `batch_size` rows that starts from the zero state, or the learned one.

        A bidirectional layer cannot stream (ValueError): it would have to see the future.
        """
        self._check_streams()
        return stack_stream(
            Stream, self._stack, batch_size, self.fingerprint(), self._first_state
        )

    def _check_streams(self) -> None:
        """Refuse two directions."""
        if self.bidirectional:
            kind = type(self).__name__
            raise ValueError(f"a bidirectional {kind} cannot stream: it needs the whole sequence")

    def _run(self, x: ArrayLike, state: Any, lengths: ArrayLike | None) -> tuple[Any, Any]:
        """y and the last state of a padded, an unbatched or a packed x."""
        if state is None and self.learned_state:
            state = initial_state.for_input(self, x)
        if type(x) is np.ndarray or not is_packed(x):
            return self._stack.run(x, state, lengths, self.batch_first, self)
        if lengths is not None:
            raise ValueError("lengths and a packed x exclude each other: x has its own lengths")
        return self._run_packed(x, *self._split_state(state, "state" if self.has_cell else "h_0"))

    def _run_tokens(
        self, tokens: IntArray, table: _core.Table, state: Any
    ) -> tuple[FloatArray, Any]:
        """y and the last state of tokens (T, N) or (T,), whose x part is in the table."""
        if state is None:
            state = initial_state.for_rows(self, tokens.shape[1] if tokens.ndim == 2 else None)
        h, c = self._split_state(state, "state")
        batch = tokens if tokens.ndim == 2 else tokens[:, None]
        if tokens.ndim == 1:
            h, c = _with_row_axis(h, "h_0"), _with_row_axis(c, "c_0")
        y = np.empty((*batch.shape, self.output_size), np.float32)
        h, c, h_n, c_n = self._states(h, c, batch.shape[1])
        table.stack.forward_tokens(np.ascontiguousarray(batch), table, y, h, c, h_n, c_n)
        if tokens.ndim == 1:
            y, h_n, c_n = y[:, 0], h_n[:, 0], None if c_n is None else c_n[:, 0]
        return y, h_n if c_n is None else (h_n, c_n)

    def _run_packed(
        self, x: Any, h: ArrayLike | None, c: ArrayLike | None
    ) -> tuple[PackedSequence, Any]:
        data, sizes, order, inverse = checked(x)
        data = as_float32(data, "x.data")
        if data.ndim != 2:
            raise ValueError(f"x.data has {data.ndim} dimensions, {self._me} expects 2")
        self._check_features(data)
        y = np.empty((len(data), self.output_size), np.float32)
        h, c, h_n, c_n = self._states(h, c, int(sizes[0]))
        h, c = _reordered(h, order), _reordered(c, order)
        lengths, at = sorted_lengths(sizes), starts(sizes)
        self._stack.forward(data, y, h, c, h_n, c_n, lengths, at, False)
        packed = PackedSequence(y, sizes, order, inverse)
        h_n, c_n = _reordered(h_n, inverse), _reordered(c_n, inverse)
        return packed, h_n if c_n is None else (h_n, c_n)

    def _states(
        self, h: ArrayLike | None, c: ArrayLike | None, rows: int
    ) -> tuple[FloatArray | None, FloatArray | None, FloatArray, FloatArray | None]:
        """Checked initial states, and room for the last ones."""
        depth = self.num_layers * self.num_directions
        h_shape, c_shape = (depth, rows, self.state_size), (depth, rows, self.hidden_size)
        h_n = np.empty(h_shape, np.float32)
        c_n = np.empty(c_shape, np.float32) if self.has_cell else None
        return self._state(h, h_shape, "h_0"), self._state(c, c_shape, "c_0"), h_n, c_n

    def _state(
        self, value: ArrayLike | None, shape: tuple[int, ...], name: str
    ) -> FloatArray | None:
        if value is None:
            return None
        array = as_float32(value, name)
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, {self._me} expects {shape}")
        return array

    def _check_features(self, x: FloatArray) -> None:
        if x.shape[-1] != self.input_size:
            raise ValueError(f"x has {x.shape[-1]} features, {self._me} expects {self.input_size}")

    def _config(self, **options: Any) -> dict[str, Any]:
        """The arguments of every family, in the order of PyTorch's repr, then those of one."""
        sizes = {"input_size": self.input_size, "hidden_size": self.hidden_size}
        return {
            **sizes,
            **({"proj_size": self.proj_size} if self.has_cell else {}),
            "num_layers": self.num_layers,
            "bias": self.bias,
            "batch_first": self.batch_first,
            "dropout": self.dropout,
            "bidirectional": self.bidirectional,
            "merge": self.merge,
            **({"learned_state": True} if self.learned_state else {}),  # not in older files
            **options,
        }

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
        """A layer with the parameters of `mapping`, its sizes taken from their names and shapes.

        Only names that start with `prefix` count; `overrides` are constructor arguments that
        shapes do not show (batch_first, dropout, nonlinearity, reset), or agree with them.
        `rename`: exact names, without `prefix`, to a layer's, e.g. {"enc_w_ih": "weight_ih_l0"}.
        Also taken: a cell's names (`weight_ih`); a list of cells or single layers (`0.weight_ih`);
        one bias in place of two, with zeros as the other (`bias_ih`, `bias_hh`, or `bias`, which is
        bias_ih: a GRU's b_hn is zero); a learned initial state `h_0`, `c_0` (or `h0`, `c0`), also
        from a module around the layer if it fits no other layer there. ValueError for another
        cell, and for parameters that do not fit together.
        """
        found, tensors = state_dict.read_layer(mapping, prefix, rename, cls._family)
        with unfilled():
            layer = cls(**state_dict.agreed(state_dict.layer_arguments(found), overrides))
        layer.load_state_dict(tensors)
        return layer

    def load_state_dict(
        self, mapping: Mapping[str, ArrayLike], prefix: str = "", strict: bool = True
    ) -> LoadReport:
        """As `Module.load_state_dict`; a learned initial state around the layer is refused."""
        if as_prefix(prefix) and not self.learned_state:
            state_dict.refuse_states_around(mapping, prefix, self)
        return super().load_state_dict(mapping, prefix, strict)


def _with_row_axis(state: ArrayLike | None, name: str) -> FloatArray | None:
    if state is None:
        return None
    array = as_float32(state, name)
    if array.ndim != 2:
        raise ValueError(f"{name} has {array.ndim} dimensions, an x of 2 dimensions expects 2")
    return array[:, None]


@overload
def _reordered(state: FloatArray, order: IntArray | None) -> FloatArray: ...
@overload
def _reordered(state: FloatArray | None, order: IntArray | None) -> FloatArray | None: ...
def _reordered(state: FloatArray | None, order: IntArray | None) -> FloatArray | None:
    """The state's rows in another order; C-contiguous."""
    if state is None or order is None:
        return state
    return np.take(state, order, axis=1)


def _as_proj_size(proj_size: int, hidden_size: int) -> int:
    size = as_int(proj_size, "proj_size")
    if not 0 <= size < hidden_size:
        raise ValueError(f"proj_size is {size}, expected 0 (none) to {hidden_size - 1}")
    return size
