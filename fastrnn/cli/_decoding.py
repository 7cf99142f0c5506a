"""What `generate` and `translate` share: how a text is chosen, as options and as arguments."""

from __future__ import annotations

import json
import math
import re
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastrnn.cli._arguments import Parser
from fastrnn.cli._values import MAX_THREADS, number, some_text, whole

if TYPE_CHECKING:
    from fastrnn.cli._tokens import Tokens
    from fastrnn.decode import Automaton, Generation

_DRAWING = ("temperature", "top_p", "min_p", "typical_p", "seed", "top_k")
_SEARCHING = ("groups", "diversity_penalty", "early_stopping", "patience", "coverage_penalty")
_EARLY = {"no": False, "yes": True, "never": "never"}
# What fastrnn.generate calls an option, if not by the option's own name.
_NAMES = {"beams": "num_beams", "groups": "num_beam_groups"}
_PLAIN = (
    *_DRAWING, *_NAMES, "diversity_penalty", "patience", "coverage_penalty", "max_new_tokens",
    "min_new_tokens", "num_return_sequences", "length_penalty", "length_penalty_form",
    "repetition_penalty", "no_repeat_ngram_size",
)  # fmt: skip
_FLAGS = {
    "bad_words_ids": "--bad-words",
    "suppress_tokens": "--suppress",
    **{_NAMES.get(name, name): f"--{name.replace('_', '-')}" for name in _PLAIN},
}


def add_decoding_options(parser: Parser) -> None:
    """How long a text is and how printed, its next token, how beams search, what it may be."""
    add = parser.add_argument
    add("--max-new-tokens", type=whole(1), default=200, metavar="N", help="tokens at most "
        "(default: 200)")  # fmt: skip
    add("--min-new-tokens", type=whole(0), default=0, metavar="N", help="tokens before the text "
        "may end (default: 0)")  # fmt: skip
    add("--num-return-sequences", type=whole(1), default=1, metavar="N", help="texts for each one "
        "given, the best score first; drawn ones may be the same (default: 1)")  # fmt: skip
    add("--json", action="store_true", help="print JSON, for programs")
    add("--threads", type=whole(1, MAX_THREADS), metavar="N", help="threads (default: one per "
        "core, or FASTRNN_NUM_THREADS); no token depends on it")  # fmt: skip
    _add_drawing(parser)
    _add_search(parser)
    _add_shape(parser)


def _add_drawing(parser: Parser) -> None:
    add = parser.add_argument_group("which token is next, drawn with any of these").add_argument
    add("--temperature", type=number(0), metavar="T", help="0 takes the likeliest, 1 draws as "
        "trained, more is wilder")  # fmt: skip
    add("--top-k", type=whole(1), metavar="K", help="draw among the K likeliest; with --beams draw "
        "nothing, but let a beam branch into its K likeliest")  # fmt: skip
    add("--top-p", type=number(0, 1), metavar="P", help="draw among the likeliest that have this "
        "share together")  # fmt: skip
    add("--min-p", type=number(0, 1), metavar="P", help="draw among those with this share of the "
        "likeliest's probability")  # fmt: skip
    add("--typical-p", type=number(0, 1), metavar="P", help="draw among those that surprise as "
        "much as expected and have this share together (Meister et al. 2023)")  # fmt: skip
    add("--seed", type=whole(0, (1 << 64) - 1), metavar="N", help="of the draws; the same seed "
        "gives the same text (default: a new one each time)")  # fmt: skip


def _add_search(parser: Parser) -> None:
    add = parser.add_argument_group("search").add_argument
    add("--beams", type=whole(1), default=1, metavar="N", help="search with so many beams; 1 takes "
        "the likeliest token each time (default: 1)")  # fmt: skip
    add("--groups", type=whole(1), metavar="G", help="beams in groups that avoid each other's "
        "tokens, for texts that differ (Vijayakumar et al. 2018)")  # fmt: skip
    add("--diversity-penalty", type=number(0, 1e6, above=True), metavar="D", help="with --groups: "
        "cost of a token for each beam of an earlier group that took it in that step")  # fmt: skip
    add("--length-penalty", type=number(-100, 100), default=1.0, metavar="A", help="scores are "
        "divided by length ** A; more is longer (default: 1)")  # fmt: skip
    add("--length-penalty-form", choices=("power", "gnmt"), default="power", help="gnmt divides by "
        "((5 + length) / 6) ** A instead (Wu et al. 2016)")  # fmt: skip
    add("--early-stopping", choices=tuple(_EARLY), help="when beams end that have found enough "
        "texts: yes, at once; no, when unfinished ones look worse; never, when they cannot become "
        "better (default: no)")  # fmt: skip
    add("--patience", type=number(0, 1000, above=True), metavar="R", help="enough are R times as "
        "many texts as beams (default: 1)")  # fmt: skip


def _add_shape(parser: Parser) -> None:
    group = parser.add_argument_group("what the text may be (\\n stands for a new line)")
    add, one = group.add_argument, group.add_mutually_exclusive_group()
    add("--repetition-penalty", type=number(1e-6, 1e6), default=1.0, metavar="R",
        help="above 1 avoids tokens that were there (default: 1)")  # fmt: skip
    add("--no-repeat-ngram-size", type=whole(0), default=0, metavar="N",
        help="no N tokens in a row come twice")  # fmt: skip
    add("--bad-words", action="append", type=some_text, metavar="TEXT", help="a word or phrase "
        "that does not occur; may be given several times")  # fmt: skip
    add("--suppress", type=some_text, metavar="TEXT", help="none of the tokens of "
        "this text occurs: no digits by --suppress 0123456789")  # fmt: skip
    add("--stop", action="append", type=some_text, metavar="TEXT", help="end after this text, "
        "which is kept; may be given several times; with --regex or --words only where the text is "
        "whole")  # fmt: skip
    one.add_argument("--regex", metavar="PATTERN", help="the new text matches this regular "
                     "expression as a whole, however it ends")  # fmt: skip
    one.add_argument("--words", metavar="FILE", help="the new text is one of the lines of this "
                     "file")  # fmt: skip


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
    plain = {_NAMES.get(name, name): getattr(options, name, None) for name in _PLAIN}
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
def named_in_errors(given: str, start: int = 0) -> Iterator[None]:
    """Errors call arguments by their flags, and prompt 0 by what it is to the user, counted from 1.

    `start`: how many were given before it. A name of one word could be the message's own.
    """
    try:
        yield
    except ValueError as error:
        named = re.sub(r"\w+_\w+", lambda word: _FLAGS.get(word[0], word[0]), str(error))
        place = re.sub(r"prompt (\d+)", lambda m: f"{given} {int(m[1]) + start + 1}", named)
        raise ValueError(place) from error


def as_json(given: dict[str, str], text: str, found: Generation) -> str:
    """One line about a text: what it was made of (`given`, by its name), and how."""
    values = {
        **given,
        "text": text,
        "tokens": found.tokens,
        "logprobs": [value if math.isfinite(value) else None for value in found.logprobs],
        "score": found.score if math.isfinite(found.score) else None,
        "finish_reason": found.finish_reason,
    }
    return json.dumps(values, allow_nan=False)
