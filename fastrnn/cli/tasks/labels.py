"""Shared parts of classification and tagging: examples with named classes, quality of labels.

The label of a text or of each of its tokens is a class by its name.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.cli import _options
from fastrnn.cli._model import Option
from fastrnn.cli.tasks.base import BATCH, Figures, Ints, Job, encode, vocabulary_of
from fastrnn.data import (
    IGNORE_INDEX,
    Buckets,
    LabelledSequences,
    TaggedSequences,
    Vocabulary,
    hold_out,
)
from fastrnn.models import SequenceClassifier, SequenceTagger

Examples = LabelledSequences | TaggedSequences
Labeller = SequenceClassifier | SequenceTagger
Probabilities = npt.NDArray[np.float32]


NETWORK = {
    **_options.TEXT_LAYERS,
    "bidirectional": Option("read from both ends; a model that does cannot stream", default=True),
}


def labels_job(
    model: Labeller,
    vocabulary: Vocabulary,
    examples: Examples,
    options: Namespace,
    *,
    nouns: tuple[str, str],
    example: Callable[[int], str],
) -> Job:
    """A training on examples, of which some are held out; `example(i)`: the i-th to be tried."""
    model.vocabulary = vocabulary.to_dict()
    train, held = hold_out(examples, options.validation, seed=options.seed)
    texts, classes = nouns
    return Job(
        model,
        Buckets(train, options.batch_size, seed=options.seed),
        Buckets(held, options.batch_size, shuffle=False),
        f"{len(train.rows):,} {texts} to learn from, {len(held.rows):,} to validate on, "
        f"{len(examples.classes)} {classes}, {len(vocabulary)} {options.level}",
        example(int(held.rows[0])),
        {"classes": list(examples.classes)},
    )


def classes_of(model: Labeller) -> list[str]:
    """The names of the classes in the model's file."""
    classes = model.extra.get("classes") if isinstance(model.extra, dict) else None
    if not isinstance(classes, list) or len(classes) != model.head.out_features:
        raise ValueError(
            "the model does not name its classes, expected one that fastrnn train wrote"
        )
    return [str(name) for name in classes]


def examples_for(
    model: Labeller, kind: type[Examples], texts: Sequence[str | Sequence[str]], labels: Any
) -> Buckets:
    """Batches to measure a model on; ValueError says that a class is not the model's."""
    classes, sequences = classes_of(model), encode(vocabulary_of(model), texts)
    try:
        examples = kind(sequences, labels, classes=classes)
    except ValueError as error:
        raise ValueError(f"the data does not fit the model: {error}") from error
    return Buckets(examples, BATCH, shuffle=False)


def probabilities(logits: npt.NDArray[np.float32]) -> Probabilities:
    """The softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    shares: Probabilities = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def measure(model: Labeller, source: Any) -> Figures:
    """Loss, accuracy and figures per class of one epoch of a source."""
    targets, found, loss = [], [], 0.0
    for batch in source.batches():
        real = batch.targets != IGNORE_INDEX
        wanted = batch.targets[real]
        shares = probabilities(model(batch.inputs, batch.lengths))[real]
        own = shares[np.arange(len(shares)), wanted]
        loss -= float(np.log(np.maximum(own, 1e-38, dtype=np.float64)).sum())
        targets.append(wanted)
        found.append(shares.argmax(axis=-1))
    wanted = np.concatenate(targets)
    figures = _confusion(wanted, np.concatenate(found), classes_of(model))
    return {"loss": loss / len(wanted), "count": len(wanted), **figures}


def _confusion(targets: Ints, found: Ints, classes: Sequence[str]) -> Figures:
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
