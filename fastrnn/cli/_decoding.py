"""Decoding options of `generate` and `translate`, and the arguments that they become."""

from __future__ import annotations

import json
import math
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastrnn.cli._parser import Add, Parser
from fastrnn.cli._values import MAX_THREADS, number, some_text, whole
from fastrnn.decode import DecodingError

if TYPE_CHECKING:
    from fastrnn.cli._tokens import Tokens
    from fastrnn.decode import Automaton, Generation

_DRAWING = ("temperature", "top_p", "min_p", "typical_p", "seed", "top_k")
_SEARCHING = ("groups", "diversity_penalty", "early_stopping", "patience", "coverage_penalty")
_EARLY = {"no": False, "yes": True, "never": "never"}
# Arguments of fastrnn.generate that are options as they are.
_PLAIN = (
    *_DRAWING, "num_beams", "num_beam_groups", "diversity_penalty", "patience", "coverage_penalty",
    "max_new_tokens", "min_new_tokens", "num_return_sequences", "length_penalty",
    "length_penalty_form", "repetition_penalty", "no_repeat_ngram_size",
)  # fmt: skip


def add_decoding_options(parser: Parser) -> None:
    """Options of a text's length and output, its next token, beam search, and constraints."""
    add = parser.group()
    add("--max-new-tokens", "tokens at most", 200, type=whole(1), metavar="N")
    add("--min-new-tokens", "tokens before the text may end", 0, type=whole(0), metavar="N")
    add("--num-return-sequences", "texts for each one given, the best score first; drawn ones may "
        "be the same", 1, type=whole(1), metavar="N")  # fmt: skip
    add("--json", "print JSON, for programs", False, action="store_true")
    add("--threads", "threads (default: one per core, or FASTRNN_NUM_THREADS); no token depends on "
        "it", type=whole(1, MAX_THREADS), metavar="N")  # fmt: skip
    _add_drawing(parser.group("which token is next, drawn with any of these"))
    _add_search(parser.group("search"))
    _add_shape(parser)


def _add_drawing(add: Add) -> None:
    add("--temperature", "0 takes the likeliest, 1 draws as trained, more is wilder",
        type=number(0), metavar="T")  # fmt: skip
    add("--top-k", "draw among the K likeliest; with --beams draw nothing, but let a beam branch "
        "into its K likeliest", type=whole(1), metavar="K")  # fmt: skip
    add("--top-p", "draw among the likeliest that have this share together", type=number(0, 1),
        metavar="P")  # fmt: skip
    add("--min-p", "draw among those with this share of the likeliest's probability",
        type=number(0, 1), metavar="P")  # fmt: skip
    add("--typical-p", "draw among those that surprise as much as expected and have this share "
        "together (Meister et al. 2023)", type=number(0, 1), metavar="P")  # fmt: skip
    add("--seed", "of the draws; the same seed gives the same text (default: a new one each time)",
        type=whole(0, (1 << 64) - 1), metavar="N")  # fmt: skip


def _add_search(add: Add) -> None:
    add("--beams", "search with so many beams; 1 takes the likeliest token each time", 1,
        argument="num_beams", type=whole(1), metavar="N")  # fmt: skip
    add("--groups", "beams in groups that avoid each other's tokens, for texts that differ "
        "(Vijayakumar et al. 2018)", argument="num_beam_groups", type=whole(1),
        metavar="G")  # fmt: skip
    add("--diversity-penalty", "with --groups: cost of a token for each beam of an earlier group "
        "that took it in that step", type=number(0, 1e6, above=True), metavar="D")  # fmt: skip
    add("--length-penalty", "scores are divided by length ** A; more is longer", 1.0,
        type=number(-100, 100), metavar="A")  # fmt: skip
    add("--length-penalty-form", "gnmt divides by ((5 + length) / 6) ** A instead (Wu et al. 2016)",
        "power", choices=("power", "gnmt"))  # fmt: skip
    add("--early-stopping", "when beams end that have found enough texts: yes, at once; no, when "
        "unfinished ones look worse; never, when they cannot become better (default: no)",
        choices=tuple(_EARLY))  # fmt: skip
    add("--patience", "enough are R times as many texts as beams (default: 1)",
        type=number(0, 1000, above=True), metavar="R")  # fmt: skip


def _add_shape(parser: Parser) -> None:
    title = "what the text may be (\\n stands for a new line)"
    add = parser.group(title)
    add("--repetition-penalty", "above 1 avoids tokens that were there", 1.0,
        type=number(1e-6, 1e6), metavar="R")  # fmt: skip
    add("--no-repeat-ngram-size", "no N tokens in a row come twice", 0, type=whole(0),
        metavar="N")  # fmt: skip
    add("--bad-words", "a word or phrase that does not occur; may be given several times",
        argument="bad_words_ids", action="append", type=some_text, metavar="TEXT")  # fmt: skip
    add("--suppress", "none of the tokens of this text occurs: no digits by --suppress 0123456789",
        argument="suppress_tokens", type=some_text, metavar="TEXT")  # fmt: skip
    add("--stop", "end after this text, which is kept; may be given several times; with --regex or "
        "--words only where the text is whole", action="append", type=some_text,
        metavar="TEXT")  # fmt: skip
    one = parser.group(title, exclusive=True)
    one("--regex", "the new text matches this regular expression as a whole, however it ends",
        argument="constraint", metavar="PATTERN")  # fmt: skip
    one("--words", "the new text is one of the lines of this file", argument="constraint",
        metavar="FILE")  # fmt: skip


def check(options: Namespace) -> None:
    """Exit code 2 where options contradict each other, before anything is loaded."""
    refuse, beams, groups = options.refuse, options.beams, options.groups or 1
    drawing, searching = _drawing(options), _first(options, _SEARCHING)
    if drawing and beams > 1:
        refuse(f"argument --beams: not together with {drawing}, which draws")
    if searching and beams == 1:
        refuse(f"argument {searching}: needs --beams of 2 or more")
    if beams % groups:
        refuse(f"argument --groups: {groups} do not divide the {beams} --beams")
    if groups > 1 and options.diversity_penalty is None:
        refuse("argument --groups: needs a --diversity-penalty")
    if groups == 1 and options.diversity_penalty is not None:
        refuse("argument --diversity-penalty: needs --groups of 2 or more")
    if options.min_new_tokens > options.max_new_tokens:
        refuse(f"argument --min-new-tokens: {options.min_new_tokens} is more than the "
               f"{options.max_new_tokens} --max-new-tokens")  # fmt: skip
    found = groups * max(1, int(beams // groups * (options.patience or 1.0) + 0.5))
    if not drawing and options.num_return_sequences > (found if beams > 1 else 1):
        refuse(f"argument --num-return-sequences: {options.num_return_sequences} different ones "
               f"need as many --beams, or --temperature")  # fmt: skip


def _drawing(options: Namespace) -> str | None:
    """The first flag that asks for draws; --top-k does not where there are beams to limit."""
    return _first(options, _DRAWING[:-1] if options.beams > 1 else _DRAWING)


def _first(options: Namespace, names: tuple[str, ...]) -> str | None:
    """The flag of the first of these options that was given."""
    given = (name for name in names if getattr(options, name, None) is not None)
    return next((f"--{name.replace('_', '-')}" for name in given), None)


def arguments(options: Namespace, tokens: Tokens) -> dict[str, Any]:
    """The arguments of fastrnn.generate."""
    plain = {name: options.parser.value_of(options, name) for name in _PLAIN}
    suppressed = tokens.written(options.suppress, "--suppress") if options.suppress else []
    bad = [tokens.written(text, "--bad-words") for text in options.bad_words or ()]
    return {
        **{name: value for name, value in plain.items() if value is not None},
        "do_sample": _drawing(options) is not None,
        "early_stopping": _EARLY[options.early_stopping or "no"],
        "eos_token_id": tokens.eos,
        "bad_words_ids": [ids for ids in bad if None not in ids],
        "suppress_tokens": [*tokens.unwanted, *(i for i in suppressed if i is not None)],
        "stop": [tokens.exactly(text, "--stop") for text in options.stop or ()],
        "constraint": _constraint(options, tokens),
    }


def _constraint(options: Namespace, tokens: Tokens) -> Automaton | None:
    if options.regex is not None:
        return tokens.matching(options.regex)
    if options.words is None:
        return None
    from fastrnn.data import read_text

    words = [line for line in read_text(options.words).split("\n") if line.strip()]
    if not words:
        raise ValueError(f"{options.words}: there is no text in it")
    return tokens.words(words)


@contextmanager
def counted_from(options: Namespace, given: str, start: int = 0) -> Iterator[None]:
    """Errors call prompts by what they are to the user, counted from 1.

    `start`: how many were given before prompt 0.
    """
    try:
        yield
    except DecodingError as error:
        place = "" if error.prompt is None else f"{given} {error.prompt + start + 1}"
        told = error.told(place, lambda name: options.parser.flag_of(options, name) or name)
        raise ValueError(told) from error


def as_json(given: dict[str, str], text: str, found: Generation) -> str:
    """One line of JSON about a text: its source (`given`, by name), tokens and scores."""
    values = {
        **given,
        "text": text,
        "tokens": found.tokens,
        "logprobs": [value if math.isfinite(value) else None for value in found.logprobs],
        "score": found.score if math.isfinite(found.score) else None,
        "finish_reason": found.finish_reason,
    }
    return json.dumps(values, allow_nan=False)
