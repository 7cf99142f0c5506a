"""Python code in a process of its own, with the package that is under test here."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from paths import HELPERS, INSTALLED

OWN_VARIABLES = ("FASTRNN_ISA", "FASTRNN_NUM_THREADS", "OMP_NUM_THREADS")


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `code` without our environment variables but those given.

    It starts beside this file, where no folder is called fastrnn: the source folder at the top
    would hide an installed package.
    """
    clean = {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}
    path = {"PYTHONPATH": str(INSTALLED)}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=HELPERS,
        env=clean | path | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
