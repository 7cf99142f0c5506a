"""Convolutions against torch.nn.Conv1d in float64: values, gradients, names, first values."""

from __future__ import annotations

import numpy as np
import pytest
from test_conv import SHAPES, made

import fastrnn

torch = pytest.importorskip("torch")


def theirs_of(conv):
    """PyTorch's with our weights; what pads at one end only is padded outside."""
    padding = conv.padding if isinstance(conv.padding, int) or conv.padding == "same" else 0
    theirs = torch.nn.Conv1d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, padding, conv.dilation,
        conv.groups, conv.bias,
    )  # fmt: skip
    state = {name: torch.tensor(array) for name, array in conv.state_dict().items()}
    theirs.load_state_dict(state)
    return theirs.double()


def outside(conv):
    if conv.padding == "causal":
        return ((conv.kernel_size - 1) * conv.dilation, 0)
    return conv.padding if isinstance(conv.padding, tuple) else (0, 0)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [*SHAPES, (16, 40, 5, 1, 2, 1, 1), (3, 4, 9, 1, 8, 1, 1)])
def test_values_and_gradients_are_pytorch_s(shape, bias, rng):
    conv = made(shape, rng, bias=bias)
    theirs = theirs_of(conv)
    x = rng.standard_normal((21, 3, shape[0])).astype(np.float32)
    wide = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    padded = torch.nn.functional.pad(wide.permute(1, 2, 0), outside(conv))
    expected = theirs(padded).permute(2, 0, 1)  # (N, C, L) there, (T, N, C) here
    y, pullback = conv.vjp(x)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-5, atol=1e-5)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    expected.backward(torch.tensor(dy, dtype=torch.float64))
    np.testing.assert_allclose(pullback(dy), wide.grad.numpy(), rtol=1e-5, atol=3e-5)
    for name, parameter in theirs.named_parameters():
        expected = parameter.grad.numpy()
        np.testing.assert_allclose(conv.grads[name], expected, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize(
    "text",
    [
        "Conv1d(3, 5, 3)",
        "Conv1d(4, 6, kernel_size=(3,), stride=(2,), padding=(1,), dilation=(2,), groups=2)",
        "Conv1d(4, 6, 3, padding='same', bias=False)",
        "Conv1d(4, 6, 3, padding='valid')",
    ],
)
def test_reprs_and_names_are_pytorch_s(text):
    ours, theirs = eval(f"fastrnn.{text}"), eval(f"torch.nn.{text}")
    assert repr(ours) == repr(theirs)
    shapes = {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    assert {name: array.shape for name, array in ours.state_dict().items()} == shapes
    ours.load_state_dict(theirs.state_dict())
    np.testing.assert_array_equal(ours.parameters["weight"], theirs.weight.detach().numpy())


def test_first_values_have_pytorch_s_bound():
    ours, theirs = fastrnn.Conv1d(64, 64, 9), torch.nn.Conv1d(64, 64, 9)
    bound = theirs.weight.abs().max().item()
    assert np.abs(ours.parameters["weight"]).max() == pytest.approx(bound, rel=1e-3)
