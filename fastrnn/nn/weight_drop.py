"""Dropout of recurrent weights."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from fastrnn._arrays import ArrayLike, FloatArray, as_probability, with_article
from fastrnn.nn.composite import Composite
from fastrnn.nn.dropout import draw_mask
from fastrnn.nn.pullback import adding_to, once
from fastrnn.nn.recurrent_base import Recurrent
from fastrnn.nn.registry import registered
from fastrnn.nn.stream import Stream


@registered
class WeightDrop(Composite):
    """In training, drops entries of a recurrent layer's weight_hh, one mask for all time steps.

    Entries are zeroed with probability p and the others divided by 1 - p, anew in every `vjp`; the
    call and streams use the raw weights. Parameters have the names of `rnn`, whose buffers move
    here. Source: Merity et al., Regularizing and optimizing LSTM language models, 2018.
    """

    _derived = Composite._derived | {"_spare"}
    _spare: list[Recurrent]  # twins between calls

    _options = ("p",)
    _modules = ("rnn",)
    _names_parts = False

    def __init__(self, rnn: Recurrent, p: float = 0.5) -> None:
        if not isinstance(rnn, Recurrent):
            kind = with_article(type(rnn).__name__)
            raise TypeError(f"rnn is {kind}, expected an RNN, an LSTM or a GRU")
        self.rnn = rnn
        self.p = as_probability(p, "p")
        self._assemble()

    def _forget(self) -> None:
        self._spare = []

    @property
    def input_size(self) -> int:
        """The layer's."""
        return self.rnn.input_size

    @property
    def _reads(self) -> int:
        return self.rnn.input_size

    @property
    def output_size(self) -> int:
        """The layer's."""
        return self.rnn.output_size

    @property
    def batch_first(self) -> bool:
        """The layer's."""
        return self.rnn.batch_first

    @property
    def bidirectional(self) -> bool:
        """The layer's."""
        return self.rnn.bidirectional

    def stream(self, batch_size: int = 1) -> Stream:
        """A stream of `rnn`, with its raw weights."""
        return self.rnn.stream(batch_size)

    def __call__(self, x: ArrayLike, state: ArrayLike | None = None, **options: Any) -> Any:
        """What `rnn` gives, with its raw weights."""
        return self.rnn(x, state, **options)  # type: ignore[operator]

    def vjp(
        self, x: ArrayLike, state: ArrayLike | None = None, **options: Any
    ) -> tuple[Any, Callable[..., Any]]:
        """As the layer's own `vjp`, under a new mask of its recurrent weights."""
        return dropped_vjp(self.rnn, self.p, self._spare, x, state, **options)


def dropped_vjp(
    rnn: Recurrent,
    p: float,
    spare: list[Recurrent],
    x: ArrayLike,
    state: ArrayLike | None = None,
    **options: Any,
) -> tuple[Any, Callable[..., Any]]:
    """The vjp of `rnn` through a masked twin; `spare` keeps twins between calls."""
    if p == 0:
        return rnn.vjp(x, state, **options)
    try:
        twin = spare.pop()  # whichever thread comes first has it
    except IndexError:
        twin = _twin(rnn)
    masks = _mask_weights(rnn, twin, p)
    results, twin_pullback = twin.vjp(x, state, **options)

    def pullback(dy: ArrayLike | None, dstate: ArrayLike | None = None) -> Any:
        twin.zero_grad()
        found = twin_pullback(dy, dstate)
        for name, mask in masks.items():
            twin.grads[name] *= mask
        with adding_to(rnn.flat_grad):
            rnn.flat_grad += twin.flat_grad
        rnn.last_flow, twin.last_flow = twin.last_flow or rnn.last_flow, None
        spare.append(twin)
        return found

    return results, once(pullback, "a WeightDrop")


def _twin(rnn: Recurrent) -> Recurrent:
    """A layer like `rnn` with parameters and gradients of its own."""
    twin = deepcopy(rnn)
    twin.zero_grad()
    return twin


def _mask_weights(rnn: Recurrent, twin: Recurrent, p: float) -> dict[str, FloatArray]:
    """Give the twin the layer's parameters, the recurrent weights under masks; the masks."""
    twin.flat[...] = rnn.flat
    names = [name for name in rnn.parameters if name.startswith("weight_hh")]
    masks = {name: draw_mask(rnn.generator, p, rnn.parameters[name].shape) for name in names}
    for name, mask in masks.items():
        twin.parameters[name] *= mask
    twin._share_generator(rnn.generator)
    twin._memory_budget = rnn._memory_budget
    twin.repack()
    return masks
