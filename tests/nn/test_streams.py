"""Streams: one step at a time, with the bits of a whole sequence."""

from __future__ import annotations

import gc
import struct

import numpy as np
import pytest
from families import FAMILIES, LSTMS, call, make, normal, states

import fastrnn


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("hidden", [1, 5, 17, 64, 130])
@pytest.mark.parametrize("family", FAMILIES)
def test_steps_have_the_bits_of_a_sequence(family, hidden, rows, rng):
    layer = make(family, 7, hidden, 2)
    x = normal(rng, 5, rows, 7)
    y, h_n, c_n = call(layer, x)
    stream = layer.stream(rows)
    assert np.array_equal(np.stack([stream.step(step) for step in x]), y)
    state = stream.state if c_n is not None else (stream.state, None)
    assert np.array_equal(state[0], h_n)
    assert c_n is None or np.array_equal(state[1], c_n)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_continues_from_a_state(family, rng):
    layer = make(family, 3, 9, 2)
    x, (h, c) = normal(rng, 4, 2, 3), states(rng, layer, 2)
    stream = layer.stream(batch_size=2)
    stream.state = h if c is None else (h, c)
    assert np.array_equal(np.stack([stream.step(step) for step in x]), call(layer, x, h, c)[0])


def test_one_row_steps_with_and_without_a_row_dimension(rng):
    layer, x = fastrnn.GRU(3, 4), normal(rng, 3)
    first, second = layer.stream(), layer.stream()
    y = first.step(x)
    assert y.shape == (4,)
    assert y.dtype == np.float32
    assert np.array_equal(second.step(x[None]), y[None])


def test_a_step_converts_its_input(rng):
    layer, x = fastrnn.LSTM(3, 4), normal(rng, 3)
    wanted = layer.stream().step(x)
    for same in (x.astype(np.float64), np.stack([x, x], axis=1)[:, 0], x.tolist()):
        assert np.array_equal(layer.stream().step(same), wanted)


def test_a_step_writes_into_out_and_returns_it(rng):
    layer, x = fastrnn.LSTM(3, 4), normal(rng, 2, 2, 3)
    stream, out = layer.stream(2), np.empty((2, 4), np.float32)
    for step, wanted in zip(x, layer(x)[0], strict=True):
        assert stream.step(step, out=out) is out
        assert np.array_equal(out, wanted)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_step_writes_into_any_writable_buffer_of_floats(rows, rng):
    layer, x = fastrnn.GRU(3, 4), normal(rng, rows, 3)
    y = layer.stream(rows).step(x)
    memory = np.zeros((rows, 4), np.float32)
    for out in (memory, memoryview(memory), memory.view(type("Sub", (np.ndarray,), {}))):
        memory[...] = 0
        assert layer.stream(rows).step(x, out=out) is out
        assert np.array_equal(memory, y)
    memory.flags.writeable = False
    with pytest.raises(TypeError, match="out must be a writable array"):
        layer.stream(rows).step(x, out=memory)


def test_results_and_states_are_not_touched_by_later_steps(rng):
    layer, x = fastrnn.LSTM(3, 4), normal(rng, 2, 3)
    stream = layer.stream()
    y, (h, c) = stream.step(x[0]), stream.state
    kept = y.copy(), h.copy(), c.copy()
    stream.step(x[1])
    assert all(np.array_equal(a, b) for a, b in zip((y, h, c), kept, strict=True))
    h[...] = 7
    assert not np.array_equal(stream.state[0], h)


def test_reset_returns_to_the_zero_state(rng):
    stream, x = fastrnn.LSTM(3, 4, 2).stream(), normal(rng, 3)
    first = stream.step(x)
    stream.step(x)
    stream.reset()
    assert not stream.state[0].any()
    assert not stream.state[1].any()
    assert np.array_equal(stream.step(x), first)


def test_streams_share_weights_and_not_states(rng):
    layer, x = fastrnn.GRU(3, 4), normal(rng, 5, 3)
    y = layer(x)[0]
    one, other = layer.stream(), layer.stream()
    for step, wanted in zip(x, y, strict=True):
        assert np.array_equal(one.step(step), wanted)
    for step, wanted in zip(x, y, strict=True):
        assert np.array_equal(other.step(step), wanted)


def test_a_stream_outlives_its_layer(rng):
    layer, x = fastrnn.GRU(3, 4), normal(rng, 2, 3)
    y, stream = layer(x)[0], layer.stream()
    del layer
    gc.collect()
    assert np.array_equal(np.stack([stream.step(step) for step in x]), y)


def test_a_stream_keeps_the_weights_it_was_made_with(rng):
    layer, x = fastrnn.GRU(3, 4), normal(rng, 2, 3)
    old, stream = layer(x)[0], layer.stream()
    layer.load_state_dict(fastrnn.GRU(3, 4).state_dict())
    new = layer(x)[0]
    assert not np.array_equal(new, old)
    assert np.array_equal(np.stack([stream.step(step) for step in x]), old)
    stream = layer.stream()
    assert np.array_equal(np.stack([stream.step(step) for step in x]), new)


def test_a_bidirectional_layer_cannot_stream():
    with pytest.raises(ValueError, match="a bidirectional LSTM cannot stream"):
        fastrnn.LSTM(3, 4, bidirectional=True).stream()


@pytest.mark.parametrize(
    ("batch_size", "error"),
    [(0, ValueError), (-1, ValueError), (1.0, TypeError), (None, TypeError)],
)
def test_a_stream_refuses_a_batch_size_that_is_no_size(batch_size, error):
    with pytest.raises(error, match="batch_size"):
        fastrnn.GRU(3, 4).stream(batch_size)


@pytest.mark.parametrize(
    "x", [np.zeros(4), np.zeros((1, 3)), np.zeros((3, 3)), np.zeros((1, 2, 3)), np.float32(1), "no"]
)
def test_a_refused_step_leaves_the_state_as_it_was(x, rng):
    stream = fastrnn.LSTM(3, 4).stream(2)
    stream.step(normal(rng, 2, 3))
    before = stream.state
    with pytest.raises((ValueError, TypeError)):
        stream.step(x)
    assert all(np.array_equal(a, b) for a, b in zip(stream.state, before, strict=True))


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((2, 3), np.float32),
        np.zeros(4, np.float32),
        np.zeros((2, 4)),
        np.zeros((4, 2), np.float32).T,
        np.broadcast_to(np.float32(0), (2, 4)),
        [[0.0] * 4] * 2,
    ],
)
def test_an_unfit_out_is_refused_and_leaves_the_state_as_it_was(out, rng):
    stream = fastrnn.GRU(3, 4).stream(2)
    stream.step(normal(rng, 2, 3))
    before = stream.state
    with pytest.raises((ValueError, TypeError)):
        stream.step(normal(rng, 2, 3), out=out)
    assert np.array_equal(stream.state, before)


@pytest.mark.parametrize(
    ("family", "state", "error"),
    [
        ("gru", np.zeros((1, 3, 4)), ValueError),
        ("gru", np.zeros((1, 4)), ValueError),
        ("gru", (np.zeros((1, 2, 4)),), TypeError),
        ("gru", None, TypeError),
        ("lstm", np.zeros((2, 1, 2, 4)), TypeError),
        ("lstm", (np.zeros((1, 2, 4)), np.zeros((1, 2, 5))), ValueError),
        ("lstm", (np.zeros((1, 2, 4)),), TypeError),
        ("lstm", None, TypeError),
    ],
)
def test_a_refused_state_leaves_the_state_as_it_was(family, state, error, rng):
    stream = make(family, 3, 4).stream(2)
    stream.step(normal(rng, 2, 3))
    before = stream.snapshot()
    with pytest.raises(error, match="state"):
        stream.state = state
    assert stream.snapshot() == before


def test_one_row_takes_states_without_a_row_dimension(rng):
    layer, x = fastrnn.LSTM(3, 4, 2), normal(rng, 5, 3)
    y, _ = layer(x)
    _, state = layer(x[:3])
    stream = layer.stream()
    stream.state = state
    assert np.array_equal(stream.step(x[3]), y[3])


@pytest.mark.parametrize("family", ["gru", "lstm"])
def test_the_state_of_fewer_rows_can_be_read_and_set(family, rng):
    layer, x = make(family, 3, 4), normal(rng, 3, 3)
    stream = layer.stream(3)
    stream.step(x)
    stream.reorder([2, 0])
    state, snapshot = stream.state, stream.snapshot()
    y = stream.step(x[:2])
    stream.state = state
    assert np.array_equal(stream.step(x[:2]), y)
    stream.restore(snapshot)
    assert np.array_equal(stream.step(x[:2]), y)
    for wrong in (layer.stream(3).state, layer.stream(1).state):
        with pytest.raises(ValueError, match="expects"):
            stream.state = wrong


@pytest.mark.parametrize("family", FAMILIES)
def test_a_snapshot_continues_in_another_stream(family, rng):
    layer = make(family, 3, 9, 2)
    x = normal(rng, 6, 2, 3)
    stream = layer.stream(2)
    for step in x[:3]:
        stream.step(step)
    saved = stream.snapshot()
    assert isinstance(saved, bytes)
    wanted = [stream.step(step) for step in x[3:]]
    twin = make(family, 3, 9, 2)
    twin.load_state_dict(layer.state_dict())
    other = twin.stream(2)
    other.restore(saved)
    assert np.array_equal([other.step(step) for step in x[3:]], wanted)


def test_a_snapshot_of_another_model_is_refused():
    layer = fastrnn.LSTM(3, 4)
    saved = layer.stream().snapshot()
    zero = fastrnn.LSTM(3, 4, bias=False)
    others = [
        fastrnn.LSTM(3, 4),
        fastrnn.LSTM(3, 5),
        fastrnn.LSTM(3, 4, 2),
        fastrnn.GRU(3, 4),
        zero,
    ]
    for other in others:
        with pytest.raises(ValueError, match="another model"):
            other.stream().restore(saved)
    with pytest.raises(ValueError, match="snapshot has 1 rows, this stream has 2"):
        layer.stream(2).restore(saved)


def test_a_snapshot_from_before_the_weights_changed_is_refused():
    layer = fastrnn.GRU(3, 4)
    saved = layer.stream().snapshot()
    layer.reset_parameters()
    with pytest.raises(ValueError, match="another model or from other weights"):
        layer.stream().restore(saved)


def test_layers_that_differ_only_in_an_option_refuse_each_other_s_snapshots():
    one, other = fastrnn.GRU(3, 4), fastrnn.GRU(3, 4, reset="before")
    other.load_state_dict(one.state_dict())
    with pytest.raises(ValueError, match="another model"):
        other.stream().restore(one.stream().snapshot())


@pytest.mark.parametrize("family", ["gru", *LSTMS])
def test_damaged_snapshots_are_refused_and_leave_the_state_as_it_was(family, rng):
    stream = make(family, 3, 4).stream()
    stream.step(normal(rng, 3))
    saved = stream.snapshot()
    stream.step(normal(rng, 3))
    before = stream.snapshot()
    flipped = [saved[:i] + bytes([saved[i] ^ 1]) + saved[i + 1 :] for i in range(len(saved))]
    cut = [saved[:i] for i in range(0, len(saved), 5)]
    version = saved[:8] + struct.pack("<I", 2) + saved[12:]
    for damaged in [*flipped, *cut, saved + b"x", b"", version]:
        with pytest.raises(ValueError, match="snapshot"):
            stream.restore(damaged)
    with pytest.raises(TypeError, match="snapshot is a str"):
        stream.restore("text")
    assert stream.snapshot() == before
    stream.restore(bytearray(saved))
    assert stream.snapshot() == saved
