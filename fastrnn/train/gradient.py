"""The gradient of one optimiser step, from one batch or several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .protocols import Backward, Batch, Model, Outcome, State

Check = Callable[[Outcome, Batch], None]


@dataclass(frozen=True)
class Total:
    """Batches of one step taken together: `loss` is the mean over `count`."""

    loss: float
    count: int
    correct: int | None
    state: State
    batches: int


class _Sum:
    """Running sums over the batches of a step."""

    def __init__(self, state: State) -> None:
        self.loss, self.count, self.correct, self.batches = 0.0, 0, 0, 0
        self.state, self.has_correct = state, True

    def add(self, outcome: Outcome) -> None:
        if outcome.count:  # the mean over nothing may be NaN
            self.loss += outcome.loss * outcome.count
        self.count += outcome.count
        self.has_correct &= outcome.correct is not None
        self.correct += outcome.correct or 0
        self.state, self.batches = outcome.state, self.batches + 1

    def total(self) -> Total:
        mean = self.loss / self.count if self.count else 0.0
        correct = self.correct if self.has_correct else None
        return Total(mean, self.count, correct, self.state, self.batches)


def forward(model: Model, batch: Batch, state: State, check: Check) -> tuple[Outcome, Backward]:
    """The checked loss of a batch that starts from `state` unless it is fresh."""
    start = None if batch.fresh else state
    outcome, backward = model.loss_vjp(batch.inputs, batch.targets, start, batch.lengths)
    if outcome.count:
        check(outcome, batch)
    return outcome, backward


def accumulated(model: Model, batches: Iterable[Any], state: State, check: Check) -> Total:
    """Add the gradient of the mean over all that counts in `batches`, state detached between."""
    total, first = _Sum(state), 0
    for batch in batches:
        outcome, backward = forward(model, batch, total.state, check)
        first = first or outcome.count
        if outcome.count:  # relative to the first, so that one batch is scaled by exactly 1
            backward(outcome.count / first)
        total.add(outcome)
    if total.count != first:
        model.flat_grad *= first / total.count
    return total.total()


def evaluated(
    model: Model, batches: Iterable[Any], stop: Callable[[], bool] = lambda: False
) -> Total:
    """The loss over `batches` in inference mode, until `stop()`."""
    total = _Sum(None)
    for batch in batches:
        start = None if batch.fresh else total.state
        total.add(model.loss(batch.inputs, batch.targets, start, batch.lengths))
        if stop():
            break
    return total.total()


def connected(
    model: Model,
    batches: Iterable[Any],
    state: State,
    check: Check,
    weight: float,
    scale: Callable[[int], float],
) -> Total:
    """Add the gradient of the sum of the losses of `batches`, times `scale(number of batches)`.

    The gradient of the state goes back from one batch into the one before, times `weight`.
    """
    total, pending = _Sum(state), []
    for batch in batches:
        outcome, backward = forward(model, batch, total.state, check)
        pending.append((backward, outcome.count, batch.fresh))
        total.add(outcome)
    dstate, factor = None, scale(max(len(pending), 1))
    while pending:  # each one's memory is given back before the next runs
        backward, count, fresh = pending.pop()
        later = () if dstate is None else (dstate,)
        dstate = backward(factor if count else 0.0, *later)
        dstate = None if fresh else _times(dstate, weight)
    return total.total()


def _times(dstate: State, weight: float) -> State:
    if dstate is None:
        return None
    if isinstance(dstate, Mapping):
        return {name: _times(part, weight) for name, part in dstate.items()}
    if isinstance(dstate, (tuple, list)):
        return tuple(_times(part, weight) for part in dstate)
    return dstate * dstate.dtype.type(weight)
