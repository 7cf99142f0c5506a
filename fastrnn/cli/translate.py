"""`fastrnn translate MODEL [TEXT ...]`: targets of a model of pairs for new sources."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn.cli._decoding import (
    add_decoding_options,
    arguments,
    as_json,
    check,
    counted_from,
)
from fastrnn.cli._parser import Parser
from fastrnn.cli._values import check_picture, number

if TYPE_CHECKING:
    from fastrnn.cli._tokens import Tokens
    from fastrnn.data import Sequences
    from fastrnn.decode import Generation
    from fastrnn.models import Seq2Seq

EPILOG = """\
The likeliest token is taken each time, unless --temperature, --top-k, --top-p, --min-p, --typical-p
or --seed make it draw, or --beams search.

what is printed: a line for each text; with --num-return-sequences score<TAB>text, the best first,
and a blank line between one source's and the next one's; with --json one object in each line:
source, text, tokens (ids), logprobs, score, finish_reason

examples:
  fastrnn translate model "the 3rd of May, 1998" --attention dates.png
  fastrnn translate model --beams 5 < sources.txt > targets.txt
  fastrnn translate model "the 3rd of May, 1998" --beams 5 --num-return-sequences 5
  fastrnn translate model "the 3rd of May, 1998" --temperature 0.8 --seed 1

exit codes: 0 done, 1 a file is missing or does not fit the model, 2 wrong usage, 130 interrupted
"""
_BATCH = 64  # texts at a time


def add_arguments(parser: Parser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = "fastrnn translate MODEL [TEXT ...] [options]"
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="what fastrnn train seq2seq wrote")
    parser.add_argument("input", nargs="*", default=[], metavar="TEXT", help="sources; without "
        "any, each line of standard input that is not blank is one")  # fmt: skip
    add_decoding_options(parser)
    add = parser.group()
    add("--coverage-penalty", "with --beams and attention: the cost of leaving parts of the source "
        "unread, made for words: 0.2 in Wu et al. 2016 (default: 0)", type=number(0, 100),
        metavar="B")  # fmt: skip
    add("--attention", "draw where the model looked, for one text, to this .png, .pdf or .svg; "
        "needs matplotlib", metavar="FILE")  # fmt: skip
    parser.many = "input"


def run(options: argparse.Namespace) -> int:
    import fastrnn
    from fastrnn.cli._input import lines_of_input
    from fastrnn.cli._tokens import Tokens
    from fastrnn.cli.tasks.base import encode
    from fastrnn.cli.tasks.seq2seq import marks, vocabularies_of

    check(options)
    _check_attention(options, options.input)
    model = _load(options)
    texts = options.input or lines_of_input()
    _check_attention(options, texts)
    source, target = vocabularies_of(model)
    (bos, _), tokens = marks(target), Tokens.of(target)
    given, each = arguments(options, tokens), options.num_return_sequences
    with fastrnn.num_threads(options.threads or fastrnn.get_num_threads()):
        for i, found in enumerate(_translated(model, encode(source, texts), bos, given, options)):
            if i and not i % each and each > 1 and not options.json:
                print()
            print(_shown(tokens, texts[i // each], found, options), flush=True)
            if options.attention:
                _draw(model, texts[i], found, options.attention)
    return 0


def _check_attention(options: argparse.Namespace, texts: list[str]) -> None:
    """A picture is of one text and what was made of it."""
    if not options.attention:
        return
    check_picture("--attention", options.attention)
    folder = Path(options.attention).parent
    if not folder.is_dir():
        raise ValueError(f"--attention {options.attention}: there is no folder {folder}")
    if options.num_return_sequences > 1:
        options.refuse("argument --attention: not together with --num-return-sequences")
    if len(texts) > 1:
        options.refuse(f"argument --attention: expected one text, got {len(texts)}")


def _load(options: argparse.Namespace) -> Seq2Seq:
    """The model, which can do what the options need."""
    from fastrnn.cli.tasks import load_model

    model: Seq2Seq = load_model(options.model, "seq2seq")[0]
    for flag in ("--attention", "--coverage-penalty"):
        if getattr(options, flag[2:].replace("-", "_")) and model.attention_kind == "none":
            raise ValueError(f"{flag}: this model has no attention")
    return model


def _translated(
    model: Seq2Seq,
    sources: Sequences,
    bos: int,
    given: dict[str, Any],
    options: argparse.Namespace,
) -> Iterator[Generation]:
    """The answers for each source, in their order."""
    from fastrnn.decode import generate

    for start in range(0, len(sources), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(sources)))
        ids, lengths = sources.padded(rows, 0)
        with counted_from(options, "text", start):
            found = generate(model.with_source(ids, lengths), [[bos]] * len(rows), **given)
        yield from found


def _shown(tokens: Tokens, text: str, found: Generation, options: argparse.Namespace) -> str:
    answer = tokens.decode(found.tokens)
    if options.json:
        return as_json({"source": text}, answer, found)
    return f"{found.score:.4f}\t{answer}" if options.num_return_sequences > 1 else answer


def _draw(model: Seq2Seq, text: str, found: Generation, path: str) -> None:
    """Draw the attention weights of every token that the model wrote."""
    from fastrnn import plot
    from fastrnn.cli.tasks.seq2seq import marks, vocabularies_of

    source, target = vocabularies_of(model)
    weights = model.attention(source.encode(text), [marks(target)[0], *found.tokens[:-1]])
    labels = [target.decode(np.array([token])) or "<eos>" for token in found.tokens]
    parts = text.split() if source.level == "words" else list(text)
    plot.attention(weights, parts, labels, path, title=text)
