"""Networks as layers: what they read and give, the layers inside, and what those report."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from families import normal

import fastrnn
from fastrnn import (
    GRU,
    LSTM,
    Conv1d,
    Dropout,
    Embedding,
    Flip,
    Graph,
    LayerNorm,
    Linear,
    Magnitude,
    Pooling,
    PReLU,
    ReLU,
    Reshape,
    Residual,
    ScaleShift,
    Sequential,
    Tanh,
    WeightDrop,
)

READ = {
    "recurrent": (lambda: GRU(3, 2), 3),
    "weight drop": (lambda: WeightDrop(GRU(3, 2)), 3),
    "linear": (lambda: Linear(4, 2), 4),
    "convolution": (lambda: Conv1d(5, 2, 3, padding="causal"), 5),
    "norm": (lambda: LayerNorm(6), 6),
    "scale": (lambda: ScaleShift(7), 7),
    "slopes": (lambda: PReLU(8), 8),
    "network": (lambda: Sequential(Tanh(), Linear(4, 2)), 4),
    "frames": (lambda: Sequential(Conv1d(2, 3, 2, over="frame"), input_shape=(5, 2)), (5, 2)),
}


@pytest.mark.parametrize("name", READ)
def test_a_sequential_finds_what_it_reads_behind_what_keeps_the_shape(name):
    make, shape = READ[name]
    net = Sequential(ReLU(), Dropout(0.5), PReLU(), make())
    assert net._shapes == {"x": shape}
    if isinstance(shape, int):
        assert net.input_size == shape


def test_what_tells_no_shape_and_keeps_none_needs_an_input_shape():
    for module in (Magnitude(), Reshape(2, 2), Flip()):
        with pytest.raises(ValueError, match="the input has no shape"):
            Sequential(module, Linear(4, 2))(np.zeros((3, 4), np.float32))


def test_sizes_of_a_network_are_those_of_its_vectors():
    net = Sequential(LSTM(3, 5), Linear(5, 4))
    assert (net.input_size, net.output_size) == (3, 4)
    assert not net.batch_first
    assert not net.bidirectional
    assert Sequential(GRU(3, 2, batch_first=True, bidirectional=True)).batch_first
    assert Residual(GRU(3, 3, bidirectional=True, merge="sum")).bidirectional
    assert Graph({"x": 3}, {"y": Linear(3, 2)}).input_size == 3


@pytest.mark.parametrize(
    ("net", "read", "gives"),
    [
        (lambda: Sequential(Embedding(9, 3), GRU(3, 2)), False, True),
        (lambda: Sequential(GRU(3, 2), Pooling()), True, False),
        (lambda: Sequential(GRU(3, 4), Reshape(2, 2)), True, False),
        (lambda: Sequential(ReLU()), False, False),
        (lambda: Graph({"a": 2, "b": 2}, {"y": Linear(2, 2)}), False, True),
    ],
)
def test_sizes_that_are_not_there_are_attributes_that_are_not_there(net, read, gives):
    assert hasattr(net(), "input_size") == read
    assert hasattr(net(), "output_size") == gives


def test_a_network_knows_its_recurrent_layers_by_the_names_of_their_states(rng):
    inner, drop = Sequential(Linear(4, 4), GRU(4, 3)), WeightDrop(LSTM(3, 2), 0.5)
    net = Sequential(Conv1d(4, 4, 2, padding="causal"), inner, drop)
    assert net.recurrent == {"1.1": inner.modules[1], "2": drop.rnn}
    assert net.carried == ["0", "1.1", "2"]
    assert net(normal(rng, 3, 2, 4))[1].keys() == {"0", "1.1", "2"}


def test_a_weight_drop_is_part_of_a_network(rng):
    layer = LSTM(4, 3, learned_state=True)
    net = Sequential(WeightDrop(copy.deepcopy(layer), 0.5), Linear(3, 2))
    net.modules[0].load_state_dict(layer.state_dict())
    x = normal(rng, 5, 2, 4)
    y, state = net(x)
    assert np.array_equal(y, net.modules[1](layer(x)[0]))
    assert np.array_equal(state["0"][1], layer(x)[1][1])
    stream = net.stream(2)
    assert np.array_equal(np.stack([stream.step(step) for step in x]), y)
    net.seed(1)
    (masked, _), back = net.vjp(x, lengths=[5, 3])
    net.modules[0].seed(1)
    (alone, _), _ = net.modules[0].vjp(x, lengths=[5, 3])
    assert np.array_equal(masked[:3], net.modules[1](alone)[:3])
    assert not np.array_equal(alone, layer(x, lengths=[5, 3])[0])
    dy = normal(rng, *masked.shape)
    back(dy)
    assert net.grads["0.weight_hh_l0"].any()
    assert (net.grads["0.weight_hh_l0"] == 0).any()  # what was dropped


def test_the_pullback_reports_the_gradient_flow_of_the_layers_inside(rng):
    net = Sequential(LSTM(4, 3), Residual(Sequential(GRU(3, 3), Tanh())))
    x = normal(rng, 5, 2, 4)
    _, back = net.vjp(x)
    back(normal(rng, 5, 2, 3))
    assert all(layer.last_flow is None for layer in net.recurrent.values())
    _, back = net.vjp(x, flow=True)
    back(normal(rng, 5, 2, 3))
    for layer in net.recurrent.values():
        assert layer.last_flow.norm.shape == (1, 5)
        assert layer.last_flow.norm.all()


def test_gradients_of_states_come_in_the_order_of_the_states(rng):
    net = Sequential(LSTM(4, 3), GRU(3, 3), Conv1d(3, 2, 2, padding="causal"))
    (y, last), back = net.vjp(normal(rng, 5, 2, 4))
    _, first = back(np.ones_like(y), last)
    assert list(first) == list(last) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda: GRU(3, 2, bidirectional=True), "^a bidirectional GRU cannot stream: it needs"),
        (
            lambda: Sequential(Tanh(), LSTM(3, 2, bidirectional=True)),
            "^module 1 is a bidirectional LSTM, which cannot stream: it needs the whole sequence",
        ),
        (
            lambda: fastrnn.models.SequenceTagger(
                2, rnn=Sequential(LSTM(3, 2, bidirectional=True), GRU(4, 2))
            ),
            "^module 0 is a bidirectional LSTM, which cannot stream: it needs the whole sequence",
        ),
    ],
)
def test_what_reads_in_both_directions_cannot_stream(net, message):
    with pytest.raises(ValueError, match=message):
        net().stream()
