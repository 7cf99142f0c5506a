"""What the tasks share: a training that is prepared, vocabularies, texts as ids."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.data import Sequences, Vocabulary
from fastrnn.models import LanguageModel, Model, SequenceClassifier, SequenceTagger

Figures = dict[str, Any]
Ints = npt.NDArray[np.int64]

BATCH = 256  # rows that are predicted or measured at a time


def sample(text: str, most: int = 24) -> str:
    """The beginning of a text for a command line, one that the model knows."""
    words = " ".join(text.split())
    short = words[:most].rpartition(" ")[0] or words[:most] if len(words) > most else words
    return shlex.quote(short)


@dataclass
class Job:
    """A training that can begin: `about` is what the model's file says beside its parameters."""

    model: Any
    source: Any
    validation: Any
    described: str  # the data in one line
    example: str  # what to give to `command` after the model
    about: dict[str, Any] = field(default_factory=dict)
    command: str = "predict"


def vocabulary_of(model: Model) -> Vocabulary:
    """The one in the model's file; ValueError if there is none that fits."""
    if not isinstance(model.vocabulary, dict):
        raise ValueError("the model has no vocabulary, expected one that fastrnn train wrote")
    vocabulary = Vocabulary.from_dict(model.vocabulary)
    assert isinstance(model, (LanguageModel, SequenceClassifier, SequenceTagger))
    if len(vocabulary) != model.vocab_size:
        raise ValueError(
            f"the model has {model.vocab_size} tokens, its vocabulary {len(vocabulary)}: they do "
            f"not belong together"
        )
    return vocabulary


def build_vocabulary(
    texts: str | Iterable[str], options: Namespace, specials: tuple[str, ...]
) -> Vocabulary:
    """The tokens of the training data, as the options want them."""
    least = options.min_count or (2 if options.level == "words" else 1)
    return Vocabulary.build(
        texts,
        level=options.level,
        specials=specials,
        max_size=options.max_vocabulary,
        min_count=least,
    )


def encode(vocabulary: Vocabulary, texts: Sequence[str | Sequence[str]]) -> Sequences:
    """Texts as ids; ValueError for one that has no tokens."""
    sequences = vocabulary.encode_many(texts)
    empty = np.flatnonzero(sequences.lengths == 0)
    if empty.size:
        raise ValueError(f"text {int(empty[0]) + 1} is empty, expected some {vocabulary.level}")
    return sequences


def as_rows(sequences: Sequences) -> Iterator[tuple[Ints, Any, Any]]:
    """Row numbers, ids (T, N) and lengths (N,), the longest rows together."""
    order = np.argsort(-sequences.lengths, kind="stable")
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        yield rows, *sequences.padded(rows, 0)
