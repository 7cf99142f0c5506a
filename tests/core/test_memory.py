"""What a running stream and packed weights cost in memory."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from families import FAMILIES, make, normal
from memory import c_bytes_in_use, resident_bytes

import fastrnn

STEPS = 4000


def run(stream, x, y, steps):
    for _ in range(steps):
        stream.step(x, out=y)


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_into_out_leaves_nothing_behind(family, rows, rng):
    """The bounds leave room for what measuring takes: far less than one object or byte a step."""
    layer = make(family, 5, 17, 2)
    stream, x = layer.stream(rows), normal(rng, rows, 5)
    y = np.empty((rows, layer.output_size), np.float32)
    run(stream, x, y, 10)
    gc.collect()
    blocks, c_bytes = sys.getallocatedblocks(), c_bytes_in_use()
    run(stream, x, y, STEPS)
    assert sys.getallocatedblocks() - blocks < STEPS // 100
    assert c_bytes is None or c_bytes_in_use() - c_bytes < STEPS


@pytest.mark.parametrize("family", ["rnn_tanh", "lstm_projected", "gru_reset_before"])
def test_a_step_into_out_takes_no_memory_in_between(family, rng):
    """NumPy describes a lent array in a few hundred bytes for the moment; nothing else is taken."""
    layer = make(family, 64, 256)
    stream, x, y = layer.stream(), normal(rng, 64), np.empty(layer.output_size, np.float32)
    run(stream, x, y, 10)
    tracemalloc.start()
    try:
        run(stream, x, y, 10)
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        run(stream, x, y, 1000)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 200
    assert peak - before < 600


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_many_steps_do_not_grow_the_process():
    """One byte lost per step would be seen."""
    layer = fastrnn.GRU(1, 1)
    stream, x, y = layer.stream(), np.ones(1, np.float32), np.empty(1, np.float32)
    run(stream, x, y, STEPS)
    before = resident_bytes()
    run(stream, x, y, 600_000)
    assert resident_bytes() - before < 300_000


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_calls_layers_and_streams_give_their_memory_back(rng):
    x = normal(rng, 20, 4, 32)

    def rounds(count: int) -> None:
        for _ in range(count):
            layer = fastrnn.LSTM(32, 128, 2)
            layer(x)
            layer.stream(4).step(x[0])

    rounds(20)
    before = resident_bytes()
    rounds(100)  # 3 MB each
    assert resident_bytes() - before < 20_000_000


@pytest.mark.parametrize("hidden", [128, 256, 400, 512])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_weights_are_hardly_larger_than_the_parameters(family, hidden):
    layer = make(family, hidden, hidden)
    assert layer._shared_stack().num_packed_bytes <= 1.1 * 4 * layer.num_parameters


def test_streams_share_the_packed_weights():
    layer = fastrnn.LSTM(128, 512)
    streams = [layer.stream() for _ in range(50)]
    packed = [weights for stream in streams for weights in stream.network.weights]
    assert {id(weights) for weights in packed} == {id(layer._shared_stack())}
    assert all(stream.num_state_bytes < 50_000 for stream in streams)
