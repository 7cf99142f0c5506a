"""Training of recurrent layers: a forward pass that keeps a tape, a pullback that uses it up.

Letters as in `_recurrent.py`. Layers of a stack are run one after the other, because dropout comes
between them; directions, time and rows are the kernels' business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn._arrays import AnyArray, ArrayLike, FloatArray, IntArray, as_float32, as_int
from fastrnn._core import Table, allocation_size
from fastrnn._errors import ArgumentError
from fastrnn.nn.gradient_flow import GradientFlow
from fastrnn.nn.pullback import adding_to

if TYPE_CHECKING:
    from fastrnn import _core
    from fastrnn.nn._layer import Recurrent


class Tokens(NamedTuple):
    """In place of x: indices (T, N) into an embedding (V, I), whose gradient is added to."""

    indices: IntArray
    embedding: FloatArray
    gradient: FloatArray


class Batch:
    """The arrays of one call as the kernels take them: x (T, N, I), (N, T, I) or packed (*, I)."""

    def __init__(
        self,
        x: FloatArray | Tokens,
        h: FloatArray | None,
        c: FloatArray | None,
        lengths: IntArray | None,
        starts: IntArray | None,
        batch_first: bool,
        learned: bool = False,
    ) -> None:
        """`learned`: h and c are the layer's learned initial state, repeated for all rows."""
        self.x, self.h, self.c, self.learned = x, h, c, learned
        self.lengths, self.starts, self.batch_first = lengths, starts, batch_first
        if starts is not None and lengths is not None:
            self.steps, self.rows = len(starts), len(lengths)
        else:
            self.steps, self.rows = (
                self.elements_shape[::-1] if batch_first else self.elements_shape
            )

    @property
    def elements_shape(self) -> tuple[int, ...]:
        """The shape of x without its features."""
        return self.x.indices.shape if isinstance(self.x, Tokens) else self.x.shape[:-1]

    @property
    def elements(self) -> int:
        """How many steps all rows have together."""
        return self.steps * self.rows if self.lengths is None else int(self.lengths.sum())


class Recording:
    """The forward pass of a stack in training mode, and all that its backward pass needs."""

    def __init__(self, layer: Recurrent, batch: Batch, h_n: FloatArray, c_n: FloatArray | None):
        self.layer, self.batch = layer, batch
        self.masks: list[AnyArray | None] = []
        self.tapes: list[_core.Tape] = []
        kept = kept_steps(layer, batch.steps, batch.rows, batch.elements) if batch.rows else 1
        transpose = layer._current_transpose()  # one set of weights, whatever other threads repack
        x = batch.x
        for k in range(layer.num_layers):
            y = np.empty((*batch.elements_shape, layer.output_size), np.float32)
            if batch.rows:
                self.tapes.append(self._record(k, transpose, x, y, h_n, c_n, kept))
            x = self._dropped(y) if k + 1 < layer.num_layers else y
        self.y = y

    def _record(
        self, k: int, transpose: _core.Transpose, x: FloatArray | Tokens, y: FloatArray,
        h_n: FloatArray, c_n: FloatArray | None, kept: int,
    ) -> _core.Tape:  # fmt: skip
        """Layer k alone, from x to y."""
        batch, stack = self.batch, transpose.stack
        if isinstance(x, Tokens):
            table = Table(stack, x.embedding)
            return stack.record_tokens(
                transpose, x.indices, table, y, batch.h, batch.c, h_n, c_n, batch.lengths, kept
            )
        return stack.record(
            k, transpose, x, y, batch.h, batch.c, h_n, c_n,
            batch.lengths, batch.starts, batch.batch_first, kept,
        )  # fmt: skip

    def _dropped(self, y: FloatArray) -> FloatArray:
        """y with a random share of zeros, the rest scaled up."""
        p = self.layer.dropout
        self.masks.append(None)
        if p == 0.0:
            return y
        mask = self.layer.generator.random(y.shape, np.float32) >= p
        self.masks[-1] = mask
        return _masked(y, mask, p)

    def backward(
        self, dy: FloatArray | None, dh_n: FloatArray | None, dc_n: FloatArray | None, flow: bool
    ) -> tuple[FloatArray | None, FloatArray, FloatArray | None]:
        """dx (None for tokens), dh_0 and dc_0; adds to the layer's gradients."""
        layer, batch = self.layer, self.batch
        depth = layer.num_layers * layer.num_directions
        dh_0 = np.empty((depth, batch.rows, layer.state_size), np.float32)
        dc_0 = np.empty((depth, batch.rows, layer.hidden_size), np.float32)
        observed = np.zeros((layer.num_layers, layer.num_directions, batch.steps, 2), np.float32)
        for k in reversed(range(len(self.tapes))):
            tokens = batch.x if k == 0 and isinstance(batch.x, Tokens) else None
            features = layer.output_size if k else layer.input_size
            dx = np.empty((*batch.elements_shape, features), np.float32) if tokens is None else None
            with adding_to(layer.flat_grad, tokens.gradient if tokens else None):
                self.tapes.pop().backward(
                    layer._weight_grads, dy, dh_n, dc_n, dx, dh_0, dc_0 if layer.has_cell else None,
                    observed[k] if flow else None, *(tokens[1:] if tokens else ()),
                )  # fmt: skip
            mask = self.masks[k - 1] if k else None
            dy = dx if mask is None or dx is None else _masked(dx, mask, layer.dropout)
        if flow:
            layer.last_flow = self._flow(observed.reshape(depth, batch.steps, 2))
        if batch.rows == 0 and not isinstance(batch.x, Tokens):
            dy = np.empty_like(batch.x)
        if batch.learned:
            with adding_to(layer.flat_grad):
                layer.grads["h_0"] += dh_0.sum(axis=1)
                if layer.has_cell:
                    layer.grads["c_0"] += dc_0.sum(axis=1)
        return dy, dh_0, dc_0 if layer.has_cell else None

    def _flow(self, observed: FloatArray) -> GradientFlow:
        batch = self.batch
        alive = np.full(batch.steps, batch.rows)
        if batch.lengths is not None:
            alive = np.array([(batch.lengths > t).sum() for t in range(batch.steps)])
        gates = alive * (self.layer.hidden_size * self.layer._num_saturable)
        share = observed[..., 1] / np.maximum(gates, 1)
        return GradientFlow(
            np.sqrt(observed[..., 0]), share.astype(np.float32), self.layer.num_directions
        )


def _masked(values: FloatArray, mask: AnyArray, p: float) -> FloatArray:
    """The values where the mask says so, scaled so that their expectation stays."""
    kept = values * np.float32(1.0 / (1.0 - p) if p < 1 else 0.0)
    kept *= mask
    return kept


def kept_steps(layer: Recurrent, steps: int, rows: int, elements: int) -> int:
    """How many steps at a time a tape keeps, so that training fits the layer's memory budget."""
    budget = layer.memory_budget
    if budget is None:
        return steps
    kept, least = steps, 0
    while True:
        tape, workspace = layer._stack.training_bytes(steps, rows, elements, kept)
        need = layer.num_layers * allocation_size(tape) + allocation_size(workspace + 64)
        if need <= budget:
            return kept
        least = min(need, least or need)
        if kept == 1:
            text = (
                f"memory_budget is {budget} bytes, but {steps} steps of {rows} rows need at least "
                f"{least}"
            )
            raise ArgumentError("memory_budget", budget, f"at least {least} bytes", text)
        kept = (kept + 1) // 2


def as_budget(value: object) -> int | None:
    """A number of bytes, or None for no limit."""
    if value is None:
        return None
    budget = as_int(value, "memory_budget")
    if budget <= 0:
        raise ValueError(f"memory_budget must be greater than zero, got {budget}")
    return budget


def as_gradient(value: ArrayLike | None, shape: tuple[int, ...], name: str) -> FloatArray | None:
    """A gradient of the given shape; None stands for zeros."""
    if value is None:
        return None
    array = as_float32(value, name)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    return array


class Pullback:
    """dx, dstate = pullback(dy, dstate=None), once; gradients are added to the layer's `grads`.

    dy: shaped like y, None for zeros; dstate: like the last state, h or (h, c), None for zeros.
    dx: shaped like x; dstate: like the initial state. Neither x nor y may be written to before.
    """

    def __init__(self, recording: Recording, frame: Frame, flow: bool) -> None:
        self._recording = [recording]  # empty once it was taken
        self._frame, self._flow = frame, flow

    def __call__(self, dy: Any = None, dstate: Any = None) -> tuple[Any, Any]:
        frame = self._frame
        try:
            recording = self._recording[0]
            grad = frame.gradient_in(dy, recording.y.shape)
            dh, dc = frame.states_in(dstate, recording)
            self._recording.pop()  # of several threads, one succeeds
        except IndexError:
            raise RuntimeError("a pullback can be called once: its tape is used up") from None
        dx, dh_0, dc_0 = recording.backward(grad, dh, dc, self._flow)
        return None if dx is None else frame.output(dx), frame.states_out(dh_0, dc_0)


class Frame:
    """How the caller's arrays differ from the kernels': a missing row axis, or a packed order."""

    def __init__(self, row_axis: int | None = None, packed: Any = None) -> None:
        self.row_axis, self.packed = row_axis, packed

    def gradient_in(self, dy: Any, shape: tuple[int, ...]) -> FloatArray | None:
        """dy as the kernels take it."""
        if dy is None:
            return None
        if self.packed is not None:
            return as_gradient(getattr(dy, "data", dy), shape, "dy.data")
        if self.row_axis is None:
            return as_gradient(dy, shape, "dy")
        flat = tuple(size for axis, size in enumerate(shape) if axis != self.row_axis)
        array = as_gradient(dy, flat, "dy")
        return None if array is None else np.expand_dims(array, self.row_axis)

    def output(self, array: FloatArray) -> Any:
        """x, y or their gradients as the caller has them."""
        if self.packed is not None:
            return self.packed._replace(data=array)
        return array if self.row_axis is None else array.squeeze(self.row_axis)

    def states_in(
        self, dstate: Any, recording: Recording
    ) -> tuple[FloatArray | None, FloatArray | None]:
        """dh_n and dc_n as the kernels take them."""
        layer, rows = recording.layer, recording.batch.rows
        depth = layer.num_layers * layer.num_directions
        dh, dc = layer._split_state(dstate, "dstate")
        middle = () if self.row_axis is not None else (rows,)
        h = as_gradient(dh, (depth, *middle, layer.state_size), "dstate")
        c = as_gradient(dc, (depth, *middle, layer.hidden_size), "dstate")
        return self._into(h), self._into(c)

    def states_out(self, h: FloatArray, c: FloatArray | None) -> Any:
        """h, or (h, c), as the caller has them."""
        first = self._out_of(h)
        return first if c is None else (first, self._out_of(c))

    def _into(self, state: FloatArray | None) -> FloatArray | None:
        if state is None:
            return None
        if self.row_axis is not None:
            return state[:, None]
        order = None if self.packed is None else self.packed.sorted_indices
        return state if order is None else np.take(state, order, axis=1)

    def _out_of(self, state: FloatArray) -> FloatArray:
        if self.row_axis is not None:
            return state[:, 0]
        order = None if self.packed is None else self.packed.unsorted_indices
        return state if order is None else np.take(state, order, axis=1)
