"""`fastrnn inspect FILE`: content of a checkpoint."""

from __future__ import annotations

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        help=".pt or .pth (PyTorch), .pkl, .safetensors or .npz, told by content",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(options: argparse.Namespace) -> int:
    from fastrnn import models as models  # so that files may name their classes
    from fastrnn.formats import format_inspection, inspect_checkpoint

    found = inspect_checkpoint(options.file)
    print(json.dumps(found, indent=2) if options.json else format_inspection(found))
    return 0
