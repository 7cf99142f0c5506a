"""Sequence to sequence on the command line: pairs to learn from, targets that are written right."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from fastrnn._errors import counted, shown
from fastrnn.cli import _options
from fastrnn.cli._model import Option, model_arguments
from fastrnn.cli._parser import Add
from fastrnn.cli._values import number, whole
from fastrnn.cli.tasks.base import (
    Figures,
    Job,
    Task,
    as_rows,
    build_vocabulary,
    encode,
    plain_loss,
    sample,
)
from fastrnn.cli.tasks.lm import check_tied
from fastrnn.data import IGNORE_INDEX, Buckets, Pairs, Vocabulary, hold_out, read_text
from fastrnn.models import Seq2Seq
from fastrnn.models._encoder_decoder import ATTENTIONS

_LIMIT = 200  # tokens of an answer that does not end


class Translation(Task):
    """One text made of another."""

    name = "seq2seq"
    model = Seq2Seq
    summary = "a model that makes one text of another"
    data = "files with source<TAB>target in every line"
    count = "+"
    examples = """\
  fastrnn train seq2seq dates.tsv --out model
  fastrnn train seq2seq english-german.tsv --out model --level words --layers 2 --sampling 0.1
  fastrnn train seq2seq english-german.tsv --out model --level words --input-feeding"""
    prints = "the target, token by token; fastrnn translate searches"
    defaults: ClassVar[Figures] = {
        "hidden": 128, "layers": 1, "batch_size": 64, "epochs": 10, "lr": 3e-3, "dropout": 0.1,
    }  # fmt: skip
    parts = ("encoder", "decoder")

    decided = ("source_vocab", "target_vocab", "ignore_index")
    network: ClassVar = {
        **_options.TEXT_LAYERS,
        "attention": Option(
            "how the decoder looks at the source: scores by a small network, by a matrix, by a "
            "scaled product, or not at all",
            default="additive",
            choices=(*(kind for kind in ATTENTIONS if kind != "none"), "none"),
        ),
        "input_feeding": Option(
            "every step of the decoder also reads what the step before saw (Luong et al. 2015); "
            "slower, as training then runs step by step"
        ),
        "tie_weights": Option(
            "one table for the target's embedding and the last layer; needs --embedding as large "
            "as --hidden"
        ),
        "sampling_probability": Option(
            "share of steps in training that read what the model wrote, not what is right "
            "(scheduled sampling)",
            flag="--sampling",
            type=number(0, 1),
            metavar="P",
        ),
        "sampling_temperature": Option(
            "what logits are divided by before --sampling draws from them; 0 for the most probable "
            "token",
            type=number(0),
        ),
        "bidirectional": Option("read the source from both ends", default=True),
        "encoder_layers": Option(
            "layers of the encoder (default: as --layers)", type=whole(1, 1024), metavar="L"
        ),
    }

    def add_data(self, add: Add) -> None:
        _options.add_vocabulary(add, "characters")

    def check(self, options: Namespace) -> None:
        check_tied(options)
        if options.input_feeding and options.attention == "none":
            options.refuse("argument --input-feeding: needs an --attention other than none")
        if options.input_feeding and options.memory_budget:
            options.refuse(
                "argument --memory-budget: not with --input-feeding, which keeps all steps"
            )

    def prepare(self, options: Namespace) -> Job:
        """Vocabularies, batches and a new model."""
        sources, targets = _read(options)
        source = build_vocabulary(sources, options, ("pad", "unk"))
        is_closed = options.level == "characters" and not options.min_count
        known = ("pad", "bos", "eos") if is_closed else ("pad", "bos", "eos", "unk")
        target = build_vocabulary(targets, options, known)
        pairs = _pairs(sources, targets, source, target)
        train, held = hold_out(pairs, options.validation, seed=options.seed)
        arguments = model_arguments(Seq2Seq, options)
        model = Seq2Seq(len(source), len(target), ignore_index=IGNORE_INDEX, **arguments)
        model.vocabulary = {"source": source.to_dict(), "target": target.to_dict()}
        return Job(
            model,
            Buckets(train, options.batch_size, seed=options.seed),
            Buckets(held, options.batch_size, shuffle=False),
            f"{len(train.rows):,} pairs to learn from, {len(held.rows):,} to validate on, "
            f"{len(source)} {options.level} in sources, {len(target)} in targets",
            sample(sources[int(held.rows[0])], 48),
            command="translate",
        )

    def evaluate(self, model: Seq2Seq, options: Namespace) -> Figures:
        """Loss per token, and the share of targets that are written exactly."""
        pairs = _pairs(*_read(options), *vocabularies_of(model))
        return self.measure(model, Buckets(pairs, 64, shuffle=False))

    def measure(self, model: Seq2Seq, source: Any) -> Figures:
        """The figures of one epoch of a source."""
        bos, eos = marks(vocabularies_of(model)[1])
        loss, count, correct, exact, rows = 0.0, 0, 0, 0, 0
        for batch in source.batches():
            source_ids, shifted = batch.inputs
            logits = model(source_ids, shifted, batch.lengths)
            found = plain_loss(model, logits, batch.targets, batch.lengths[1])
            loss, count = loss + found.loss * found.count, count + found.count
            correct += found.correct or 0
            exact += _exact(model, batch, bos, eos)
            rows += batch.targets.shape[1]
        mean = loss / count
        return {
            "loss": mean,
            "perplexity": math.exp(min(mean, 700.0)),
            "accuracy": correct / count,
            "exact": exact / rows,
            "pairs": rows,
        }

    def describe(self, figures: Figures) -> Iterator[str]:
        """The figures in lines for a person."""
        yield f"loss        {figures['loss']:.4f} nats per token"
        yield f"perplexity  {figures['perplexity']:.2f}"
        yield f"accuracy    {100 * figures['accuracy']:.1f} % of tokens, given those before"
        yield f"exact       {100 * figures['exact']:.1f} % of {figures['pairs']:,} targets"

    def predict(self, model: Seq2Seq, texts: Sequence[str], options: Namespace) -> list[Figures]:
        """The likeliest target of each text, token by token."""
        source, target = vocabularies_of(model)
        bos, eos = marks(target)
        found: list[Figures] = [{} for _ in texts]
        for rows, ids, lengths in as_rows(encode(source, texts)):
            answers = model.translate(ids, lengths, bos=bos, eos=eos, max_new_tokens=_LIMIT)
            for row, answer in zip(rows.tolist(), answers, strict=True):
                found[row] = {"source": texts[row], "text": target.decode(answer)}
        return found

    def show(self, found: list[Figures], options: Namespace) -> Iterator[str]:
        """The targets, each in a line."""
        for one in found:
            yield one["text"]


def _read(options: Namespace) -> tuple[list[str], list[str]]:
    """Sources and targets, a pair with a tab between in each line, unless it is blank."""
    sources, targets = [], []
    for path in options.data:
        lines = read_text(path, encoding=options.encoding).split("\n")
        for place, line in enumerate(lines, 1):
            if not line.strip(" "):
                continue
            cells = line.split("\t")
            if len(cells) != 2 or not cells[0].strip():
                raise ValueError(
                    f"{path} has {shown(line)} in line {place}, expected source<TAB>target"
                )
            sources.append(cells[0])
            targets.append(cells[1])
    if len(sources) < 2:
        raise ValueError(
            f"the data has {counted(len(sources), 'pair')}, too few to train and to validate"
        )
    return sources, targets


def _pairs(
    sources: Sequence[str], targets: Sequence[str], source: Vocabulary, target: Vocabulary
) -> Pairs:
    bos, eos = marks(target)
    return Pairs(encode(source, sources), target.encode_many(targets), bos=bos, eos=eos)


def marks(target: Vocabulary) -> tuple[int, int]:
    """The ids of the start and of the end."""
    if target.bos is None or target.eos is None:
        raise ValueError("the vocabulary of targets has no <bos> and <eos>")
    return target.bos, target.eos


def vocabularies_of(model: Seq2Seq) -> tuple[Vocabulary, Vocabulary]:
    """Vocabularies of sources and targets in the model's file; ValueError if none fit."""
    found = model.vocabulary
    if not isinstance(found, dict) or set(found) != {"source", "target"}:
        raise ValueError("the model has no vocabularies, expected one that fastrnn train wrote")
    source, target = (Vocabulary.from_dict(found[name]) for name in ("source", "target"))
    if (len(source), len(target)) != (model.source_vocab, model.vocab_size):
        raise ValueError("the model and its vocabularies do not belong together")
    return source, target


def _exact(model: Seq2Seq, batch: Any, bos: int, eos: int) -> int:
    """Number of rows whose greedy output is the target, to its end."""
    limit = len(batch.targets)
    answers = model.translate(
        batch.inputs[0], batch.lengths[0], bos=bos, eos=eos, max_new_tokens=limit
    )
    lengths = batch.lengths[1] - 1  # without the end
    return sum(
        np.array_equal(answer, batch.targets[:length, row])
        for row, (answer, length) in enumerate(zip(answers, lengths, strict=True))
    )
