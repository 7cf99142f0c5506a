"""Activations against their formulas in float64, forward and backward, with NumPy alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from kernels import assert_fused_kernels_agree
from slopes import gradient_of

import fastrnn
from fastrnn import _core, nn

ERF = np.vectorize(math.erf, otypes=[float])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def magnitude(x):
    real, imaginary = np.split(x, 2, axis=-1)
    return np.hypot(real, imaginary)


# By its repr, a module and its formula.
CASES = {
    repr(module): (module, formula)
    for module, formula in [
        (nn.Abs(), np.abs),
        (nn.Clip(), lambda x: x),
        (nn.Clip(high=0.5), lambda x: np.minimum(x, 0.5)),
        (nn.Clip(-0.5, 0.25), lambda x: np.clip(x, -0.5, 0.25)),
        (nn.ELU(0.7), lambda x: elu(x, 0.7)),
        (nn.Exp(), np.exp),
        (nn.GELU(), lambda x: x * (1 + ERF(x / np.sqrt(2))) / 2),
        (
            nn.GELU("tanh"),
            lambda x: x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))) / 2,
        ),
        (nn.HardSigmoid(), lambda x: np.clip(x / 6 + 0.5, 0, 1)),
        (nn.HardSigmoid(0.2, 0.25), lambda x: np.clip(0.2 * x + 0.25, 0, 1)),
        (nn.Hardswish(), lambda x: x * np.clip(x + 3, 0, 6) / 6),
        (nn.Hardtanh(), lambda x: np.clip(x, -1, 1)),
        (nn.LeakyReLU(0.3), lambda x: np.where(x > 0, x, 0.3 * x)),
        (nn.Log(), np.log),
        (nn.LogSigmoid(), lambda x: -softplus(-x)),
        (nn.LogSoftmax(), lambda x: np.log(softmax(x))),
        (nn.Magnitude(), magnitude),
        (nn.Mish(), lambda x: x * np.tanh(softplus(x))),
        (nn.ReLU(), lambda x: np.maximum(x, 0)),
        (nn.SELU(), lambda x: 1.0507009873554805 * elu(x, 1.6732632423543772)),
        (nn.Sigmoid(), sigmoid),
        (nn.SiLU(), lambda x: x * sigmoid(x)),
        (nn.Softmax(), softmax),
        (nn.Softplus(), softplus),
        (nn.Softplus(2.0, 3.0), lambda x: np.where(2 * x > 3, x, softplus(2 * x) / 2)),
        (nn.Softsign(), lambda x: x / (1 + np.abs(x))),
        (nn.Sqrt(), np.sqrt),
        (nn.Square(), np.square),
        (nn.Tanh(), np.tanh),
    ]
}  # fmt: skip
EACH = [name for name in CASES if "Softmax" not in name and name != "Magnitude()"]


def inputs(name, shape, rng):
    """Away from corners, where a difference quotient is no gradient."""
    x = rng.uniform(0.3, 5, shape) if name in ("Log()", "Sqrt()") else rng.uniform(-5, 5, shape)
    return (np.round(x * 32) / 32 + 1 / 128).astype(np.float32)


def test_every_activation_of_the_core_is_a_module_with_a_case_here():
    made = {type(module) for module, _ in CASES.values()}
    assert made == set(nn.ACTIVATIONS)
    functions = {kind._function for kind in nn.ACTIVATIONS if hasattr(kind, "_function")}
    assert functions | {"gelu", "gelu_tanh"} == set(_core.activations())
    for kind in nn.ACTIVATIONS:
        assert getattr(fastrnn, kind.__name__) is kind


def test_the_table_says_what_an_activation_takes():
    table = _core.activations()
    assert table["clip"] == ("each", "x", ("low", "high"), (-1.0, 1.0))
    assert table["magnitude"] == ("pair", "x", (), ())
    assert table["softmax"] == ("row", "y", (), ())
    for name, (_, _, names, usual) in table.items():
        assert len(names) == len(usual), name
    with pytest.raises(ValueError, match="there is no activation 'relu6'"):
        _core.Activation("relu6")


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 2), (2, 3, 18), (2, 0, 4), (1, 33, 66)])
@pytest.mark.parametrize("name", EACH)
def test_values_are_those_of_the_formula(name, shape, rng):
    module, formula = CASES[name]
    x = inputs(name, shape, rng)
    y = module(x)
    assert y.shape == x.shape
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, formula(x.astype(np.float64)), rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("shape", [(2,), (5, 6), (2, 3, 34), (0, 4)])
@pytest.mark.parametrize("name", ["Softmax(dim=-1)", "LogSoftmax(dim=-1)", "Magnitude()"])
def test_values_of_rows_and_pairs_are_those_of_the_formula(name, shape, rng):
    module, formula = CASES[name]
    x = inputs(name, shape, rng)
    expected = formula(x.astype(np.float64)) if x.size else np.empty((0, 2))
    y = module(x)
    if x.size:
        np.testing.assert_allclose(y, expected, rtol=2e-6, atol=1e-7)
        assert y.shape == expected.shape


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_the_slopes_of_the_formula(name, rng):
    module, formula = CASES[name]
    x = inputs(name, (3, 10), rng)
    y, pullback = module.vjp(x)
    np.testing.assert_array_equal(y, module(x))
    dy = rng.standard_normal(y.shape).astype(np.float32)
    dx = pullback(dy)
    assert dx.shape == x.shape
    expected = gradient_of(lambda x: float((formula(x) * dy).sum()), x)
    np.testing.assert_allclose(dx, expected, rtol=1e-5, atol=2e-6)
    with pytest.raises(RuntimeError, match=f"this pullback of a {type(module).__name__}"):
        pullback(dy)


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_gradient_is_refused(name, rng):
    module, _ = CASES[name]
    y, pullback = module.vjp(inputs(name, (2, 4), rng))
    with pytest.raises(ValueError, match=r"dy has shape \(3, 4\), expected"):
        pullback(np.ones((3, 4), np.float32))
    assert y.shape[0] == 2


@pytest.mark.parametrize("name", CASES)
def test_nan_gives_nan_and_touches_no_other_row(name, rng):
    module, _ = CASES[name]
    x = inputs(name, (2, 4), rng)
    expected = module(x)[1]
    x[0] = np.nan
    y = module(x)
    assert np.isnan(y[0]).all()
    np.testing.assert_array_equal(y[1], expected)


LIMITS = {
    "ELU(alpha=0.7)": (-0.7, np.inf), "Exp()": (0, np.inf), "GELU(approximate='none')": (0, np.inf),
    "GELU(approximate='tanh')": (0, np.inf), "HardSigmoid(alpha=0.2, beta=0.25)": (0, 1),
    "Hardswish()": (0, np.inf), "LogSigmoid()": (-np.inf, 0), "Mish()": (0, np.inf),
    "ReLU()": (0, np.inf), "Sigmoid()": (0, 1), "SiLU()": (0, np.inf), "Softsign()": (-1, 1),
    "Softplus(beta=1.0, threshold=20.0)": (0, np.inf), "Tanh()": (-1, 1),
    "Hardtanh(min_val=-1.0, max_val=1.0)": (-1, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_an_infinite_input_gives_the_limit(name):
    y = CASES[name][0](np.array([-np.inf, np.inf], np.float32))
    np.testing.assert_array_equal(y, np.float32(LIMITS[name]))


def test_rows_with_an_infinite_input_are_pytorch_s():
    x = np.array([[-np.inf, 0.0, 0.0], [np.inf, 0.0, 1.0], [-np.inf] * 3], np.float32)
    y = fastrnn.Softmax()(x)
    np.testing.assert_array_equal(y[0], np.float32([0, 0.5, 0.5]))
    assert np.isnan(y[1:]).all()


def test_a_magnitude_neither_overflows_nor_underflows():
    x = np.array([[3e38, 1e-30, 0.0, 0.0, 0.0, -1e-30, 0.0, 5.0]], np.float32)
    y, pullback = fastrnn.Magnitude().vjp(x)
    np.testing.assert_allclose(y, [[3e38, 2**0.5 * 1e-30, 0, 5]], rtol=3e-7)
    dx = pullback(np.ones_like(y))
    half = 0.5**0.5
    np.testing.assert_allclose(dx, [[1, half, 0, 0, 0, -half, 0, 1]], rtol=3e-7)


@pytest.mark.parametrize("name", ["Softmax(dim=-1)", "Magnitude()"])
@pytest.mark.parametrize("x", [np.float32(1), np.empty((2, 0), np.float32)])
def test_rows_need_values(name, x):
    with pytest.raises(ValueError, match=r"x has shape .*, this \w+ expects \(\*, C\) with values"):
        CASES[name][0](x)


def test_pairs_need_an_even_number_of_features():
    with pytest.raises(ValueError, match="x has 3 features, this Magnitude expects an even number"):
        fastrnn.Magnitude()(np.ones((2, 3), np.float32))


def test_arguments_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ValueError, match=r"low is 1 and high 1, expected low below high"):
        fastrnn.Clip(1, 1)
    with pytest.raises(ValueError, match=r"min_val is 2 and max_val 1, expected min_val below"):
        fastrnn.Hardtanh(2, 1)
    with pytest.raises(ValueError, match="dim is 1, a LogSoftmax expects -1: the last axis"):
        fastrnn.LogSoftmax(1)
    with pytest.raises(ValueError, match="beta is 0, expected a number above 0"):
        fastrnn.Softplus(0)
    with pytest.raises(ValueError, match=r"alpha is 1e\+39, expected a finite number of float32"):
        fastrnn.ELU(1e39)


@pytest.mark.parametrize("name", CASES)
def test_a_saved_activation_is_the_same_when_it_is_loaded(name, tmp_path, rng):
    module, _ = CASES[name]
    fastrnn.save(module, tmp_path / "module.safetensors")
    loaded = fastrnn.load(tmp_path / "module.safetensors")
    assert type(loaded) is type(module)
    assert loaded.config == module.config
    x = inputs(name, (2, 4), rng)
    np.testing.assert_array_equal(loaded(x), module(x))


def test_fused_kernels_have_the_same_bits():
    assert_fused_kernels_agree(
        "import numpy as np\n"
        "from kernels import tell\n"
        "from test_activations import CASES\n"
        "x = np.random.default_rng(0).uniform(0.1, 3, (3, 38)).astype(np.float32)\n"
        "results = [module.vjp(x) for module, _ in CASES.values()]\n"
        "tell([array for y, back in results for array in (y, back(y))])\n"
    )
