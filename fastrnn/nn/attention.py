"""Attention: for every query, a weighted mean over a memory.

Letters: T steps, N rows, S positions of the memory, Q features of a query, M of the memory, A of
what the two are compared in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fastrnn import _core
from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    IntArray,
    as_choice,
    as_float32,
    as_int64,
    as_lengths,
    as_size,
    check_indices,
)
from fastrnn.nn.composite import Composite
from fastrnn.nn.embedding import check_shape
from fastrnn.nn.linear import Linear
from fastrnn.nn.module import Module
from fastrnn.nn.pullback import adding_to, once
from fastrnn.nn.registry import registered
from fastrnn.nn.stream import Operation

KINDS = ("additive", "multiplicative", "scaled_dot")

Back = Callable[[ArrayLike], tuple[FloatArray, FloatArray]]


class Memory(NamedTuple):
    """What queries look at, made by `Attention.prepare`: keys (S, N, A), values (S, N, M)."""

    keys: FloatArray
    values: FloatArray
    lengths: IntArray | None

    def zeros(self) -> Memory:
        """A gradient to add to; keys that are the values share theirs."""
        values = np.zeros_like(self.values)
        keys = values if self.keys is self.values else np.zeros_like(self.keys)
        return Memory(keys, values, None)


@registered
class Attention(Composite):
    """softmax over positions s of score(q, m_s), and the mean of the m_s under these weights.

    kind "additive": v . tanh(W_q q + W_m m + b) (Bahdanau, Cho and Bengio 2015);
    "multiplicative": q . W^T m (Luong, Pham and Manning 2015, general); "scaled_dot":
    W_q q . W_m m / sqrt(A) (Vaswani et al. 2017). `size`: A, by default query_size; for
    "multiplicative" it is memory_size.
    context, weights = attention(queries (T, N, Q), memory (S, N, M), lengths (N,) or None):
    context (T, N, M), weights (T, N, S), which are exactly 0 past a row's length; a row of length
    0 has context 0.
    Parameters: query.weight, and key.weight (with key.bias, score.weight if additive).
    """

    _options = ("kind", "query_size", "memory_size", "size")

    def __init__(
        self, kind: str, query_size: int, memory_size: int, size: int | None = None
    ) -> None:
        self.kind = as_choice(kind, "kind", KINDS)
        self.query_size = as_size(query_size, "query_size", MAX_SIZE)
        self.memory_size = as_size(memory_size, "memory_size", MAX_SIZE)
        self.size = _compared_in(kind, self.query_size, self.memory_size, size)
        self.query = Linear(self.query_size, self.size, bias=False)
        self._others: dict[str, Linear] = {}
        if kind != "multiplicative":
            self._others["key"] = Linear(self.memory_size, self.size, bias=kind == "additive")
        if kind == "additive":
            self._others["score"] = Linear(self.size, 1, bias=False)
        self._assemble()

    @property
    def _parts(self) -> dict[str, Module]:
        return {"query": self.query, **self._others}

    def prepare(self, memory: ArrayLike, lengths: ArrayLike | None = None) -> Memory:
        """The memory (S, N, M) as `attend` takes it, for many calls."""
        values, counts = self._checked(memory, lengths)
        key = self._others.get("key")
        return Memory(values if key is None else key(values), values, counts)

    def attend(
        self, queries: ArrayLike, memory: Memory, sources: ArrayLike | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """As the call; `sources` (N,) ints: which row of the memory each row of queries looks at.

        So all beams of a sentence share one memory.
        """
        q = self._checked_queries(queries, memory, sources)
        rows: IntArray | None = None
        if sources is not None:
            rows = as_int64(sources, "sources")
            check_indices(rows, memory.values.shape[1], "sources")
            check_shape(rows, q.shape[1:2], "sources")  # type: ignore[arg-type]
        attended = self._run(self.query(q), memory, rows)
        return attended.context, attended.weights

    def operations(self, memory: Memory, combine: Linear, h: int, at: int) -> list[Operation]:
        """tanh(combine [context; h]) of operation `h` as operations of a network, from place `at`.

        The second one is the attention itself, whose weights the network carries.
        """
        score, factor = self._score()
        attend = {
            "keys": memory.keys,
            "values": memory.values,
            "score": None if score is None else score.copy(),
            "lengths": memory.lengths,
            "factor": factor,
        }
        return [
            ("linear", (h,), {"weights": self.query._shared_dense()}),
            ("attend", (at,), attend),
            ("concatenate", (at + 1, h), {}),
            ("linear", (at + 2,), {"weights": combine._shared_dense()}),
            ("activate", (at + 3,), {"weights": _core.Activation("tanh")}),
        ]

    def _score(self) -> tuple[FloatArray | None, float]:
        """v of the additive score, and the factor of a product."""
        score = self._others.get("score")
        v = None if score is None else score.parameters["weight"][0]
        return v, self.size**-0.5 if self.kind == "scaled_dot" else 1.0

    def __call__(
        self, queries: ArrayLike, memory: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """context (T, N, M) and weights (T, N, S)."""
        return self.attend(queries, self.prepare(memory, lengths))

    def vjp(
        self, queries: ArrayLike, memory: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[tuple[FloatArray, FloatArray], Back]:
        """As the call, and pullback(dcontext) -> dqueries, dmemory.

        queries, memory and the parameters must stay as they are until the pullback is called.
        """
        prepared, to_memory = self.prepare_vjp(memory, lengths)
        results, to_queries = self.attend_vjp(queries, prepared)

        def pullback(dcontext: ArrayLike) -> tuple[FloatArray, FloatArray]:
            dprepared = prepared.zeros()
            return to_queries(dcontext, dprepared), to_memory(dprepared)

        return results, once(pullback, "an Attention")

    def prepare_vjp(
        self, memory: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[Memory, Callable[[Memory], FloatArray]]:
        """`prepare`, and pullback(dprepared) -> dmemory, which takes its arrays."""
        values, counts = self._checked(memory, lengths)
        key = self._others.get("key")
        keys, to_memory = (values, None) if key is None else key.vjp(values)

        def pullback(dprepared: Memory) -> FloatArray:
            dvalues = dprepared.values
            if to_memory is not None:
                dvalues += to_memory(dprepared.keys)
            return dvalues

        return Memory(keys, values, counts), pullback

    def attend_vjp(
        self, queries: ArrayLike, memory: Memory
    ) -> tuple[tuple[FloatArray, FloatArray], Callable[[ArrayLike, Memory], FloatArray]]:
        """`attend`, and pullback(dcontext, dprepared) -> dqueries, which adds to dprepared."""
        projected, to_queries = self.query.vjp(self._checked_queries(queries, memory, None))
        attended = self._run(projected, memory, None)
        context, weights = attended.context, attended.weights

        def pullback(dcontext: ArrayLike, dprepared: Memory) -> FloatArray:
            dcontext = as_float32(dcontext, "dcontext")
            check_shape(dcontext, context.shape, "dcontext")
            dprojected = np.zeros_like(projected)
            self._back(attended, dcontext, dprojected, dprepared.keys, dprepared.values)
            return to_queries(dprojected)

        return (context, weights), pullback

    def _run(
        self, projected: FloatArray, memory: Memory, sources: IntArray | None
    ) -> _core.Attended:
        v, scale = self._score()
        keys, values, lengths = memory
        return _core.Attended(projected, keys, values, v, lengths, sources, scale)

    def _back(
        self,
        attended: _core.Attended,
        dcontext: FloatArray,
        dqueries: FloatArray,
        dkeys: FloatArray,
        dvalues: FloatArray,
    ) -> None:
        """Adds to all three gradients, and to that of the additive score's v, row after row."""
        (steps, rows, _), positions = dcontext.shape, len(dvalues)
        score = self._others.get("score")
        dscore = None if score is None else np.zeros((rows, self.size), np.float32)
        workspace = np.empty((steps, rows, positions), np.float32)
        attended.backward(dcontext, dqueries, dkeys, dvalues, dscore, workspace)
        if score is not None and dscore is not None and rows:
            ones = np.ones((1, rows, 1), np.float32)
            with adding_to(score.flat_grad):
                _core.linear_gradient(dscore[None], ones, score.grads["weight"], None)

    def _checked(
        self, memory: ArrayLike, lengths: ArrayLike | None
    ) -> tuple[FloatArray, IntArray | None]:
        values = as_float32(memory, "memory")
        if values.ndim != 3 or values.shape[2] != self.memory_size:
            raise ValueError(
                f"memory has shape {values.shape}, this Attention expects (S, N, "
                f"{self.memory_size})"
            )
        if lengths is None:
            return values, None
        return values, as_lengths(lengths, values.shape[1], values.shape[0])

    def _checked_queries(
        self, queries: ArrayLike, memory: Memory, sources: ArrayLike | None
    ) -> FloatArray:
        q = as_float32(queries, "queries")
        rows, shape = memory.values.shape[1], q.shape
        if len(shape) != 3 or shape[2] != self.query_size or (sources is None and shape[1] != rows):
            wanted = rows if sources is None else "N"
            raise ValueError(
                f"queries has shape {q.shape}, this Attention expects (T, {wanted}, "
                f"{self.query_size})"
            )
        return q


def _compared_in(kind: str, query_size: int, memory_size: int, size: int | None) -> int:
    """A, which multiplicative attention has no choice about."""
    if kind != "multiplicative":
        return query_size if size is None else as_size(size, "size", MAX_SIZE)
    if size not in (None, memory_size):
        raise ValueError(f"size is {size}, multiplicative attention expects {memory_size} or None")
    return memory_size
