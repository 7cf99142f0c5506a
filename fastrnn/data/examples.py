"""Examples that label sequences: with one class, or one label per step (pairs.py: sequences).

An object here holds examples and gathers some of them into a padded batch; `Buckets` decides which.
Steps past a row's end hold `pad` in inputs and `ignore_index` in targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Protocol

import numpy as np

from fastrnn._arrays import AnyArray, ArrayLike, IntArray, as_array, as_int, as_int64, shown
from fastrnn._digest import arrays_of
from fastrnn._errors import counted
from fastrnn.data._batch import MOST_BATCHES, Batch
from fastrnn.data.sequences import Sequences, as_id, check_from_zero

_ROWS = 256  # of foreign examples that are gathered at a time
IGNORE_INDEX = -100  # PyTorch's: a target that no loss counts


class Examples(Protocol):
    """Anything that `Buckets` can make batches of."""

    @property
    def sizes(self) -> IntArray:
        """(count, parts) steps of each part of each example that is padded on its own."""

    def gather(self, rows: IntArray) -> Batch:
        """The batch of the examples at `rows` (N,)."""


def held_by(examples: Examples) -> dict[str, list[AnyArray]]:
    """The arrays that examples are made of, by name; of foreign ones a sample, as batches."""
    if hasattr(examples, "_held"):
        held: dict[str, list[AnyArray]] = examples._held()
        return held
    count = len(examples.sizes)
    starts = np.linspace(0, max(0, count - _ROWS), min(count, MOST_BATCHES)).astype(np.int64)
    batches = [examples.gather(np.arange(at, min(at + _ROWS, count))) for at in starts.tolist()]
    return {"examples": [array for batch in batches for array in arrays_of(tuple(batch[:3]))]}


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
            f"{name}[{at}] is {shown(error.args[0])}, which is none of the {len(classes)} classes"
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
        self.pad = as_id(pad, "pad")
        self.labels, self.classes = _numbered(labels, classes, "labels")
        if self.labels.shape != (len(self.sequences),):
            raise ValueError(
                f"labels has shape {self.labels.shape}, expected ({len(self.sequences)},): "
                f"one for each sequence"
            )

    def __repr__(self) -> str:
        return f"LabelledSequences({self.sequences!r}{_counted(self.classes)})"

    def _held(self) -> dict[str, list[AnyArray]]:
        return {**self.sequences._held(), "labels": [self.labels], "pad": [np.array(self.pad)]}

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
        self.pad, self.ignore_index = as_id(pad, "pad"), as_int(ignore_index, "ignore_index")
        if not isinstance(tags, Sequences):
            lengths = [len(part) for part in tags]
            numbers, self.classes = _numbered(_chained(tags), classes, "tags")
            self.tags = Sequences(numbers, lengths)
        else:
            self.tags, self.classes = tags, tuple(classes or ())
            _check_numbers(tags.values, self.classes, "tags")
        _check_same_lengths(self.sequences, self.tags)

    def __repr__(self) -> str:
        return f"TaggedSequences({self.sequences!r}{_counted(self.classes)})"

    def _held(self) -> dict[str, list[AnyArray]]:
        marks = {"pad": [np.array(self.pad)], "ignore_index": [np.array(self.ignore_index)]}
        return {**self.sequences._held(), "tags": [self.tags.values], **marks}

    @property
    def sizes(self) -> IntArray:
        return self.sequences.lengths[:, None]

    def gather(self, rows: IntArray) -> Batch:
        inputs, lengths = self.sequences.padded(rows, self.pad)
        targets, _ = self.tags.padded(rows, self.ignore_index)
        return Batch(inputs, targets, lengths)


def _counted(classes: Sequence[str]) -> str:
    return f", {len(classes)} classes" if classes else ""


def _check_same_lengths(sequences: Sequences, tags: Sequences) -> None:
    if len(sequences) != len(tags):
        raise ValueError(f"tags has {counted(len(tags), 'sequence')}, expected {len(sequences)}")
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
    """Labels as numbers, and the names of the classes if there are any."""
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
