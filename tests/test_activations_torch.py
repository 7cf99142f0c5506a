"""Activations and per-channel maps against PyTorch's modules in float64, values and gradients."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn import nn

torch = pytest.importorskip("torch")

SAME = [
    "ELU()", "ELU(alpha=0.5)", "GELU()", "GELU(approximate='tanh')", "Hardswish()", "Hardtanh()",
    "Hardtanh(-0.5, 2.0)", "LeakyReLU()", "LeakyReLU(0.3)", "LogSigmoid()", "LogSoftmax(dim=-1)",
    "Mish()", "ReLU()", "SELU()", "Sigmoid()", "SiLU()", "Softmax(dim=-1)", "Softplus()",
    "Softplus(2.0, 1.0)", "Softsign()", "Tanh()",
]  # fmt: skip
RENAMED = {
    "HardSigmoid()": "Hardsigmoid()",
    "Clip(0.0, 6.0)": "ReLU6()",
}


def inputs(rng):
    """Corners, too: what PyTorch takes there is a convention."""
    x = rng.standard_normal((5, 3, 8)) * 3
    x[0, 0] = [0.0, 1.0, -1.0, 3.0, -3.0, 6.0, 0.5, -0.5]
    return x.astype(np.float32)


@pytest.mark.parametrize("text", [*SAME, *RENAMED])
def test_values_and_gradients_are_pytorch_s(text, rng):
    ours = eval(f"nn.{text}")
    theirs = eval(f"torch.nn.{RENAMED.get(text, text)}")
    x = inputs(rng)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    wide = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    expected = theirs(wide)
    expected.backward(torch.tensor(dy, dtype=torch.float64))
    y, pullback = ours.vjp(x)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(pullback(dy), wide.grad.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("text", SAME)
def test_reprs_are_pytorch_s_where_those_show_all_arguments(text):
    theirs = repr(eval(f"torch.nn.{text}"))
    if "=" in theirs or text.endswith("()"):
        shown = repr(eval(f"nn.{text}"))
        assert shown == theirs or theirs.endswith("()"), (shown, theirs)


@pytest.mark.parametrize("name", ["exp", "log", "abs", "square", "sqrt"])
def test_functions_are_pytorch_s(name, rng):
    ours = getattr(nn, name.capitalize())()
    x = np.abs(inputs(rng)) + 0.5
    wide = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    expected = getattr(torch, name)(wide)
    expected.sum().backward()
    y, pullback = ours.vjp(x)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=3e-7)
    np.testing.assert_allclose(pullback(np.ones_like(y)), wide.grad.numpy(), rtol=1e-6)


def test_a_magnitude_is_that_of_a_complex_number(rng):
    x = inputs(rng)
    x[0, 0] = 0.0
    wide = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    expected = torch.complex(*wide.chunk(2, dim=-1)).abs()
    expected.sum().backward()
    y, pullback = nn.Magnitude().vjp(x)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=3e-7)
    np.testing.assert_allclose(pullback(np.ones_like(y)), wide.grad.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("affine", [True, False])
def test_a_scale_and_shift_is_a_batch_norm_in_eval_mode(affine, rng):
    theirs = torch.nn.BatchNorm1d(8, eps=1e-3, affine=affine).double().eval()
    for tensor in [*theirs.parameters(), theirs.running_mean, theirs.running_var]:
        tensor.data.copy_(torch.tensor(rng.uniform(0.5, 2, 8)))
    ours = nn.ScaleShift.from_batch_norm(
        theirs.weight, theirs.bias, theirs.running_mean, theirs.running_var, theirs.eps
    )
    x = inputs(rng)
    expected = theirs(torch.tensor(x.reshape(-1, 8), dtype=torch.float64)).detach().numpy()
    np.testing.assert_allclose(ours(x).reshape(-1, 8), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 8])
def test_a_prelu_is_pytorch_s_with_channels_last(count, rng):
    theirs, ours = torch.nn.PReLU(count).double(), nn.PReLU(count)
    slopes = rng.uniform(-1, 1, count)
    theirs.weight.data.copy_(torch.tensor(slopes))
    ours.load_state_dict(theirs.state_dict())
    x = inputs(rng)
    wide = torch.tensor(x.reshape(-1, 8), dtype=torch.float64, requires_grad=True)
    expected = theirs(wide)
    expected.square().sum().backward()
    y, pullback = ours.vjp(x)
    dx = pullback(2 * y)
    np.testing.assert_allclose(y.reshape(-1, 8), expected.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(dx.reshape(-1, 8), wide.grad.numpy(), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ours.grads["weight"], theirs.weight.grad.numpy(), rtol=1e-5)
    assert repr(ours) == repr(theirs)
