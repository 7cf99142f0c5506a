"""Rows of a stream picked by index."""

from __future__ import annotations

import numpy as np
import pytest
from families import FAMILIES, make, normal

import fastrnn


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("hidden", [5, 16, 33])
@pytest.mark.parametrize("family", FAMILIES)
def test_reordered_rows_continue_with_the_bits_of_streams_of_their_own(family, hidden, layers, rng):
    layer = make(family, 3, hidden, layers)
    stream = layer.stream(6)
    singles = [layer.stream() for _ in range(6)]
    histories = [[] for _ in range(6)]
    for indices in ([5, 0, 0, 3, 1, 2], [1, 1], [1, 0, 1, 0, 1], [4], [0] * 6, [2, 0, 1]):
        x = normal(rng, stream.rows, 3)
        y = stream.step(x)
        for n, history in enumerate(histories):
            history.append(x[n])
            singles[n].reset()
            wanted = [singles[n].step(step) for step in history][-1]
            assert np.array_equal(y[n] if y.ndim == 2 else y, wanted)
        stream.reorder(indices)
        histories = [list(histories[i]) for i in indices]
        assert stream.rows == len(indices)
    assert stream.capacity == 6


@pytest.mark.parametrize("family", ["gru", "lstm", "lstm_projected"])
def test_state_and_snapshot_follow_the_rows(family, rng):
    layer = make(family, 3, 9, 2)
    stream = layer.stream(4)
    stream.step(normal(rng, 4, 3))
    before = stream.state
    stream.reorder([2, 2, 0])
    pick = (lambda a: a[:, [2, 2, 0]]) if isinstance(before, np.ndarray) else None
    if pick:
        assert np.array_equal(stream.state, pick(before))
    else:
        for now, then in zip(stream.state, before, strict=True):
            assert np.array_equal(now, then[:, [2, 2, 0]])
    saved, x = stream.snapshot(), normal(rng, 3, 3)
    wanted = stream.step(x)
    other = layer.stream(3)
    other.restore(saved)
    assert np.array_equal(other.step(x), wanted)


def test_a_step_takes_as_many_rows_as_there_are(rng):
    stream = fastrnn.GRU(3, 4).stream(3)
    stream.reorder([0, 1])
    with pytest.raises(ValueError, match=r"x has shape \(3, 3\), this stream expects \(2, 3\)"):
        stream.step(normal(rng, 3, 3))
    assert stream.step(normal(rng, 2, 3)).shape == (2, 4)


def test_reset_brings_all_rows_back(rng):
    layer, x = fastrnn.LSTM(3, 4), normal(rng, 3, 3)
    stream = layer.stream(3)
    wanted = stream.step(x)
    stream.reorder([1])
    stream.reset()
    assert stream.rows == 3
    assert np.array_equal(stream.step(x), wanted)


@pytest.mark.parametrize(
    ("indices", "error", "message"),
    [
        ([0, 3], ValueError, "indices holds row 3, the rows are 0 to 2"),
        ([-1], ValueError, "indices holds row -1"),
        ([], ValueError, "expected 1 to 3 row numbers"),
        ([0] * 4, ValueError, "expected 1 to 3 row numbers"),
        ([[0]], ValueError, "expected 1 to 3 row numbers"),
        ([0.5], TypeError, "indices has dtype float64"),
    ],
)
def test_wrong_indices_are_refused_and_change_nothing(indices, error, message, rng):
    stream = fastrnn.LSTM(3, 4).stream(3)
    stream.step(normal(rng, 3, 3))
    before = stream.snapshot()
    with pytest.raises(error, match=message):
        stream.reorder(indices)
    assert stream.snapshot() == before


def test_dropped_rows_cannot_be_picked_again():
    stream = fastrnn.GRU(3, 4).stream(3)
    stream.reorder([0])
    with pytest.raises(ValueError, match="the rows are 0 to 0"):
        stream.reorder([1])


def test_one_token_for_several_rows_is_refused():
    stream = fastrnn.models.LanguageModel(5, 3, 4).stream(3)
    for token in (2, np.array(2)):
        with pytest.raises(ValueError, match=r"x has shape \(\)"):
            stream.step(token)
    stream.reorder([1])
    assert stream.step(2).shape == (5,)


@pytest.mark.parametrize(
    "token", [5, -1, 2**63, -(2**64), 10**400, -(10**5000)], ids=lambda n: f"{n.bit_length()} bits"
)
def test_a_token_of_any_size_is_refused_in_one_sentence(token):
    stream = fastrnn.models.LanguageModel(5, 3, 4).stream()
    state = stream.snapshot()
    with pytest.raises(ValueError, match=r"x holds token .*, the vocabulary is 0 to 4") as caught:
        stream.step(token)
    assert len(str(caught.value)) < 120
    assert stream.snapshot() == state


@pytest.mark.parametrize("vocab_size", [11, 5000])
def test_token_streams_reorder_too(vocab_size):
    """Small and large vocabularies take different ways into the first layer."""
    model = fastrnn.models.LanguageModel(vocab_size, 8, 64)
    stream, single = model.stream(4), model.stream()
    stream.step([1, 2, 3, 4])
    stream.reorder(np.array([3, 1], np.int32))
    y = stream.step(np.array([7, 7, 9])[::2])
    single.step(4)
    assert np.array_equal(y[0], single.step(7))
