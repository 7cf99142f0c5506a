"""Convolutions against plain loops of NumPy in float64, without any other library."""

from __future__ import annotations

import numpy as np
import pytest
from kernels import assert_fused_kernels_agree

import fastrnn
from fastrnn import _core

# in, out, kernel, stride, padding, dilation, groups
SHAPES = [
    (3, 5, 1, 1, 0, 1, 1),
    (3, 5, 3, 1, 0, 1, 1),
    (1, 20, 8, 4, 0, 1, 1),
    (5, 33, 3, 2, (1, 2), 1, 1),
    (4, 6, 3, 1, "same", 2, 2),
    (4, 6, 4, 1, "same", 1, 1),
    (6, 6, 3, 1, "causal", 2, 6),
    (7, 17, 2, 1, "causal", 1, 1),
    (2, 4, 3, 3, "valid", 2, 1),
    (37, 37, 5, 2, 3, 1, 37),
    (16, 16, 1, 1, 0, 1, 16),
]


def made(shape, rng, **options):
    conv = fastrnn.Conv1d(*shape, **options)
    conv.flat[: conv.num_parameters] = rng.standard_normal(conv.num_parameters)
    conv.repack()
    return conv


def around(conv):
    reach = (conv.kernel_size - 1) * conv.dilation
    if isinstance(conv.padding, str):
        same = (reach // 2, reach - reach // 2)
        return {"valid": (0, 0), "same": same, "causal": (reach, 0)}[conv.padding]
    return conv.padding if isinstance(conv.padding, tuple) else (conv.padding, conv.padding)


def windows(conv, x):
    """Windows of all outputs: x (L, C) -> (L', K, C), and their places in padded x."""
    before, after = around(conv)
    padded = np.pad(np.float64(x), ((before, after), (0, 0)))
    reach = (conv.kernel_size - 1) * conv.dilation
    starts = np.arange(0, len(padded) - reach, conv.stride)
    places = starts[:, None] + np.arange(conv.kernel_size) * conv.dilation
    return padded[places], places


def reference(conv, x, dy):
    """y, dx, dweight of one signal (L, C)."""
    weight = np.float64(conv.parameters["weight"])
    bias = np.float64(conv.parameters.get("bias", np.zeros(conv.out_channels)))
    seen, places = windows(conv, x)
    y = np.zeros((len(seen), conv.out_channels)) + bias
    dpadded = np.zeros((len(x) + sum(around(conv)), conv.in_channels))
    dweight = np.zeros_like(weight)
    inputs, outputs = conv.in_channels // conv.groups, conv.out_channels // conv.groups
    for o in range(conv.out_channels):
        c = slice(o // outputs * inputs, (o // outputs + 1) * inputs)
        y[:, o] += np.einsum("tkc,ck->t", seen[..., c], weight[o])
        dweight[o] += np.einsum("tkc,t->ck", seen[..., c], dy[:, o])
        for t, place in enumerate(places):
            dpadded[place, c] += dy[t, o] * weight[o].T
    before = around(conv)[0]
    return y, dpadded[before : before + len(x)], dweight


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_outputs_and_gradients_over_time_are_those_of_the_sums(shape, bias, rng):
    conv = made(shape, rng, bias=bias)
    x = rng.standard_normal((19, 2, shape[0])).astype(np.float32)
    y, pullback = conv.vjp(x)
    np.testing.assert_array_equal(y, conv(x))
    dy = rng.standard_normal(y.shape).astype(np.float32)
    dx = pullback(dy)
    expected = [reference(conv, x[:, n], dy[:, n]) for n in range(2)]
    for n, (y_n, dx_n, _) in enumerate(expected):
        np.testing.assert_allclose(y[:, n], y_n, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(dx[:, n], dx_n, rtol=1e-5, atol=2e-5)
    dweight = sum(dweight for _, _, dweight in expected)
    np.testing.assert_allclose(conv.grads["weight"], dweight, rtol=1e-4, atol=1e-4)
    if bias:
        sums = np.float64(dy).sum(axis=(0, 1))
        np.testing.assert_allclose(conv.grads["bias"], sums, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_way_to_lay_signals_out_gives_the_same_bits(shape, rng):
    over_time, over_frame = made(shape, rng), fastrnn.Conv1d(*shape, over="frame")
    over_frame.load_state_dict(over_time.state_dict())
    x = rng.standard_normal((3, 2, 18, shape[0])).astype(np.float32)
    y = over_frame(x)
    assert y.shape[:2] == (3, 2)
    for index in np.ndindex(3, 2):
        np.testing.assert_array_equal(over_frame(x[index]), y[index])
        np.testing.assert_array_equal(over_time(x[index]), y[index])
    rows = over_time(x[0].transpose(1, 0, 2))
    np.testing.assert_array_equal(rows.transpose(1, 0, 2), y[0])
    dy = rng.standard_normal(y.shape).astype(np.float32)
    _, back = over_frame.vjp(x)
    _, back_one = over_frame.vjp(x[2, 1])
    np.testing.assert_array_equal(back(dy)[2, 1], back_one(dy[2, 1]))


@pytest.mark.parametrize("shape", [(6, 6, 3, 1, "causal", 2, 6), (7, 17, 2, 1, "causal", 1, 1)])
def test_a_causal_convolution_goes_on_from_its_past_with_the_same_bits(shape, rng):
    packed = made(shape, rng)._packed
    x = rng.standard_normal((23, 2, shape[0])).astype(np.float32)
    whole, past, parts = packed.run(x, True, None), None, []
    for part in np.split(x, [1, 2, 9, 10]):
        parts.append(packed.run(part, True, None, past))
        past = packed.next_past(part, True, None, past)
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert past.shape == (2, (shape[2] - 1) * shape[5], shape[0])
    np.testing.assert_array_equal(past, x[-past.shape[1] :].transpose(1, 0, 2))
    with pytest.raises(ValueError, match=r"past has shape \(3, 1\), expected"):
        packed.run(x, True, None, np.zeros((3, 1), np.float32))


@pytest.mark.parametrize("padding", ["same", "causal"])
def test_same_and_causal_keep_the_number_of_steps_and_causal_sees_no_later_one(padding, rng):
    conv = made((2, 3, 4, 1, padding), rng)
    x = rng.standard_normal((9, 2)).astype(np.float32)
    y = conv(x)
    assert y.shape == (9, 3)
    x[5:] += 1
    assert np.array_equal(conv(x)[:5], y[:5]) == (padding == "causal")


@pytest.mark.parametrize(
    "shape", [(37, 37, 7, 1, "causal", 2, 37), (16, 16, 4, 3, (2, 5), 1, 16), (5, 5, 1, 1, 0, 1, 5)]
)
def test_a_depthwise_convolution_has_the_bits_of_every_channel_alone(shape, rng):
    conv, x = made(shape, rng), rng.standard_normal((300, 3, shape[0])).astype(np.float32)
    y, pullback = conv.vjp(x)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    dx = pullback(dy)
    for channel in range(shape[0]):
        one, at = fastrnn.Conv1d(1, 1, *shape[2:6]), slice(channel, channel + 1)
        one.load_state_dict({name: array[at] for name, array in conv.state_dict().items()})
        y_one, pullback = one.vjp(x[..., at])
        np.testing.assert_array_equal(y[..., at], y_one)
        np.testing.assert_array_equal(dx[..., at], pullback(dy[..., at]))
        for name, gradient in one.grads.items():
            np.testing.assert_array_equal(conv.grads[name][at], gradient)


def test_a_depthwise_convolution_pads_no_channel(rng):
    conv = made((64, 64, 8, 1, "causal", 1, 64), rng)
    assert conv._packed.num_packed_bytes < 1.5 * conv.flat.nbytes
    conv.vjp(np.zeros((9, 64), np.float32))[1](np.zeros((9, 64), np.float32))
    assert conv._back().num_packed_bytes < 1.5 * conv.flat.nbytes


def test_a_network_steps_through_a_depthwise_convolution_with_the_same_bits(rng):
    conv = made((21, 21, 4, 1, "causal", 3, 21), rng)
    net = fastrnn.Sequential(conv, fastrnn.Linear(21, 5))
    x = rng.standard_normal((40, 3, 21)).astype(np.float32)
    stream = net.stream(3)
    np.testing.assert_array_equal(np.stack([stream.step(step) for step in x]), net(x)[0])


def test_empty_batches_are_empty(rng):
    conv = made((2, 3, 2), rng)
    y, pullback = conv.vjp(np.empty((4, 0, 2), np.float32))
    assert y.shape == (3, 0, 3)
    assert pullback(y).shape == (4, 0, 2)
    assert not conv.flat_grad.any()
    frames = fastrnn.Conv1d(2, 3, 2, over="frame")
    assert frames(np.empty((0, 5, 4, 2), np.float32)).shape == (0, 5, 3, 3)


def test_threads_change_no_bit(rng):
    x = rng.standard_normal((300, 2, 16)).astype(np.float32)
    found = []
    for threads in (1, 3):
        with fastrnn.num_threads(threads):
            conv = made((16, 48, 5, 1, "same"), np.random.default_rng(0))
            y, pullback = conv.vjp(x)
            found.append([y, pullback(y), conv.flat_grad.copy()])
    for one, several in zip(*found, strict=True):
        np.testing.assert_array_equal(one, several)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"groups": 3}, "in_channels is 4, expected a multiple of groups, 3"),
        ({"out_channels": 3, "groups": 2}, "out_channels is 3, expected a multiple of groups, 2"),
        ({"padding": -1}, "padding is -1, expected 0 to 1048576"),
        ({"padding": "reflect"}, "padding is 'reflect', expected one of 'valid', 'same', 'causal'"),
        ({"padding": "same", "stride": 2}, "padding is 'same', which expects stride 1, got 2"),
        ({"padding": "causal", "stride": 2}, "padding is 'causal', which expects stride 1, got 2"),
        (
            {"padding": "causal", "dilation": 1 << 20},
            "dilation must be at most 1048576",
        ),
        ({"kernel_size": (3, 3)}, r"kernel_size is \(3, 3\), expected one int"),
        ({"padding": (1, 2, 3)}, r"padding is \(1, 2, 3\), expected one int"),
        ({"in_channels": 1 << 19}, "a window of this Conv1d has more than 1048576 values"),
        ({"over": "batch"}, "over is 'batch', expected one of 'time', 'frame'"),
    ],
)
def test_arguments_that_do_not_fit_each_other_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fastrnn.Conv1d(**{"in_channels": 4, "out_channels": 4, "kernel_size": 3, **options})


@pytest.mark.parametrize(
    ("over", "shape", "message"),
    [
        ("time", (4,), "x has 1 dimensions, this Conv1d expects 2 or 3"),
        ("time", (2, 9, 2, 4), "x has 4 dimensions, this Conv1d expects 2 or 3"),
        ("frame", (4,), "x has 1 dimensions, this Conv1d expects at least 2"),
        ("time", (9, 2, 3), "x has 3 channels, this Conv1d expects 4"),
        ("time", (4, 2, 4), "x has 4 steps, this Conv1d expects at least 5"),
        ("frame", (2, 9, 4, 4), "x has 4 positions, this Conv1d expects at least 5"),
        ("time", (0, 2, 4), "x has 0 steps, this Conv1d expects at least 5"),
    ],
)
def test_what_does_not_fit_is_refused(over, shape, message):
    conv = fastrnn.Conv1d(4, 2, 3, dilation=2, over=over)
    with pytest.raises(ValueError, match=message):
        conv(np.zeros(shape, np.float32))


def test_a_wrong_gradient_is_refused():
    _, pullback = fastrnn.Conv1d(2, 3, 2).vjp(np.zeros((5, 2), np.float32))
    with pytest.raises(ValueError, match=r"dy has shape \(5, 3\), expected \(4, 3\)"):
        pullback(np.zeros((5, 3), np.float32))


def test_padding_alone_makes_no_step_out_of_none():
    with pytest.raises(ValueError, match="x has 0 steps, this Conv1d expects at least 1"):
        fastrnn.Conv1d(2, 3, 3, padding=2)(np.zeros((0, 2), np.float32))


def test_a_saved_convolution_is_the_same_when_it_is_loaded(tmp_path, rng):
    for options in [{"padding": "causal", "dilation": 2}, {"padding": (2, 1), "over": "frame"}]:
        conv = fastrnn.Conv1d(2, 4, 3, groups=2, **options)
        fastrnn.save(conv, tmp_path / "conv.safetensors")
        loaded = fastrnn.load(tmp_path / "conv.safetensors")
        x = rng.standard_normal((9, 2)).astype(np.float32)
        assert loaded.config == conv.config
        np.testing.assert_array_equal(loaded(x), conv(x))


def test_gradients_follow_the_weights_after_a_repack(rng):
    conv, x = made((2, 3, 2), rng), np.ones((4, 2), np.float32)
    conv.vjp(x)[1](np.ones((3, 3), np.float32))
    conv.flat *= 2
    conv.repack()
    y, pullback = conv.vjp(x)
    expected = reference(conv, x, np.ones_like(y))
    np.testing.assert_allclose(y, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pullback(np.ones_like(y)), expected[1], rtol=1e-5, atol=1e-6)


def test_a_seed_draws_the_same_within_pytorch_s_bound():
    conv, other = fastrnn.Conv1d(6, 4, 3, groups=2), fastrnn.Conv1d(6, 4, 3, groups=2)
    conv.reset_parameters(3)
    other.reset_parameters(3)
    np.testing.assert_array_equal(conv.flat, other.flat)
    assert 0.5 / 3 < np.abs(conv.flat).max() <= 1 / 3


def test_the_core_refuses_shapes_that_cannot_be():
    with pytest.raises(ValueError, match="groups must divide the channels"):
        _core.Convolution(3, 4, 2, groups=2)
    with pytest.raises(ValueError, match="a size is not in 1 to 1048576"):
        _core.Convolution(3, 4, 0)


def test_fused_kernels_have_the_same_bits():
    def results():
        for shape in SHAPES:
            rng = np.random.default_rng(0)
            conv = made(shape, rng)
            y, back = conv.vjp(rng.standard_normal((29, 3, shape[0])).astype(np.float32))
            yield from (y, back(y), conv.flat_grad)

    assert_fused_kernels_agree(results)
