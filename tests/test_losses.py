"""Losses and their gradients against float64 formulas, finite differences and PyTorch."""

from __future__ import annotations

import math

import numpy as np
import pytest
from families import OWN_ISAS, normal

import fastrnn
from fastrnn import _core, losses

EPS = float(np.finfo(np.float32).eps)
SIZES = [1, 2, 15, 16, 17, 33, 63, 64, 65, 100, 4095, 4096, 4097, 10007]


def reference(logits, targets, smoothing=0.0):
    """Losses and gradient of their sum in float64; a target of -1 counts nothing."""
    x = logits.astype(np.float64)
    x = x - x.max(axis=1, keepdims=True)
    log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    rows, V = np.arange(len(x)), x.shape[1]
    hard, soft = -log_p[rows, targets], -log_p.mean(axis=1)
    gradient = np.exp(log_p) - smoothing / V
    gradient[rows, targets] -= 1.0 - smoothing
    counts = targets >= 0
    loss = (1.0 - smoothing) * hard + smoothing * soft
    return np.where(counts, loss, 0.0), np.where(counts[:, None], gradient, 0.0)


def close(got, wanted, limit):
    return np.abs(np.asarray(got, np.float64) - wanted).max(initial=0) <= limit


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("V", SIZES)
def test_cross_entropy_follows_the_float64_formula(V, smoothing, rng):
    x, targets = 3 * normal(rng, 5, V), rng.integers(0, V, 5)
    loss, dlogits = losses.cross_entropy(
        x, targets, label_smoothing=smoothing, reduction="none", ignore_index=-100
    )
    wanted, gradient = reference(x, targets, smoothing)
    # x - max is rounded once, chains have 256 terms: below 20 roundings of numbers up to 25.
    assert close(loss, wanted, 20 * 25 * EPS)
    assert close(dlogits, gradient, 50 * EPS)


def test_a_vocabulary_of_equal_logits_has_exactly_the_logarithm_of_its_size():
    for V in (1, 7, 1000, 300_000):
        loss, dlogits = losses.cross_entropy(np.full((1, V), 3.25, np.float32), [V - 1])
        assert loss == np.float32(math.log(V))
        assert dlogits[0, -1] == np.float32(1 / V - 1)


def test_a_sum_over_a_large_vocabulary_does_not_drift(rng):
    x = np.full((1, 1_000_000), -0.3, np.float32)
    x[0, 0] = 0.0
    loss, _ = losses.cross_entropy(x, [0])
    assert abs(loss - reference(x, np.array([0]))[0][0]) < 1e-5


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_equals_pytorch(reduction, smoothing, rng):
    torch = pytest.importorskip("torch")
    x, targets = 2 * normal(rng, 7, 5, 19), rng.integers(0, 19, (7, 5))
    targets[2, 3] = targets[6, 0] = 4
    loss, dlogits = losses.cross_entropy(
        x, targets, ignore_index=4, label_smoothing=smoothing, reduction=reduction
    )
    theirs = torch.tensor(x.reshape(35, 19), requires_grad=True)
    wanted = torch.nn.functional.cross_entropy(
        theirs,
        torch.tensor(targets.reshape(35)),
        ignore_index=4,
        label_smoothing=smoothing,
        reduction=reduction,
    )
    wanted.sum().backward()
    np.testing.assert_allclose(np.ravel(loss), np.ravel(wanted.detach()), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(dlogits.reshape(35, 19), theirs.grad, rtol=1e-5, atol=3e-7)


def differences(function, x, step=1e-2):
    """Central differences of a scalar function of a float32 array."""
    slopes = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        slopes[i] = (function(up) - function(down)) / (float(up[i]) - float(down[i]))
    return slopes


KEPT = np.array([[True, True, False], [True, False, True]])
LOSSES = {
    "cross_entropy": lambda x: losses.cross_entropy(x, [0, 3], label_smoothing=0.1),
    "mse": lambda x: losses.mse(x, np.full_like(x, 0.03)),
    "mse_masked": lambda x: losses.mse(x, np.full_like(x, 0.03), mask=[True, False]),
    "mse_sum": lambda x: losses.mse(x, np.full_like(x, 0.03), reduction="sum"),
    "mae": lambda x: losses.mae(x, np.full_like(x, 0.03)),
    "huber": lambda x: losses.huber(x, np.full_like(x, 0.03), delta=0.7),
    "binary": lambda x: losses.binary_cross_entropy(x, np.full_like(x, 0.3)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_equal_finite_differences(name, rng):
    x = normal(rng, 2, 4)
    x[np.abs(x - 0.03) < 0.05] = 0.5  # not across the kink of the absolute error
    _, gradient = LOSSES[name](x)
    assert gradient.shape == x.shape
    assert gradient.dtype == np.float32
    assert close(gradient, differences(lambda v: LOSSES[name](v)[0], x), 2e-4)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", ["mse", "mae", "huber", "binary_cross_entropy"])
def test_regression_losses_equal_pytorch(name, reduction, rng):
    torch = pytest.importorskip("torch")
    functions = {
        "mse": torch.nn.functional.mse_loss,
        "mae": torch.nn.functional.l1_loss,
        "huber": torch.nn.functional.huber_loss,
        "binary_cross_entropy": torch.nn.functional.binary_cross_entropy_with_logits,
    }
    x, y = 3 * normal(rng, 6, 5), rng.random((6, 5), np.float32)
    x[0, 0], x[0, 1], x[0, 2] = y[0, 0], 90.0, -90.0
    loss, gradient = getattr(losses, name)(x, y, reduction=reduction)
    theirs = torch.tensor(x, requires_grad=True)
    wanted = functions[name](theirs, torch.tensor(y), reduction=reduction)
    wanted.sum().backward()
    np.testing.assert_allclose(np.ravel(loss), np.ravel(wanted.detach()), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(gradient, theirs.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["mse", "mae", "huber", "binary_cross_entropy"])
def test_what_is_masked_out_may_hold_anything(name, rng):
    x, y = normal(rng, 2, 3, 4), rng.random((2, 3, 4), np.float32)
    wanted, gradient = getattr(losses, name)(x[KEPT], y[KEPT])
    x[~KEPT], y[~KEPT] = np.nan, 1e30
    loss, dx = getattr(losses, name)(x, y, mask=KEPT)
    assert loss == pytest.approx(wanted, rel=1e-6)
    assert np.array_equal(dx[KEPT], gradient)
    assert not dx[~KEPT].any()


def test_a_masked_mean_is_over_the_real_tokens(rng):
    x, targets = normal(rng, 2, 3, 9), rng.integers(0, 9, (2, 3))
    wanted, gradient = losses.cross_entropy(x[KEPT], targets[KEPT])
    targets[~KEPT] = 99
    x[~KEPT] = np.nan
    loss, dlogits = losses.cross_entropy(x, targets, mask=KEPT)
    assert loss == pytest.approx(wanted, rel=1e-7)
    assert np.array_equal(dlogits[KEPT], gradient)
    assert not dlogits[~KEPT].any()


def test_results_do_not_depend_on_threads_or_neighbours(rng):
    x, targets = 4 * normal(rng, 41, 1003), rng.integers(0, 1003, 41)
    results = []
    for threads in (1, 2, 3):
        with fastrnn.num_threads(threads):
            loss, dlogits = losses.cross_entropy(x, targets, label_smoothing=0.1, reduction="none")
            results.append((loss.tobytes(), dlogits.tobytes(), losses.log_softmax(x).tobytes()))
    assert results[0] == results[1] == results[2]
    alone = losses.cross_entropy(x[7:8], targets[7:8], label_smoothing=0.1, reduction="none")
    assert alone[0][0] == loss[7]
    assert np.array_equal(alone[1][0], dlogits[7])


def test_all_instruction_sets_give_the_same_bits(rng):
    before, hashes = _core.get_isa(), {}
    x, targets = 4 * normal(rng, 3, 5003), rng.integers(0, 5003, 3)
    try:
        for name in ("avx2", "avx512"):
            try:
                _core.select_isa(name)
            except ValueError:
                pytest.skip(f"needs {name}")
            loss, dlogits = losses.cross_entropy(x, targets, label_smoothing=0.1, reduction="none")
            hashes[name] = loss.tobytes() + dlogits.tobytes() + losses.log_softmax(x).tobytes()
    finally:
        _core.select_isa(before)
    assert hashes["avx2"] == hashes["avx512"]


@pytest.mark.parametrize("isa", OWN_ISAS)
def test_every_instruction_set_follows_the_formula(isa, rng):
    before = _core.get_isa()
    try:
        _core.select_isa(isa)
    except ValueError:
        pytest.skip(f"this CPU has no {isa}")
    try:
        for V in (1, 5, 29, 1003):
            x, targets = 3 * normal(rng, 4, V), rng.integers(0, V, 4)
            loss, dlogits = losses.cross_entropy(x, targets, reduction="none")
            wanted, gradient = reference(x, targets)
            assert close(loss, wanted, 500 * EPS)
            assert close(dlogits, gradient, 50 * EPS)
    finally:
        _core.select_isa(before)


def test_the_gradient_may_take_the_place_of_the_logits(rng):
    x, targets = normal(rng, 6, 37), rng.integers(0, 37, 6)
    result, apart = losses.classify(x, targets, label_smoothing=0.1, scale=0.5)
    memory = x.copy()
    again, dlogits = losses.classify(
        memory, targets, label_smoothing=0.1, scale=0.5, overwrite=True
    )
    assert dlogits is memory
    assert np.array_equal(dlogits, apart)
    assert again == result
    assert losses.classify(x, targets, label_smoothing=0.1, gradient=False) == (result, None)


def test_hits_are_counted_and_ties_go_to_the_first_class():
    x = np.array([[1, 2, 2], [1, 2, 2], [3, 1, 1], [np.nan, 9, 1], [5, 1, 1]], np.float32)
    result, _ = losses.classify(x, [1, 2, 0, 1, 0], mask=[True, True, True, True, False])
    assert result.correct == 2
    assert result.count == 4


def test_extreme_logits_give_finite_losses_and_gradients():
    x = np.array([[1e4, -1e4, 0], [-np.inf, 0, 1], [3e38, -3e38, 1]], np.float32)
    loss, dlogits = losses.cross_entropy(x, [1, 1, 0], reduction="none")
    assert loss == pytest.approx([2e4, math.log(1 + math.e), 0])
    assert np.isfinite(dlogits).all()
    assert dlogits[0].tolist() == [1, -1, 0]
    assert dlogits[1, 0] == 0
    assert dlogits[2].tolist() == [0, 0, 0]


def test_an_impossible_target_has_an_infinite_loss():
    loss, _ = losses.cross_entropy(np.array([[-np.inf, 0]], np.float32), [0])
    assert loss == math.inf


def test_nan_in_gives_nan_out(rng):
    for place in (0, 5, 16, 39):
        x = normal(rng, 2, 40)
        x[0, place] = np.nan
        loss, dlogits = losses.cross_entropy(x, [3, 4], reduction="none")
        assert np.isnan(loss[0])
        assert np.isnan(dlogits[0]).all()
        assert np.isfinite(dlogits[1]).all()
        assert np.isnan(losses.log_softmax(x)[0]).all()
    for name in ("mse", "mae", "huber", "binary_cross_entropy"):
        assert math.isnan(getattr(losses, name)(np.array([1, np.nan], np.float32), [0, 1])[0])


def test_one_class_costs_nothing():
    loss, dlogits = losses.cross_entropy(np.array([[7.0]], np.float32), [0])
    assert loss == 0
    assert dlogits == 0


@pytest.mark.parametrize("V", SIZES)
def test_log_softmax_follows_the_float64_formula(V, rng):
    x = 5 * normal(rng, 3, V)
    wanted = x - np.log(np.exp(x.astype(np.float64)).sum(axis=1, keepdims=True))
    assert close(losses.log_softmax(x), wanted, 40 * 4 * EPS)


def test_perplexity_of_an_exploded_loss_is_infinite():
    assert losses.perplexity(math.log(50)) == pytest.approx(50)
    assert losses.perplexity(1e4) == math.inf
    assert math.isnan(losses.perplexity(math.nan))


X = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: losses.cross_entropy(X, [0, 3]), ValueError, "targets holds 3, expected classes"),
        (lambda: losses.cross_entropy(X, [-1, 0]), ValueError, "targets holds -1"),
        (lambda: losses.cross_entropy(X, [0]), ValueError, r"targets has shape \(1,\)"),
        (lambda: losses.cross_entropy(X, [0.0, 1.0]), TypeError, "targets has dtype float64"),
        (lambda: losses.cross_entropy(X[:, :0], [0, 0]), ValueError, "at least one class"),
        (lambda: losses.cross_entropy(X, [1, 1], ignore_index=1), ValueError, "nothing to average"),
        (lambda: losses.cross_entropy(X[:0], []), ValueError, "no targets were given"),
        (lambda: losses.cross_entropy(X, [0, 0], label_smoothing=2), ValueError, "label_smoothing"),
        (
            lambda: losses.cross_entropy(X, [0, 0], reduction="max"),
            ValueError,
            "reduction is 'max'",
        ),
        (lambda: losses.cross_entropy(X, [0, 0], mask=[1, 0]), TypeError, "mask has dtype int64"),
        (
            lambda: losses.cross_entropy(X, [0, 0], mask=[True]),
            ValueError,
            r"mask has shape \(1,\)",
        ),
        (
            lambda: losses.mse(X, X[0]),
            ValueError,
            r"target has shape \(3,\), prediction has \(2, 3\)",
        ),
        (lambda: losses.mse(X[:0], X[:0]), ValueError, "nothing to average"),
        (lambda: losses.huber(X, X, delta=0), ValueError, "delta is 0"),
        (lambda: losses.binary_cross_entropy(X, X + 2), ValueError, "targets holds 2.0"),
    ],
)
def test_what_makes_no_sense_is_an_error(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_nothing_to_add_up_is_zero():
    loss, dlogits = losses.cross_entropy(X, [1, 1], ignore_index=1, reduction="sum")
    assert loss == 0
    assert not dlogits.any()
    assert losses.cross_entropy(X[:0], [], reduction="none")[0].shape == (0,)
