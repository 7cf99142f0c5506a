"""Every option of every layer against the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from families import FAMILIES, LSTMS, call, make, normal, states

import fastrnn

AWKWARD = [1, 17, 130]  # tests/c/test_core.c has more


def assert_follows_reference(layer: Any, x: Any, h: Any = None, c: Any = None, lengths: Any = None):
    """y, h_n and c_n of the layer lie within the tolerance of the reference; x is (T, N, I)."""
    wanted = reference.run_layer(layer, x, h, c, lengths)
    got = call(layer, x.swapaxes(0, 1) if layer.batch_first else x, h, c, lengths)
    y = got[0].swapaxes(0, 1) if layer.batch_first else got[0]
    scale = max(float(np.abs(part).max(initial=0)) for part in (x, *wanted))
    limit = reference.layer_tolerance(layer, len(x), scale)
    for name, ours, theirs in zip(("y", "h_n", "c_n"), (y, *got[1:]), wanted, strict=True):
        if ours is not None:
            assert ours.dtype == np.float32
            assert ours.shape == theirs.shape
            assert np.abs(ours - theirs).max(initial=0) <= limit, name


@pytest.mark.parametrize("hidden", AWKWARD)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_of_any_size_follows_the_reference(family, hidden, rng):
    layer = make(family, AWKWARD[-AWKWARD.index(hidden) - 1], hidden)
    for steps, rows in ((1, 1), (2, 3), (5, 7)):
        assert_follows_reference(layer, normal(rng, steps, rows, layer.input_size))


@pytest.mark.parametrize("rows", [2, 7, 33])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_of_any_size_follows_the_reference(family, rows, rng):
    layer = make(family, 5, 17)
    assert_follows_reference(layer, normal(rng, 3, rows, 5), *states(rng, layer, rows))


@pytest.mark.parametrize(("bias", "batch_first"), [(True, False), (False, True)])
@pytest.mark.parametrize("merge", [None, "concat", "sum"])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_all_options_together_follow_the_reference(
    family, num_layers, merge, bias, batch_first, rng
):
    directions = {} if merge is None else {"bidirectional": True, "merge": merge}
    layer = make(family, 4, 9, num_layers, bias=bias, batch_first=batch_first, **directions)
    lengths = np.array([6, 0, 3, 1, 6])
    x = normal(rng, 6, 5, 4)
    assert_follows_reference(layer, x)
    assert_follows_reference(layer, x, *states(rng, layer, 5))
    assert_follows_reference(layer, x, *states(rng, layer, 5), lengths)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_long_sequence_stays_within_the_tolerance(family, rng):
    layer = make(family, 8, 130, 2)
    assert_follows_reference(layer, normal(rng, 70, 2, 8))


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"rnn_relu", "rnn_identity"}))
def test_saturated_activations_follow_the_reference(family, rng):
    layer = make(family, 3, 17)
    assert_follows_reference(layer, 60 * normal(rng, 4, 3, 3))


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_without_steps_keep_their_initial_state(family, rng):
    layer = make(family, 3, 5, 2, bidirectional=True)
    h, c = states(rng, layer, 3)
    y, h_n, c_n = call(layer, normal(rng, 4, 3, 3), h, c, [0, 0, 0])
    assert not y.any()
    assert np.array_equal(h_n, h)
    assert c is None or np.array_equal(c_n, c)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_unbatched_sequence_equals_a_batch_of_one(family, batch_first, rng):
    layer = make(family, 3, 5, 2, batch_first=batch_first, bidirectional=True)
    x = normal(rng, 4, 3)
    h, c = states(rng, layer, 1)
    alone = call(layer, x, h[:, 0], None if c is None else c[:, 0])
    axis = 0 if batch_first else 1
    y, h_n, c_n = call(layer, np.expand_dims(x, axis), h, c)
    assert np.array_equal(alone[0], y.squeeze(axis))
    assert np.array_equal(alone[1], h_n[:, 0])
    assert c is None or np.array_equal(alone[2], c_n[:, 0])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_batch_gives_empty_results(family, batch_first):
    layer = make(family, 3, 4, 2, batch_first=batch_first)
    shape = (0, 5) if batch_first else (5, 0)
    y, h_n, _ = call(layer, np.zeros((*shape, 3), np.float32), lengths=[])
    assert y.shape == (*shape, layer.output_size)
    assert h_n.shape == (2, 0, layer.state_size)


@pytest.mark.parametrize("family", LSTMS)
def test_an_lstm_hands_on_the_pair_of_its_states(family, rng):
    layer = make(family, 3, 8)
    x = normal(rng, 6, 2, 3)
    y, state = layer(x)
    first, middle = layer(x[:4])
    second, last = layer(x[4:], middle)
    assert np.array_equal(y, np.concatenate([first, second]))
    assert all(np.array_equal(a, b) for a, b in zip(state, last, strict=True))


CELLS: dict[str, tuple[type, dict[str, Any]]] = {
    "rnn_tanh": (fastrnn.RNNCell, {}),
    "rnn_relu": (fastrnn.RNNCell, {"nonlinearity": "relu"}),
    "rnn_sigmoid": (fastrnn.RNNCell, {"nonlinearity": "sigmoid"}),
    "rnn_identity": (fastrnn.RNNCell, {"nonlinearity": "identity"}),
    "lstm": (fastrnn.LSTMCell, {}),
    "lstm_peephole": (fastrnn.LSTMCell, {"peephole": True}),
    "gru": (fastrnn.GRUCell, {}),
    "gru_reset_before": (fastrnn.GRUCell, {"reset": "before"}),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("hidden", [1, 7, 33])
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_follows_the_reference(name, hidden, bias, rng):
    kind, options = CELLS[name]
    cell = kind(5, hidden, bias, **options)
    h, c = normal(rng, 2, 4, hidden)
    x = normal(rng, 4, 5)
    weights = reference.weights(cell.state_dict(), "")
    wanted = reference.STEPS[name](np.float64(x), np.float64(h), np.float64(c), weights)
    got = cell(x, (h, c)) if cell.has_cell else (cell(x, h), None)
    limit = reference.tolerance(5 + hidden, 1, 1, max(np.abs(x).max(), np.abs(wanted).max()))
    assert np.abs(got[0] - wanted[0]).max() <= limit
    assert got[1] is None or np.abs(got[1] - wanted[1]).max() <= limit


@pytest.mark.parametrize("name", CELLS)
def test_a_cell_takes_one_row_a_batch_and_an_empty_batch(name, rng):
    kind, options = CELLS[name]
    cell = kind(3, 4, **options)
    x = normal(rng, 2, 3)
    batch, alone, none = cell(x), cell(x[1]), cell(x[:0])
    if not cell.has_cell:
        batch, alone, none = (batch,), (alone,), (none,)
    for one, many, empty in zip(alone, batch, none, strict=True):
        assert np.array_equal(one, many[1])
        assert empty.shape == (0, 4)


def test_linear_maps_the_last_axis(rng):
    for inputs, outputs, bias in ((1, 1, True), (7, 33, False), (65, 3, True), (64, 130, True)):
        linear = fastrnn.Linear(inputs, outputs, bias)
        tensors = {k: np.float64(v) for k, v in linear.state_dict().items()}
        for shape in ((), (1,), (5,), (2, 0), (2, 3, 4)):
            x = normal(rng, *shape, inputs)
            wanted = x @ tensors["weight"].T + tensors.get("bias", 0.0)
            limit = reference.tolerance(inputs, 1, 1, np.abs(x).max(initial=0))
            assert linear(x).shape == wanted.shape
            assert np.abs(linear(x) - wanted).max(initial=0) <= limit


def test_embedding_equals_one_hot_times_matrix(rng):
    embedding = fastrnn.Embedding(7, 3)
    indices = rng.integers(0, 7, (4, 5))
    assert np.array_equal(
        embedding(indices), np.eye(7, dtype=np.float32)[indices] @ embedding.weight
    )
    assert embedding(3).shape == (3,)
    assert embedding([]).shape == (0, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_start_uniform_within_one_over_the_root_of_the_units(family):
    layer = make(family, 30, 100)
    for tensor in layer.state_dict().values():
        assert np.abs(tensor).max() <= 0.1
        assert tensor.std() == pytest.approx(0.1 / 3**0.5, rel=0.15)
    assert layer.flat.ctypes.data % 64 == 0
    assert layer.num_parameters == sum(t.size for t in layer.state_dict().values())


def test_reset_parameters_draws_the_same_numbers_for_the_same_seed(rng):
    layer, x = fastrnn.GRU(3, 4), normal(rng, 2, 1, 3)
    layer.reset_parameters(seed=1)
    first = layer(x)[0]
    layer.reset_parameters(seed=2)
    assert not np.array_equal(layer(x)[0], first)
    layer.reset_parameters(seed=1)
    assert np.array_equal(layer(x)[0], first)


def test_state_dict_holds_copies(rng):
    layer, x = fastrnn.LSTM(3, 4), normal(rng, 2, 1, 3)
    before = layer(x)[0]
    for tensor in layer.state_dict().values():
        tensor[...] = 0
    layer.repack()
    assert np.array_equal(layer(x)[0], before)


def test_repr_names_what_differs_from_the_defaults():
    shown = {
        "LSTM(3, 4, num_layers=2, bidirectional=True)": fastrnn.LSTM(3, 4, 2, bidirectional=True),
        "LSTM(3, 4, proj_size=2, bias=False)": fastrnn.LSTM(3, 4, proj_size=2, bias=False),
        "LSTM(3, 4, peephole=True)": fastrnn.LSTM(3, 4, peephole=True),
        "GRU(3, 4, batch_first=True, reset='before')": fastrnn.GRU(
            3, 4, batch_first=True, reset="before"
        ),
        "RNN(3, 4, nonlinearity='relu')": fastrnn.RNN(3, 4, nonlinearity="relu"),
        "RNNCell(3, 4, bias=False, nonlinearity=relu)": fastrnn.RNNCell(3, 4, False, "relu"),
        "Linear(in_features=3, out_features=4, bias=True)": fastrnn.Linear(3, 4),
        "Embedding(3, 4)": fastrnn.Embedding(3, 4),
    }
    for text, module in shown.items():
        assert repr(module) == text
