"""`fastrnn eval MODEL DATA`: how good a model is on data."""

from __future__ import annotations

import argparse
import json

from fastrnn.cli._arguments import Parser

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
    parser.add_argument("--encoding", default="utf-8", help="of text files (default: utf-8)")
    parser.add_argument("--text-column", metavar="NAME", help="the text in a CSV or TSV file")
    parser.add_argument("--label-column", metavar="NAME", help="the class in a CSV or TSV file")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.many = "data"
    parser.set_defaults(refuse=parser.error)


def run(options: argparse.Namespace) -> int:
    from fastrnn.cli._models import load_model

    model, task, module = load_model(options.model)
    if not options.data:
        options.refuse("the following arguments are required: DATA")
    if task in ("classify", "forecast") and len(options.data) > 1:
        options.refuse(f"argument DATA: expected one for this model, got {len(options.data)}")
    figures = module.evaluate(model, options)
    if options.json:
        print(json.dumps({"task": task, **figures}, indent=2))
    else:
        print("\n".join(module.describe(figures)))
    return 0
