"""The programs of tests/c, compiled with the system's C compiler alone and run, without Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from paths import CORE, TESTS

from fastrnn import _core

COMPILER = os.environ.get("CC", "cc").split()
FLAGS = ["-std=gnu11", "-O1", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Werror"]
THREADS = "-DFR_POOL"
# How test_math is compiled for each table of kernels.
MATH = {
    "base": ["-DFR_ISA_BASE", "-DFR_LANES=4"],
    "avx2": ["-DFR_ISA_AVX2", "-DFR_LANES=8", "-mavx2", "-mfma"],
    "avx512": ["-DFR_ISA_AVX512", "-DFR_LANES=16", "-mavx512f"],
    "neon": ["-DFR_ISA_NEON", "-DFR_LANES=4"],
}
OWN = _core.get_isa()
# What each program is told, and the objects that it includes as sources instead.
PROGRAMS: dict[str, tuple[list[str], set[str]]] = {
    "test_decode": ([OWN], set()),
    "test_threads": (["10"], {"team", "gather"}),
    "test_backward": ([OWN], set()),
    "test_core": ([OWN], set()),
    "test_teams": ([], {"team", "gather"}),
    "test_update": ([OWN], set()),
    "test_attention": ([OWN], set()),
    "test_ops": ([OWN], set()),
    "test_activations": ([OWN], set()),
    "test_fork": ([], set()),
    "test_alloc": ([], set()),
}


def is_there() -> bool:
    """Whether there is a C compiler."""
    return shutil.which(COMPILER[0]) is not None


def run(*command: str | Path) -> str:
    """What a command that failed printed; "" if it succeeded."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{command[0]}: exit code {done.returncode}\n{done.stdout}{done.stderr}" * (
        done.returncode != 0
    )


def compiled(*arguments: str | Path) -> str:
    """With no include path: everything is included from where it stands."""
    return run(*COMPILER, *FLAGS, *arguments)


class Programs:
    """All of them, compiled once and run while other tests go on."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="fastrnn_c_"))
        self._pool = ThreadPoolExecutor(os.cpu_count())
        files = [*CORE.glob("isa/*.c"), *CORE.glob("[!i]*/*.c"), *CORE.glob("*.c")]  # slowest first
        submit = self._pool.submit
        self._objects = {source.stem: submit(self._compile, source) for source in files}
        self._found = {name: submit(self._run, name) for name in PROGRAMS}
        self._found |= {f"test_math {isa}": submit(self._run_math, isa) for isa in {"base", OWN}}

    def failure(self, name: str) -> str:
        """Waits for a program; what went wrong, "" if nothing did."""
        return self._found[name].result()

    def wait(self) -> None:
        """Until the processors are free again."""
        wait(self._found.values())

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        shutil.rmtree(self._folder)

    def _compile(self, source: Path) -> str:
        return compiled(THREADS, "-c", source, "-o", self._folder / f"{source.stem}.o")

    def _run(self, name: str) -> str:
        arguments, included = PROGRAMS[name]
        failed: list[Future[str]] = [one for one in self._objects.values() if one.result()]
        if failed:
            return failed[0].result()
        others = [self._folder / f"{stem}.o" for stem in self._objects if stem not in included]
        program = self._folder / name
        made = compiled(
            THREADS, TESTS / "c" / f"{name}.c", *others, "-o", program, "-lm", "-lpthread"
        )
        return made or run(program, *arguments)

    def _run_math(self, isa: str) -> str:
        program = self._folder / f"test_math_{isa}"
        made = compiled("-O2", *MATH[isa], TESTS / "c" / "test_math.c", "-o", program, "-lm")
        return made or run(program)
