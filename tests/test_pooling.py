"""Pooling over time and flips against loops over rows."""

from __future__ import annotations

import numpy as np
import pytest

import fastrnn

LENGTHS = np.array([3, 5, 0, 1])
REDUCED = {"last": lambda row: row[-1], "mean": lambda row: row.mean(axis=0),
           "max": lambda row: row.max(axis=0)}  # fmt: skip


def sequences(rng):
    return rng.standard_normal((5, 4, 3)).astype(np.float32)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("kind", REDUCED)
def test_a_pooling_reduces_the_own_steps_of_every_row(kind, lengths, rng):
    x = sequences(rng)
    y = fastrnn.Pooling(kind)(x, lengths=lengths)
    for n in range(4):
        own = x[: 5 if lengths is None else lengths[n], n]
        expected = REDUCED[kind](own) if len(own) else np.zeros(3)
        np.testing.assert_allclose(y[n], expected, rtol=1e-6)
    np.testing.assert_allclose(fastrnn.Pooling(kind)(x[:, 0]), REDUCED[kind](x[:, 0]), rtol=1e-6)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("kind", REDUCED)
def test_the_gradient_of_a_pooling_is_its_slope(kind, lengths, rng):
    x, layer = sequences(rng), fastrnn.Pooling(kind)
    dy = rng.standard_normal((4, 3)).astype(np.float32)
    _, pullback = layer.vjp(x, lengths=lengths)
    dx, step = pullback(dy), np.float32(2**-10)
    assert dx.shape == x.shape
    for index in np.ndindex(x.shape):
        moved = x.copy()
        moved[index] += step
        slope = (layer(moved, lengths=lengths) - layer(x, lengths=lengths)) / step
        assert dx[index] == pytest.approx(float((slope * dy).sum()), abs=2e-3)
    assert not dx[3:, 0].any() or lengths is None


def test_a_flip_reverses_the_own_steps_and_is_its_own_gradient(rng):
    x, layer = sequences(rng), fastrnn.Flip()
    np.testing.assert_array_equal(layer(x), x[::-1])
    y, pullback = layer.vjp(x, lengths=LENGTHS)
    for n, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(y[:length, n], x[:length, n][::-1])
        np.testing.assert_array_equal(y[length:, n], x[length:, n])
    np.testing.assert_array_equal(pullback(y), x)
    np.testing.assert_array_equal(layer.vjp(x[:, 0])[1](x[:, 0]), x[::-1, 0])


@pytest.mark.parametrize("layer", [fastrnn.Pooling("max"), fastrnn.Flip()])
def test_what_does_not_fit_is_refused(layer, rng):
    kind, x = type(layer).__name__, sequences(rng)
    with pytest.raises(ValueError, match=f"x has 1 dimensions, this {kind} expects 2 or 3"):
        layer(x[0, 0])
    with pytest.raises(ValueError, match=f"x has 0 steps, this {kind} expects at least 1"):
        layer(x[:0])
    with pytest.raises(ValueError, match="lengths holds 6, expected values from 0 to 5 steps"):
        layer(x, lengths=[1, 2, 3, 6])
    with pytest.raises(ValueError, match=r"lengths are given for x of shape \(5, 3\), expected"):
        layer(x[:, 0], lengths=[5])
    _, pullback = layer.vjp(x)
    with pytest.raises(ValueError, match=r"dy has shape \(1,\), expected"):
        pullback([0.0])


@pytest.mark.parametrize("layer", [fastrnn.Pooling("mean"), fastrnn.Flip()])
def test_a_saved_layer_is_the_same_when_it_is_loaded(layer, tmp_path, rng):
    fastrnn.save(layer, tmp_path / "layer.safetensors")
    loaded, x = fastrnn.load(tmp_path / "layer.safetensors"), sequences(rng)
    np.testing.assert_array_equal(loaded(x), layer(x))
    assert repr(loaded) == repr(layer)
