"""Measured limits of this machine at this moment: multiply-adds and reads per second.

Everything is the best of a few short runs, because whatever disturbs a run only makes it slower.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt

from fastrnn import _core
from fastrnn.cli._floor import FLOAT_BYTES, Machine

_SMALLEST = 16 << 10  # bytes; half an L1 cache or less
_LARGEST = 128 << 20  # bytes of all threads together: beyond most L3 caches
_LARGEST_SHARE = 16 << 20  # bytes that one of many threads reads at least
_HUGE_PAGE = 2 << 20
_RUN_SECONDS = 0.004
_RUNS = 3
_PASSES = 2  # over all footprints: a disturbance is over by the next one

_Job = Callable[[int], int]  # index of the thread -> the work that it has done


def calibrate(threads: int = 1) -> Machine:
    """The limits of `threads` threads that work at once, with the kernels in use.

    Takes about half a second and 128 MiB. Reads go there and back in turn, as the recurrent
    kernels walk their weights.
    """
    largest = max(_LARGEST // threads, _LARGEST_SHARE)
    with ThreadPoolExecutor(threads) as pool:
        team = _Team(pool, threads)
        macs = max(team.best_rate(_multiply_add) for _ in range(_PASSES))
        buffers = [_buffer(largest) for _ in range(threads)]
        footprints = tuple(_SMALLEST << i for i in range((largest // _SMALLEST).bit_length()))
        sweeps = [_sweep(buffers, size) for size in footprints]
        rates = [[team.best_rate(sweep) for sweep in sweeps] for _ in range(_PASSES)]
    # A larger footprint is never read faster: if it seems so, the smaller one was disturbed.
    floats = np.maximum.accumulate(np.max(rates, axis=0)[::-1])[::-1]
    bandwidths = floats * FLOAT_BYTES / threads
    return Machine(threads, macs, footprints, tuple(map(float, bandwidths)))


def cache_sizes() -> dict[str, int]:
    """Bytes of the data caches that the first core sees, by name (L1, L2, ...); may be empty."""
    sizes: dict[str, int] = {}
    for entry in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            kind, level, size = (
                (entry / name).read_text().strip() for name in ("type", "level", "size")
            )
            if kind != "Instruction":
                sizes[f"L{level}"] = int(size.removesuffix("K")) << 10
        except (OSError, ValueError):
            continue
    return sizes


class _Team:
    """Threads that start a job together."""

    def __init__(self, pool: ThreadPoolExecutor, threads: int) -> None:
        self._pool, self._threads = pool, threads
        self._barrier = threading.Barrier(threads)

    def best_rate(self, job: _Job) -> float:
        """Work of all threads together per second, in the best of a few runs."""
        return max(self._rate(job) for _ in range(_RUNS))

    def _rate(self, job: _Job) -> float:
        def run(index: int) -> tuple[int, float, float]:
            self._barrier.wait()
            begin = perf_counter()
            return job(index), begin, perf_counter()

        done, begins, ends = zip(*self._pool.map(run, range(self._threads)), strict=True)
        return float(sum(done) / (max(ends) - min(begins)))


def _multiply_add(_: int) -> int:
    """Multiply-adds that fill a run: rounds of 12 registers, two a cycle, 3e9 cycles a second."""
    return _core.calibrate_fma(int(_RUN_SECONDS * 4e8))


def _buffer(size: int) -> npt.NDArray[np.float32]:
    """`size` bytes of ones that start at a huge page; really there, not one shared zero page."""
    values = np.ones((size + _HUGE_PAGE) // FLOAT_BYTES, np.float32)
    skip = -values.ctypes.data % _HUGE_PAGE // FLOAT_BYTES
    return values[skip : skip + size // FLOAT_BYTES]


def _sweep(buffers: list[npt.NDArray[np.float32]], size: int) -> _Job:
    """Reads the first `size` bytes of a thread's buffer until a run is full, at least twice."""
    sweeps = max(2, int(_RUN_SECONDS * 3e10) // size)
    return lambda index: _core.calibrate_read(buffers[index][: size // FLOAT_BYTES], sweeps)
