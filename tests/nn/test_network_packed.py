"""Networks on packed sequences: what they give for the padded ones with lengths, packed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from families import normal
from networks import branches, chain

from fastrnn import (
    GRU,
    LSTM,
    Conv1d,
    Dropout,
    Embedding,
    Flip,
    Graph,
    Linear,
    LockedDropout,
    PackedSequence,
    Pooling,
    Reshape,
    Sequential,
    Softmax,
    Tanh,
    pack_padded_sequence,
    pack_sequence,
)

LENGTHS = [2, 5, 1, 3]

NETS = {
    "chain": (chain, 4),
    "branches": (branches, 6),
    "both ways": (
        lambda: Sequential(Conv1d(4, 3, 3, padding="same"), Flip(), LSTM(3, 2, bidirectional=True)),
        4,
    ),
    "batch first": (lambda: Sequential(Linear(4, 3), GRU(3, 5, batch_first=True), Tanh()), 4),
    "pooled": (lambda: Sequential(LSTM(4, 3), Pooling("max"), Linear(3, 2), Softmax()), 4),
    "frames out": (lambda: Sequential(GRU(4, 6), Reshape(3, 2)), 4),
}


def packed_and_padded(rng, net, features):
    """The same rows in both forms, the padded one full of nonsense past their ends."""
    x = normal(rng, 5, 4, features)
    x[np.arange(5)[:, None] >= np.array(LENGTHS)] = np.nan
    packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
    return packed, x.swapaxes(0, 1).copy() if net._batch_first else x


def packed_like(x, net):
    """Values laid out as the network's, packed."""
    return pack_padded_sequence(x, LENGTHS, net._batch_first, enforce_sorted=False)


def same(a, b):
    """Whether two states, or parts of them, have the same bits."""
    if isinstance(a, tuple):
        return all(same(*pair) for pair in zip(a, b, strict=True))
    return np.array_equal(a, b)


@pytest.mark.parametrize("name", NETS)
def test_a_packed_batch_gives_the_bits_of_a_padded_one(name, rng):
    make, features = NETS[name]
    net = make()
    packed, padded = packed_and_padded(rng, net, features)
    (y, state), (wanted, last) = net(packed), net(padded, lengths=LENGTHS)
    if name == "pooled":
        assert np.array_equal(y, wanted)
    else:
        assert isinstance(y, PackedSequence)
        assert np.array_equal(y.data, packed_like(wanted, net).data)
        assert y.batch_sizes.tolist() == packed.batch_sizes.tolist()
        assert y.sorted_indices.tolist() == packed.sorted_indices.tolist()
    assert state.keys() == last.keys()
    assert all(same(state[key], last[key]) for key in last)
    again, _ = net(packed, state)  # states have the caller's order of rows
    assert np.array_equal(
        again if name == "pooled" else again.data,
        net(padded, last, lengths=LENGTHS)[0]
        if name == "pooled"
        else packed_like(net(padded, last, lengths=LENGTHS)[0], net).data,
    )


@pytest.mark.parametrize("name", NETS)
def test_a_packed_batch_trains_as_a_padded_one(name, rng):
    make, features = NETS[name]
    net = make()
    packed, padded = packed_and_padded(rng, net, features)
    net.seed(3)
    (wanted, last), back = net.vjp(padded, lengths=LENGTHS)
    dy, dstate = normal(rng, *wanted.shape), {"7": normal(rng, 1, 4, 5)} if name == "chain" else {}
    dx, dfirst = back(dy, dstate)
    grads = net.flat_grad.copy()
    net.zero_grad()
    net.seed(3)
    (y, state), back = net.vjp(packed)
    if name != "pooled":
        assert np.array_equal(y.data, packed_like(wanted, net).data)
        dy = packed_like(dy, net)
    found, first = back(dy, dstate)
    assert isinstance(found, PackedSequence)
    assert np.array_equal(found.data, packed_like(dx, net).data)
    assert np.array_equal(net.flat_grad, grads)
    assert all(same(state[key], last[key]) for key in last)
    assert all(same(first[key], dfirst[key]) for key in dfirst)


def test_the_gradient_of_packed_results_may_be_their_data_alone(rng):
    net = Sequential(Linear(3, 2), Tanh())
    packed = pack_sequence([normal(rng, 3, 3), normal(rng, 1, 3)])
    dy = normal(rng, 4, 2)
    first = net.vjp(packed)[1](dy)[0]
    second = net.vjp(packed)[1](packed._replace(data=dy))[0]
    assert np.array_equal(first.data, second.data)
    assert net.vjp(packed)[1](None)[0] is None
    with pytest.raises(ValueError, match=r"dy.data has shape \(3, 2\), expected \(4, 2\)"):
        net.vjp(packed)[1](dy[:3])


def test_packed_tokens_and_frames_and_several_inputs_are_read(rng):
    net = Sequential(Embedding(9, 3), GRU(3, 2))
    tokens = rng.integers(0, 9, (5, 4))
    y, _ = net(pack_padded_sequence(tokens, LENGTHS, enforce_sorted=False))
    assert np.array_equal(y.data, packed_like(net(tokens, lengths=LENGTHS)[0], net).data)
    (_, _), back = net.vjp(pack_padded_sequence(tokens, LENGTHS, enforce_sorted=False))
    assert back(y)[0] is None

    frames = Sequential(Conv1d(2, 3, 3, over="frame"), input_shape=(6, 2))
    x = normal(rng, 5, 4, 6, 2)
    y, _ = frames(pack_padded_sequence(x, LENGTHS, enforce_sorted=False))
    assert y.data.shape == (11, 4, 3)
    assert np.array_equal(y.data, packed_like(frames(x)[0], frames).data)

    graph = Graph(
        {"a": 3, "b": 2},
        {"one": Linear(3, 2), "two": Linear(2, 4)},
        wires={"two": "b"},
        outputs=["one", "two"],
    )
    a, b = normal(rng, 5, 4, 3), normal(rng, 5, 4, 2)
    both = [pack_padded_sequence(x, LENGTHS, enforce_sorted=False) for x in (a, b)]
    (one, two), _ = graph(both)
    assert np.array_equal(one.data, packed_like(graph((a, b))[0][0], graph).data)
    ((_, two), _), back = graph.vjp({"a": both[0], "b": both[1]})
    dx, _ = back((one, two))
    assert all(isinstance(part, PackedSequence) for part in dx)
    with pytest.raises(ValueError, match="some inputs of this Graph are packed"):
        graph((both[0], b))
    with pytest.raises(ValueError, match="the packed inputs of this Graph differ"):
        graph((both[0], pack_padded_sequence(b, LENGTHS[::-1], enforce_sorted=False)))


def test_another_library_s_packed_sequence_is_told_by_its_fields(rng):
    class Foreign(NamedTuple):
        data: object
        batch_sizes: object
        sorted_indices: object
        unsorted_indices: object

    net = Sequential(Linear(3, 4), LSTM(4, 2))
    packed = pack_sequence([normal(rng, 1, 3), normal(rng, 4, 3)], enforce_sorted=False)
    assert np.array_equal(net(Foreign(*packed))[0].data, net(packed)[0].data)


@pytest.mark.parametrize("dropout", [Dropout(0.5), LockedDropout(0.5)], ids=repr)
def test_masks_of_dropout_do_not_depend_on_lengths(dropout, rng):
    net, x = Sequential(dropout, Tanh(), input_shape=8), np.ones((5, 4, 8), np.float32)
    net.seed(1)
    whole = net.vjp(x)[0][0]
    net.seed(1)
    ragged = net.vjp(x, lengths=LENGTHS)[0][0]
    inside = np.arange(5)[:, None] < np.array(LENGTHS)
    assert np.array_equal(ragged, whole * inside[..., None])
    assert not np.array_equal(ragged[0, 0], ragged[0, 1])


def test_a_locked_dropout_has_the_order_of_the_network_around_it(rng):
    first = {"batch_first": True}
    for modules in (
        (LockedDropout(0.5), GRU(3, 2, **first)),
        (Sequential(LSTM(3, 3), Tanh()), LockedDropout(0.5, **first)),
    ):
        with pytest.raises(ValueError, match=r"is batch_first and .* is not, expected one order"):
            Sequential(*modules)
    net = Sequential(LockedDropout(0.5, **first), GRU(8, 2, **first))
    assert net.batch_first
    assert Sequential(LockedDropout(0.5, **first), Tanh(), input_shape=8).batch_first
    (_, _), back = net.vjp(np.ones((4, 5, 8), np.float32))
    dx, _ = back(np.ones((4, 5, 2), np.float32))
    kept = dx != 0
    assert np.array_equal(kept.all(axis=1), kept.any(axis=1))  # one mask for all steps of a row
    assert not np.array_equal(kept[0], kept[1])


def test_what_does_not_fit_is_refused(rng):
    net = Sequential(Linear(3, 4), LSTM(4, 2))
    packed = pack_sequence([normal(rng, 3, 3), normal(rng, 1, 3)])
    for x, options, message in (
        (packed, {"lengths": [3, 1]}, "lengths and a packed x exclude each other"),
        (packed._replace(data=normal(rng, 4, 2)), {}, "x has 2 features, this Sequential expects"),
        (packed._replace(data=normal(rng, 4, 1, 3)), {}, "x.data has 3 dimensions, .* expects 2"),
        (packed._replace(data=normal(rng, 5, 3)), {}, "data of a packed sequence has shape"),
    ):
        for call in (net, net.vjp):
            with pytest.raises(ValueError, match=message):
                call(x, **options)
