"""A decoder one token at a time, for rows that may be copied, dropped and put in another order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fastrnn import _core
from fastrnn._arrays import (
    ArrayLike,
    FloatArray,
    IntArray,
    as_int64,
    as_size,
    check_indices,
)
from fastrnn.models._bridge import as_list
from fastrnn.models._decoder import Decoder, Encoded
from fastrnn.nn.lowering import Carried, Lowering, Value
from fastrnn.nn.network_stream import carried_parts
from fastrnn.nn.shortlist import Shortlist
from fastrnn.nn.stream import Stream, stack_operation

_BEHIND_LAYERS = 5  # operations of an attention, the last of which gives what is fed


class DecoderStream:
    """A running decoder: `step(tokens (N,))` -> logits (N, V), the bits of teacher forcing.

    Row n starts from source n, rows past the last source from the last one. `weights` (N, S) is
    where the last step looked, None without attention. `reorder(indices)`: row n becomes a copy of
    row indices[n]; from 1 to `capacity` of them, the new N. Rows share the memory of their source.
    Keeps the weights that the decoder has when it is made. `core`: the stream below.
    """

    def __init__(
        self,
        decoder: Decoder,
        encoded: Encoded,
        batch_size: int | None = None,
        shortlist: Shortlist | None = None,
    ) -> None:
        count = as_list(encoded.state)[0].shape[1]
        capacity = count if batch_size is None else as_size(batch_size, "batch_size")
        sources = np.minimum(np.arange(capacity), count - 1)
        self.core, self._looks = _stream_of(decoder, encoded, sources, shortlist)

    @property
    def rows(self) -> int:
        """N, how many tokens a step expects."""
        return self.core.rows

    @property
    def capacity(self) -> int:
        """The most rows."""
        return self.core.capacity

    @property
    def weights(self) -> FloatArray | None:
        """(N, S) of the last step, zeros before the first; None without attention."""
        if self._looks is None:
            return None
        weights: FloatArray = self.core.read_part(self._looks, 0)[0]
        return weights

    def step(self, tokens: ArrayLike) -> FloatArray:
        """logits (N, V) of what follows; tokens (N,), or one int for one row, then (V,)."""
        ids = as_int64(tokens, "tokens")
        check_indices(ids, self.core.vocabulary, "tokens")
        if ids.shape != (self.rows,) and not (ids.ndim == 0 and self.rows == 1):
            raise ValueError(f"tokens has shape {ids.shape}, this stream expects ({self.rows},)")
        logits: FloatArray = self.core.step(ids)
        return logits

    def reorder(self, indices: ArrayLike) -> None:
        """Row n becomes a copy of row indices[n]."""
        rows = as_int64(indices, "indices")
        if rows.ndim != 1 or not 1 <= len(rows) <= self.capacity:
            raise ValueError(
                f"indices has shape {rows.shape}, expected 1 to {self.capacity} row numbers"
            )
        check_indices(rows, self.rows, "indices")
        self.core.reorder(rows)


def _stream_of(
    decoder: Decoder, encoded: Encoded, sources: IntArray, shortlist: Shortlist | None
) -> tuple[Stream, int | None]:
    """All of the decoder, from tokens to logits, in the states of its sources.

    Also the place of its attention among the network's operations.
    """
    low, layers = _layers(decoder)
    operations, last, looks = low.operations, layers, None
    if decoder.attention is not None and decoder.combine is not None and encoded.memory is not None:
        memory = decoder.attention.prepare(encoded.memory, encoded.lengths)
        looks = layers + 2
        operations += decoder.attention.operations(memory, decoder.combine, layers, layers + 1)
        last = len(operations) - 1
    head = decoder.head._shared_dense() if shortlist is None else shortlist.dense
    operations.append(("linear", (last,), {"weights": head}))
    if shortlist is not None:
        listed = {"listed": shortlist.ids, "channels": shortlist.out_features}
        operations.append(("listed", (last + 1,), listed))
    network = _core.Network(type(decoder.rnn).__name__, operations, [len(operations) - 1])
    nobody = bytes(16)  # a fingerprint: no snapshot will be asked for
    parts = [part for one in low.carried for part in carried_parts(one, network)]
    stream = Stream.over(network, len(sources), nobody, parts)
    state = [np.take(part, sources, axis=1) for part in as_list(encoded.state)]
    stream.write_parts([(*at, part) for at, part in zip(parts, state, strict=True)])
    if looks is not None:
        stream.look(looks, sources)
    return stream, looks


def _layers(decoder: Decoder) -> tuple[Lowering, int]:
    """From tokens to the recurrent layers' output, and the place of that.

    With input feeding the layers read [embedding; h~], where h~ is what comes out of the attention
    behind them, in the step before.
    """
    low, table = Lowering(), None if decoder.feeds else decoder._folded()
    width = decoder.embedding.dim
    value = low.add("tokens", (), Value(-1, 1, width, "x"), vocabulary=decoder.embedding.num)
    if table is not None:
        low.carried.append(Carried("", decoder.rnn, 1))
        low.operations.append(stack_operation(table.stack, 0, table=table))
        return low, 1
    value = low.add("embed", (0,), value, embedding=decoder.embedding.weight.copy())
    before = len(low.operations)
    if decoder.feeds:
        fed = decoder.rnn.output_size
        low.add("previous", (-1,), value, channels=fed)
        shape = value._replace(channels=width + fed)
        value = low.add("concatenate", (value.place, before), shape)
    place = low.layer(decoder.rnn, value).place
    if decoder.feeds:  # what is behind the layers is known by now
        behind = place + _BEHIND_LAYERS
        low.operations[before] = ("previous", (behind,), {"channels": fed})
    return low, place


class Conditioned:
    """A model together with its sources: what can be decoded, as a language model is.

    `vocab_size`, and `stream(batch_size)`, whose row i starts from source i. Sources are encoded
    once, so that a model whose parameters have changed since refuses to go on from them.
    """

    def __init__(
        self,
        decoder: Decoder,
        encoded: Encoded,
        shortlist: Shortlist | None,
        versions: Callable[[], tuple[int, ...]],
    ) -> None:
        self._decoder, self._encoded, self._shortlist = decoder, encoded, shortlist
        self._versions, self._seen = versions, versions()
        self.vocab_size = decoder.embedding.num
        self.num_sources: int = as_list(encoded.state)[0].shape[1]

    def stream(self, batch_size: int | None = None) -> DecoderStream:
        """A stream of `batch_size` rows, by default one for each source."""
        if self._versions() != self._seen:
            raise ValueError(
                "the parameters have changed since with_source(source): expected a new call of it, "
                "whose sources are encoded by what they are now"
            )
        return DecoderStream(self._decoder, self._encoded, batch_size, self._shortlist)
