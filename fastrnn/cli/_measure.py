"""Builds the layer of a workload and times its calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.cli._cells import LAYERS, Rnn
from fastrnn.cli._floor import Machine, Workload, floor_seconds

_BLOCK_SECONDS = 2e-4  # short calls are timed in blocks of about this length
_TAIL_SAMPLES = {50.0: 1, 99.0: 100, 99.9: 1000}  # percentile: calls that it takes to know it

Call = Callable[[], object]


@dataclass(frozen=True)
class Result:
    """Times of one workload, in seconds."""

    work: Workload
    seconds: float  # median time of a call
    calls: int
    floor_seconds: float
    latencies: dict[float, float]  # percentile -> time of single calls; only for steps

    @property
    def gflops(self) -> float:
        """Useful floating-point operations, 2 per multiply-add, in 1e9 per second."""
        return 2e-9 * self.work.macs / self.seconds

    @property
    def floor_percent(self) -> float:
        """100 would be as fast as the machine allows."""
        return 100 * self.floor_seconds / self.seconds

    def as_dict(self) -> dict[str, Any]:
        """For JSON; a percentile that took more calls than there were is null."""
        work = self.work
        return {
            "name": work.label,
            "cell": work.cell,
            "hidden": work.hidden,
            "inputs": work.inputs,
            "batch": work.rows,
            "steps": work.steps or 1,
            "stream": work.is_step,
            "layers": work.layers,
            "bidirectional": work.directions == 2,
            "calls": self.calls,
            "seconds": self.seconds,
            "gflops": self.gflops,
            "floor_seconds": self.floor_seconds,
            "floor_percent": self.floor_percent,
            **({"latency_seconds": self._latency_names()} if work.is_step else {}),
        }

    def _latency_names(self) -> dict[str, float | None]:
        return {f"p{percentile:g}": self.latencies.get(percentile) for percentile in _TAIL_SAMPLES}


def build_layer(work: Workload, seed: int = 0) -> Rnn:
    """The layer of a workload with random weights, the same for the same seed."""
    layer = LAYERS[work.cell](
        work.inputs, work.hidden, work.layers, bidirectional=work.directions == 2
    )
    layer.reset_parameters(seed)
    return layer


def random_input(work: Workload, seed: int = 1) -> npt.NDArray[np.float32]:
    """x (N, I) for a step or (T, N, I), normal with unit variance."""
    shape: tuple[int, ...] = (work.rows, work.inputs)
    if work.steps is not None:
        shape = (work.steps, *shape)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def prepare_call(work: Workload) -> Call:
    """A call without arguments that does the work once; a stream goes on from call to call."""
    layer, x = build_layer(work), random_input(work)
    if not work.is_step:
        return partial(layer, x)
    if work.rows == 1:
        x = x[0]
    y = np.empty((*x.shape[:-1], work.hidden), np.float32)
    return partial(layer.stream(work.rows).step, x, y)


def format_seconds(seconds: float | None) -> str:
    """Three digits or so with a unit that fits; a dash for None."""
    if seconds is None:
        return "-"
    for unit, scale in (("us", 1e6), ("ms", 1e3)):
        if (value := seconds * scale) < 1000:
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f} {unit}"
    return f"{seconds:.2f} s"


def clock_seconds() -> float:
    """Seconds between two clock readings with nothing between them."""
    clock = time.perf_counter_ns
    pairs = [-clock() + clock() for _ in range(2001)]
    return 1e-9 * float(np.median(pairs))


def measure(work: Workload, machine: Machine, seconds: float, clock: float) -> Result:
    """Times calls for about `seconds`; `clock` (seconds) is taken off every single latency."""
    call = prepare_call(work)
    count = _calls_per_block(call)
    per_call = _blocks(call, count, seconds / 2 if work.is_step else seconds)
    latencies = _latencies(call, seconds / 2, clock) if work.is_step else {}
    floor = floor_seconds(work, machine)
    calls = count * len(per_call)
    return Result(work, float(np.median(per_call)), calls, floor, latencies)


def _calls_per_block(call: Call) -> int:
    """Number of calls that fill a block; warms up on the way."""
    count = 1
    while True:
        begin = time.perf_counter()
        for _ in repeat(None, count):
            call()
        if (elapsed := time.perf_counter() - begin) >= _BLOCK_SECONDS / 2:
            return max(1, round(count * _BLOCK_SECONDS / elapsed))
        count *= 2


def _blocks(call: Call, count: int, seconds: float) -> list[float]:
    """Seconds per call of blocks of `count` calls; at least three blocks."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        for _ in repeat(None, count):
            call()
        times.append((time.perf_counter() - begin) / count)
    return times


def _latencies(call: Call, seconds: float, clock: float) -> dict[float, float]:
    """Percentiles of the seconds that single calls take."""
    now = time.perf_counter_ns
    samples: list[int] = []
    end = now() + int(seconds * 1e9)
    begin = now()
    while begin < end or not samples:
        begin = now()
        call()
        samples.append(now() - begin)
    times = np.maximum(1e-9 * np.array(samples) - clock, 0)
    return {p: float(np.percentile(times, p)) for p, n in _TAIL_SAMPLES.items() if len(times) >= n}
