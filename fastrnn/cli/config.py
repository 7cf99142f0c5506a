"""`fastrnn config`: version, instruction set and threads in use."""

from __future__ import annotations

import argparse
import json

import fastrnn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(options: argparse.Namespace) -> int:
    config = fastrnn.show_config()
    if options.json:
        print(json.dumps(config, indent=2))
        return 0
    for name, value in config.items():
        print(f"{name:18} {value if value != {} else 'nothing set'}")
    return 0
