"""What is learnt from sequences: a class, a label per step, or another sequence.

An object here holds examples and gathers some of them into a padded batch; `Buckets` decides which.
Steps past a row's end hold `pad` in inputs and `ignore_index` in targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Protocol

import numpy as np

from fastrnn._arrays import AnyArray, ArrayLike, IntArray, as_array, as_int, as_int64
from fastrnn.data._batch import Batch
from fastrnn.data.sequences import Sequences, check_from_zero

IGNORE_INDEX = -100  # PyTorch's: a target that no loss counts


class Examples(Protocol):
    """Anything that `Buckets` can make batches of."""

    @property
    def sizes(self) -> IntArray:
        """(count, parts) steps of each part of each example that is padded on its own."""

    def gather(self, rows: IntArray) -> Batch:
        """The batch of the examples at `rows` (N,)."""


def encode_labels(labels: Iterable[str], classes: Sequence[str], name: str = "labels") -> IntArray:
    """Names of classes -> their positions in `classes`; ValueError for an unknown name."""
    numbers = {label: i for i, label in enumerate(classes)}
    if len(numbers) != len(classes):
        raise ValueError("classes names a class twice")
    listed = list(labels)
    try:
        return np.fromiter(map(numbers.__getitem__, listed), np.int64, len(listed))
    except KeyError as error:
        at = listed.index(error.args[0])
        raise ValueError(
            f"{name}[{at}] is {error.args[0]!r}, which is none of the {len(classes)} classes"
        ) from None


class LabelledSequences:
    """Sequences with one class each: inputs (T, N) or (T, N, I), targets (N,), lengths (N,).

    `labels`: ints from 0, or names; `classes` are then the known names in the order of their
    numbers, by default those that occur, sorted.
    """

    def __init__(
        self,
        sequences: Sequences | Iterable[ArrayLike],
        labels: Sequence[str] | ArrayLike,
        *,
        classes: Sequence[str] | None = None,
        pad: int = 0,
    ) -> None:
        self.sequences = Sequences.of(sequences)
        self.sequences.check_filled("sequences")
        self.pad = _as_id(pad, "pad")
        self.labels, self.classes = _numbered(labels, classes, "labels")
        if self.labels.shape != (len(self.sequences),):
            raise ValueError(
                f"labels has shape {self.labels.shape}, expected ({len(self.sequences)},): "
                f"one for each sequence"
            )

    @property
    def sizes(self) -> IntArray:
        return self.sequences.lengths[:, None]

    def gather(self, rows: IntArray) -> Batch:
        inputs, lengths = self.sequences.padded(rows, self.pad)
        return Batch(inputs, self.labels[rows], lengths)


class TaggedSequences:
    """Sequences with a label for every step: inputs and targets (T, N), lengths (N,).

    `tags`: for each sequence ints from 0 or names; `classes` as for LabelledSequences.
    """

    def __init__(
        self,
        sequences: Sequences | Iterable[ArrayLike],
        tags: Sequences | Sequence[Sequence[str]] | Sequence[ArrayLike],
        *,
        classes: Sequence[str] | None = None,
        pad: int = 0,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        self.sequences = Sequences.of(sequences)
        self.sequences.check_filled("sequences")
        self.pad, self.ignore_index = _as_id(pad, "pad"), as_int(ignore_index, "ignore_index")
        if not isinstance(tags, Sequences):
            lengths = [len(part) for part in tags]
            numbers, self.classes = _numbered(_chained(tags), classes, "tags")
            self.tags = Sequences(numbers, lengths)
        else:
            self.tags, self.classes = tags, tuple(classes or ())
            _check_numbers(tags.values, self.classes, "tags")
        _check_same_lengths(self.sequences, self.tags)

    @property
    def sizes(self) -> IntArray:
        return self.sequences.lengths[:, None]

    def gather(self, rows: IntArray) -> Batch:
        inputs, lengths = self.sequences.padded(rows, self.pad)
        targets, _ = self.tags.padded(rows, self.ignore_index)
        return Batch(inputs, targets, lengths)


def _check_same_lengths(sequences: Sequences, tags: Sequences) -> None:
    if len(sequences) != len(tags):
        raise ValueError(f"tags has {len(tags)} sequences, expected {len(sequences)}")
    differ = np.flatnonzero(sequences.lengths != tags.lengths)
    if differ.size:
        i = int(differ[0])
        raise ValueError(
            f"tags[{i}] has {tags.lengths[i]} steps, sequence {i} has {sequences.lengths[i]}"
        )


def _chained(parts: Sequence[Sequence[str]] | Sequence[ArrayLike]) -> list[str] | AnyArray:
    """All labels one after the other, whether they are names or numbers."""
    if any(len(part) and isinstance(part[0], str) for part in parts):
        return list(chain.from_iterable(parts))
    filled = [as_array(part, f"tags[{i}]") for i, part in enumerate(parts) if len(part)]
    return np.concatenate(filled) if filled else np.zeros(0, np.int64)


def _numbered(
    labels: Sequence[str] | ArrayLike, classes: Sequence[str] | None, name: str
) -> tuple[IntArray, tuple[str, ...]]:
    """Labels as numbers, and the names of the classes where they have names."""
    if len(labels) and isinstance(labels[0], str):
        known = tuple(sorted(set(labels)) if classes is None else classes)
        return encode_labels(labels, known, name), known
    numbers, known = as_int64(labels, name), tuple(classes or ())
    _check_numbers(numbers, known, name)
    return numbers, known


def _check_numbers(numbers: AnyArray, classes: tuple[str, ...], name: str) -> None:
    check_from_zero(numbers, name)
    if classes and numbers.size and numbers.max() >= len(classes):
        raise ValueError(f"{name} holds {numbers.max()}, there are {len(classes)} classes")


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
    for mark, number in (("bos", _as_id(bos, "bos")), ("eos", _as_id(eos, "eos"))):
        found = np.flatnonzero(ids == number)
        if found.size:
            raise ValueError(f"{name} holds {mark} ({number}) at {found[0]}, the shift adds it")


def _as_id(value: object, name: str) -> int:
    number = as_int(value, name)
    if number < 0:
        raise ValueError(f"{name} is {number}, expected an id from 0")
    return number


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
        self.pad, self.ignore_index = _as_id(pad, "pad"), as_int(ignore_index, "ignore_index")

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
                f"target has {len(self.target.sequences)} sequences, source has {len(self.source)}"
            )

    @property
    def sizes(self) -> IntArray:
        return np.concatenate((self.source.lengths[:, None], self.target.sizes), axis=1)

    def gather(self, rows: IntArray) -> Batch:
        source, lengths = self.source.padded(rows, self.target.pad)
        inputs, targets, target_lengths, _ = self.target.gather(rows)
        return Batch((source, inputs), targets, (lengths, target_lengths))
