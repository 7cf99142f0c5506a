"""Optimisers step by step against PyTorch's and against plain float64 formulas."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest
from families import OWN_ISAS, normal

import fastrnn
from fastrnn import _core, optim

SIZE, STEPS = 203, 40

RULES = {
    "SGD": [
        {"lr": 0.1},
        {"lr": 0.1, "weight_decay": 0.01},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    ],
    "Adam": [
        {},
        {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1},
        {"lr": 0.05, "betas": (0.0, 0.5)},
        {"lr": 0.05, "betas": (0.3, 0.9)},
    ],
    "AdamW": [{}, {"lr": 0.05, "weight_decay": 0.3}, {"lr": 0.05, "weight_decay": 0.0}],
    "RMSprop": [
        {},
        {"alpha": 0.5, "weight_decay": 0.1, "eps": 1e-3},
        {"momentum": 0.9},
        {"centered": True},
        {"centered": True, "momentum": 0.5, "weight_decay": 0.01},
    ],
    "Adagrad": [
        {},
        {"lr": 0.1, "lr_decay": 0.05, "weight_decay": 0.1},
        {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-4},
    ],
}
CASES = [(name, options) for name, cases in RULES.items() for options in cases]
IDS = [f"{name}-{'-'.join(options) or 'defaults'}-{i}" for i, (name, options) in enumerate(CASES)]


class Vector:
    """The least that an optimiser takes for a model."""

    def __init__(self, values):
        self.flat = np.array(values, np.float32)
        self.flat_grad = np.zeros_like(self.flat)
        self.repacked = 0

    def repack(self):
        self.repacked += 1


def gradients(rng, size=SIZE, steps=STEPS):
    """Of sizes from 1e-3 to 1e2, so that the rules meet small and large moments."""
    return normal(rng, steps, size) * np.geomspace(1e-3, 1e2, size, dtype=np.float32)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_every_step_equals_pytorch_s(name, options, rng):
    torch = pytest.importorskip("torch")
    ours = Vector(normal(rng, SIZE))
    theirs = torch.nn.Parameter(torch.tensor(ours.flat))
    optimizer = getattr(optim, name)(ours, **options)
    peer = getattr(torch.optim, name)([theirs], foreach=False, **options)
    largest = np.abs(ours.flat)
    for step, gradient in enumerate(gradients(rng)):
        ours.flat_grad[...] = gradient
        theirs.grad = torch.tensor(gradient)
        optimizer.step()
        peer.step()
        wanted = theirs.detach().numpy()
        largest = np.maximum(largest, np.abs(wanted))
        # Two roundings more or less of the parameter and of the step, at every step.
        limit = 2 * (step + 1) * np.finfo(np.float32).eps * largest
        assert (np.abs(ours.flat - wanted) <= limit).all(), step
    assert ours.repacked == STEPS


def adam64(p, grads, lr=1e-3, b1=0.9, b2=0.999, eps=1e-8):
    m = v = np.zeros_like(p)
    for t, g in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        p = p - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return p


def adagrad64(p, grads, lr=1e-2, eps=1e-10):
    total = np.zeros_like(p)
    for g in grads:
        total = total + g * g
        p = p - lr * g / (np.sqrt(total) + eps)
    return p


def rmsprop64(p, grads, lr=1e-2, alpha=0.99, eps=1e-8):
    v = np.zeros_like(p)
    for g in grads:
        v = alpha * v + (1 - alpha) * g * g
        p = p - lr * g / (np.sqrt(v) + eps)
    return p


def nesterov64(p, grads, lr=1e-2, momentum=0.9):
    m = np.zeros_like(p)
    for g in grads:
        m = momentum * m + g
        p = p - lr * (g + momentum * m)
    return p


FORMULAS = [
    (optim.Adam, {}, adam64),
    (optim.Adagrad, {}, adagrad64),
    (optim.RMSprop, {}, rmsprop64),
    (optim.SGD, {"lr": 1e-2, "momentum": 0.9, "nesterov": True}, nesterov64),
]


@pytest.mark.parametrize("isa", OWN_ISAS)
@pytest.mark.parametrize(("kind", "options", "formula"), FORMULAS, ids=lambda v: str(v)[:30])
def test_a_rule_follows_its_float64_formula(kind, options, formula, isa, rng):
    before = _core.get_isa()
    try:
        _core.select_isa(isa)
    except ValueError:
        pytest.skip(f"this CPU has no {isa}")
    try:
        model, grads = Vector(normal(rng, 37)), gradients(rng, 37)
        wanted = formula(model.flat.astype(np.float64), grads.astype(np.float64))
        optimizer = kind(model, **options)
        for gradient in grads:
            model.flat_grad[...] = gradient
            optimizer.step()
        np.testing.assert_allclose(model.flat, wanted, rtol=1e-5, atol=1e-5)
    finally:
        _core.select_isa(before)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_no_bit_depends_on_the_number_of_threads(name, options, rng):
    size = 2 * 262144 + 5
    start, gradient = normal(rng, size), normal(rng, size)
    results = []
    for threads in (1, 2, 3):
        model = Vector(start)
        optimizer = getattr(optim, name)(model, **options)
        with fastrnn.num_threads(threads):
            for _ in range(2):
                model.flat_grad[...] = gradient
                norm = optim.clip_grad_norm(model, 10.0)
                optim.clip_grad_value(model, 0.02)
                optimizer.step()
        results.append((norm, model.flat.tobytes(), model.flat_grad.tobytes()))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_an_optimiser_continues_from_its_saved_state_bit_for_bit(name, options, rng):
    whole, grads = Vector(normal(rng, SIZE)), gradients(rng)
    optimizer = getattr(optim, name)(whole, **options)
    for step, gradient in enumerate(grads):
        if step == 17:
            saved, parameters = optimizer.state_dict(), whole.flat.copy()
        whole.flat_grad[...] = gradient
        optimizer.step()
    resumed = Vector(parameters)
    again = getattr(optim, name)(resumed, lr=0.5)
    again.load_state_dict(saved)
    for gradient in grads[17:]:
        resumed.flat_grad[...] = gradient
        again.step()
    assert resumed.flat.tobytes() == whole.flat.tobytes()
    assert again.options == optimizer.options


def test_a_state_is_arrays_and_plain_values_that_stay_as_they_were(rng):
    model = Vector(normal(rng, SIZE))
    optimizer = optim.RMSprop(model, momentum=0.9, centered=True)
    model.flat_grad[...] = 1.0
    optimizer.step()
    state = optimizer.state_dict()
    vectors = {name for name, value in state.items() if isinstance(value, np.ndarray)}
    assert vectors == {"square_avg", "momentum_buffer", "grad_avg"}
    json.dumps({name: value for name, value in state.items() if name not in vectors})
    before = copy.deepcopy(state)
    optimizer.step()
    assert all(np.array_equal(state[name], before[name]) for name in state)


def without(state, name):
    return {key: value for key, value in state.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {**s, "kind": "AdamW"}, "state is of kind 'AdamW', this optimiser is 'Adam'"),
        (lambda s: without(s, "kind"), "state is of kind None"),
        (lambda s: {**s, "exp_avg": s["exp_avg"][:-1]}, r"exp_avg has shape \(4,\)"),
        (lambda s: {**s, "exp_avg": s["exp_avg"].astype(float)}, "exp_avg has dtype float64"),
        (lambda s: without(s, "exp_avg_sq"), "state lacks 'exp_avg_sq'"),
        (lambda s: without(s, "beta1"), "state lacks 'beta1'"),
        (lambda s: without(s, "steps"), "state lacks 'steps'"),
        (lambda s: {**s, "sum": s["exp_avg"]}, "state has an unexpected 'sum'"),
        (lambda s: {**s, "beta1": 1.0}, "beta1 is 1.0"),
        (lambda s: {**s, "steps": -1}, "steps is -1"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change, message, rng):
    model = Vector(normal(rng, 5))
    optimizer = optim.Adam(model)
    model.flat_grad[...] = 1.0
    optimizer.step()
    before = optimizer.state_dict()
    with pytest.raises((ValueError, TypeError), match=message):
        optimizer.load_state_dict(change(optimizer.state_dict()))
    after = optimizer.state_dict()
    assert all(np.array_equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: optim.SGD(m, -0.1), "lr is -0.1"),
        (lambda m: optim.SGD(m, math.nan), "lr is nan"),
        (lambda m: optim.SGD(m, math.inf), "lr is inf"),
        (lambda m: optim.SGD(m, True), "lr is True"),
        (lambda m: optim.SGD(m, "fast"), "lr is 'fast'"),
        (lambda m: optim.SGD(m, 0.1, momentum=-1), "momentum is -1"),
        (lambda m: optim.SGD(m, 0.1, weight_decay=-1), "weight_decay is -1"),
        (lambda m: optim.SGD(m, 0.1, nesterov=True), "nesterov is True"),
        (lambda m: optim.SGD(m, 0.1, 0.9, 0.1, nesterov=True), "nesterov is True"),
        (lambda m: optim.Adam(m, betas=(1.0, 0.9)), "beta1 is 1.0"),
        (lambda m: optim.Adam(m, betas=(0.9, -0.1)), "beta2 is -0.1"),
        (lambda m: optim.Adam(m, betas=0.9), "betas is 0.9"),
        (lambda m: optim.Adam(m, eps=0), "eps is 0"),
        (lambda m: optim.RMSprop(m, alpha=1.1), "alpha is 1.1"),
        (lambda m: optim.RMSprop(m, centered=1), "centered should be of type bool"),
        (lambda m: optim.Adagrad(m, initial_accumulator_value=-1), "initial_accumulator_value"),
        (lambda m: optim.Adagrad(m, lr_decay=-1), "lr_decay is -1"),
        (lambda m: optim.Adam([1, 2]), "model should be a model or layer of fastrnn, got: list"),
        (lambda m: setattr(optim.Adam(m), "lr", -1), "lr is -1"),
        (lambda m: optim.clip_grad_norm(m, -1), "max_norm is -1"),
        (lambda m: optim.clip_grad_value(m, -1), "clip_value is -1"),
    ],
)
def test_impossible_settings_are_errors(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make(Vector(np.ones(3)))


@pytest.mark.parametrize("limit", [0.0, 0.5, 1e9])
def test_the_norm_and_its_limit_equal_pytorch_s(limit, rng):
    torch = pytest.importorskip("torch")
    model = Vector(np.zeros(10_007))
    model.flat_grad[...] = normal(rng, 10_007)
    theirs = torch.nn.Parameter(torch.zeros(10_007))
    theirs.grad = torch.tensor(model.flat_grad)
    wanted = float(torch.nn.utils.clip_grad_norm_([theirs], limit))
    assert optim.clip_grad_norm(model, limit) == pytest.approx(wanted, rel=1e-6)
    np.testing.assert_allclose(model.flat_grad, theirs.grad, rtol=1e-6)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 4095, 4096, 4097, 100_003])
def test_the_norm_is_exact_to_float64(size, rng):
    x = normal(rng, size)
    assert _core.squared_norm(x) == pytest.approx(math.fsum(x.astype(float) ** 2), rel=1e-13)


def test_the_norm_neither_overflows_nor_hides_what_is_not_finite():
    model = Vector(np.zeros(40))
    model.flat_grad[...] = 1e37
    assert optim.clip_grad_norm(model, 1.0) == pytest.approx(1e37 * math.sqrt(40), rel=1e-6)
    np.testing.assert_allclose(model.flat_grad, 40**-0.5, rtol=1e-6)
    model.flat_grad[7] = math.inf
    assert optim.clip_grad_norm(model, 1.0) == math.inf
    model.flat_grad[7] = math.nan
    assert math.isnan(optim.clip_grad_norm(model, 1.0))
    assert np.isnan(model.flat_grad).all()


def test_values_are_clipped_and_nan_stays(rng):
    model = Vector(np.zeros(37))
    model.flat_grad[...] = gradient = 3 * normal(rng, 37)
    model.flat_grad[5] = math.nan
    optim.clip_grad_value(model, 0.5)
    wanted = np.clip(gradient, -0.5, 0.5)
    wanted[5] = math.nan
    assert np.array_equal(model.flat_grad, wanted, equal_nan=True)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_the_padding_of_a_model_stays_zero_and_its_kernels_follow(name, options, rng):
    model = fastrnn.models.LanguageModel(7, 3, 5)
    optimizer = getattr(optim, name)(model, **options)
    before = model([[1], [2]])[0]
    for _ in range(3):
        for gradient in model.grads.values():
            gradient[...] = normal(rng, *gradient.shape)
        optimizer.step()
    optimizer.zero_grad()
    assert not model.flat_grad.any()
    assert not np.array_equal(model([[1], [2]])[0], before)
    for parameter in model.parameters.values():
        parameter[...] = 0.0
    assert not model.flat.any()


def test_a_centred_average_of_constant_gradients_never_becomes_nan():
    model = Vector(np.ones(64))
    model.flat_grad[...] = np.linspace(0.1, 3.0, 64)
    optimizer = optim.RMSprop(model, lr=1e-6, alpha=0.5, centered=True)
    for _ in range(60):
        optimizer.step()
    assert np.isfinite(model.flat).all()


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dim", [1, 3, 16, 37, 200])
def test_rows_are_added_backwards_in_time_whatever_the_threads(dim, batch_first, rng):
    T, N, V = 40, 9, 11
    tokens, dy, start = rng.integers(0, V, (T, N)), normal(rng, T, N, dim), normal(rng, V, dim)
    wanted = start.copy()
    for t in reversed(range(T)):
        for n in range(N):
            wanted[tokens[t, n]] += dy[t, n]
    if batch_first:
        tokens, dy = tokens.T.copy(), dy.swapaxes(0, 1).copy()
    for threads in (1, 2, 3):
        with fastrnn.num_threads(threads):
            dw = start.copy()
            _core.add_rows(tokens, dy, dw, batch_first)
            assert np.array_equal(dw, wanted)


def test_rows_outside_the_table_are_refused(rng):
    dw = np.zeros((4, 3), np.float32)
    with pytest.raises(ValueError, match="tokens must be 0 to 3, got 1 to 4"):
        _core.add_rows(np.array([[1, 4]]), normal(rng, 1, 2, 3), dw)
    with pytest.raises(ValueError, match="dy has shape"):
        _core.add_rows(np.array([[1, 3]]), normal(rng, 1, 1, 3), dw)
    assert not dw.any()
