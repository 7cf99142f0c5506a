"""The layers of training: gradients, masks, and that inference drops nothing."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from families import normal
from slopes import assert_slope

import fastrnn
from fastrnn import (
    Dropout,
    Embedding,
    EmbeddingDropout,
    LayerNorm,
    Linear,
    LockedDropout,
    ScalarMix,
)

DROPOUTS = {
    "dropout": lambda p: Dropout(p),
    "locked": lambda p: LockedDropout(p),
    "locked_batch_first": lambda p: LockedDropout(p, batch_first=True),
}


@pytest.mark.parametrize("shape", [(5,), (3, 5), (4, 2, 5), (0, 5)])
@pytest.mark.parametrize(
    "layer", [lambda: Linear(5, 3), lambda: Linear(5, 3, False), lambda: LayerNorm(5)]
)
def test_gradients_follow_finite_differences(layer, shape, rng):
    layer = layer()
    layer.flat[: layer.num_parameters] += normal(rng, layer.num_parameters)
    layer.repack()
    x = normal(rng, *shape)
    y, pullback = layer.vjp(x)
    assert np.array_equal(y, layer(x))
    weights = normal(rng, *y.shape)
    dx = pullback(weights)
    assert dx.shape == x.shape
    assert dx.dtype == np.float32

    def value():
        return float((np.float64(layer(x)) * weights).sum())

    for name, tensor in layer.parameters.items():
        assert_slope(value, tensor, layer.grads[name], rng, layer.repack)
    assert_slope(value, x, dx, rng, lambda: None)


def test_gradients_add_up_until_they_are_zeroed(rng):
    layer, x = Linear(5, 3), normal(rng, 4, 5)
    for _ in range(2):
        y, pullback = layer.vjp(x)
        pullback(np.ones_like(y))
    assert np.allclose(layer.grads["weight"], 2 * x.sum(0), rtol=1e-5)
    assert np.array_equal(layer.grads["bias"], [8, 8, 8])
    layer.zero_grad()
    assert not layer.flat_grad.any()


def test_an_embedding_s_gradient_adds_up_the_rows_of_every_token(rng):
    for shape in ((), (7,), (6, 3)):
        embedding = Embedding(5, 4)
        tokens = rng.integers(0, 5, shape)
        y, pullback = embedding.vjp(tokens)
        assert np.array_equal(y, embedding(tokens))
        dy = normal(rng, *shape, 4)
        assert pullback(dy) is None
        one_hot = np.eye(5)[tokens].reshape(-1, 5)
        wanted = one_hot.T @ np.float64(dy.reshape(-1, 4))
        assert np.abs(embedding.grads["weight"] - wanted).max() <= 1e-5


LAYERS = {
    "Linear": (lambda: Linear(5, 3), (2, 5)),
    "LayerNorm": (lambda: LayerNorm(5), (2, 5)),
    "Embedding": (lambda: Embedding(5, 3), None),
    "EmbeddingDropout": (lambda: EmbeddingDropout(Embedding(5, 3), 0.5), None),
    "Dropout": (lambda: Dropout(0.5), (2, 5)),
    "LockedDropout": (lambda: LockedDropout(0.5), (4, 2, 5)),
    "ScalarMix": (lambda: ScalarMix(3), (3, 4, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_pullback_is_called_once_with_a_gradient_of_the_right_shape(name, rng):
    make, shape = LAYERS[name]
    layer, x = make(), [[1, 2]] if shape is None else normal(rng, *shape)
    y, pullback = layer.vjp(x)
    pullback(np.ones_like(y))
    before = layer.flat_grad.copy()
    with pytest.raises(RuntimeError, match=f"this pullback of an? {name} was called before"):
        pullback(np.ones_like(y))
    _, pullback = layer.vjp(x)
    with pytest.raises(ValueError, match=r"dy has shape \(7, 7\), expected"):
        pullback(np.ones((7, 7)))
    assert np.array_equal(layer.flat_grad, before)


@pytest.mark.parametrize("name", DROPOUTS)
def test_inference_drops_nothing(name, rng):
    x = normal(rng, 4, 3, 5)
    assert np.array_equal(DROPOUTS[name](0.5)(x), x)
    assert np.array_equal(DROPOUTS[name](1.0)(x), x)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("name", DROPOUTS)
def test_a_mask_zeroes_a_share_of_p_and_keeps_the_expectation(name, p):
    layer = DROPOUTS[name](p)
    layer.seed(3)
    x = np.ones((100, 100, 30), np.float32)
    y, pullback = layer.vjp(x)
    draws = y.size if name == "dropout" else 3000
    # Four standard deviations of a share of so many draws.
    assert abs((y == 0).mean() - p) <= 4 * np.sqrt(p * (1 - p) / draws)
    assert set(np.unique(y)) <= {0.0, np.float32(1 / (1 - p)) if p < 1 else 0.0}
    dy = np.full_like(x, 2.0)
    assert np.array_equal(pullback(dy), 2 * y)


@pytest.mark.parametrize("name", DROPOUTS)
def test_masks_are_the_same_for_the_same_seed_and_new_in_every_call(name, rng):
    layer, x = DROPOUTS[name](0.5), normal(rng, 20, 20, 5)
    layer.seed(7)
    first, second = layer.vjp(x)[0], layer.vjp(x)[0]
    assert not np.array_equal(first, second)
    layer.seed(7)
    assert np.array_equal(layer.vjp(x)[0], first)
    layer.seed(8)
    assert not np.array_equal(layer.vjp(x)[0], first)


def test_a_locked_mask_is_the_same_for_all_steps():
    ones = np.ones((6, 50, 40), np.float32)
    y, _ = LockedDropout(0.5).vjp(ones)
    assert (y == y[:1]).all()
    assert not (y[0] == y[0, :1]).all()
    y, _ = LockedDropout(0.5, batch_first=True).vjp(ones)
    assert (y == y[:, :1]).all()
    assert not (y[:, 0] == y[:1, 0]).all()
    y, _ = LockedDropout(0.5).vjp(ones[0])
    assert (y == y[:1]).all()
    with pytest.raises(ValueError, match="x has 1 dimensions, this LockedDropout expects 2 or 3"):
        LockedDropout(0.5).vjp(ones[0, 0])


def test_embedding_dropout_drops_words_wherever_they_are(rng):
    embedding = Embedding(40, 3)
    layer = EmbeddingDropout(embedding, 0.5)
    layer.seed(1)
    tokens = rng.integers(0, 40, (30, 4))
    y, pullback = layer.vjp(tokens)
    ratio = y / embedding(tokens)
    assert np.allclose(ratio[ratio != 0], 2)
    dropped = {int(t) for t in tokens[(y == 0).all(-1)]}
    assert 0 < len(dropped) < 40
    assert dropped.isdisjoint(tokens[(y != 0).any(-1)].tolist())
    pullback(np.ones_like(y))
    counts = np.bincount(tokens.ravel(), minlength=40) * 2.0
    counts[list(dropped)] = 0
    assert np.array_equal(layer.grads["embedding.weight"][:, 0], counts)
    assert np.array_equal(layer(tokens), embedding(tokens))


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan"), "a", True])
def test_a_share_that_is_none_is_refused(p):
    for make in (Dropout, LockedDropout, lambda p: fastrnn.WeightDrop(fastrnn.GRU(2, 3), p)):
        with pytest.raises(ValueError, match=r"p is .*, expected a number in the range"):
            make(p)


def test_layer_norm_stands_large_offsets(rng):
    x = normal(rng, 50, 64)
    wanted = (np.float64(x) - x.mean(-1, keepdims=True, dtype=np.float64)) / np.sqrt(
        np.float64(x).var(-1, keepdims=True) + 1e-5
    )
    assert np.abs(LayerNorm(64)(x) - wanted).max() <= 1e-6
    shifted = x + np.float32(2**14)
    exact = np.float64(shifted)
    wanted = exact - exact.mean(-1, keepdims=True)
    wanted /= np.sqrt(exact.var(-1, keepdims=True) + 1e-5)
    assert np.abs(LayerNorm(64)(shifted) - wanted).max() <= 1e-5
    with pytest.raises(ValueError, match=r"x has shape \(3,\), this LayerNorm expects \(\*, 64\)"):
        LayerNorm(64)(x[0, :3])
    with pytest.raises(ValueError, match="eps is 0"):
        LayerNorm(3, eps=0)


def test_layer_norm_equals_pytorch_s(rng):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.LayerNorm(33)
    ours = LayerNorm(33)
    ours.load_state_dict({"weight": normal(rng, 33), "bias": normal(rng, 33)})
    theirs.load_state_dict({k: torch.tensor(v) for k, v in ours.state_dict().items()})
    x, dy = normal(rng, 4, 7, 33), normal(rng, 4, 7, 33)
    x_torch = torch.tensor(x, requires_grad=True)
    y_torch = theirs(x_torch)
    y_torch.backward(torch.tensor(dy))
    y, pullback = ours.vjp(x)
    assert np.abs(y - y_torch.detach().numpy()).max() <= 2e-6
    assert np.abs(pullback(dy) - x_torch.grad.numpy()).max() <= 1e-5
    for name, tensor in theirs.named_parameters():
        assert np.abs(ours.grads[name] - tensor.grad.numpy()).max() <= 2e-5


RNNS = {
    "rnn": lambda: fastrnn.RNN(3, 5, 2, dropout=0.5),
    "lstm": lambda: fastrnn.LSTM(3, 6, 2, bidirectional=True, proj_size=4),
    "gru": lambda: fastrnn.GRU(3, 5, bidirectional=True),
}


@pytest.mark.parametrize("name", RNNS)
def test_weight_drop_outside_training_is_the_layer_itself(name, rng):
    rnn = RNNS[name]()
    wanted = rnn.state_dict()
    layer = fastrnn.WeightDrop(rnn, 0.5)
    assert layer.state_dict().keys() == wanted.keys()
    assert all(np.array_equal(wanted[key], now) for key, now in layer.state_dict().items())
    x = normal(rng, 4, 2, 3)
    assert np.array_equal(layer(x)[0], rnn(x)[0])
    twin = copy.deepcopy(layer)
    assert repr(twin) == repr(layer)
    assert np.array_equal(twin(x)[0], layer(x)[0])
    with pytest.raises(TypeError, match="rnn is a Linear, expected an RNN, an LSTM or a GRU"):
        fastrnn.WeightDrop(Linear(2, 3))


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_weight_drop_trains_through_masked_recurrent_weights(name, rng):
    layer = fastrnn.WeightDrop(RNNS[name](), 0.4)
    x = normal(rng, 4, 2, 3)
    layer.seed(5)
    (y, _), pullback = layer.vjp(x)
    assert not np.array_equal(y, layer(x)[0])
    weights = normal(rng, *y.shape)
    dx, _ = pullback(weights)
    dropped = [np.mean(g == 0) for k, g in layer.grads.items() if k.startswith("weight_hh")]
    assert all(0.2 < share < 0.6 for share in dropped)

    def value():
        layer.seed(5)
        return float((np.float64(layer.vjp(x)[0][0]) * weights).sum())

    for key, tensor in layer.parameters.items():
        assert_slope(value, tensor, layer.grads[key], rng, layer.repack)
    assert_slope(value, x, dx, rng, lambda: None)
    with pytest.raises(RuntimeError, match="this pullback of a WeightDrop was called before"):
        pullback(weights)


def test_weight_drop_of_nothing_is_the_layer_s_own_gradient(rng):
    rnn = fastrnn.GRU(3, 4)
    twin = copy.deepcopy(rnn)
    layer, x = fastrnn.WeightDrop(twin, 0.0), normal(rng, 4, 2, 3)
    results = [some.vjp(x) for some in (rnn, layer)]
    for (y, _), pullback in results:
        pullback(np.ones_like(y))
    assert np.array_equal(results[0][0][0], results[1][0][0])
    assert np.array_equal(rnn.flat_grad, twin.flat_grad)


def test_a_scalar_mix_starts_as_the_mean_and_its_gradients_are_slopes(rng):
    mix, x = ScalarMix(3), normal(rng, 3, 4, 5)
    assert np.abs(mix(x) - x.mean(axis=0, dtype=np.float64)).max() <= 1e-6
    mix.load_state_dict({"weight": [0.5, -1.0, 0.2], "gamma": [1.5]})
    powers = np.exp([0.5, -1.0, 0.2])
    assert np.abs(mix.shares - powers / powers.sum()).max() <= 1e-7
    wanted = 1.5 * np.tensordot(powers / powers.sum(), np.float64(x), 1)
    assert np.abs(mix(list(x)) - wanted).max() <= 1e-6
    weights = normal(rng, 4, 5)
    y, pullback = mix.vjp(x)
    assert np.array_equal(y, mix(x))
    gradients = pullback(weights)

    def value():
        return float((np.float64(mix(x)) * weights).sum())

    for name, tensor in mix.parameters.items():
        assert_slope(value, tensor, mix.grads[name], rng, mix.repack)
    for part, gradient in zip(x, gradients, strict=True):
        assert_slope(value, part, gradient, rng, lambda: None)
    with pytest.raises(ValueError, match="layers has 2 arrays, this ScalarMix expects 3"):
        mix(x[:2])
    with pytest.raises(ValueError, match=r"layers\[1\] has shape \(5,\), expected \(4, 5\)"):
        mix([x[0], x[1, 0], x[2]])
    with pytest.raises(ValueError, match="size"):
        ScalarMix(0)
