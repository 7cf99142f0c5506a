"""Two threads beside busy processes: never much slower than one thread under the same load.

The bounds are generous, for they must hold on any machine; bench/contention.py has the figures. A
team that waits for a thread without a core takes a hundred times as long as one thread.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from statistics import median

import numpy as np
import pytest
from families import normal

import fastrnn

BUSY = 2
ROUNDS, SECONDS = 3, 0.1
MOST = 3.0  # times the median of one thread
WORST = 0.5  # seconds
pytestmark = pytest.mark.usefixtures("quiet")
SPIN = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"


@contextmanager
def busy_processes(count):
    """So many processes that compute without pause; each ends by itself after a minute."""
    running = [subprocess.Popen([sys.executable, "-S", "-c", SPIN]) for _ in range(count)]
    try:
        time.sleep(0.1)
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def call_times(call, threads, seconds):
    times = []
    with fastrnn.num_threads(threads):
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            begin = time.perf_counter()
            call()
            times.append(time.perf_counter() - begin)
    return times


def infer(layer, x):
    return lambda: layer(x)


def train(layer, x):
    def step():
        layer.zero_grad()
        (y, _), pullback = layer.vjp(x)
        pullback(y)

    return step


# By how a call is divided: by units at every step, by rows, by directions; forward and backward.
CASES = {
    "units": (infer, fastrnn.LSTM, (256, 256), {}, (100, 1)),
    "rows": (infer, fastrnn.LSTM, (128, 128), {}, (100, 8)),
    "directions": (infer, fastrnn.GRU, (128, 128), {"bidirectional": True}, (60, 2)),
    "small training": (train, fastrnn.GRU, (20, 33, 2), {}, (20, 5)),
    "training by units": (train, fastrnn.LSTM, (200, 300), {}, (40, 1)),
    "training by rows": (train, fastrnn.LSTM, (100, 128), {}, (40, 16)),
}


@pytest.mark.parametrize("case", CASES)
def test_two_threads_beside_busy_processes_take_no_longer_than_one(case, rng):
    work, cls, sizes, options, shape = CASES[case]
    layer = cls(*sizes, **options)
    layer.reset_parameters(seed=1)
    call = work(layer, normal(rng, *shape, layer.input_size))
    times = {1: [], 2: []}
    with busy_processes(BUSY):
        for _ in range(ROUNDS):
            for threads in times:
                times[threads] += call_times(call, threads, SECONDS)
    one, two = median(times[1]), median(times[2])
    assert two < MOST * one, f"{1e3 * two:.2f} ms with two threads, {1e3 * one:.2f} ms with one"
    assert max(times[2]) < WORST + max(times[1]), f"a call took {max(times[2]):.2f} s"


def test_results_beside_busy_processes_have_the_same_bits(rng):
    layer = fastrnn.LSTM(64, 300, 2)
    layer.reset_parameters(seed=1)
    x = normal(rng, 40, 1, 64)
    with fastrnn.num_threads(1):
        wanted = layer(x)[0]
    with busy_processes(BUSY), fastrnn.num_threads(3):
        for _ in range(60):
            assert np.array_equal(layer(x)[0], wanted)
