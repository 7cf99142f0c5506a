"""The command `fastrnn`: models, their predictions and texts, files, and this machine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

__all__ = ["main"]

# purpose: command: (module with add_arguments and run, one line for the overview)
_PURPOSES = {
    "models": {
        "train": (
            "train",
            "train a model on text, labelled or tagged text, pairs of texts, or a time series",
        ),
        "eval": ("eval", "measure how good a model is on data"),
        "predict": ("predict", "ask a model: classes, tags, probabilities, forecasts"),
        "generate": ("generate", "go on with a text as a language model would"),
        "translate": ("translate", "write what a model of pairs of texts makes of a text"),
    },
    "files": {
        "inspect": ("inspect", "show what a checkpoint file holds and how to load it"),
    },
    "this machine": {
        "demo": ("demo", "write text with the model that comes with fastrnn, and time its steps"),
        "bench": ("bench", "time recurrent layers against the limits of this machine"),
        "config": ("config", "show version, instruction set and threads in use"),
    },
}
_COMMANDS = {name: about for group in _PURPOSES.values() for name, about in group.items()}
_CODES = """\
fastrnn COMMAND --help explains a command.

exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted"""


def _whole_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The whole parser; only the chosen command's module is imported for its arguments."""
    from fastrnn import __version__
    from fastrnn.cli._parser import Parser

    summary = "Recurrent networks on a CPU: RNN, LSTM and GRU in microseconds."
    parser = argparse.ArgumentParser(
        prog="fastrnn",
        usage="fastrnn COMMAND ...",
        description=f"{summary}\n\n{_overview()}",
        epilog=_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fastrnn {__version__}")
    commands = parser.add_subparsers(
        prog="fastrnn",
        dest="command",
        metavar="COMMAND",
        required=True,
        help=argparse.SUPPRESS,
        parser_class=Parser,
    )
    for name, (module, summary) in _COMMANDS.items():
        command = commands.add_parser(name, description=_sentence(summary))
        if name == chosen:
            import_module(f"fastrnn.cli.{module}").add_arguments(command)
    return parser


def _overview() -> str:
    """The commands by their purpose."""
    lines = []
    for purpose, commands in _PURPOSES.items():
        lines.append(f"{purpose}:")
        lines += [f"  {name:<9} {summary}" for name, (_, summary) in commands.items()]
    return "\n".join(lines)


def _sentence(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 the work failed, 2 wrong usage."""
    from fastrnn.cli._output import lenient_output

    words = sys.argv[1:] if arguments is None else list(arguments)
    chosen = next((word for word in words if word in _COMMANDS), None)
    with lenient_output(goes_on=chosen == "train"):
        return _run(_whole_parser(chosen).parse_args(words))


def _run(options: argparse.Namespace) -> int:
    import fastrnn
    from fastrnn._errors import ArgumentError, ArgumentTypeError

    try:
        fastrnn.get_num_threads()  # reads the environment: now, and not after an hour of work
    except ValueError as error:
        print(f"fastrnn: {error}", file=sys.stderr)
        return 2
    try:
        code = int(import_module(f"fastrnn.cli.{_COMMANDS[options.command][0]}").run(options))
        print(end="", flush=True)
        return code
    except BrokenPipeError:  # the reader has enough: `fastrnn inspect FILE | head`
        return 0
    except KeyboardInterrupt:
        return 130
    except (ArgumentError, ArgumentTypeError) as error:
        print(f"fastrnn {options.command}: {options.parser.told(options, error)}", file=sys.stderr)
        return 1
    except (OSError, ValueError, MemoryError) as error:
        print(f"fastrnn {options.command}: {_reason(error)}", file=sys.stderr)
        return 1


def _reason(error: Exception) -> str:
    """The message, without the number of the system's error."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    from fastrnn._errors import safe

    is_missing = isinstance(error, FileNotFoundError)
    reason = "no such file" if is_missing else error.strerror[0].lower() + error.strerror[1:]
    if isinstance(error, IsADirectoryError):
        reason += ", expected a file"
    if error.filename is None:
        return reason
    return f"{safe(os.fsdecode(error.filename), 500)}: {reason}"
