"""Gradients against PyTorch's autograd in float32: the same numbers, as far as both are exact."""

from __future__ import annotations

import numpy as np
import pytest
from families import make, normal, outer, states, vjp
from reference_backward import layer_tolerance_backward

import fastrnn

torch = pytest.importorskip("torch")
nn, rnn_utils = torch.nn, torch.nn.utils.rnn

# PyTorch says that projections run on its slow path; that is not our concern.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

FAMILIES = ["rnn_tanh", "rnn_relu", "lstm", "lstm_projected", "gru"]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def twin(layer):
    """PyTorch's module with the layer's parameters."""
    config = {k: v for k, v in layer.config.items() if k not in ("merge", "reset", "peephole")}
    theirs = getattr(nn, type(layer).__name__)(**config)
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in layer.state_dict().items()})
    return theirs


def forward(theirs, x, state, lengths):
    """y, h_n and c_n (None but for an LSTM) of PyTorch's module, padded."""
    if lengths is not None:
        first = theirs.batch_first
        x = rnn_utils.pack_padded_sequence(x, lengths, first, enforce_sorted=False)
    y, last = theirs(x, tuple(state) if len(state) == 2 else state[0])
    if lengths is not None:
        y = rnn_utils.pad_packed_sequence(y, theirs.batch_first)[0]
    return (y, *last) if len(state) == 2 else (y, last, None)


def torch_gradients(layer, given, lengths, outside):
    """dx, dh_0, dc_0 and the parameters' gradients by name."""
    theirs = twin(layer)
    leaves = [torch.from_numpy(part).requires_grad_() for part in given if part is not None]
    results = forward(theirs, leaves[0], leaves[1:], lengths)
    pairs = [
        (r, torch.from_numpy(d)) for r, d in zip(results, outside, strict=True) if d is not None
    ]
    sum((d * r).sum() for r, d in pairs).backward()
    named = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    return [leaf.grad.numpy() for leaf in leaves], named


def assert_follows_pytorch(layer, given, lengths, outside):
    """Both sides may be off, and in opposite directions: twice the tolerance of one."""
    wanted, named = torch_gradients(layer, given, lengths, outside)
    layer.zero_grad()
    got = [part for part in vjp(layer, *given, lengths)[1](*outside) if part is not None]
    assert list(layer.grads) == list(named)
    scale = max(
        float(np.abs(part).max()) for part in (*given, *wanted, *named.values()) if part is not None
    )
    steps, rows = outside[0].shape[:2][:: -1 if layer.batch_first else 1]
    limit = 2 * layer_tolerance_backward(layer, steps, rows, scale)
    for ours, theirs in zip((*got, *layer.grads.values()), (*wanted, *named.values()), strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= limit


@pytest.mark.parametrize("hidden", [5, 17, 64])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_pytorch_s(family, bias, num_layers, bidirectional, hidden, rng):
    layer = make(family, 7, hidden, num_layers, bias=bias, bidirectional=bidirectional)
    given, outside = (normal(rng, 6, 3, 7), *states(rng, layer, 3)), outer(rng, layer, 6, 3)
    assert_follows_pytorch(layer, given, None, outside)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_rows_of_different_lengths_are_pytorch_s(
    family, bidirectional, batch_first, rng
):
    layer = make(family, 4, 9, 2, bidirectional=bidirectional, batch_first=batch_first)
    x, start, (dy, *last) = normal(rng, 6, 4, 4), states(rng, layer, 4), outer(rng, layer, 6, 4)
    if batch_first:
        x, dy = (np.ascontiguousarray(part.swapaxes(0, 1)) for part in (x, dy))
    assert_follows_pytorch(layer, (x, *start), [4, 1, 6, 3], (dy, *last))


def test_gradients_through_a_hundred_steps_are_pytorch_s(rng):
    for family in FAMILIES:
        layer = make(family, 3, 33)
        given, outside = (normal(rng, 100, 2, 3), *states(rng, layer, 2)), outer(rng, layer, 100, 2)
        assert_follows_pytorch(layer, given, None, outside)


def test_relu_at_zero_has_pytorch_s_slope(rng):
    layer = make("rnn_relu", 3, 8, bias=False)
    x, (h, _) = np.zeros((3, 2, 3), np.float32), states(rng, layer, 2)
    assert_follows_pytorch(layer, (x, 0 * h, None), None, outer(rng, layer, 3, 2))
    assert not layer.flat_grad.any()


def test_gradients_of_linear_are_pytorch_s(rng):
    for bias in (True, False):
        ours, theirs = fastrnn.Linear(7, 33, bias), nn.Linear(7, 33, bias)
        ours.load_state_dict(theirs.state_dict())
        x, dy = normal(rng, 4, 5, 7), normal(rng, 4, 5, 33)
        leaf = torch.from_numpy(x).requires_grad_()
        (theirs(leaf) * torch.from_numpy(dy)).sum().backward()
        assert np.allclose(ours.vjp(x)[1](dy), leaf.grad.numpy(), rtol=1e-5, atol=1e-5)
        for name, parameter in theirs.named_parameters():
            assert np.allclose(ours.grads[name], parameter.grad.numpy(), rtol=1e-5, atol=1e-5)


def test_gradients_of_an_embedding_are_pytorch_s(rng):
    ours, theirs = fastrnn.Embedding(9, 5), nn.Embedding(9, 5)
    ours.load_state_dict(theirs.state_dict())
    indices, dy = rng.integers(0, 9, (6, 4)), normal(rng, 6, 4, 5)
    (theirs(torch.from_numpy(indices)) * torch.from_numpy(dy)).sum().backward()
    ours.vjp(indices)[1](dy)
    assert np.allclose(ours.grads["weight"], theirs.weight.grad.numpy(), rtol=1e-5, atol=1e-5)
