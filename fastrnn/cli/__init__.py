"""The command `fastrnn`: demo, inspect, bench, config."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

__all__ = ["main"]

# command: (module with add_arguments and run, one line for the overview)
_COMMANDS = {
    "demo": ("demo", "write text with the model that comes with fastrnn, and time its steps"),
    "inspect": ("inspect", "show what a checkpoint file holds and how to load it"),
    "bench": ("bench", "time recurrent layers against the limits of this machine"),
    "config": ("config", "show version, instruction set and threads in use"),
}


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """The whole parser; only the chosen command's module is imported for its arguments."""
    from fastrnn import __version__

    parser = argparse.ArgumentParser(
        prog="fastrnn",
        description="Recurrent networks on a CPU: RNN, LSTM and GRU in microseconds.",
    )
    parser.add_argument("--version", action="version", version=f"fastrnn {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, summary) in _COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=_sentence(summary))
        if name == chosen:
            import_module(f"fastrnn.cli.{module}").add_arguments(command)
    return parser


def _sentence(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 the work failed, 2 wrong usage."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    chosen = next((word for word in words if word in _COMMANDS), None)
    options = _parser(chosen).parse_args(words)
    try:
        code = int(import_module(f"fastrnn.cli.{_COMMANDS[options.command][0]}").run(options))
        print(end="", flush=True)
        return code
    except BrokenPipeError:  # the reader has enough: `fastrnn inspect FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 0
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError) as error:
        print(f"fastrnn {options.command}: {_reason(error)}", file=sys.stderr)
        return 1


def _reason(error: Exception) -> str:
    """The message, for a file without the number of the system's error."""
    if not isinstance(error, OSError) or error.filename is None or not error.strerror:
        return str(error)
    from fastrnn.checkpoint._errors import shown

    is_missing = isinstance(error, FileNotFoundError)
    reason = "no such file" if is_missing else error.strerror[0].lower() + error.strerror[1:]
    return f"{shown(os.fsdecode(error.filename), 500)}: {reason}"
