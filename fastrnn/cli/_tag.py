"""Tagging on the command line: tagged sentences, a table of tags, tags for sentences."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence

from fastrnn._arrays import shown
from fastrnn.cli._labels import class_table, classes_of, examples_for, labels_job, measure
from fastrnn.cli._task import Figures, Job, as_rows, build_vocabulary, encode, sample, vocabulary_of
from fastrnn.data import IGNORE_INDEX, Tagged, TaggedSequences, read_tagged
from fastrnn.models import SequenceTagger

__all__ = ["describe", "evaluate", "measure", "predict", "prepare", "show"]


def prepare(options: Namespace) -> Job:
    """Vocabulary, batches and a new model."""
    sentences, tags = _read(options)
    classes = sorted({tag for row in tags for tag in row})
    vocabulary = build_vocabulary(_texts(sentences, options.level), options, ("pad", "unk"))
    examples = TaggedSequences(encode(vocabulary, sentences), tags, classes=classes)
    model = SequenceTagger(
        len(classes),
        options.hidden,
        options.layers,
        vocab_size=len(vocabulary),
        embedding_dim=options.embedding,
        cell=options.cell,
        bidirectional=options.bidirectional,
        dropout=options.dropout,
        label_smoothing=options.label_smoothing,
        ignore_index=IGNORE_INDEX,
    )
    return labels_job(
        model,
        vocabulary,
        examples,
        options,
        nouns=("sentences", "tags"),
        example=lambda i: sample(" ".join(sentences[i]), 48),
    )


def _read(options: Namespace) -> Tagged:
    found = Tagged([], [])
    for path in options.data:
        sentences, tags = read_tagged(path, encoding=options.encoding)
        found.sentences.extend(sentences)
        found.tags.extend(tags)
    return found


def _texts(sentences: Sequence[Sequence[str]], level: str) -> Iterator[str]:
    """What a vocabulary is built from; with characters each token must be one."""
    for sentence in sentences:
        for token in sentence:
            if level == "characters" and len(token) != 1:
                raise ValueError(f"the data has the token {shown(token)}: use --level words")
            if level == "words" and token.split() != [token]:
                raise ValueError(
                    f"the data has the token {shown(token)}, expected no white space in it"
                )
        yield " ".join(sentence) if level == "words" else "".join(sentence)


def evaluate(model: SequenceTagger, options: Namespace) -> Figures:
    """Loss, accuracy and figures per tag on tagged sentences."""
    sentences, tags = _read(options)
    list(_texts(sentences, vocabulary_of(model).level))
    return measure(model, examples_for(model, TaggedSequences, sentences, tags))


def describe(figures: Figures) -> Iterator[str]:
    """The figures in lines for a person."""
    yield f"loss      {figures['loss']:.4f} nats per token"
    yield f"accuracy  {100 * figures['accuracy']:.1f} % of {figures['count']:,} tokens"
    yield ""
    yield from class_table(figures["classes"])


def predict(model: SequenceTagger, texts: Sequence[str], options: Namespace) -> list[Figures]:
    """The tag of every token of each sentence."""
    classes, vocabulary = classes_of(model), vocabulary_of(model)
    sentences = [text.split() if vocabulary.level == "words" else list(text) for text in texts]
    tags: list[list[str]] = [[] for _ in texts]
    for rows, ids, lengths in as_rows(encode(vocabulary, sentences)):
        best = model(ids, lengths).argmax(axis=-1)
        for column, row in enumerate(rows.tolist()):
            tags[row] = [classes[i] for i in best[: lengths[column], column]]
    return [{"tokens": a, "tags": b} for a, b in zip(sentences, tags, strict=True)]


def show(found: list[Figures], options: Namespace) -> Iterator[str]:
    """Token and tag with a tab between, a blank line after each sentence: as it is read."""
    for one in found:
        for token, tag in zip(one["tokens"], one["tags"], strict=True):
            yield f"{token}\t{tag}"
        yield ""
