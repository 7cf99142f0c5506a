"""`fastrnn predict MODEL [INPUT ...]`: predictions for new input."""

from __future__ import annotations

import argparse
import json

from fastrnn.cli._parser import Parser
from fastrnn.cli.tasks import TASKS, load_model

EPILOG = """\
what is printed, with tabs between, for each text:
{prints}

examples:
  fastrnn predict model --top 3 Satoshi Jackson
  fastrnn predict model --file names.txt --json
  echo "the dog barks" | fastrnn predict tagger
  fastrnn predict model series.csv --steps 24 > next.csv

exit codes: 0 done, 1 a file is missing or does not fit the model, 2 wrong usage
"""


def add_arguments(parser: Parser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    lines = [f"  {name:<9}  {task.prints}" for name, task in TASKS.items()]
    parser.epilog = EPILOG.format(prints="\n".join(lines))
    parser.add_argument("model", metavar="MODEL", help="what fastrnn train wrote")
    parser.add_argument(
        "input",
        nargs="*",
        default=[],  # lest argparse says that it is required
        metavar="INPUT",
        help="texts, or for a forecast the file of the series; without any, standard input is "
        "read, where each line is a text",
    )
    add = parser.group()
    add("--file", "read the texts from this file, a text in each line")
    add("--encoding", "of files and of standard input (default: utf-8, or what the terminal uses)",
        metavar="NAME")  # fmt: skip
    for task in TASKS.values():
        with parser.owned_by(task.name):
            task.add_predict_options(add)
    add("--json", "print JSON, for programs", False, action="store_true")
    parser.many = "input"


def run(options: argparse.Namespace) -> int:
    if options.file is not None and options.input:
        options.refuse("argument --file: not together with INPUT")
    model, task = load_model(options.model)
    options.parser.refuse_others(options, task.name)
    found = task.predict(model, task.inputs(options), options)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for line in task.show(found, options):
            print(line)
    return 0
