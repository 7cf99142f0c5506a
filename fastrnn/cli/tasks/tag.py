"""Tagging on the command line: tagged sentences, a table of tags, tags for sentences."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from fastrnn._errors import shown
from fastrnn.cli import _options
from fastrnn.cli._model import model_arguments
from fastrnn.cli._parser import Add
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
from fastrnn.data import IGNORE_INDEX, Tagged, TaggedSequences, read_tagged
from fastrnn.models import SequenceTagger


class Tagging(Task):
    """A tag for each token of a sentence."""

    name = "tag"
    model = SequenceTagger
    summary = "a tagger: a tag for each token of a sentence"
    data = "files with token<TAB>tag in every line and a blank line between sentences"
    count = "+"
    examples = """\
  fastrnn train tag train.tsv --out model
  fastrnn train tag train.tsv --out model --cell gru --layers 2 --patience 3"""
    prints = "token, tag in every line, a blank line after each sentence"
    defaults: ClassVar[Figures] = {
        "hidden": 128, "layers": 1, "batch_size": 32, "epochs": 10, "lr": 2e-3, "dropout": 0.3,
    }  # fmt: skip

    decided = ("num_tags", "vocab_size", "input_size", "ignore_index")
    network: ClassVar = labels.NETWORK

    def add_data(self, add: Add) -> None:
        _options.add_vocabulary(add, "words")

    def prepare(self, options: Namespace) -> Job:
        """Vocabulary, batches and a new model."""
        sentences, tags = _read(options)
        classes = sorted({tag for row in tags for tag in row})
        vocabulary = build_vocabulary(_texts(sentences, options.level), options, ("pad", "unk"))
        examples = TaggedSequences(encode(vocabulary, sentences), tags, classes=classes)
        model = SequenceTagger(
            len(classes),
            vocab_size=len(vocabulary),
            ignore_index=IGNORE_INDEX,
            **model_arguments(self.model, options),
        )
        return labels.labels_job(
            model,
            vocabulary,
            examples,
            options,
            nouns=("sentences", "tags"),
            example=lambda i: sample(" ".join(sentences[i]), 48),
        )

    def evaluate(self, model: SequenceTagger, options: Namespace) -> Figures:
        """Loss, accuracy and figures per tag on tagged sentences."""
        sentences, tags = _read(options)
        list(_texts(sentences, vocabulary_of(model).level))
        return labels.measure(model, labels.examples_for(model, TaggedSequences, sentences, tags))

    def measure(self, model: SequenceTagger, source: Any) -> Figures:
        return labels.measure(model, source)

    def describe(self, figures: Figures) -> Iterator[str]:
        """The figures in lines for a person."""
        yield f"loss      {figures['loss']:.4f} nats per token"
        yield f"accuracy  {100 * figures['accuracy']:.1f} % of {figures['count']:,} tokens"
        yield ""
        yield from labels.class_table(figures["classes"])

    def predict(
        self, model: SequenceTagger, texts: Sequence[str], options: Namespace
    ) -> list[Figures]:
        """The tag of every token of each sentence."""
        classes, vocabulary = labels.classes_of(model), vocabulary_of(model)
        sentences = [text.split() if vocabulary.level == "words" else list(text) for text in texts]
        tags: list[list[str]] = [[] for _ in texts]
        for rows, ids, lengths in as_rows(encode(vocabulary, sentences)):
            best = model(ids, lengths).argmax(axis=-1)
            for column, row in enumerate(rows.tolist()):
                tags[row] = [classes[i] for i in best[: lengths[column], column]]
        return [{"tokens": a, "tags": b} for a, b in zip(sentences, tags, strict=True)]

    def show(self, found: list[Figures], options: Namespace) -> Iterator[str]:
        """Token and tag with a tab between, a blank line after each sentence: as it is read."""
        for one in found:
            for token, tag in zip(one["tokens"], one["tags"], strict=True):
                yield f"{token}\t{tag}"
            yield ""


def _read(options: Namespace) -> Tagged:
    found = Tagged([], [])
    for path in options.data:
        sentences, tags = read_tagged(path, encoding=options.encoding)
        found.sentences.extend(sentences)
        found.tags.extend(tags)
    return found


def _texts(sentences: Sequence[Sequence[str]], level: str) -> Iterator[str]:
    """Texts that a vocabulary is built from; with characters each token must be one."""
    for sentence in sentences:
        for token in sentence:
            if level == "characters" and len(token) != 1:
                raise ValueError(f"the data has the token {shown(token)}: use --level words")
            if level == "words" and token.split() != [token]:
                raise ValueError(
                    f"the data has the token {shown(token)}, expected no white space in it"
                )
        yield " ".join(sentence) if level == "words" else "".join(sentence)
