"""Two threads beside busy processes: never much slower than one thread under the same load.

The bounds are generous, for they must hold on any machine; bench/contention.py has the figures. A
team that waits for a thread without a core takes a hundred times as long as one thread, in every
round; where many others compute, a round may be unlucky, and more of them are tried.
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
ROUNDS, TRIES, SECONDS = 2, 12, 0.1
MOST = 3.0  # times the median of one thread, in so many rounds of all that are tried
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
    ratios, worst = [], {1: 0.0, 2: 0.0}
    with busy_processes(BUSY):
        while sum(ratio < MOST for ratio in ratios) < ROUNDS and len(ratios) < TRIES:
            times = {threads: call_times(call, threads, SECONDS) for threads in (1, 2)}
            worst = {threads: max(worst[threads], *times[threads]) for threads in times}
            ratios.append(median(times[2]) / median(times[1]))
    assert sorted(ratios)[ROUNDS - 1] < MOST, f"two threads took {ratios} times as long as one"
    assert worst[2] < WORST + worst[1], f"a call took {worst[2]:.2f} s"


def test_results_beside_busy_processes_have_the_same_bits(rng):
    layer = fastrnn.LSTM(64, 300, 2)
    layer.reset_parameters(seed=1)
    x = normal(rng, 40, 1, 64)
    with fastrnn.num_threads(1):
        wanted = layer(x)[0]
    with busy_processes(BUSY), fastrnn.num_threads(3):
        for _ in range(60):
            assert np.array_equal(layer(x)[0], wanted)
