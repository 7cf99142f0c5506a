"""`fastrnn eval MODEL DATA`: figures of a model on data."""

from __future__ import annotations

import argparse
import json

from fastrnn.cli._parser import Parser
from fastrnn.cli.tasks import TASKS, load_model

EPILOG = """\
examples:
  fastrnn eval model test.txt                       perplexity of a language model
  fastrnn eval model names/ --json                  accuracy and a table of classes
  fastrnn eval model later.csv                      errors of a forecast and of its baseline

exit codes: 0 done, 1 a file is missing or does not fit the model, 2 wrong usage
"""


def add_arguments(parser: Parser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("model", metavar="MODEL", help="what fastrnn train wrote")
    parser.add_argument(
        "data",
        nargs="*",
        default=[],
        metavar="DATA",
        help="of the kind that the model was trained on",
    )
    add = parser.group()
    add("--encoding", "of text files", "utf-8", metavar="NAME")
    for task in TASKS.values():
        with parser.owned_by(task.name):
            task.add_eval_options(add)
    add("--json", "print JSON, for programs", False, action="store_true")
    parser.many = "data"


def run(options: argparse.Namespace) -> int:
    model, task = load_model(options.model)
    if not options.data:
        options.refuse("the following arguments are required: DATA")
    if task.count == "1" and len(options.data) > 1:
        options.refuse(f"argument DATA: expected one for this model, got {len(options.data)}")
    options.parser.refuse_others(options, task.name)
    figures = task.evaluate(model, options)
    if options.json:
        print(json.dumps({"task": task.name, **figures}, indent=2))
    else:
        print("\n".join(task.describe(figures)))
    return 0
