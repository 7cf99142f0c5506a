"""Steps bound to their arrays, and steps whose arrays overlap."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from families import FAMILIES, make, normal

import fastrnn


def a_graph():
    """Two inputs, two outputs."""
    modules = {"rnn": fastrnn.LSTM(3, 4), "gate": fastrnn.Linear(2, 4), "sum": fastrnn.Add()}
    wires = {"rnn": "x", "gate": "z", "sum": ("rnn", "gate")}
    return fastrnn.Graph({"x": 3, "z": 2}, modules, wires, ("sum", "gate"))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_bound_step_is_a_step(family, rows, rng):
    layer = make(family, 3, 5)
    ours, other = layer.stream(rows), layer.stream(rows)
    x = np.empty((rows, 3), np.float32)
    y = np.empty_like(layer.stream(rows).step(normal(rng, rows, 3)))
    step = ours.bind(x, y)
    for _ in range(4):
        x[...] = normal(rng, rows, 3)
        assert step() is y
        assert np.array_equal(y, other.step(x))


def test_a_bound_step_of_one_row_takes_vectors(rng):
    layer = fastrnn.GRU(3, 5)
    x, y = normal(rng, 3), np.empty(5, np.float32)
    layer.stream().bind(x, y)()
    assert np.array_equal(y, layer.stream().step(x))


def test_a_bound_step_of_a_graph_takes_tuples(rng):
    net = a_graph()
    x, z = normal(rng, 2, 3), normal(rng, 2, 2)
    y = np.empty((2, 4), np.float32), np.empty((2, 4), np.float32)
    assert net.stream(2).bind((x, z), y)() == y
    for ours, other in zip(y, net.stream(2).step((x, z)), strict=True):
        assert np.array_equal(ours, other)


@pytest.mark.parametrize("rows", [1, 2])
def test_a_bound_step_reads_tokens_anew_and_checks_them_in_every_call(rows):
    model = fastrnn.models.LanguageModel(7, 3, 4)
    ours, other = model.stream(rows), model.stream(rows)
    x, y = np.zeros(rows, np.int64), np.empty((rows, 7), np.float32)
    step = ours.bind(x, y)
    for token in (1, 6, 0):
        x[...] = token
        assert np.array_equal(step(), other.step(x))
    before = ours.snapshot()
    x[-1] = 7
    with pytest.raises(ValueError, match="x holds token 7, the vocabulary is 0 to 6"):
        step()
    assert ours.snapshot() == before
    x[-1] = 2
    assert np.array_equal(step(), other.step(x))


@pytest.mark.parametrize(
    ("x", "y", "error", "words"),
    [
        (np.zeros((2, 4), np.float32), None, ValueError, "x has shape"),
        (np.zeros((2, 3)), None, TypeError, "x must be float32"),
        ([[0.0] * 3] * 2, None, TypeError, "x must be an array"),
        (np.zeros((2, 6), np.float32)[:, ::2], None, ValueError, "x must be C-contiguous"),
        (None, np.zeros((2, 5), np.float32), ValueError, "y has shape"),
        (None, np.zeros((2, 4)), TypeError, "y must be float32"),
        (None, np.broadcast_to(np.float32(0), (2, 4)), TypeError, "y must be a writable array"),
    ],
)
def test_arrays_that_cannot_be_bound_are_refused_by_name(x, y, error, words):
    stream = fastrnn.GRU(3, 4).stream(2)
    good_x, good_y = np.zeros((2, 3), np.float32), np.zeros((2, 4), np.float32)
    with pytest.raises(error, match=words):
        stream.bind(good_x if x is None else x, good_y if y is None else y)


def test_a_bound_step_needs_memory_to_write_to():
    with pytest.raises(TypeError, match="y is None"):
        fastrnn.GRU(3, 4).stream().bind(np.zeros(3, np.float32), None)


def test_a_bound_step_ends_with_the_number_of_rows(rng):
    stream = fastrnn.GRU(3, 4).stream(2)
    step = stream.bind(normal(rng, 2, 3), np.zeros((2, 4), np.float32))
    step()
    stream.reorder([1])
    with pytest.raises(RuntimeError, match="bound to 2 rows, but its stream has 1 now"):
        step()
    stream.reset()
    step()


def test_bound_arrays_stay_alive(rng):
    layer, x = fastrnn.GRU(3, 4), normal(rng, 3)
    step = layer.stream().bind(x.copy(), np.empty(4, np.float32))
    assert np.array_equal(step(), layer.stream().step(x))


def test_threads_that_share_a_bound_step_are_refused_or_served(rng):
    model = fastrnn.models.LanguageModel(50, 8, 256)
    x, y = np.zeros(1, np.int64), np.empty((1, 50), np.float32)
    step, refused = model.stream().bind(x, y), []

    def run():
        for token in range(200):
            x[0] = token % 50
            try:
                step()
            except RuntimeError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("another thread" in text for text in refused)
    assert np.isfinite(step()).all()


# ---- arrays that overlap -------------------------------------------------------------------------


def test_a_step_may_write_where_it_reads(rng):
    net, shared = fastrnn.Sequential(fastrnn.Linear(130, 130)), normal(rng, 130)
    y = net.stream().step(shared)
    assert np.array_equal(net.stream().step(shared, out=shared), y)


def test_a_step_may_write_half_over_what_it_reads(rng):
    net = fastrnn.Sequential(fastrnn.Linear(130, 130))
    memory = normal(rng, 200)
    x, out = memory[:130], memory[60:190]
    y = net.stream().step(x)
    assert np.array_equal(net.stream().step(x, out=out), y)


def test_a_step_of_a_graph_may_write_where_it_reads(rng):
    net = a_graph()
    memory = normal(rng, 8)
    x, z = memory[:3], memory[2:4].copy()
    expected = net.stream().step((x, z))
    results = net.stream().step((x, z), out=(memory[:4], memory[4:]))
    for ours, other in zip(results, expected, strict=True):
        assert np.array_equal(ours, other)


def test_outputs_that_overlap_are_refused(rng):
    net, memory = a_graph(), np.zeros(8, np.float32)
    with pytest.raises(ValueError, match="outputs 0 and 1 overlap"):
        net.stream().step((normal(rng, 3), normal(rng, 2)), out=(memory[:4], memory[3:7]))


def test_a_bound_step_refuses_to_write_where_it_reads():
    memory = np.zeros(9, np.float32)
    with pytest.raises(ValueError, match="y overlaps x"):
        fastrnn.GRU(5, 5).stream().bind(memory[:5], memory[4:])


def test_a_network_of_many_outputs_steps(rng):
    modules = {f"out{i}": fastrnn.Linear(3, 2) for i in range(16)}
    net = fastrnn.Graph({"x": 3}, modules, dict.fromkeys(modules, "x"), list(modules))
    x = normal(rng, 3)
    out = tuple(np.empty(2, np.float32) for _ in modules)
    assert net.stream().step(x, out=out) is not None
    for ours, other in zip(out, net.stream().step(x), strict=True):
        assert np.array_equal(ours, other)
