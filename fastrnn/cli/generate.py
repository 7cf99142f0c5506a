"""`fastrnn generate MODEL [--prompt TEXT]`: how a language model goes on."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from fastrnn.cli._arguments import Parser
from fastrnn.cli._values import number, whole

if TYPE_CHECKING:
    from fastrnn.cli._tokens import Tokens
    from fastrnn.models import LanguageModel

EPILOG = """\
The likeliest token is taken each time, unless --temperature, --top-k, --top-p, --min-p or --seed
make it draw, or --beams search. With one prompt and one sequence the text appears while it is made.

what is printed: the prompt and how it goes on, for each sequence; with --json one object in each
line: prompt, text (what is new), tokens (ids), logprobs, score, finish_reason

examples:
  fastrnn generate model --prompt "The cat" --temperature 0.7 --seed 1
  fastrnn generate model --prompt "The cat" --beams 4 --num-return-sequences 4 --json
  fastrnn generate weights.pt --vocab characters.json --prompt "Once" --stop "\\n"
  fastrnn generate model --prompt "Date: " --regex "\\d{4}-\\d{2}-\\d{2}" --top-k 5
  cat prompts.txt | fastrnn generate model --json > answers.jsonl

exit codes: 0 done, 1 a file is missing or something does not fit the model, 2 wrong usage,
130 interrupted
"""
_BATCH = 64  # prompts that are continued at a time
_DRAWING = ("temperature", "top_k", "top_p", "min_p", "seed")
_FLAGS = {
    "max_new_tokens": "--max-new-tokens",
    "num_beams": "--beams",
    "num_return_sequences": "--num-return-sequences",
    "no_repeat_ngram_size": "--no-repeat-ngram-size",
}


def add_arguments(parser: Parser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    add = parser.add_argument
    add("model", metavar="MODEL", help="what fastrnn train lm wrote, or a .pt or .safetensors file "
        "with embedding, recurrent layers and head")  # fmt: skip
    add("--prompt", action="append", metavar="TEXT", help="how the text begins; may be given "
        "several times; without any, each line of standard input is a prompt")  # fmt: skip
    add("--vocab", metavar="FILE", help="the tokens, if the model's file does not hold them: a "
        "JSON list, JSON ids by text, or a token in each line (\\n and \\t for those)")  # fmt: skip
    add("--max-new-tokens", type=whole(1), default=200, metavar="N", help="(default: 200)")
    _add_choice(parser)
    _add_shape(parser)
    add("--json", action="store_true", help="print JSON, for programs")
    add("--threads", type=whole(1, 4096), metavar="N", help="(default: one per core)")
    parser.set_defaults(refuse=parser.error)


def _add_choice(parser: Parser) -> None:
    add = parser.add_argument_group("which token is next").add_argument
    add("--temperature", type=number(0), metavar="T", help="0 takes the likeliest, 1 draws as "
        "trained, more is wilder")  # fmt: skip
    add("--top-k", type=whole(1), metavar="K", help="draw among the K likeliest")
    add("--top-p", type=number(0, 1), metavar="P", help="draw among the likeliest that have this "
        "share together")  # fmt: skip
    add("--min-p", type=number(0, 1), metavar="P", help="draw among those with this share of the "
        "likeliest's probability")  # fmt: skip
    add("--seed", type=whole(0, (1 << 64) - 1), metavar="N", help="of the draws; the same seed "
        "gives the same text (default: a new one each time)")  # fmt: skip
    add("--beams", type=whole(1), default=1, metavar="N", help="search with so many beams")
    add("--num-return-sequences", type=whole(1), default=1, metavar="N", help="for each prompt, "
        "the best score first")  # fmt: skip
    add("--length-penalty", type=number(-100, 100), default=1.0, metavar="A", help="scores are "
        "divided by length ** A; more is longer (default: 1)")  # fmt: skip


def _add_shape(parser: Parser) -> None:
    group = parser.add_argument_group("what the text may be")
    add, one = group.add_argument, group.add_mutually_exclusive_group()
    add("--repetition-penalty", type=number(0, above=True), default=1.0, metavar="R",
        help="above 1 avoids tokens that were there (default: 1)")  # fmt: skip
    add("--no-repeat-ngram-size", type=whole(0), default=0, metavar="N",
        help="no N tokens in a row come twice")  # fmt: skip
    add("--stop", action="append", metavar="TEXT", help="end after this text, which is kept; may "
        "be given several times; \\n stands for a new line")  # fmt: skip
    one.add_argument("--regex", metavar="PATTERN", help="the new text matches this regular "
                     "expression as a whole")  # fmt: skip
    one.add_argument("--words", metavar="FILE", help="the new text is one of the lines of this "
                     "file")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    import fastrnn
    from fastrnn.cli._lines import lines_of_input
    from fastrnn.cli._tokens import load_language_model

    _check(options)
    model, tokens = load_language_model(options.model, options.vocab)
    given = _given(options, tokens)
    prompts = options.prompt or lines_of_input()
    ids = [_encoded(tokens, prompt, i) for i, prompt in enumerate(prompts, 1)]
    streams = len(prompts) == 1 and options.num_return_sequences == 1 and not options.json
    with ExitStack() as stack:
        if options.threads:
            stack.enter_context(fastrnn.num_threads(options.threads))
        try:
            if streams:
                _stream(model, tokens, prompts[0], ids[0], given)
                return 0
            for prompt, found in _found(model, prompts, ids, given):
                print(_shown(tokens, prompt, found, options.json), flush=True)
        except ValueError as error:
            raise ValueError(_as_flags(str(error))) from error
    return 0


def _check(options: argparse.Namespace) -> None:
    drawn = [name for name in _DRAWING if getattr(options, name) is not None]
    options.do_sample = bool(drawn)
    if drawn and options.beams > 1:
        flag = drawn[0].replace("_", "-")
        options.refuse(f"argument --beams: not together with --{flag}, which draws")
    if not drawn and options.num_return_sequences > options.beams:
        options.refuse(
            f"argument --num-return-sequences: {options.num_return_sequences} different ones need "
            f"as many --beams, or --temperature"
        )


def _given(options: argparse.Namespace, tokens: Tokens) -> dict[str, Any]:
    """The arguments of fastrnn.generate."""
    drawing = {name: getattr(options, name) for name in _DRAWING}
    stops = [text.replace("\\n", "\n").replace("\\t", "\t") for text in options.stop or ()]
    return {
        **{name: value for name, value in drawing.items() if value is not None},
        "do_sample": options.do_sample,
        "max_new_tokens": options.max_new_tokens,
        "num_beams": options.beams,
        "num_return_sequences": options.num_return_sequences,
        "length_penalty": options.length_penalty,
        "repetition_penalty": options.repetition_penalty,
        "no_repeat_ngram_size": options.no_repeat_ngram_size,
        "eos_token_id": tokens.eos,
        "suppress_tokens": tokens.unwanted,
        "stop": [tokens.encode(text, "--stop") for text in stops] or None,
        "constraint": _constraint(options, tokens),
    }


def _constraint(options: argparse.Namespace, tokens: Tokens) -> Any:
    if options.regex is not None:
        return tokens.matching(options.regex)
    if options.words is None:
        return None
    from fastrnn.data import read_text

    words = [line for line in read_text(options.words).split("\n") if line.strip()]
    if not words:
        raise ValueError(f"{options.words}: there is no text in it")
    return tokens.words(words)


def _encoded(tokens: Tokens, prompt: str, place: int) -> list[int]:
    """The prompt behind the start token, if there is one."""
    start = [] if tokens.bos is None else [tokens.bos]
    ids = [*start, *tokens.encode(prompt, f"prompt {place}")]
    if not ids:
        raise ValueError(f"prompt {place} is empty, expected some {tokens.level}")
    return ids


def _stream(
    model: LanguageModel, tokens: Tokens, prompt: str, ids: list[int], given: dict[str, Any]
) -> None:
    """Prints every token as soon as it is certain."""
    from fastrnn.decode import stream_generate

    pieces = stream_generate(model, ids, **given)
    print(prompt, end="", flush=True)
    space = _space(tokens, prompt)
    try:
        for token in pieces:
            piece = tokens.decode([token])
            if piece:
                print(f"{space}{piece}", end="", flush=True)
                space = tokens.space
    except KeyboardInterrupt:
        print(flush=True)
        raise
    print(flush=True)


def _space(tokens: Tokens, prompt: str) -> str:
    """What stands between a prompt and its continuation."""
    return "" if not prompt or prompt[-1].isspace() else tokens.space


def _found(
    model: LanguageModel, prompts: list[str], ids: list[list[int]], given: dict[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Every prompt with each of its continuations."""
    from fastrnn.decode import generate

    each = given["num_return_sequences"]
    for start in range(0, len(prompts), _BATCH):
        found = generate(model, ids[start : start + _BATCH], **given)
        for i, one in enumerate(found):
            yield prompts[start + i // each], one


def _shown(tokens: Tokens, prompt: str, found: Any, as_json: bool) -> str:
    text = tokens.decode(found.tokens)
    if not as_json:
        return f"{prompt}{_space(tokens, prompt) if text else ''}{text}"
    values = {
        "prompt": prompt,
        "text": text,
        "tokens": found.tokens,
        "logprobs": [value if math.isfinite(value) else None for value in found.logprobs],
        "score": found.score if math.isfinite(found.score) else None,
        "finish_reason": found.finish_reason,
    }
    return json.dumps(values, allow_nan=False)


def _as_flags(message: str) -> str:
    """The names of options as they are on the command line."""
    return re.sub(r"\w+", lambda word: _FLAGS.get(word[0], word[0]), message)
