"""Examples whose targets are sequences: a continuation of the input, or another sequence."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from fastrnn._arrays import AnyArray, ArrayLike, IntArray, as_int, as_int64
from fastrnn._errors import counted
from fastrnn.data._batch import Batch
from fastrnn.data.examples import IGNORE_INDEX
from fastrnn.data.sequences import Sequences, as_id, check_from_zero

_MARKS = ("bos", "eos", "pad", "ignore_index")  # ids with a meaning of their own


def shift(target_ids: ArrayLike, bos: int, eos: int) -> tuple[AnyArray, AnyArray]:
    """Teacher forcing: ids (T,) -> inputs [bos, *ids] and targets [*ids, eos], both (T + 1,).

    The same as BOS and EOS around the ids, then EOS off the inputs and BOS off the targets. ids
    that hold `bos` or `eos` already are a ValueError.
    """
    ids = as_int64(target_ids, "target_ids")
    if ids.ndim != 1:
        raise ValueError(f"target_ids has shape {ids.shape}, expected one dimension")
    _check_unmarked(ids, bos, eos, "target_ids")
    return np.concatenate(([bos], ids)), np.concatenate((ids, [eos]))


def _check_unmarked(ids: AnyArray, bos: int, eos: int, name: str) -> None:
    for mark, number in (("bos", as_id(bos, "bos")), ("eos", as_id(eos, "eos"))):
        found = np.flatnonzero(ids == number)
        if found.size:
            raise ValueError(f"{name} holds {mark} ({number}) at {found[0]}, the shift adds it")


class ShiftedSequences:
    """Sequences to be continued from BOS to EOS: inputs and targets (T + 1, N), lengths (N,).

    Each row is what `shift` gives; a sequence without steps is learnt as an immediate end.
    """

    def __init__(
        self,
        sequences: Sequences | Iterable[ArrayLike],
        *,
        bos: int,
        eos: int,
        pad: int = 0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        self.sequences = Sequences.of(sequences)
        if not len(self.sequences):
            raise ValueError("sequences is empty")
        check_from_zero(self.sequences.values, "sequences")
        _check_unmarked(self.sequences.values, bos, eos, "sequences")
        self.bos, self.eos = as_int(bos, "bos"), as_int(eos, "eos")
        self.pad, self.ignore_index = as_id(pad, "pad"), as_int(ignore_index, "ignore_index")

    def __repr__(self) -> str:
        return f"ShiftedSequences({self.sequences!r}, bos={self.bos}, eos={self.eos})"

    def _held(self) -> dict[str, list[AnyArray]]:
        marks = {name: [np.array(getattr(self, name))] for name in _MARKS}
        return {**self.sequences._held(), **marks}

    @property
    def sizes(self) -> IntArray:
        return self.sequences.lengths[:, None] + 1

    def gather(self, rows: IntArray) -> Batch:
        lengths = self.sequences.lengths[rows]
        shape = int(lengths.max()) + 1, len(rows)
        inputs, targets = np.full(shape, self.pad), np.full(shape, self.ignore_index)
        inputs[0] = self.bos
        if shape[0] > 1:
            inputs[1:], _ = self.sequences.padded(rows, self.pad)
            targets[:-1], _ = self.sequences.padded(rows, self.ignore_index)
        targets[lengths, np.arange(len(rows))] = self.eos
        return Batch(inputs, targets, lengths + 1)


class Pairs:
    """Source and target sequences, for teacher forcing of a decoder.

    inputs is the pair (source (S, N), shifted target (T + 1, N)), targets (T + 1, N), lengths the
    pair of their lengths (N,). See `shift` for `bos` and `eos`.
    """

    def __init__(
        self,
        source: Sequences | Iterable[ArrayLike],
        target: Sequences | Iterable[ArrayLike],
        *,
        bos: int,
        eos: int,
        pad: int = 0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        self.source = Sequences.of(source, "source")
        self.source.check_filled("source")
        self.target = ShiftedSequences(
            Sequences.of(target, "target"), bos=bos, eos=eos, pad=pad, ignore_index=ignore_index
        )
        if len(self.source) != len(self.target.sequences):
            raise ValueError(
                f"target has {counted(len(self.target.sequences), 'sequence')}, source has "
                f"{len(self.source)}"
            )

    def __repr__(self) -> str:
        return f"Pairs({self.source!r}, {self.target!r})"

    def _held(self) -> dict[str, list[AnyArray]]:
        target = self.target._held()
        texts = {"source": self.source._held()["sequences"], "target": target.pop("sequences")}
        return {**texts, **target}

    @property
    def sizes(self) -> IntArray:
        return np.concatenate((self.source.lengths[:, None], self.target.sizes), axis=1)

    def gather(self, rows: IntArray) -> Batch:
        source, lengths = self.source.padded(rows, self.target.pad)
        inputs, targets, target_lengths, _ = self.target.gather(rows)
        return Batch((source, inputs), targets, (lengths, target_lengths))
