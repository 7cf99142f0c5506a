"""A task of the command line: one kind of model, from its options to what it prints."""

from __future__ import annotations

import shlex
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fastrnn._arrays import FloatArray
from fastrnn.cli import _options
from fastrnn.cli._input import lines_of_input
from fastrnn.cli._model import Option, add_model_options
from fastrnn.cli._parser import Add, Parser
from fastrnn.data import Sequences, Vocabulary, read_text
from fastrnn.losses import LossResult, classify
from fastrnn.models import LanguageModel, Model, SequenceClassifier, SequenceTagger

Figures = dict[str, Any]
Ints = npt.NDArray[np.int64]

BATCH = 256  # rows that are predicted or measured at a time


@dataclass
class Job:
    """A training that can begin: `about`: `extra` of the model's file."""

    model: Any
    source: Any
    validation: Any
    described: str  # the data in one line
    example: str  # arguments of `command` after the model
    about: dict[str, Any] = field(default_factory=dict)
    command: str = "predict"


class Task:
    """Base of all tasks, for `train`, `eval` and `predict`; texts are for their help.

    A model's figures are JSON-able: `measure` makes them from a source of batches, `describe` puts
    them into lines. So do `predict` and `show` with predictions for new input.
    """

    name: ClassVar[str]
    model: ClassVar[type]  # of the models that it trains
    summary: ClassVar[str]
    data: ClassVar[str]  # description of DATA
    count: ClassVar[str]  # number of them: "*" any number, "+" at least one, "1"
    examples: ClassVar[str]
    prints: ClassVar[str]  # output of `predict` for each input
    defaults: ClassVar[Figures]  # made for minutes on the CPU of a laptop
    parts: ClassVar[tuple[str, ...]] = ()  # recurrent parts, where there are several
    decided: ClassVar[tuple[str, ...]]  # arguments of the model that follow from the data
    network: ClassVar[dict[str, Option]] = {}  # others with words of their own, beyond its layers

    def add_options(self, parser: Parser) -> None:
        """Every option of its training, in groups."""
        _options.add_files(parser.group("files"))
        data = parser.group("data")
        _options.add_encoding(data)
        self.add_data(data)
        _options.add_validation(data)
        defaults = {name: self.defaults[name] for name in ("hidden", "layers", "dropout")}
        network = {**_options.layers(**defaults), **self.network}
        add_model_options(parser, self.model, network, self.decided)
        _options.add_shared(parser, self.defaults, self.parts)

    def add_data(self, add: Add) -> None:
        """Options of how the data is read."""
        raise NotImplementedError

    def add_eval_options(self, add: Add) -> None:
        """Options of `eval` that are about its models alone, None by default."""

    def add_predict_options(self, add: Add) -> None:
        """Options of `predict` that are about its models alone, None by default."""

    def check(self, options: Namespace) -> None:
        """Exit code 2 where options of a training contradict each other."""

    def truncation(self, options: Namespace) -> float | None:
        """The probability of a cut between two windows; None where every window is a step."""
        return None

    def prepare(self, options: Namespace) -> Job:
        """Data, a new model and the `extra` of its file."""
        raise NotImplementedError

    def evaluate(self, model: Any, options: Namespace) -> Figures:
        """The figures on other data."""
        raise NotImplementedError

    def measure(self, model: Any, source: Any) -> Figures:
        """The figures of one epoch of a source."""
        raise NotImplementedError

    def describe(self, figures: Figures) -> Iterator[str]:
        """The figures in lines for a person."""
        raise NotImplementedError

    def inputs(self, options: Namespace) -> Sequence[Any]:
        """Inputs of `predict`: texts given as arguments, or lines of a file or standard input."""
        if options.input:
            return list(options.input)
        if options.file is None:
            return lines_of_input(options.encoding)
        lines = read_text(options.file, encoding=options.encoding or "utf-8").split("\n")
        found = [line for line in lines if line.strip()]
        if not found:
            raise ValueError(f"{options.file} has no text")
        return found

    def predict(self, model: Any, given: Sequence[Any], options: Namespace) -> list[Figures]:
        """Answers of the model, one for each input."""
        raise NotImplementedError

    def show(self, found: list[Figures], options: Namespace) -> Iterator[str]:
        """Predictions in lines."""
        raise NotImplementedError


def sample(text: str, most: int = 24) -> str:
    """The beginning of a text for a command line, one that the model knows."""
    words = " ".join(text.split())
    short = words[:most].rpartition(" ")[0] or words[:most] if len(words) > most else words
    return shlex.quote(short)


def vocabulary_of(model: Model) -> Vocabulary:
    """The vocabulary in the model's file; ValueError if there is none that fits."""
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


def plain_loss(model: Any, logits: FloatArray, targets: Ints, lengths: Any = None) -> LossResult:
    """Mean cross-entropy of targets (T, N) without the label smoothing that the model trains with.

    logits (T, N, V); steps from a row's end, lengths (N,), and ignored targets do not count.
    """
    steps = np.arange(len(targets))[:, None]
    return classify(
        logits,
        targets,
        ignore_index=model.ignore_index,
        mask=None if lengths is None else steps < lengths,
        gradient=False,
    )[0]


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
