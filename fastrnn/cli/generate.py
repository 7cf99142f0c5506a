"""`fastrnn generate MODEL [--prompt TEXT]`: continuations by a language model."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from fastrnn.cli._decoding import (
    add_decoding_options,
    arguments,
    as_json,
    check,
    counted_from,
)
from fastrnn.cli._parser import Parser

if TYPE_CHECKING:
    from fastrnn.cli._tokens import Tokens
    from fastrnn.decode import Generation
    from fastrnn.models import LanguageModel

EPILOG = """\
The likeliest token is taken each time, unless --temperature, --top-k, --top-p, --min-p, --typical-p
or --seed make it draw, or --beams search. With one prompt and one sequence the text appears while
it is made.

what is printed: the prompt and how it goes on, for each sequence; with --json one object in each
line: prompt, text (what is new), tokens (ids), logprobs, score, finish_reason

examples:
  fastrnn generate model --prompt "The cat" --temperature 0.7 --seed 1
  fastrnn generate model --prompt "The cat" --beams 4 --num-return-sequences 4 --json
  fastrnn generate model --prompt "Once" --beams 6 --groups 3 --diversity-penalty 0.5
  fastrnn generate model --prompt "Once" --typical-p 0.9 --bad-words "the end" --suppress 0123456789
  fastrnn generate weights.pt --vocab characters.json --prompt "Once" --stop "\\n"
  fastrnn generate model --prompt "Date: " --regex "\\d{4}-\\d{2}-\\d{2}" --top-k 5
  cat prompts.txt | fastrnn generate model --json > answers.jsonl

exit codes: 0 done, 1 a file is missing or something does not fit the model, 2 wrong usage,
130 interrupted
"""
_BATCH = 64  # prompts that are continued at a time


def add_arguments(parser: Parser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.usage = "fastrnn generate MODEL [--prompt TEXT ...] [options]"
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="what fastrnn train lm wrote, or a .pt or "
        ".safetensors file with embedding, recurrent layers and head")  # fmt: skip
    add = parser.group()
    add("--prompt", "how the text begins; may be given several times; without any, each line of "
        "standard input that is not blank is a prompt", action="append",
        metavar="TEXT")  # fmt: skip
    add("--vocab", "the tokens, if the model's file does not hold them: a JSON list, JSON ids by "
        "text, or a token in each line (\\n and \\t for those)", metavar="FILE")  # fmt: skip
    add_decoding_options(parser)


def run(options: argparse.Namespace) -> int:
    import fastrnn
    from fastrnn.cli._input import lines_of_input
    from fastrnn.cli._tokens import load_language_model

    check(options)
    model, tokens = load_language_model(options.model, options.vocab)
    given = arguments(options, tokens)
    prompts = options.prompt or lines_of_input()
    ids = [_encoded(tokens, prompt, i) for i, prompt in enumerate(prompts, 1)]
    streams = len(prompts) == 1 and options.num_return_sequences == 1 and not options.json
    with fastrnn.num_threads(options.threads or fastrnn.get_num_threads()):
        if streams:
            with counted_from(options, "prompt"):
                _stream(model, tokens, prompts[0], ids[0], given)
            return 0
        for prompt, found in _found(model, prompts, ids, given, options):
            print(_shown(tokens, prompt, found, options.json), flush=True)
    return 0


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
    except (KeyboardInterrupt, ValueError):  # the next output begins in a line of its own
        print(flush=True)
        raise
    print(flush=True)


def _space(tokens: Tokens, prompt: str) -> str:
    """Text between a prompt and its continuation."""
    return "" if not prompt or prompt[-1].isspace() else tokens.space


def _found(
    model: LanguageModel,
    prompts: list[str],
    ids: list[list[int]],
    given: dict[str, Any],
    options: argparse.Namespace,
) -> Iterator[tuple[str, Generation]]:
    """Every prompt with each of its continuations."""
    from fastrnn.decode import generate

    each = given["num_return_sequences"]
    for start in range(0, len(prompts), _BATCH):
        with counted_from(options, "prompt", start):
            found = generate(model, ids[start : start + _BATCH], **given)
        for i, one in enumerate(found):
            yield prompts[start + i // each], one


def _shown(tokens: Tokens, prompt: str, found: Generation, in_json: bool) -> str:
    text = tokens.decode(found.tokens)
    if in_json:
        return as_json({"prompt": prompt}, text, found)
    return f"{prompt}{_space(tokens, prompt) if text else ''}{text}"
