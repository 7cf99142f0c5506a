"""Input feeding: a decoder whose every step reads what the step before saw by its attention.

Letters: T steps, N rows, E features of the embedding, H of an attentional vector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastrnn._arrays import FloatArray, IntArray
from fastrnn.models._decoder import Decoder, Encoded
from fastrnn.models._parts import layers_of
from fastrnn.nn.attention import Memory
from fastrnn.nn.dropout import dropped
from fastrnn.nn.gradient_flow import GradientFlow

StepBack = Callable[[FloatArray, Any, Any], tuple[FloatArray, Any]]  # dhidden, dstate, dmemory


class FeedingDecoder(Decoder):
    """A Decoder with attention whose recurrent layers read [embedding; attentional vector].

    The vector is that of the step before, zeros at first. No step can begin before the last one has
    looked, so that known sequences, too, take T calls of every part with N rows each instead of one
    with T * N; only the embedding and the head take all steps at once. The gradient of the
    recurrent weights is T products, and training keeps the tape of every step: a memory_budget
    bounds that of one. Source: Luong, Pham and Manning 2015, section 3.3.
    """

    feeds = True

    def __call__(
        self, tokens: IntArray, source: Encoded, lengths: IntArray | None
    ) -> tuple[FloatArray, FloatArray | None]:
        assert self.attention is not None
        assert source.memory is not None
        memory = self.attention.prepare(source.memory, source.lengths)
        x, state = np.take(self.embedding.weight, tokens, axis=0), source.state
        hidden = np.empty((*tokens.shape, self.rnn.output_size), np.float32)
        weights = np.empty((*tokens.shape, len(source.memory)), np.float32)
        fed = np.zeros_like(hidden[0])
        for t in range(len(x)):
            y, state = self.rnn(_inputs(x[t], fed)[None], state, lengths=_alive(lengths, t))
            hidden[t : t + 1], weights[t : t + 1] = self.look(y, memory)
            fed = hidden[t]
        return self.head(hidden), weights

    def vjp(
        self, tokens: IntArray, source: Encoded, lengths: IntArray | None, flow: bool = False
    ) -> tuple[FloatArray, Callable[[Any], tuple[FloatArray | None, Any]]]:
        generator = self.generator
        x, to_table = self.embedding.vjp(tokens)
        x, x_back = dropped(x, self.dropout, generator)
        memory, to_memory = self._prepare_vjp(source)
        hidden = np.empty((*tokens.shape, self.rnn.output_size), np.float32)
        fed, state, backs = np.zeros_like(hidden[0]), source.state, []
        for t in range(len(x)):
            inputs, alive = _inputs(x[t], fed), _alive(lengths, t)
            fed, state, back = self._step_vjp(inputs, state, alive, memory, flow)
            hidden[t] = fed
            backs.append(back)
        logits, to_hidden = self.head.vjp(hidden)

        def pullback(dlogits: Any) -> tuple[FloatArray | None, Any]:
            dhidden, dx = to_hidden(dlogits), np.empty_like(x)
            dfed, dstate = np.zeros_like(dhidden[0]), None
            layers, flows = list(layers_of(self.rnn).values()), []
            dmemory = None if memory is None else memory.zeros()
            for t in reversed(range(len(x))):
                dinputs, dstate = backs.pop()(dhidden[t] + dfed, dstate, dmemory)
                dx[t], dfed = np.split(dinputs, [x.shape[-1]], axis=1)
                flows.append([layer.last_flow for layer in layers])
            for k, layer in enumerate(layers if flow else ()):
                layer.last_flow = join_flows([step[k] for step in reversed(flows)])
            to_table(x_back(dx))
            return to_memory(dmemory), dstate

        return logits, pullback

    def _step_vjp(
        self, x: FloatArray, state: Any, alive: IntArray | None, memory: Memory | None, flow: bool
    ) -> tuple[FloatArray, Any, StepBack]:
        """The attentional vectors (N, H) and the state after one step over x (N, E + H)."""
        (y, state), to_x = self.rnn.vjp(x[None], state, lengths=alive, flow=flow)
        hidden, to_y = self._look_vjp(y, memory)
        hidden, undropped = dropped(hidden, self.dropout, self.generator)

        def back(dhidden: FloatArray, dstate: Any, dmemory: Any) -> tuple[FloatArray, Any]:
            dx, dstate = to_x(to_y(undropped(dhidden[None]), dmemory), dstate)
            return dx[0], dstate

        return hidden[0], state, back


def _inputs(x: FloatArray, fed: FloatArray) -> FloatArray:
    """What the recurrent layers read (N, E + H)."""
    return np.concatenate((x, fed), axis=-1)


def _alive(lengths: IntArray | None, t: int) -> IntArray | None:
    """The lengths of a sequence that is step t alone."""
    return None if lengths is None else (lengths > t).astype(np.int64)


def join_flows(flows: list[GradientFlow | None]) -> GradientFlow:
    """One flow of all steps."""
    found = [flow for flow in flows if flow is not None]
    norm, saturated = (
        np.concatenate([getattr(flow, name) for flow in found], axis=1)
        for name in ("norm", "saturated")
    )
    return GradientFlow(norm, saturated, found[0].directions)
