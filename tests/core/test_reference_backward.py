"""The reference's gradients against finite differences, and against PyTorch's where it is there."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from families import FAMILIES, make
from reference_backward import run_layer_backward

OPTIONS = {
    "one layer": {},
    "no biases": {"bias": False},
    "three layers": {"num_layers": 3},
    "both directions": {"num_layers": 2, "bidirectional": True},
    "both directions summed": {"num_layers": 2, "bidirectional": True, "merge": "sum"},
}
STEP = 1e-5  # of the differences: their error is STEP^2 * L''', their rounding 1e-16 * L / STEP


class Parameters:
    """A layer's architecture with float64 parameters of one's own."""

    def __init__(self, layer, tensors):
        self.config, self.merge, self._cell = layer.config, layer.merge, layer._cell
        self._tensors = tensors

    def state_dict(self):
        return self._tensors


def problem(rng, layer, steps, rows):
    """Random x, h0, c0 and dy, dh_n, dc_n in float64."""
    depth = layer.num_layers * layer.num_directions
    h, c = (depth, rows, layer.state_size), (depth, rows, layer.hidden_size)
    x = rng.standard_normal((steps, rows, layer.input_size))
    given = [x, rng.standard_normal(h), rng.standard_normal(c)]
    dy = rng.standard_normal((steps, rows, layer.output_size))
    d_c = rng.standard_normal(c) if layer.has_cell else np.zeros(c)
    return given, [dy, rng.standard_normal(h), d_c]


def float64_tensors(layer):
    return {name: np.float64(tensor) for name, tensor in layer.state_dict().items()}


def loss(layer, tensors, given, lengths, outer):
    """sum(dy y) + sum(dh_n h_n) + sum(dc_n c_n)."""
    results = reference.run_layer(Parameters(layer, tensors), *given, lengths)
    return sum(float((d * part).sum()) for d, part in zip(outer, results, strict=True))


def assert_is_the_slope(value, gradient, loss_at, rng):
    """Along a random direction the loss changes as the gradient says; `value` is moved in place."""
    direction, kept = rng.standard_normal(value.shape), value.copy()
    ends = []
    for sign in (1, -1):
        value[...] = kept + sign * STEP * direction
        ends.append(loss_at())
    value[...] = kept
    slope = (ends[0] - ends[1]) / (2 * STEP)
    size = float(np.linalg.norm(gradient))
    assert abs(slope - float((gradient * direction).sum())) <= 1e-7 * max(1.0, size)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_slopes_of_the_loss(family, options, rng):
    """Rows of different lengths, one of them whole; whole rows alone in the next test."""
    lengths = [4, 0, 1, 3]
    layer = make(family, 3, 4, **OPTIONS[options])
    given, outer = problem(rng, layer, 4, 4)
    tensors = float64_tensors(layer)
    *dgiven, grads = run_layer_backward(Parameters(layer, tensors), *given, lengths, *outer)
    assert list(grads) == list(tensors)

    def loss_at():
        return loss(layer, tensors, given, lengths, outer)

    for value, gradient in zip(
        (*given, *tensors.values()), (*dgiven, *grads.values()), strict=True
    ):
        assert value.shape == gradient.shape
        assert_is_the_slope(value, gradient, loss_at, rng)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_entry_of_every_gradient_is_a_slope(family, rng):
    layer = make(family, 2, 3)
    given, outer = problem(rng, layer, 2, 2)
    tensors = float64_tensors(layer)
    *dgiven, grads = run_layer_backward(Parameters(layer, tensors), *given, None, *outer)
    for value, gradient in zip(
        (*given, *tensors.values()), (*dgiven, *grads.values()), strict=True
    ):
        for index in np.ndindex(value.shape):
            assert_is_the_slope(
                value[(*index, None)],
                gradient[(*index, None)],
                lambda: loss(layer, tensors, given, None, outer),
                rng,
            )


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_not_given_is_zero(family, rng):
    layer = make(family, 3, 4, 2, bidirectional=True)
    (x, h, c), (dy, dh, dc) = problem(rng, layer, 3, 2)
    for missing in range(3):
        short = [None if i == missing else d for i, d in enumerate((dy, dh, dc))]
        zeroed = [0 * d if i == missing else d for i, d in enumerate((dy, dh, dc))]
        assert_equal(
            run_layer_backward(layer, x, h, c, None, *short),
            run_layer_backward(layer, x, h, c, None, *zeroed),
        )
    assert_equal(
        run_layer_backward(layer, x, None, None, None, dy),
        run_layer_backward(layer, x, 0 * h, 0 * c, [3, 3], dy),
    )


def assert_equal(got, wanted):
    for ours, theirs in zip(got[:3], wanted[:3], strict=True):
        assert np.array_equal(ours, theirs)
    for name, gradient in got[3].items():
        assert np.array_equal(gradient, wanted[3][name])


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_without_steps_hand_their_gradient_straight_back(family, rng):
    layer = make(family, 3, 4, 2, bidirectional=True)
    given, outer = problem(rng, layer, 3, 2)
    dx, dh, dc, grads = run_layer_backward(layer, *given, [0, 0], *outer)
    assert not dx.any()
    assert np.array_equal(dh, outer[1])
    assert np.array_equal(dc, outer[2])
    assert not any(gradient.any() for gradient in grads.values())


def test_relu_has_no_slope_at_zero():
    layer = make("rnn_relu", 3, 4, bias=False)
    dx, dh, _, grads = run_layer_backward(layer, np.zeros((2, 1, 3)), dy=np.ones((2, 1, 4)))
    assert not dx.any()
    assert not dh.any()
    assert not any(gradient.any() for gradient in grads.values())


# ---- PyTorch ---------------------------------------------------------------------------------

TORCH = ["rnn_tanh", "rnn_relu", "lstm", "lstm_projected", "gru"]


def torch_results(torch, layer, given, lengths, outer):
    """PyTorch's dx, dh0, dc0 and gradients by name, in float64."""
    config = {k: v for k, v in layer.config.items() if k not in ("merge", "reset", "peephole")}
    theirs = getattr(torch.nn, type(layer).__name__)(**config).double()
    theirs.load_state_dict({k: torch.from_numpy(v) for k, v in layer.state_dict().items()})
    x, *state = (torch.from_numpy(part).requires_grad_() for part in given)
    pack = torch.nn.utils.rnn.pack_padded_sequence
    packed = x if lengths is None else pack(x, lengths, enforce_sorted=False)
    y, last = theirs(packed, tuple(state) if layer.has_cell else state[0])
    if lengths is not None:
        y = torch.nn.utils.rnn.pad_packed_sequence(y)[0]
    last = (y, *last) if layer.has_cell else (y, last)
    sum((torch.from_numpy(d) * part).sum() for d, part in zip(outer, last, strict=False)).backward()
    dstate = [outer[2] if part.grad is None else part.grad.numpy() for part in state]
    return x.grad.numpy(), *dstate, {k: p.grad.numpy() for k, p in theirs.named_parameters()}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("lengths", [None, [2, 5, 1]], ids=["whole", "lengths"])
@pytest.mark.parametrize("options", [name for name in OPTIONS if "summed" not in name])
@pytest.mark.parametrize("family", TORCH)
def test_gradients_are_those_of_pytorch(family, options, lengths, rng):
    torch = pytest.importorskip("torch")
    layer = make(family, 3, 6, **OPTIONS[options])
    given, outer = problem(rng, layer, 5, 3)
    *got, grads = run_layer_backward(layer, *given, lengths, *outer)
    *wanted, their_grads = torch_results(torch, layer, given, lengths, outer)
    assert list(grads) == list(their_grads)
    for ours, theirs in zip((*got, *grads.values()), (*wanted, *their_grads.values()), strict=True):
        assert np.abs(ours - theirs).max() <= 1e-12 * max(1.0, float(np.abs(theirs).max()))
