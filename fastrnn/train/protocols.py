"""Protocols of models, optimisers, schedules and data, as small as training allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from fastrnn._arrays import AnyArray

State = Any  # h or (h, c) as NumPy arrays, None for the zero state
Backward = Callable[..., State]  # backward(scale, dstate) -> dstate_0


class Outcome(Protocol):
    """The value of a loss: the mean over `count`, and the last state of the layers."""

    @property
    def loss(self) -> float: ...
    @property
    def count(self) -> int: ...
    @property
    def state(self) -> State: ...
    @property
    def correct(self) -> int | None: ...


class Model(Protocol):
    flat: AnyArray
    flat_grad: AnyArray
    parameters: dict[str, AnyArray]
    grads: dict[str, AnyArray]

    def zero_grad(self) -> None: ...
    def repack(self) -> None: ...
    def loss_vjp(
        self, inputs: Any, targets: Any, state: State = None, lengths: Any = None
    ) -> tuple[Outcome, Backward]: ...
    def loss(
        self, inputs: Any, targets: Any, state: State = None, lengths: Any = None
    ) -> Outcome: ...


class Optimizer(Protocol):
    lr: float

    def step(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Any) -> Any: ...


class Schedule(Protocol):
    def lr(self, step: int) -> float: ...


class Batch(Protocol):
    """`fresh`: start from the zero state, or else from where the batch before it ended."""

    @property
    def inputs(self) -> Any: ...
    @property
    def targets(self) -> Any: ...
    @property
    def lengths(self) -> Any: ...
    @property
    def fresh(self) -> bool: ...


class OneBatch(NamedTuple):
    """The batch that `Trainer.step` makes of its arguments."""

    inputs: Any
    targets: Any
    lengths: Any = None
    fresh: bool = False


class Source(Protocol):
    """Batches of one epoch after another; its state continues with the batch not yet given.

    A training that is saved first reads an epoch, at most 1000 batches of it, and goes back, to
    know the data again on resume. One with `digest()`, texts by name, says itself what it holds.
    """

    @property
    def num_batches(self) -> int | None: ...
    def batches(self) -> Iterator[Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Any) -> Any: ...


@contextmanager
def kept_in_place(source: Source) -> Iterator[None]:
    """Return a source to its place after batches were taken inside `with`, after errors as well."""
    place = source.state_dict()
    try:
        yield
    finally:
        source.load_state_dict(place)
