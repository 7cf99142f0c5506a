"""What the tasks share: a training that is prepared, texts as ids, tables of figures."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.data import LabelledSequences, Sequences, TaggedSequences, Vocabulary
from fastrnn.models import LanguageModel, Model, SequenceClassifier, SequenceTagger

Figures = dict[str, Any]
Ints = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float32]

BATCH = 256  # rows that are predicted at a time


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


def classes_of(model: Model, count: int) -> list[str]:
    """The names of the classes in the model's file."""
    classes = model.extra.get("classes") if isinstance(model.extra, dict) else None
    if not isinstance(classes, list) or len(classes) != count:
        raise ValueError(
            "the model does not name its classes, expected one that fastrnn train wrote"
        )
    return [str(name) for name in classes]


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


def probabilities(logits: npt.NDArray[np.float32]) -> Probabilities:
    """The softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Probabilities = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def confusion(targets: Ints, found: Ints, classes: Sequence[str]) -> Figures:
    """Accuracy, and for each class how many there are, precision, recall and F1."""
    count = len(classes)
    table = np.bincount(targets * count + found, minlength=count * count).reshape(count, count)
    right, given, wanted = np.diag(table), table.sum(axis=0), table.sum(axis=1)
    per_class = {}
    for i, name in enumerate(classes):
        precision = float(right[i] / given[i]) if given[i] else 0.0
        recall = float(right[i] / wanted[i]) if wanted[i] else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        per_class[name] = {
            "count": int(wanted[i]), "precision": precision, "recall": recall, "f1": f1,
        }  # fmt: skip
    return {"accuracy": float(right.sum() / max(len(targets), 1)), "classes": per_class}


def class_table(per_class: dict[str, Figures]) -> Iterator[str]:
    """Lines of a table, the most frequent class first."""
    width = max(5, *(len(name) for name in per_class))
    yield f"{'class':<{width}}  {'count':>7}  precision  recall     F1"
    for name, f in sorted(per_class.items(), key=lambda item: -item[1]["count"]):
        shares = (
            f"{100 * f['precision']:7.1f} %  {100 * f['recall']:4.1f} %  {100 * f['f1']:4.1f} %"
        )
        yield f"{name:<{width}}  {f['count']:>7}  {shares}"


def encode_examples(
    kind: type[LabelledSequences] | type[TaggedSequences], *arguments: Any, classes: list[str]
) -> Any:
    """Examples for a model's classes; ValueError says that a class is not the model's."""
    try:
        return kind(*arguments, classes=classes)
    except ValueError as error:
        raise ValueError(f"the data does not fit the model: {error}") from error
