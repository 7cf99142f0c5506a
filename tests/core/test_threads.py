"""Python threads and forked processes over the same layers."""

from __future__ import annotations

import textwrap
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from families import FAMILIES, call, make, normal
from processes import run_python

import fastrnn

THREADS = 8


def all_at_once(function, count=THREADS):
    """The results of `function(i)` from so many threads, which start together."""
    barrier = Barrier(count)

    def start(i):
        barrier.wait()
        return function(i)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))


@pytest.mark.parametrize("team", [1, 2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_eight_threads_may_call_one_layer(family, team, rng):
    layer = make(family, 40, 150, 2)
    xs = [normal(rng, 12, rows, 40) for rows in range(1, THREADS + 1)]
    with fastrnn.num_threads(1):
        wanted = [call(layer, x)[0] for x in xs]
    with fastrnn.num_threads(team):
        results = all_at_once(lambda i: [call(layer, xs[i])[0] for _ in range(5)])
    for ours, right in zip(results, wanted, strict=True):
        assert all(np.array_equal(y, right) for y in ours)


@pytest.mark.parametrize("hidden", [8, 200])
def test_eight_threads_may_have_streams_over_one_layer(hidden, rng):
    layer = fastrnn.LSTM(10, hidden, 2)
    x = normal(rng, 50, THREADS, 10)
    wanted = layer(x)[0]

    def run(i):
        stream = layer.stream()
        return np.stack([stream.step(step[i]) for step in x])

    for i, y in enumerate(all_at_once(run)):
        assert np.array_equal(y, wanted[:, i])


@pytest.mark.parametrize("hidden", [8, 300])
def test_a_stream_shared_by_mistake_refuses_or_is_right(hidden, rng):
    """Whatever the threads do, the stream has made a number of whole steps, in some order."""
    layer, steps = fastrnn.GRU(10, hidden), 200
    stream, x, refusals = layer.stream(), normal(rng, 10), []
    wanted = layer(np.tile(x, (2 * steps, 1)))[0]

    def run(_):
        made = []
        for _ in range(steps):
            try:
                made.append(stream.step(x))
            except RuntimeError as error:
                refusals.append(str(error))
        return made

    made = [y for part in all_at_once(run, 2) for y in part]
    assert made
    assert all("in use by another thread" in message for message in refusals)
    known = {y.tobytes(): t for t, y in enumerate(wanted)}
    assert all(y.tobytes() in known for y in made)
    assert np.array_equal(stream.state[0, 0], wanted[len(made) - 1])


def test_a_stream_is_not_left_in_use_by_an_error(rng):
    stream = fastrnn.GRU(10, 20).stream()
    for wrong in (normal(rng, 9), "text", None):
        with pytest.raises((TypeError, ValueError)):
            stream.step(wrong)
    with pytest.raises(ValueError, match="out has shape"):
        stream.step(normal(rng, 10), out=np.empty(21, np.float32))
    assert stream.step(normal(rng, 10)).shape == (20,)


# ---- processes ----------------------------------------------------------------------------------

PARENT = """
    import os, sys
    import numpy as np
    import fastrnn

    layer = fastrnn.LSTM(64, 256, 2)
    layer.reset_parameters(seed=1)
    x = np.random.default_rng(1).standard_normal((30, 1, 64), dtype=np.float32)
    fastrnn.set_num_threads(1)
    wanted = layer(x)[0]
    fastrnn.set_num_threads(2)

    def right(_=None):
        return np.array_equal(layer(x)[0], wanted)
"""
FORK = """
    def child_is_right():
        pid = os.fork()
        if pid == 0:
            os._exit(0 if right() else 1)
        return os.waitpid(pid, 0)[1] == 0

    assert child_is_right()  # even before the parent's first team
    assert right()
    assert child_is_right()
    assert right()
"""
POOL = """
    import multiprocessing

    assert right()
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(right, range(12)) == [True] * 12
"""
EXEC = """
    # A program that the child starts has threads of its own.
    assert right()
    code = "import fastrnn; assert fastrnn.show_config()['threads_available']"
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    assert os.wait()[1] == 0
"""


@pytest.mark.parametrize("body", [FORK, POOL, EXEC], ids=["fork", "pool", "exec"])
def test_child_processes_compute_the_same_bits(body):
    done = run_python(textwrap.dedent(PARENT) + textwrap.dedent(body), PYTHONWARNINGS="ignore")
    assert done.returncode == 0, done.stderr
