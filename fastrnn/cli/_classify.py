"""Classification on the command line: labelled texts, a table of classes, labels for texts."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastrnn.cli._task import (
    Figures,
    Job,
    as_rows,
    build_vocabulary,
    class_table,
    classes_of,
    confusion,
    encode,
    encode_examples,
    probabilities,
    sample,
    vocabulary_of,
)
from fastrnn.data import (
    Buckets,
    Labelled,
    LabelledSequences,
    hold_out,
    read_classes,
    read_labelled,
)
from fastrnn.models import SequenceClassifier


def prepare(options: Namespace) -> Job:
    """Vocabulary, batches and a new model."""
    texts, labels = _read(options)
    classes = sorted(set(labels))
    if len(classes) < 2:
        raise ValueError(f"all examples are of the class {classes[0]!r}, expected two or more")
    vocabulary = build_vocabulary(texts, options, ("pad", "unk"))
    examples = LabelledSequences(encode(vocabulary, texts), labels, classes=classes)
    train, held = hold_out(examples, options.validation, seed=options.seed)
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
    model.vocabulary = vocabulary.to_dict()
    return Job(
        model,
        Buckets(train, options.batch_size, seed=options.seed),
        Buckets(held, options.batch_size, shuffle=False),
        f"{len(train.rows):,} texts to learn from, {len(held.rows):,} to validate on, "
        f"{len(classes)} classes, {len(vocabulary)} {options.level}",
        f"--top 3 {sample(texts[int(held.rows[0])])}",
        {"classes": classes},
    )


def _read(options: Namespace) -> Labelled:
    path = Path(options.data[0])
    if path.is_dir():
        return read_classes(path, encoding=options.encoding)
    text, label = options.text_column, options.label_column
    return read_labelled(path, text=text, label=label, encoding=options.encoding)


def evaluate(model: SequenceClassifier, options: Namespace) -> Figures:
    """Loss, accuracy and figures per class on labelled texts."""
    texts, labels = _read(options)
    classes = classes_of(model, model.num_classes)
    sequences = encode(vocabulary_of(model), texts)
    examples = encode_examples(LabelledSequences, sequences, labels, classes=classes)
    return measure(model, Buckets(examples, 256, shuffle=False))


def measure(model: SequenceClassifier, source: Any) -> Figures:
    """The figures of one epoch of a source."""
    targets, found, loss = [], [], 0.0
    for batch in source.batches():
        shares = probabilities(model(batch.inputs, batch.lengths))
        own = shares[np.arange(len(shares)), batch.targets]
        loss -= float(np.log(np.maximum(own, 1e-38, dtype=np.float64)).sum())
        targets.append(batch.targets)
        found.append(shares.argmax(axis=-1))
    wanted = np.concatenate(targets)
    figures = confusion(wanted, np.concatenate(found), classes_of(model, model.num_classes))
    return {"loss": loss / len(wanted), "count": len(wanted), **figures}


def describe(figures: Figures) -> Iterator[str]:
    """The figures in lines for a person."""
    yield f"loss      {figures['loss']:.4f} nats per text"
    yield f"accuracy  {100 * figures['accuracy']:.1f} % of {figures['count']:,}"
    yield ""
    yield from class_table(figures["classes"])


def predict(model: SequenceClassifier, texts: Sequence[str], options: Namespace) -> list[Figures]:
    """The likeliest classes of each text and their probabilities."""
    classes = classes_of(model, model.num_classes)
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
