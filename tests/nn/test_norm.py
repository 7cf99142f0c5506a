"""Layer normalisation against float64; a row's bits are its own."""

from __future__ import annotations

import numpy as np
import pytest
from families import normal
from kernels import assert_fused_kernels_agree

import fastrnn
from fastrnn import LayerNorm, Sequential, Tanh


def made(size, rng):
    layer = LayerNorm(size)
    layer.flat[: layer.num_parameters] += normal(rng, layer.num_parameters)
    layer.repack()
    return layer


def reference(layer, x, dy):
    """y, dx, dweight, dbias of rows (M, C), float64."""
    x, dy = np.float64(x), np.float64(dy)
    weight, bias = (np.float64(layer.parameters[name]) for name in ("weight", "bias"))
    inverse = 1 / np.sqrt(x.var(axis=1, keepdims=True) + layer.eps)
    normalised = (x - x.mean(axis=1, keepdims=True)) * inverse
    dn = dy * weight
    slope = (dn * normalised).mean(axis=1, keepdims=True)
    dx = inverse * (dn - dn.mean(axis=1, keepdims=True) - normalised * slope)
    return normalised * weight + bias, dx, (dy * normalised).sum(axis=0), dy.sum(axis=0)


@pytest.mark.parametrize("size", [2, 5, 8, 17, 130, 300, 9000])
def test_outputs_and_gradients_are_those_of_the_formulas(size, rng):
    layer, x, dy = made(size, rng), normal(rng, 9, size) + 3, normal(rng, 9, size)
    y, pullback = layer.vjp(x)
    wanted = reference(layer, x, dy)
    layer.grads["bias"][...] = 1  # gradients are added to
    found = y, pullback(dy), layer.grads["weight"], layer.grads["bias"] - 1
    for got, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def test_sums_are_of_doubles(rng):
    layer, x = made(64, rng), normal(rng, 4, 64) + 1e6
    _, pullback = layer.vjp(x)
    dy = normal(rng, 4, 64)
    expected = reference(layer, x, dy)[1]
    np.testing.assert_allclose(pullback(dy), expected, rtol=1e-4, atol=1e-4)
    many, ones = made(3, rng), np.ones((20_000, 3), np.float32) * np.float32(0.1)
    many.vjp(normal(rng, 20_000, 3))[1](ones)
    expected = np.float32(20_000 * float(np.float32(0.1)))
    assert np.array_equal(many.grads["bias"], np.full(3, expected))


def test_rows_have_the_same_bits_alone_and_with_any_number_of_threads(rng):
    layer, x, dy = made(130, rng), normal(rng, 700, 130), normal(rng, 700, 130)

    def run():
        layer.zero_grad()
        y, pullback = layer.vjp(x)
        return [y, pullback(dy), layer.flat_grad.copy()]

    before = fastrnn.get_num_threads()
    try:
        fastrnn.set_num_threads(1)
        one = run()
        fastrnn.set_num_threads(3)
        assert all(np.array_equal(a, b) for a, b in zip(run(), one, strict=True))
    finally:
        fastrnn.set_num_threads(before)
    for row in (0, 313, 699):
        y, pullback = layer.vjp(x[row])
        assert np.array_equal(y, one[0][row])
        assert np.array_equal(pullback(dy[row]), one[1][row])


def test_a_network_has_the_bits_of_the_layer_alone(rng):
    layer = made(37, rng)
    net = Sequential(layer, Tanh())
    x = normal(rng, 5, 3, 37)
    x[0, 0] *= np.float32(1e-30)  # denormal squares are flushed in both
    assert np.array_equal(net(x)[0], Tanh()(layer(x)))
    stream = net.stream(3)
    assert np.array_equal(np.stack([stream.step(step) for step in x]), net(x)[0])


def test_fused_kernels_have_the_same_bits():
    def results():
        rng = np.random.default_rng(0)
        for size in (1, 7, 16, 33, 200):
            layer, x, dy = made(size, rng), normal(rng, 11, size), normal(rng, 11, size)
            y, pullback = layer.vjp(x)
            yield from (y, pullback(dy), layer.flat_grad)

    assert_fused_kernels_agree(results)


def test_empty_batches_add_nothing(rng):
    layer = made(4, rng)
    y, pullback = layer.vjp(np.empty((0, 3, 4), np.float32))
    assert pullback(y).shape == (0, 3, 4)
    assert not layer.flat_grad.any()
