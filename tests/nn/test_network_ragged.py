"""Training of networks on rows of different lengths: what follows a row's end has no part in it."""

from __future__ import annotations

import numpy as np
import pytest
from families import normal
from networks import chain

from fastrnn import (
    GRU,
    LSTM,
    RNN,
    Abs,
    Conv1d,
    Flip,
    LayerNorm,
    Linear,
    Log,
    Pooling,
    PReLU,
    Residual,
    Sequential,
    Softmax,
    Sqrt,
    Square,
    Tanh,
)

RAGGED = {
    "chain": chain,
    "logarithm": lambda: Sequential(Linear(4, 3), GRU(3, 3), Square(), Log(), Linear(3, 2)),
    "root": lambda: Sequential(Linear(4, 3), RNN(3, 3), Abs(), Sqrt(), Linear(3, 2)),
    "both ways": lambda: Sequential(
        Conv1d(4, 3, 3, padding="same"), Flip(), LSTM(3, 2, bidirectional=True)
    ),
    "batch first": lambda: Sequential(
        PReLU(4), LSTM(4, 3, batch_first=True), Residual(Tanh()), Linear(3, 2), input_shape=4
    ),
    "last": lambda: Sequential(Linear(4, 3), Pooling("last"), Linear(3, 4), Tanh()),
    "mean": lambda: Sequential(
        Linear(4, 3), Residual(Sequential(Linear(3, 3), Tanh())), Pooling("mean")
    ),
    "max": lambda: Sequential(
        Linear(4, 3), Sequential(Pooling("max"), Linear(3, 4)), LayerNorm(4), Softmax()
    ),
}


def pulled_back(net, x, lengths):
    """y, dx and the parameters' gradients of the same masks and the same dy."""
    net.seed(1)
    net.zero_grad()
    (y, _), pullback = net.vjp(x, lengths=lengths)
    dx, _ = pullback(np.linspace(-1, 1, y.size, dtype=np.float32).reshape(y.shape))
    return y, dx, net.flat_grad.copy()


@pytest.mark.parametrize("name", RAGGED)
@pytest.mark.parametrize("lengths", [[4, 0, 3, 1], [0, 0, 0, 0]], ids=str)
def test_what_follows_the_end_of_a_row_has_no_part_in_gradients(name, lengths, rng):
    net, x = RAGGED[name](), normal(rng, 4, 4, 4)
    after = np.arange(4)[:, None] >= np.array(lengths)
    after = after.T if net._batch_first else after
    clean = pulled_back(net, x, lengths)
    assert all(np.isfinite(part).all() for part in clean)
    assert not clean[1][after].any()
    assert clean[2].any() or not any(lengths)
    for spoiled in (np.nan, np.inf, 1e30):
        x[after] = spoiled
        for got, wanted in zip(pulled_back(net, x, lengths), clean, strict=True):
            assert np.array_equal(got, wanted)


@pytest.mark.parametrize("name", [name for name in RAGGED if name != "chain"])
def test_gradients_of_rows_of_different_lengths_are_those_of_each_alone(name, rng):
    # not of the chain, whose dropout draws for all rows at once
    net, x, lengths = RAGGED[name](), normal(rng, 5, 4, 4), [5, 2, 3, 1]
    x = x.swapaxes(0, 1).copy() if net._batch_first else x
    (y, _), pullback = net.vjp(x, lengths=lengths)
    dy = normal(rng, *y.shape)
    net.zero_grad()
    dx, _ = pullback(dy)
    total = net.flat_grad.copy()
    net.zero_grad()
    ends = y.ndim == 2
    for n, length in enumerate(lengths):
        at = (n, slice(length)) if net._batch_first else (slice(length), n)
        _, alone = net.vjp(x[at])
        part, _ = alone(dy[n] if ends else dy[at])
        np.testing.assert_allclose(part, dx[at], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.flat_grad, total, rtol=1e-4, atol=1e-5)
