"""The C core builds with the system's C compiler alone and passes its own tests, without Python."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fastrnn import _core

ROOT = Path(__file__).resolve().parents[1]
CORE, TESTS = ROOT / "src_c", ROOT / "tests" / "c"
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

pytestmark = pytest.mark.skipif(
    shutil.which(COMPILER[0]) is None, reason=f"needs the C compiler {COMPILER[0]}"
)


def compile_c(*arguments: str | Path) -> None:
    """With no include path: everything is included from where it stands."""
    command = [*COMPILER, *FLAGS, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def passes(program: Path, *arguments: str) -> None:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> list[Path]:
    """The core, compiled once."""
    folder = tmp_path_factory.mktemp("core")
    files = [*CORE.glob("isa/*.c"), *CORE.glob("[!i]*/*.c"), *CORE.glob("*.c")]  # the slowest first

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.stem}.o"
        compile_c(THREADS, "-c", source, "-o", target)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, files))


@pytest.mark.parametrize(
    "name",
    [
        "test_core",
        "test_backward",
        "test_update",
        "test_decode",
        "test_network",
        "test_attention",
        "test_ops",
        "test_activations",
        "test_fork",
    ],
)
def test_the_core_passes_without_python(name, objects, tmp_path):
    program = tmp_path / name
    compile_c(THREADS, TESTS / f"{name}.c", *objects, "-o", program, "-lm")
    passes(program, *([_core.get_isa()] if name != "test_fork" else []))


@pytest.mark.parametrize("name", ["test_threads", "test_teams"])
def test_late_and_many_threads_change_no_bit_and_are_remembered(name, objects, tmp_path):
    program = tmp_path / name
    others = [path for path in objects if path.stem not in ("team", "gather")]  # in the test itself
    compile_c(THREADS, TESTS / f"{name}.c", *others, "-o", program, "-lm", "-lpthread")
    passes(program, *(["10"] if name == "test_threads" else []))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="wraps the allocator of glibc")
def test_hot_calls_neither_allocate_nor_change_the_caller_s_mode(objects, tmp_path):
    program = tmp_path / "test_alloc"
    compile_c(THREADS, TESTS / "test_alloc.c", *objects, "-o", program, "-lm")
    passes(program)


@pytest.mark.parametrize("isa", sorted({"base", _core.get_isa()}))
def test_activations_are_accurate_and_have_their_golden_hashes(isa, tmp_path):
    program = tmp_path / "test_math"
    compile_c("-O2", *MATH[isa], TESTS / "test_math.c", "-o", program, "-lm")
    passes(program)
