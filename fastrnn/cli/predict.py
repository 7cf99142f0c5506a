"""`fastrnn predict MODEL [INPUT ...]`: what a model says about new input."""

from __future__ import annotations

import argparse
import json

from fastrnn.cli._arguments import Parser
from fastrnn.cli._values import whole

EPILOG = """\
what is printed, with tabs between, for each text:
  classify   label, probability, text; a line for each of the --top classes
  tag        token, tag in every line, a blank line after each sentence
  lm         perplexity, text; with --tokens each token and its log-probability
  seq2seq    the target, token by token; fastrnn translate searches
  forecast   CSV: the names of the columns, then a line for each step

examples:
  fastrnn predict model --top 3 Satoshi Jackson
  fastrnn predict model --file names.txt --json
  echo "the dog barks" | fastrnn predict tagger
  fastrnn predict model series.csv --steps 24 > next.csv

exit codes: 0 done, 1 a file is missing or does not fit the model, 2 wrong usage
"""


def add_arguments(parser: Parser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="what fastrnn train wrote")
    parser.add_argument(
        "input",
        nargs="*",
        default=[],  # lest argparse says that it is required
        metavar="INPUT",
        help="texts, or for a forecast the file of the series; without any, standard input is "
        "read, where each line is a text",
    )
    parser.add_argument("--file", help="read the texts from this file, a text in each line")
    parser.add_argument(
        "--encoding",
        help="of files and of standard input (default: utf-8, or what the terminal uses)",
    )
    parser.add_argument(
        "--top", type=whole(1), default=1, metavar="K", help="classes to show (default: 1)"
    )
    parser.add_argument(
        "--tokens", action="store_true", help="lm: the log-probability of every token, in nats"
    )
    parser.add_argument(
        "--steps",
        type=whole(1),
        metavar="N",
        help="forecast: so many steps; beyond the horizon of the model forecasts are fed back, "
        "which needs all columns as targets (default: the horizon)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.many = "input"
    parser.set_defaults(refuse=parser.error)


def run(options: argparse.Namespace) -> int:
    from fastrnn.cli._models import load_model

    if options.file is not None and options.input:
        options.refuse("argument --file: not together with INPUT")
    model, task, module = load_model(options.model)
    for name, wanted in (("steps", "forecast"), ("tokens", "lm")):
        if getattr(options, name) and task != wanted:
            options.refuse(f"argument --{name}: this model is one of train {task}")
    given = _series(options) if task == "forecast" else _texts(options)
    found = module.predict(model, given, options)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for line in module.show(found, options):
            print(line)
    return 0


def _texts(options: argparse.Namespace) -> list[str]:
    """Arguments, or the lines of a file or of standard input that are not blank."""
    if options.input:
        return list(options.input)
    if options.file is None:
        from fastrnn.cli._input import lines_of_input

        return lines_of_input(options.encoding)
    from fastrnn.data import read_text

    lines = read_text(options.file, encoding=options.encoding or "utf-8").split("\n")
    found = [line for line in lines if line.strip()]
    if not found:
        raise ValueError(f"{options.file} has no text")
    return found


def _series(options: argparse.Namespace) -> list[str | None]:
    """Paths; None for standard input, which may hold an array of NumPy too."""
    return options.input or [options.file]
