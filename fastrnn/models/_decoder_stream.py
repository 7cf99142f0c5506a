"""A decoder one token at a time, for rows that may be copied, dropped and put in another order."""

from __future__ import annotations

import numpy as np

from fastrnn._arrays import (
    ArrayLike,
    FloatArray,
    IntArray,
    as_int64,
    as_size,
    check_indices,
)
from fastrnn.layers.shortlist import Shortlist
from fastrnn.models._bridge import as_list
from fastrnn.models._decoder import Decoder, Encoded
from fastrnn.streams import Stream


class DecoderStream:
    """A running decoder: `step(tokens (N,))` -> logits (N, V), the bits of teacher forcing.

    Row n starts from source n, rows past the last source from the last one. `weights` (N, S) is
    where the last step looked, None without attention. `reorder(indices)`: row n becomes a copy of
    row indices[n]; from 1 to `capacity` of them, the new N. Rows share the memory of their source.
    Keeps the weights of the recurrent layers, and expects the others to stay as they are.
    """

    weights: FloatArray | None = None

    def __init__(
        self,
        decoder: Decoder,
        encoded: Encoded,
        batch_size: int | None = None,
        shortlist: Shortlist | None = None,
    ) -> None:
        count = as_list(encoded.state)[0].shape[1]
        self.capacity = count if batch_size is None else as_size(batch_size, "batch_size")
        self.sources = np.minimum(np.arange(self.capacity), count - 1)
        self._decoder, self._shortlist = decoder, shortlist
        self._memory = None
        if decoder.attention is not None:
            assert encoded.memory is not None
            self._memory = decoder.attention.prepare(encoded.memory, encoded.lengths)
        self._fed = np.zeros((self.capacity, decoder.rnn.output_size), np.float32)
        start = [np.take(part, self.sources, axis=1) for part in as_list(encoded.state)]
        self._rnn = _rnn_stream(decoder, start, self._memory is None and shortlist is None)

    @property
    def rows(self) -> int:
        """N, how many tokens a step expects."""
        return len(self.sources)

    def step(self, tokens: ArrayLike) -> FloatArray:
        """logits (N, V) of what follows; tokens (N,), or one int for one row, then (V,)."""
        ids = as_int64(tokens, "tokens")
        check_indices(ids, self._decoder.embedding.num, "tokens")
        flat = ids.ndim == 0 and self.rows == 1
        if not flat and ids.shape != (self.rows,):
            raise ValueError(f"tokens has shape {ids.shape}, this stream expects ({self.rows},)")
        logits = self._logits(self._rnn.step(self._inputs(ids.reshape(self.rows))))
        return logits[0] if flat else logits

    def _inputs(self, ids: IntArray) -> IntArray | FloatArray:
        """What the recurrent layers read: tokens, or with input feeding vectors (N, E + H)."""
        if not self._decoder.feeds:
            return ids
        return np.concatenate((self._decoder.embedding.weight[ids], self._fed), axis=-1)

    def _logits(self, y: FloatArray) -> FloatArray:
        """y is the recurrent layers' output, or the logits where nothing comes between."""
        if self._memory is not None:
            hidden, weights = self._decoder.look(y[None], self._memory, self.sources)
            y, self.weights = hidden[0], weights[0]
            self._fed = y
        elif self._shortlist is None:
            return y
        head = self._decoder.head if self._shortlist is None else self._shortlist.full
        return head(y)

    def reorder(self, indices: ArrayLike) -> None:
        """Row n becomes a copy of row indices[n]."""
        rows = as_int64(indices, "indices")
        if rows.ndim != 1 or not 1 <= len(rows) <= self.capacity:
            raise ValueError(
                f"indices has shape {rows.shape}, expected 1 to {self.capacity} row numbers"
            )
        check_indices(rows, self.rows, "indices")
        self._rnn.reorder(rows)
        self.sources, self._fed = self.sources[rows], self._fed[rows]
        self.weights = None if self.weights is None else self.weights[rows]


def _rnn_stream(decoder: Decoder, state: list[FloatArray], has_head: bool) -> Stream:
    """The recurrent layers over tokens, or over vectors with input feeding.

    With the head where nothing comes before it.
    """
    table = None if decoder.feeds else decoder._folded()
    head = decoder.head._shared_dense() if has_head else None
    rows, rnn = state[0].shape[1], decoder.rnn
    embedding = None if decoder.feeds or table is not None else decoder.embedding.weight
    fingerprint = bytes(16)  # no snapshot will be asked for
    stream = Stream.over(rnn, rows, fingerprint, table, head, embedding)
    stream.state = state[0] if len(state) == 1 else (state[0], state[1])
    return stream


class Conditioned:
    """A model together with its sources: what can be decoded, as a language model is.

    `vocab_size`, and `stream(batch_size)`, whose row i starts from source i.
    """

    def __init__(self, decoder: Decoder, encoded: Encoded, shortlist: Shortlist | None) -> None:
        self._decoder, self._encoded, self._shortlist = decoder, encoded, shortlist
        self.vocab_size = decoder.embedding.num
        self.num_sources: int = as_list(encoded.state)[0].shape[1]

    def stream(self, batch_size: int | None = None) -> DecoderStream:
        """A stream of `batch_size` rows, by default one for each source."""
        return DecoderStream(self._decoder, self._encoded, batch_size, self._shortlist)


def greedy(stream: DecoderStream, bos: int, eos: int, limit: int) -> list[IntArray]:
    """For every row the most probable next tokens, one after the other, up to and without eos."""
    found: list[list[int]] = [[] for _ in range(stream.rows)]
    alive = np.arange(stream.rows)
    tokens = np.full(stream.rows, bos)
    for _ in range(limit):
        tokens = stream.step(tokens).argmax(axis=1)
        for row, token in zip(alive, tokens, strict=True):
            found[row].append(int(token))
        kept = np.flatnonzero(tokens != eos)
        if not kept.size:
            break
        if kept.size < alive.size:
            stream.reorder(kept)
            alive, tokens = alive[kept], tokens[kept]
    return [np.array(ids[:-1] if ids[-1] == eos else ids, np.int64) for ids in found]
