"""A decoder: embedding, recurrent layers, attention over a memory, a head.

Letters: T steps, N rows, S positions of the memory, M its features, H units, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fastrnn import _core
from fastrnn._arrays import FloatArray, IntArray
from fastrnn.models._base import Folded, fits_table, folded
from fastrnn.models._parts import is_recurrent
from fastrnn.nn import Embedding, Linear
from fastrnn.nn.attention import Attention, Memory
from fastrnn.nn.composite import Composite
from fastrnn.nn.dropout import dropped
from fastrnn.nn.module import Module

_TANH = _core.Activation("tanh")


class Encoded(NamedTuple):
    """What a decoder starts from: its state, and the memory (S, N, M) it may look at."""

    state: Any
    memory: FloatArray | None = None
    lengths: IntArray | None = None


class Decoder(Composite):
    """tokens (T, N) -> logits (T, N, V): y = rnn(embedding), head(tanh(combine [context; y])).

    Attention comes after the recurrent layers, so a whole known sequence is one call of each
    part. Without attention: head(y). Encoded: Luong, Pham and Manning 2015, without input feeding.
    """

    _derived = Composite._derived | {"_table"}
    _table: Folded | None
    feeds = False  # whether a step reads the attentional vector of the step before

    def __init__(
        self,
        embedding: Embedding,
        rnn: Any,
        attention: Attention | None,
        head: Linear,
        dropout: float,
    ) -> None:
        self.embedding, self.rnn, self.attention = embedding, rnn, attention
        width, memory_size = rnn.output_size, 0 if attention is None else attention.memory_size
        self.combine = None if attention is None else Linear(memory_size + width, width)
        self.head, self.dropout = head, dropout
        self._assemble()

    @property
    def _parts(self) -> dict[str, Module]:
        parts: dict[str, Module] = {"embedding": self.embedding, "rnn": self.rnn}
        if self.attention is not None and self.combine is not None:
            parts |= {"attention": self.attention, "combine": self.combine}
        return {**parts, "head": self.head}

    def __call__(
        self, tokens: IntArray, source: Encoded, lengths: IntArray | None
    ) -> tuple[FloatArray, FloatArray | None]:
        """logits (T, N, V) and attention weights (T, N, S)."""
        x = np.take(self.embedding.weight, tokens, axis=0)
        y, _ = self.rnn(x, source.state, lengths=lengths)
        if self.attention is None:
            return self.head(y), None
        assert source.memory is not None
        memory = self.attention.prepare(source.memory, source.lengths)
        hidden, weights = self.look(y, memory)
        return self.head(hidden), weights

    def look(
        self, y: FloatArray, memory: Memory, sources: IntArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """The attentional vectors of y (T, N, H), and the weights."""
        assert self.attention is not None
        assert self.combine is not None
        context, weights = self.attention.attend(y, memory, sources)
        return tanh(self.combine(np.concatenate((context, y), axis=-1))), weights

    def vjp(
        self, tokens: IntArray, source: Encoded, lengths: IntArray | None, flow: bool = False
    ) -> tuple[FloatArray, Callable[[Any], tuple[FloatArray | None, Any]]]:
        """logits in training mode, and pullback(dlogits) -> dmemory, dstate."""
        generator = self.generator
        x, to_table = self.embedding.vjp(tokens)
        x, x_back = dropped(x, self.dropout, generator)
        (y, _), to_x = self.rnn.vjp(x, source.state, lengths=lengths, flow=flow)
        memory, to_memory = self._prepare_vjp(source)
        hidden, to_y = self._look_vjp(y, memory)
        hidden, hidden_back = dropped(hidden, self.dropout, generator)
        logits, to_hidden = self.head.vjp(hidden)

        def pullback(dlogits: Any) -> tuple[FloatArray | None, Any]:
            dmemory = None if memory is None else memory.zeros()
            dy = to_y(hidden_back(to_hidden(dlogits)), dmemory)
            dx, dstate = to_x(dy)
            to_table(x_back(dx))
            return to_memory(dmemory), dstate

        return logits, pullback

    def _prepare_vjp(
        self, source: Encoded
    ) -> tuple[Memory | None, Callable[[Any], FloatArray | None]]:
        if self.attention is None or source.memory is None:
            return None, lambda dprepared: None
        return self.attention.prepare_vjp(source.memory, source.lengths)

    def _look_vjp(
        self, y: FloatArray, memory: Memory | None
    ) -> tuple[FloatArray, Callable[[FloatArray, Any], FloatArray]]:
        """The attentional vectors, and back(dhidden, dprepared) -> dy, which adds to dprepared."""
        if self.attention is None or self.combine is None or memory is None:
            return y, lambda dhidden, dprepared: dhidden
        (context, _), to_query = self.attention.attend_vjp(y, memory)
        z, to_joined = self.combine.vjp(np.concatenate((context, y), axis=-1))
        hidden = tanh(z)

        def back(dhidden: FloatArray, dprepared: Any) -> FloatArray:
            djoined = to_joined(tanh_back(hidden, dhidden))
            size = context.shape[-1]
            dqueries = to_query(np.ascontiguousarray(djoined[..., :size]), dprepared)
            dqueries += djoined[..., size:]
            return dqueries

        return hidden, back

    def _folded(self) -> _core.Table | None:
        """The embedding multiplied with the first layer's weights, where that is small."""
        if not is_recurrent(self.rnn) or not fits_table(self.rnn, self.embedding.num):
            return None
        found = folded(self.rnn, self.embedding, self._versions(), self._table)
        self._table = found
        return found[1]

    def _forget(self) -> None:
        self._table = None


def tanh(z: FloatArray) -> FloatArray:
    """tanh, with the bits of the recurrent layers' own."""
    return _TANH.run(z, None)


def tanh_back(y: FloatArray, dy: FloatArray) -> FloatArray:
    """The gradient of z where y = tanh z."""
    return dy * (1 - y * y)
