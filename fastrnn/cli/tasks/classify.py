"""Classification on the command line: labelled texts, a table of classes, labels for texts."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fastrnn._errors import shown
from fastrnn.cli import _options
from fastrnn.cli._model import Option, model_arguments
from fastrnn.cli._parser import Add
from fastrnn.cli._values import whole
from fastrnn.cli.tasks import labels
from fastrnn.cli.tasks.base import (
    Figures,
    Job,
    Task,
    as_rows,
    build_vocabulary,
    encode,
    sample,
    vocabulary_of,
)
from fastrnn.data import Labelled, LabelledSequences, read_classes, read_labelled
from fastrnn.models import SequenceClassifier
from fastrnn.models._pooling import POOLINGS


class Classification(Task):
    """One of several classes for each text."""

    name = "classify"
    model = SequenceClassifier
    summary = "a classifier: one of several classes for each text"
    data = (
        "a folder with a .txt file per class (a text per line) or a folder per class (a text per "
        "file), a .csv file with label,text, or a .tsv file with text<TAB>label"
    )
    count = "1"
    examples = """\
  fastrnn train classify names/ --out model         names/Greek.txt: a name per line
  fastrnn train classify reviews.csv --out model --level words --pooling mean
  fastrnn train classify mail.tsv --out model --text-column body --label-column kind"""
    prints = "label, probability, text; a line for each of the --top classes"
    defaults: ClassVar[Figures] = {
        "hidden": 128, "layers": 1, "batch_size": 64, "epochs": 10, "lr": 2e-3, "dropout": 0.2,
    }  # fmt: skip

    decided = ("num_classes", "vocab_size", "input_size")
    network: ClassVar = {
        **labels.NETWORK,
        "pooling": Option(
            "the sequence as one vector: last state, or mean or max over its steps",
            choices=tuple(POOLINGS),
        ),
    }

    def add_data(self, add: Add) -> None:
        _options.add_vocabulary(add, "characters")
        self.add_eval_options(add)

    def add_eval_options(self, add: Add) -> None:
        add("--text-column", "the column of a CSV or TSV file that is the text", argument="text",
            metavar="NAME")  # fmt: skip
        add("--label-column", "the column that is the class", argument="label",
            metavar="NAME")  # fmt: skip

    def add_predict_options(self, add: Add) -> None:
        add("--top", "classify: so many classes of each text (default: 1)", type=whole(1),
            metavar="K")  # fmt: skip

    def prepare(self, options: Namespace) -> Job:
        """Vocabulary, batches and a new model."""
        texts, names = _read(options)
        classes = sorted(set(names))
        if len(classes) < 2:
            raise ValueError(
                f"all examples are of the class {shown(classes[0])}, expected two or more"
            )
        vocabulary = build_vocabulary(texts, options, ("pad", "unk"))
        examples = LabelledSequences(encode(vocabulary, texts), names, classes=classes)
        model = SequenceClassifier(
            len(classes), vocab_size=len(vocabulary), **model_arguments(self.model, options)
        )
        return labels.labels_job(
            model,
            vocabulary,
            examples,
            options,
            nouns=("texts", "classes"),
            example=lambda i: f"--top 3 {sample(texts[i])}",
        )

    def evaluate(self, model: SequenceClassifier, options: Namespace) -> Figures:
        """Loss, accuracy and figures per class on labelled texts."""
        return labels.measure(model, labels.examples_for(model, LabelledSequences, *_read(options)))

    def measure(self, model: SequenceClassifier, source: Any) -> Figures:
        return labels.measure(model, source)

    def describe(self, figures: Figures) -> Iterator[str]:
        """The figures in lines for a person."""
        yield f"loss      {figures['loss']:.4f} nats per text"
        yield f"accuracy  {100 * figures['accuracy']:.1f} % of {figures['count']:,}"
        yield ""
        yield from labels.class_table(figures["classes"])

    def predict(
        self, model: SequenceClassifier, texts: Sequence[str], options: Namespace
    ) -> list[Figures]:
        """The likeliest classes of each text and their probabilities."""
        classes = labels.classes_of(model)
        sequences = encode(vocabulary_of(model), texts)
        shares = np.empty((len(texts), len(classes)), np.float32)
        for rows, ids, lengths in as_rows(sequences):
            shares[rows] = labels.probabilities(model(ids, lengths))
        best = np.argsort(-shares, axis=-1, kind="stable")[:, : options.top or 1]
        return [
            {
                "text": text,
                "classes": [{"label": classes[i], "probability": float(row[i])} for i in order],
            }
            for text, row, order in zip(texts, shares, best, strict=True)
        ]

    def show(self, found: list[Figures], options: Namespace) -> Iterator[str]:
        """Label, probability and text with tabs between, a line for each."""
        for one in found:
            for entry in one["classes"]:
                yield f"{entry['label']}\t{entry['probability']:.4f}\t{one['text']}"


def _read(options: Namespace) -> Labelled:
    path = Path(options.data[0])
    if path.is_dir():
        return read_classes(path, encoding=options.encoding)
    text, label = options.text_column, options.label_column
    return read_labelled(path, text=text, label=label, encoding=options.encoding)
