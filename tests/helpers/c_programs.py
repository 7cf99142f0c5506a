"""The programs of tests/c, compiled with the system's C compiler alone and run, without Python."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from paths import CORE, INSTALLED, TESTS

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
    "test_network": ([OWN], set()),
    "test_activations": ([OWN], set()),
    "test_fork": ([], set()),
    "test_alloc": ([], set()),
}


ALL = [*PROGRAMS, *(f"test_math {isa}" for isa in MATH)]


def is_there() -> bool:
    """True if there is a C compiler."""
    return shutil.which(COMPILER[0]) is not None


def run(*command: str | Path) -> str:
    """Output of a command that failed; "" if it succeeded."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{command[0]}: exit code {done.returncode}\n{done.stdout}{done.stderr}" * (
        done.returncode != 0
    )


def compiled(*arguments: str | Path) -> str:
    """With no include path: everything is included from where it stands."""
    return run(*COMPILER, *FLAGS, *arguments)


class Builder:
    """Compiles the core once, and every program; runs them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._objects: dict[str, Future[str]] = {}

    def results(self) -> Iterator[tuple[str, str]]:
        """The name of each program and what went wrong, "" if nothing did, as they end."""
        files = [*CORE.glob("isa/*.c"), *CORE.glob("[!i]*/*.c"), *CORE.glob("*.c")]  # slowest first
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            self._objects = {source.stem: pool.submit(self._compile, source) for source in files}
            names = {pool.submit(self._run, name): name for name in PROGRAMS}
            names |= {pool.submit(self._run_math, isa): f"test_math {isa}" for isa in {"base", OWN}}
            yield from ((names[done], done.result()) for done in as_completed(names))

    def _compile(self, source: Path) -> str:
        runs = source.parent.name != "isa" or source.stem == OWN  # the others are linked alone
        quick = [] if runs else ["-O0"]
        return compiled(*quick, THREADS, "-c", source, "-o", self._folder / f"{source.stem}.o")

    def _run(self, name: str) -> str:
        arguments, included = PROGRAMS[name]
        for one in self._objects.values():
            if one.result():
                return one.result()
        others = [self._folder / f"{stem}.o" for stem in self._objects if stem not in included]
        program, source = self._folder / name, TESTS / "c" / f"{name}.c"
        made = compiled(THREADS, source, *others, "-o", program, "-lm", "-lpthread")
        return made or run(program, *arguments)

    def _run_math(self, isa: str) -> str:
        program = self._folder / f"test_math_{isa}"
        made = compiled("-O2", *MATH[isa], TESTS / "c" / "test_math.c", "-o", program, "-lm")
        return made or run(program)


class Programs:
    """Result of a process of its own, found while other tests go on."""

    def __init__(self) -> None:
        path = {"PYTHONPATH": str(INSTALLED)}
        self._found: dict[str, str] = {}
        self._process = subprocess.Popen(
            [sys.executable, __file__], env=os.environ | path, stdout=subprocess.PIPE, text=True
        )

    def failure(self, name: str) -> str:
        """Waits for a program; what went wrong, "" if nothing did."""
        while name not in self._found:
            self._read()
        return self._found[name]

    def wait(self) -> None:
        """Until the processors are free again."""
        while self._process.poll() is None:
            self._read()

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()

    def _read(self) -> None:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            name, found = json.loads(line)
            self._found[name] = found
            return
        code = self._process.wait()
        ended = f"the process that runs the C programs ended with exit code {code}"
        self._found |= {name: ended for name in ALL if name not in self._found}


def main() -> None:
    """Prints a line of JSON for each program."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="fastrnn_c_") as folder:
        for result in Builder(Path(folder)).results():
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
