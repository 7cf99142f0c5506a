"""Training of recurrent layers: a forward pass that keeps tapes, a pullback that uses them up.

Layers of a stack are run one after the other, because dropout comes between them; directions, time
and rows are the kernels' business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastrnn._arrays import AnyArray, FloatArray, IntArray, as_int
from fastrnn._core import BackwardWeights, Batch, Gradients, Stack, Tape, allocation_size
from fastrnn._errors import ArgumentError
from fastrnn.nn.pullback import adding_to


class Tokens(NamedTuple):
    """An embedding (V, I) whose rows tokens stand for, and its gradient, which is added to."""

    embedding: FloatArray
    gradient: FloatArray
    name: str  # of the tokens in errors


class Recording:
    """The forward pass of a stack in training mode, and all that its backward pass needs."""

    outputs: tuple[Any, Any]  # y and the last state, as the caller has them

    def __init__(
        self,
        weights: BackwardWeights,
        batch: Batch,
        dropout: float,
        generator: np.random.Generator | None,
        memory_budget: int | None,
    ) -> None:
        """`generator`: where the masks of dropout come from; not None where it is not 0."""
        stack = weights.stack
        self.batch, self.dropout, self.generator = batch, dropout, generator
        self.shape = (stack.num_layers, stack.num_directions, batch.steps, 2)
        self.tapes: list[Tape] = []
        self.masks: list[AnyArray | None] = []
        if batch.rows == 0:
            self.outputs = stack.run(batch)
            return
        every = checkpoint_every(stack, memory_budget, batch.steps, batch.rows, batch.elements)
        y, tape = weights.record(batch, 0, None, every)
        self.tapes.append(tape)
        for k in range(1, stack.num_layers):
            y, tape = weights.record(batch, k, self._dropped(y), every)
            self.tapes.append(tape)
        self.outputs = batch.results(y)

    def _dropped(self, y: FloatArray) -> FloatArray:
        """y with a random share of zeros, the rest scaled up."""
        mask = None
        if self.generator is not None:
            mask = self.generator.random(y.shape, np.float32) >= self.dropout
        self.masks.append(mask)
        return _masked(y, mask, self.dropout)

    def backward(
        self,
        gradients: Gradients,
        flat_grad: FloatArray,
        tokens: Tokens | None,
        observed: FloatArray | None,
    ) -> FloatArray | None:
        """dx (None for tokens); adds to `flat_grad` and fills `observed` (L, D, T, 2)."""
        dy = None
        for k in reversed(range(len(self.tapes))):
            below = tokens if k == 0 else None
            with adding_to(flat_grad, below.gradient if below else None):
                dy = self.tapes.pop().backward(
                    gradients, dy, flat_grad, None if observed is None else observed[k],
                    *(below[:2] if below else ()),
                )  # fmt: skip
            if k and dy is not None:
                dy = _masked(dy, self.masks[k - 1], self.dropout)
        return dy


def _masked(values: FloatArray, mask: AnyArray | None, p: float) -> FloatArray:
    """The values where the mask says so, scaled so that their expectation stays."""
    if mask is None:
        return values
    kept = values * np.float32(1.0 / (1.0 - p) if p < 1 else 0.0)
    kept *= mask
    return kept


def checkpoint_every(stack: Stack, budget: int | None, steps: int, rows: int, elements: int) -> int:
    """Number of steps that a tape keeps at a time, so that training fits a budget of bytes."""
    if budget is None:
        return steps
    every, least = steps, 0
    while True:
        tape, workspace = stack.training_bytes(steps, rows, elements, every)
        need = stack.num_layers * allocation_size(tape) + allocation_size(workspace + 64)
        if need <= budget:
            return every
        least = min(need, least or need)
        if every == 1:
            text = (
                f"memory_budget is {budget} bytes, but {steps} steps of {rows} rows need at least "
                f"{least}"
            )
            raise ArgumentError("memory_budget", budget, f"at least {least} bytes", text)
        every = (every + 1) // 2


def as_budget(value: object) -> int | None:
    """A number of bytes, or None for no limit."""
    if value is None:
        return None
    budget = as_int(value, "memory_budget")
    if budget <= 0:
        text = f"memory_budget must be greater than zero, got {budget}"
        raise ArgumentError("memory_budget", budget, "an int above zero", text)
    return budget


class Pullback:
    """dx, dstate = pullback(dy, dstate=None), once; gradients are added to the layer's `grads`.

    dy: shaped like y, None for zeros; dstate: like the last state, h or (h, c), None for zeros.
    dx: shaped like x; dstate: like the initial state. Neither x nor y may be written to before.
    """

    def __init__(
        self,
        recording: Recording,
        added_to: Callable[[], tuple[FloatArray, list[FloatArray]]],
        report: Callable[[FloatArray, IntArray], None] | None,
        tokens: Tokens | None,
    ) -> None:
        """`added_to`: gives the gradients, and among them those of a learned initial state.

        `report`: takes what was observed (L * D, T, 2), and how many rows each step had (T,).
        """
        self._recording = [recording]  # empty once it was taken
        self._added_to, self._report, self._tokens = added_to, report, tokens

    def __call__(self, dy: Any = None, dstate: Any = None) -> tuple[Any, Any]:
        try:
            recording = self._recording[0]
            gradients = Gradients(recording.batch, dy, dstate)
            self._recording.pop()  # of several threads, one succeeds
        except IndexError:
            raise RuntimeError("a pullback can be called once: its tape is used up") from None
        flat_grad, first = self._added_to()
        observed = None if self._report is None else np.zeros(recording.shape, np.float32)
        dx = recording.backward(gradients, flat_grad, self._tokens, observed)
        if self._report is not None and observed is not None:
            steps = recording.batch.steps
            self._report(observed.reshape(-1, steps, 2), _rows_of_steps(recording.batch))
        if recording.batch.learned:
            with adding_to(flat_grad):
                for grad, part in zip(first, gradients.first, strict=True):
                    grad += part.reshape(len(grad), -1, grad.shape[1]).sum(axis=1)
        return gradients.results(dx)


def _rows_of_steps(batch: Batch) -> IntArray:
    """Number of rows that each step has (T,)."""
    if batch.lengths is None:
        return np.full(batch.steps, batch.rows)
    rows: IntArray = (batch.lengths[:, None] > np.arange(batch.steps)).sum(axis=0)
    return rows
