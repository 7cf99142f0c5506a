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
    with pytest.raises(ValueError, match=f"x has 1 dimensions, this {kind} expects 2 or more"):
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


PACKED = np.array([3, 5, 2, 1])


def packed_of(x):
    return fastrnn.pack_padded_sequence(x, PACKED, enforce_sorted=False)


@pytest.mark.parametrize("kind", REDUCED)
def test_packed_rows_are_pooled_as_padded_ones_with_lengths(kind, rng):
    x, dy, layer = sequences(rng), rng.standard_normal((4, 3)), fastrnn.Pooling(kind)
    y, back = layer.vjp(packed_of(x))
    wanted, wanted_back = layer.vjp(x, lengths=PACKED)
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(layer(packed_of(x)), wanted)
    dx = back(dy)
    np.testing.assert_array_equal(dx.data, packed_of(wanted_back(dy)).data)
    assert dx.batch_sizes.tolist() == [4, 3, 2, 1, 1]


def test_packed_rows_are_flipped_as_padded_ones_with_lengths(rng):
    x, layer = sequences(rng), fastrnn.Flip()
    y, back = layer.vjp(packed_of(x))
    wanted = packed_of(layer(x, lengths=PACKED)).data
    np.testing.assert_array_equal(y.data, wanted)
    np.testing.assert_array_equal(back(y).data, packed_of(x).data)
    np.testing.assert_array_equal(layer.vjp(packed_of(x))[1](y.data).data, packed_of(x).data)
    with pytest.raises(ValueError, match="lengths and a packed x exclude each other"):
        layer(packed_of(x), lengths=PACKED)
    with pytest.raises(ValueError, match=r"dy.data has shape \(5, 4, 3\), expected \(11, 3\)"):
        layer.vjp(packed_of(x))[1](x)


@pytest.mark.parametrize("kind", REDUCED)
def test_wide_features_and_many_threads_change_no_bit(kind, rng):
    x, layer = rng.standard_normal((30, 21, 150)).astype(np.float32), fastrnn.Pooling(kind)
    lengths, before = rng.integers(0, 31, 21), fastrnn.get_num_threads()
    dy = rng.standard_normal((21, 150)).astype(np.float32)
    try:
        for threads in (1, 3):
            fastrnn.set_num_threads(threads)
            y, back = layer.vjp(x, lengths=lengths)
            dx = back(dy)
            for n, length in enumerate(lengths):
                if length:
                    alone, alone_back = layer.vjp(x[:length, n])
                    np.testing.assert_array_equal(alone, y[n])
                    np.testing.assert_array_equal(alone_back(dy[n]), dx[:length, n])
                assert not dx[length:, n].any()
    finally:
        fastrnn.set_num_threads(before)


def test_the_first_of_equal_maxima_gets_the_gradient_and_nan_is_one(rng):
    x = np.array([[1.0, 2.0], [3.0, np.nan], [3.0, np.nan], [2.0, 5.0]])[:, None]
    y, back = fastrnn.Pooling("max").vjp(x)
    np.testing.assert_array_equal(y, [[3, np.nan]])
    np.testing.assert_array_equal(back([[1.0, 1.0]])[:, 0], [[0, 0], [1, 1], [0, 0], [0, 0]])
