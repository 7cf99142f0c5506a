"""What the import does: it reads the environment, once.

A wrong variable is a ValueError of the import. The command `fastrnn` says it in one line instead,
and must do so here: Python imports the package before any code of the command could catch it.
"""

from __future__ import annotations

import os
import sys

from fastrnn.config import obey_environment


def start() -> None:
    """Choose kernels and threads; ends the process if it is the command and cannot."""
    try:
        obey_environment()
    except ValueError as error:
        if not _is_command():
            raise
        print(f"fastrnn: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _is_command() -> bool:
    """Whether this process is the command `fastrnn` or `python -m fastrnn`."""
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # Python still looks for the module, named before its arguments
        return sys.orig_argv[-len(sys.argv)] in ("fastrnn", "-mfastrnn")
    return os.path.basename(program) in ("fastrnn", "fastrnn.exe")
