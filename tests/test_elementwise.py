"""Maps of every channel by itself against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

import fastrnn


def scale_shift(rng, size):
    layer = fastrnn.ScaleShift(size)
    layer.flat[: 2 * size] = rng.standard_normal(2 * size)
    layer.repack()
    return layer, layer.parameters["weight"], layer.parameters["bias"]


@pytest.mark.parametrize("shape", [(1,), (4, 3), (2, 5, 33), (0, 7), (3, 0, 16)])
def test_a_scale_and_shift_and_its_gradients_are_those_of_numpy(shape, rng):
    layer, weight, bias = scale_shift(rng, shape[-1])
    x, dy = (rng.standard_normal(shape).astype(np.float32) for _ in range(2))
    y, pullback = layer.vjp(x)
    np.testing.assert_allclose(y, x * np.float64(weight) + bias, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(y, layer(x))
    np.testing.assert_allclose(pullback(dy), dy * weight, rtol=1e-6)
    rows, gradients = x.reshape(-1, shape[-1]), dy.reshape(-1, shape[-1])
    expected = (np.float64(rows) * gradients).sum(axis=0)
    np.testing.assert_allclose(layer.grads["weight"], expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.grads["bias"], np.float64(gradients).sum(axis=0), atol=1e-5)


def test_a_folded_batch_norm_has_its_statistics():
    layer = fastrnn.ScaleShift.from_batch_norm([2.0, 1.0], None, [1.0, 0.0], [3.0, 0.25], eps=1.0)
    y = layer([[1.0, 0.0], [3.0, 1.0]])
    np.testing.assert_allclose(y, [[0, 0], [2, 1 / 1.25**0.5]], rtol=1e-6)
    plain = fastrnn.ScaleShift.from_batch_norm(None, [5.0], [0.0], [4.0], eps=0.0)
    np.testing.assert_allclose(plain([[2.0]]), [[6.0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [1.0], [0.0, 0.0], [1.0, 1.0]), r"weight has shape \(1,\), expected \(2,\)"),
        ((None, None, [0.0], [-1.0]), "running_var . eps must be above 0"),
        ((None, None, [0.0], [1.0], -2.0), "running_var . eps must be above 0"),
        ((None, None, [[0.0]], [1.0]), r"running_mean has shape \(1, 1\), expected \(num_fea"),
        ((None, None, [], []), r"running_mean has shape \(0,\), expected \(num_features,\)"),
    ],
)
def test_a_batch_norm_that_cannot_be_folded_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        fastrnn.ScaleShift.from_batch_norm(*arguments)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("rows", [(), (4,), (2, 3), (0,)])
def test_a_prelu_and_its_gradients_are_those_of_numpy(count, rows, rng):
    layer = fastrnn.PReLU(count)
    layer.parameters["weight"][...] = rng.standard_normal(count)
    layer.repack()
    weight = layer.parameters["weight"]
    x, dy = (rng.standard_normal((*rows, 5)).astype(np.float32) for _ in range(2))
    y, pullback = layer.vjp(x)
    np.testing.assert_allclose(y, np.where(x > 0, x, x * weight), rtol=1e-6)
    np.testing.assert_allclose(pullback(dy), np.where(x > 0, dy, dy * weight), rtol=1e-6)
    slopes = (np.float64(dy) * np.minimum(x, 0)).reshape(-1, 5).sum(axis=0)
    expected = slopes.reshape(count, -1).sum(axis=1)
    np.testing.assert_allclose(layer.grads["weight"], expected, rtol=1e-4, atol=1e-6)


def test_a_prelu_follows_its_weight_after_a_repack():
    layer, x = fastrnn.PReLU(), np.float32([[-2.0, 2.0]])
    np.testing.assert_array_equal(layer(x), [[-0.5, 2.0]])
    layer.parameters["weight"][...] = 0.5
    layer.repack()
    np.testing.assert_array_equal(layer(x), [[-1.0, 2.0]])
    np.testing.assert_array_equal(layer(x[:, :1]), [[-1.0]])


@pytest.mark.parametrize("make", [lambda: fastrnn.ScaleShift(3), lambda: fastrnn.PReLU(3)])
def test_what_does_not_fit_is_refused(make):
    layer = make()
    kind = type(layer).__name__
    with pytest.raises(ValueError, match=rf"x has shape \(4, 2\), this {kind} expects \(\*, 3\)"):
        layer(np.ones((4, 2)))
    with pytest.raises(ValueError, match=r"x has shape \(\), this"):
        layer(np.float32(1))
    _, pullback = layer.vjp(np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"dy has shape \(3, 3\), expected \(4, 3\)"):
        pullback(np.ones((3, 3)))


@pytest.mark.parametrize("make", [lambda: fastrnn.ScaleShift(3), lambda: fastrnn.PReLU(3, 0.5)])
def test_a_saved_layer_is_the_same_when_it_is_loaded(make, tmp_path):
    layer = make()
    layer.flat += 0.25
    layer.repack()
    fastrnn.save(layer, tmp_path / "layer.safetensors")
    loaded, x = fastrnn.load(tmp_path / "layer.safetensors"), np.float32([[-1.0, 0.5, 2.0]])
    np.testing.assert_array_equal(loaded(x), layer(x))
