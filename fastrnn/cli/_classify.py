"""Classification on the command line: labelled texts, a table of classes, labels for texts."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fastrnn._arrays import shown
from fastrnn.cli._labels import (
    class_table,
    classes_of,
    examples_for,
    labels_job,
    measure,
    probabilities,
)
from fastrnn.cli._task import Figures, Job, as_rows, build_vocabulary, encode, sample, vocabulary_of
from fastrnn.data import Labelled, LabelledSequences, read_classes, read_labelled
from fastrnn.models import SequenceClassifier

__all__ = ["describe", "evaluate", "measure", "predict", "prepare", "show"]


def prepare(options: Namespace) -> Job:
    """Vocabulary, batches and a new model."""
    texts, labels = _read(options)
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise ValueError(f"all examples are of the class {shown(classes[0])}, expected two or more")
    vocabulary = build_vocabulary(texts, options, ("pad", "unk"))
    examples = LabelledSequences(encode(vocabulary, texts), labels, classes=classes)
    model = SequenceClassifier(
        len(classes),
        options.hidden,
        options.layers,
        vocab_size=len(vocabulary),
        embedding_dim=options.embedding,
        cell=options.cell,
        bidirectional=options.bidirectional,
        pooling=options.pooling,
        dropout=options.dropout,
        label_smoothing=options.label_smoothing,
    )
    return labels_job(
        model,
        vocabulary,
        examples,
        options,
        nouns=("texts", "classes"),
        example=lambda i: f"--top 3 {sample(texts[i])}",
    )


def _read(options: Namespace) -> Labelled:
    path = Path(options.data[0])
    if path.is_dir():
        return read_classes(path, encoding=options.encoding)
    text, label = options.text_column, options.label_column
    return read_labelled(path, text=text, label=label, encoding=options.encoding)


def evaluate(model: SequenceClassifier, options: Namespace) -> Figures:
    """Loss, accuracy and figures per class on labelled texts."""
    return measure(model, examples_for(model, LabelledSequences, *_read(options)))


def describe(figures: Figures) -> Iterator[str]:
    """The figures in lines for a person."""
    yield f"loss      {figures['loss']:.4f} nats per text"
    yield f"accuracy  {100 * figures['accuracy']:.1f} % of {figures['count']:,}"
    yield ""
    yield from class_table(figures["classes"])


def predict(model: SequenceClassifier, texts: Sequence[str], options: Namespace) -> list[Figures]:
    """The likeliest classes of each text and their probabilities."""
    classes = classes_of(model)
    sequences = encode(vocabulary_of(model), texts)
    shares = np.empty((len(texts), len(classes)), np.float32)
    for rows, ids, lengths in as_rows(sequences):
        shares[rows] = probabilities(model(ids, lengths))
    best = np.argsort(-shares, axis=-1, kind="stable")[:, : options.top]
    return [
        {
            "text": text,
            "classes": [{"label": classes[i], "probability": float(row[i])} for i in order],
        }
        for text, row, order in zip(texts, shares, best, strict=True)
    ]


def show(found: list[Figures], options: Namespace) -> Iterator[str]:
    """Label, probability and text with tabs between, a line for each."""
    for one in found:
        for entry in one["classes"]:
            yield f"{entry['label']}\t{entry['probability']:.4f}\t{one['text']}"
