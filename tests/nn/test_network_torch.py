"""Gradients of whole networks against PyTorch's in float64."""

from __future__ import annotations

import numpy as np
import pytest
from families import normal
from networks import amplifier, branches, noise_suppressor, voice_detector

torch = pytest.importorskip("torch")
F = torch.nn.functional


def double(value):
    return torch.tensor(np.asarray(value, np.float64))


class Twin:
    """A network's parameters and functions in PyTorch, float64, over x (T, N, *)."""

    def __init__(self, net):
        self.p = {name: double(value).requires_grad_() for name, value in net.parameters.items()}

    def linear(self, name, x):
        return F.linear(x, self.p[f"{name}.weight"], self.p[f"{name}.bias"])

    def conv(self, name, x, before, after, stride=1, dilation=1):
        """Over the next to last axis."""
        lead, (length, channels) = x.shape[:-2], x.shape[-2:]
        x = F.pad(x.reshape(-1, length, channels).transpose(1, 2), (before, after))
        y = F.conv1d(
            x, self.p[f"{name}.weight"], self.p.get(f"{name}.bias"), stride, dilation=dilation
        )
        return y.transpose(1, 2).reshape(*lead, -1, y.shape[1])

    def lstm(self, name, x, layers):
        hidden = self.p[f"{name}.weight_hh_l0"].shape[1]
        rnn = torch.nn.LSTM(x.shape[-1], hidden, layers).double()
        names = {
            f"{name}.{key}"[len(name) + 1 :]: f"{name}.{key}" for key, _ in rnn.named_parameters()
        }
        given = {key: self.p[full] for key, full in names.items()}
        return torch.func.functional_call(rnn, given, (x,))[0]


def voice(t, x):
    spectrum = t.conv("stft", x, 0, 0, 128)
    x = torch.hypot(spectrum[..., :129], spectrum[..., 129:])
    for name, stride in (("conv1", 1), ("conv2", 2), ("conv3", 2), ("conv4", 1)):
        x = F.relu(t.conv(name, x, 1, 1, stride))
    x = t.lstm("rnn", x.reshape(*x.shape[:2], -1), 1)
    return torch.sigmoid(t.linear("head", F.relu(x)))


def amplified(t, x):
    return x + t.linear("module.1", t.lstm("module.0", x, 2))


def suppressed(t, x):
    return x * torch.sigmoid(t.linear("head", t.lstm("rnn", x, 2)))


def branched(t, x):
    past = t.conv("past", x[..., :3].transpose(0, 1), 4, 0, dilation=2).transpose(0, 1)
    return (past + t.lstm("rnn", x[..., 3:], 1)) * torch.sigmoid(t.linear("gate", x))


@pytest.mark.parametrize(
    ("make", "twin", "shape"),
    [
        (voice_detector, voice, (576, 1)),
        (amplifier, amplified, (1,)),
        (noise_suppressor, suppressed, (257,)),
        (branches, branched, (6,)),
    ],
)
def test_gradients_are_pytorch_s(make, twin, shape, rng):
    net, x = make(), normal(rng, 5, 2, *shape)
    (y, _), pullback = net.vjp(x)
    dy = normal(rng, *y.shape)
    dx, _ = pullback(dy)
    t, given = Twin(net), double(x).requires_grad_()
    wanted = twin(t, given)
    np.testing.assert_allclose(y, wanted.detach(), rtol=1e-4, atol=1e-5)
    wanted.backward(double(dy))
    for name, grad in [*net.grads.items(), ("x", dx)]:
        found = (given if name == "x" else t.p[name]).grad.numpy()
        error = np.abs(grad - found).max() / max(np.abs(found).max(), 1e-6)
        assert error < 2e-4, name


def test_gradients_of_states_are_those_of_the_sequence_in_one_piece(rng):
    net, x = branches(), normal(rng, 7, 2, 6)
    (y, _), pullback = net.vjp(x)
    dy = normal(rng, *y.shape)
    dx, dfirst = pullback(dy)
    wanted = {name: grad.copy() for name, grad in net.grads.items()}
    net.zero_grad()
    (_, middle), first = net.vjp(x[:4])
    (_, _), second = net.vjp(x[4:], middle)
    dx2, dmiddle = second(dy[4:])
    dx1, dstart = first(dy[:4], dmiddle)
    np.testing.assert_allclose(np.concatenate((dx1, dx2)), dx, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(dstart["past"], dfirst["past"], rtol=1e-4, atol=1e-6)
    for name, grad in net.grads.items():
        np.testing.assert_allclose(grad, wanted[name], rtol=1e-3, atol=1e-5)
