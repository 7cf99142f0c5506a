"""`fastrnn translate MODEL [TEXT ...]`: what a model of pairs writes for new sources."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.cli._arguments import Parser
from fastrnn.cli._values import check_picture, number, whole

if TYPE_CHECKING:
    from fastrnn.data import Sequences, Vocabulary
    from fastrnn.models import Seq2Seq

EPILOG = """\
what is printed: a line for each text; with --json one object in each line: source, text, tokens
(ids), logprobs, score, finish_reason

examples:
  fastrnn translate model "the 3rd of May, 1998" --attention dates.png
  fastrnn translate model --beams 5 < sources.txt > targets.txt

exit codes: 0 done, 1 a file is missing or does not fit the model, 2 wrong usage, 130 interrupted
"""
_BATCH = 64  # texts at a time


def add_arguments(parser: Parser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    add = parser.add_argument
    add("model", metavar="MODEL", help="what fastrnn train seq2seq wrote")
    add("input", nargs="*", metavar="TEXT", help="sources; without any, each line of standard "
        "input is one")  # fmt: skip
    add("--beams", type=whole(1), default=1, metavar="N", help="search with so many beams; 1 takes "
        "the likeliest token each time (default: 1)")  # fmt: skip
    add("--length-penalty", type=number(-100, 100), default=1.0, metavar="A", help="scores are "
        "divided by length ** A; more is longer (default: 1)")  # fmt: skip
    add("--coverage-penalty", type=number(0, 100), default=0.0, metavar="B", help="with beams and "
        "attention: the cost of leaving parts of the source unread (default: 0)")  # fmt: skip
    add("--max-new-tokens", type=whole(1), default=200, metavar="N", help="for a text that does "
        "not end (default: 200)")  # fmt: skip
    add("--attention", metavar="FILE", help="draw where the model looked, for one text, to this "
        ".png, .pdf or .svg; needs matplotlib")  # fmt: skip
    add("--json", action="store_true", help="print JSON, for programs")
    add("--threads", type=whole(1, 4096), metavar="N", help="(default: one per core)")
    parser.many = "input"
    parser.set_defaults(refuse=parser.error)


def run(options: argparse.Namespace) -> int:
    import fastrnn
    from fastrnn.cli._lines import lines_of_input
    from fastrnn.cli._seq2seq import vocabularies_of
    from fastrnn.cli._task import encode

    if options.attention:
        check_picture("--attention", options.attention)
    model = _load(options.model)
    if options.attention and model.attention_kind == "none":
        raise ValueError("--attention: this model has no attention")
    texts = options.input or lines_of_input()
    if options.attention and len(texts) != 1:
        options.refuse(f"argument --attention: expected one text, got {len(texts)}")
    source, target = vocabularies_of(model)
    if options.beams > model.vocab_size:
        raise ValueError(f"--beams is {options.beams}, but there are {model.vocab_size} tokens")
    with fastrnn.num_threads(options.threads or fastrnn.get_num_threads()):
        found = _translated(model, encode(source, texts), target, options)
        for text, one in zip(texts, found, strict=True):
            print(_shown(target, text, one, options.json), flush=True)
            if options.attention:
                _draw(model, text, one, options.attention)
    return 0


def _load(path: str) -> Seq2Seq:
    from fastrnn.cli._models import load_model
    from fastrnn.models import Seq2Seq

    model, _, _ = load_model(path)
    if not isinstance(model, Seq2Seq):
        kind = type(model).__name__
        raise ValueError(f"{path} holds a {kind}, expected one of fastrnn train seq2seq")
    return model


def _translated(
    model: Seq2Seq, sources: Sequences, target: Vocabulary, options: argparse.Namespace
) -> Iterator[Any]:
    """The best answer for each source, in their order."""
    from fastrnn.cli._seq2seq import marks
    from fastrnn.decode import generate

    bos, eos = marks(target)
    unwanted = [token for token in (target.pad, target.bos, target.unk) if token is not None]
    for start in range(0, len(sources), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(sources)))
        ids, lengths = sources.padded(rows, 0)
        yield from generate(
            model.given(ids, lengths),
            [[bos]] * len(rows),
            max_new_tokens=options.max_new_tokens,
            num_beams=options.beams,
            length_penalty=options.length_penalty,
            coverage_penalty=options.coverage_penalty,
            eos_token_id=eos,
            suppress_tokens=unwanted,
        )


def _shown(target: Vocabulary, text: str, found: Any, as_json: bool) -> str:
    answer = target.decode(np.array(found.tokens, np.int64))
    if not as_json:
        return answer
    values = {
        "source": text,
        "text": answer,
        "tokens": found.tokens,
        "logprobs": found.logprobs,
        "score": found.score,
        "finish_reason": found.finish_reason,
    }
    return json.dumps(values, allow_nan=False)


def _draw(model: Seq2Seq, text: str, found: Any, path: str) -> None:
    """Where the model looked while it wrote each token."""
    from fastrnn import plot
    from fastrnn.cli._seq2seq import marks, vocabularies_of

    source, target = vocabularies_of(model)
    ids = np.asarray(source.encode(text), np.int64)[:, None]
    inputs = np.array([marks(target)[0], *found.tokens[:-1]])[:, None]
    weights = model.attention(ids, inputs)[:, :, 0]
    labels = [target.decode(np.array([token])) or "<eos>" for token in found.tokens]
    parts = text.split() if source.level == "words" else list(text)
    plot.attention(weights, parts, labels, path, title=text)
