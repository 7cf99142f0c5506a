"""Language models on the command line: text to learn from, perplexity, probabilities."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from fastrnn._errors import counted
from fastrnn.cli import _options
from fastrnn.cli._model import Option, model_arguments
from fastrnn.cli._parser import Add
from fastrnn.cli._values import number, whole
from fastrnn.cli.tasks.base import (
    Figures,
    Job,
    Task,
    build_vocabulary,
    plain_loss,
    sample,
    vocabulary_of,
)
from fastrnn.data import TextStream, Vocabulary, read_text, standard_library_text
from fastrnn.models import LanguageModel

_WINDOW = 256  # steps at a time where no gradient is needed


class LanguageModelling(Task):
    """Language modelling: the likelihood of a text, and its continuation."""

    name = "lm"
    model = LanguageModel
    summary = "a language model: it tells how likely a text is and what comes next"
    data = (
        "text files, or folders of .txt files; without any, the standard library's own English "
        "documentation"
    )
    count = "*"
    examples = """\
  fastrnn train lm --out model                      on Python's documentation, some minutes
  fastrnn train lm shakespeare.txt --out model --epochs 5
  fastrnn train lm books/ --out model --level words --tie-weights --dropout 0.4
  fastrnn train lm --out model --resume             after Ctrl-C"""
    prints = "perplexity, text; with --tokens each token and its log-probability"
    defaults: ClassVar[Figures] = {
        "hidden": 256, "layers": 2, "batch_size": 32, "epochs": 10, "lr": 2e-3, "dropout": 0.2,
    }  # fmt: skip

    decided = ("vocab_size", "ignore_index")
    network: ClassVar = {
        **_options.TEXT_LAYERS,
        "tie_weights": Option(
            "one table for the first and the last layer: fewer parameters, good for words"
        ),
        "weight_drop": Option(
            "dropout of recurrent weights (Merity et al. 2018)", type=number(0, 0.99), metavar="P"
        ),
        "locked_dropout": Option("one dropout mask for all steps (Gal and Ghahramani 2016)"),
    }

    def add_data(self, add: Add) -> None:
        _options.add_vocabulary(add, "characters")
        add("--steps", "steps of a window: how far back gradients go; the state is carried "
            "further. More sees longer dependencies and needs more memory", 64, type=whole(1),
            metavar="T")  # fmt: skip
        add("--random-truncation", "cut windows apart with this probability only and weight the "
            "gradient, which then has no bias (Tallec and Ollivier 2017)",
            type=number(0, 1, above=True), metavar="P")  # fmt: skip

    def add_predict_options(self, add: Add) -> None:
        add("--tokens", "lm: the log-probability of every token, in nats", action="store_true",
            default=False)  # fmt: skip

    def check(self, options: Namespace) -> None:
        if options.random_truncation and options.accumulate > 1:
            options.refuse("argument --accumulate: the cuts of --random-truncation decide already")
        check_tied(options)

    def truncation(self, options: Namespace) -> float | None:
        cut: float | None = options.random_truncation
        return cut

    def prepare(self, options: Namespace) -> Job:
        """Vocabulary, streams and a new model."""
        text = read_text(options.data, encoding=options.encoding) if options.data else _own_text()
        specials = ("unk",) if options.level == "words" or options.min_count else ()
        vocabulary = build_vocabulary(text, options, specials)
        tokens = vocabulary.encode(text)
        held = round(options.validation * len(tokens))
        if held < 2 or len(tokens) - held < 2:
            raise ValueError(
                f"the text has {counted(len(tokens), 'token')}, too few to train and to validate"
            )
        train, rest = tokens[:-held], tokens[-held:]
        if len(train) <= options.batch_size:
            raise ValueError(
                f"there are {len(train):,} tokens to learn from, too few for --batch-size "
                f"{options.batch_size}"
            )
        model = LanguageModel(len(vocabulary), **model_arguments(LanguageModel, options))
        model.vocabulary = vocabulary.to_dict()
        return Job(
            model,
            TextStream(train, options.batch_size, options.steps, seed=options.seed),
            TextStream(rest, _rows(len(rest), options.batch_size), options.steps),
            f"{len(train):,} {options.level} to learn from, {len(rest):,} to validate on, "
            f"{len(vocabulary)} different",
            f"--prompt {sample(text)} --temperature 0.8",
            {"level": options.level},
            command="generate",
        )

    def evaluate(self, model: LanguageModel, options: Namespace) -> Figures:
        """Loss per token, perplexity and accuracy on a text."""
        vocabulary = vocabulary_of(model)
        tokens = vocabulary.encode(read_text(options.data, encoding=options.encoding))
        if len(tokens) < 2:
            raise ValueError(f"the text has {counted(len(tokens), 'token')}, expected 2 or more")
        figures = self.measure(model, TextStream(tokens, _rows(len(tokens), 64), _WINDOW))
        unknown = int((tokens == vocabulary.unk).sum()) if vocabulary.unk is not None else 0
        return {**figures, "tokens": len(tokens), "unknown": unknown}

    def measure(self, model: LanguageModel, source: Any) -> Figures:
        """The figures of one epoch of a source."""
        loss, count, correct, state = 0.0, 0, 0, None
        for batch in source.batches():
            logits, state = model(batch.inputs, None if batch.fresh else state)
            found = plain_loss(model, logits, batch.targets)
            loss, count = loss + found.loss * found.count, count + found.count
            correct += found.correct or 0
        mean = loss / count
        return {
            "loss": mean,
            "perplexity": math.exp(min(mean, 700.0)),
            "bits": mean / math.log(2),
            "accuracy": correct / count,
        }

    def describe(self, figures: Figures) -> Iterator[str]:
        """The figures in lines for a person."""
        yield f"loss        {figures['loss']:.4f} nats per token, {figures['bits']:.3f} bits"
        yield f"perplexity  {figures['perplexity']:.2f}"
        yield f"accuracy    {100 * figures['accuracy']:.1f} % of tokens predicted"
        if figures.get("unknown"):
            yield f"unknown     {figures['unknown']:,} of {figures['tokens']:,} tokens"

    def predict(
        self, model: LanguageModel, texts: Sequence[str], options: Namespace
    ) -> list[Figures]:
        """The probability of every token after the first, for each text."""
        vocabulary = vocabulary_of(model)
        return [_probability(model, vocabulary, text, i) for i, text in enumerate(texts, 1)]

    def show(self, found: list[Figures], options: Namespace) -> Iterator[str]:
        """Perplexity and text, or with --tokens each token and its log-probability."""
        for one in found:
            if not options.tokens:
                yield f"{one['perplexity']:.4g}\t{one['text']}"
                continue
            for name, logprob in zip(one["tokens"], one["logprobs"], strict=True):
                plain = name if name.isprintable() else repr(name)[1:-1]
                yield f"{plain}\t{logprob:.4f}"
            yield ""


def check_tied(options: Namespace) -> None:
    """Exit code 2 where one table cannot be both the embedding and the last layer."""
    if options.tie_weights and (options.embedding or options.hidden) != options.hidden:
        options.refuse(f"argument --tie-weights: needs an --embedding as large as --hidden, "
                       f"{options.hidden}, got {options.embedding}")  # fmt: skip


def _own_text() -> str:
    print("no DATA: learning from the standard library's documentation of Python")
    return standard_library_text()


def _rows(tokens: int, most: int) -> int:
    """Rows of a validation: each starts from zero, so few where there is little text."""
    return max(1, min(most, tokens // 1000))


def _probability(model: LanguageModel, vocabulary: Vocabulary, text: str, place: int) -> Figures:
    tokens = np.asarray(vocabulary.encode(text), np.int64)
    if len(tokens) < 2:
        raise ValueError(f"text {place} has {counted(len(tokens), 'token')}, expected 2 or more")
    logits, _ = model(tokens[:-1])
    wide = logits.astype(np.float64)
    most = wide.max(axis=-1)
    norms = most + np.log(np.exp(wide - most[:, None]).sum(axis=-1))
    logprobs = wide[np.arange(len(wide)), tokens[1:]] - norms
    names = [vocabulary.decode(tokens[i : i + 1]) for i in range(1, len(tokens))]
    loss = -float(logprobs.mean())
    return {
        "text": text,
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "tokens": names,
        "logprobs": logprobs.tolist(),
    }
