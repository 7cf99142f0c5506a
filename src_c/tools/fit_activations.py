"""Derive the coefficients of src_c/simd/math.h and special.h, printed as C hexadecimal floats.

    python src_c/tools/fit_activations.py

Each function is a polynomial in r, what is left of the argument after n * ln 2 is taken out:

    exp(x)     = 2^n p(r)                   p = 1 + r + ...     ~ e^r              |r| <= ln2 / 2
    sigmoid(x) = w / (w + 2^n p(r))         p = w - w r + ...   ~ w e^-r           |r| <= ln2 / 2
    tanh(x)    = m / (2 - m)                q = 2 + c1 r + ...  ~ (1 - e^-2r) / r  |r| <= ln2 / 4
                 m = 1 - 2^n + 2^n r q(r)

Four more, of special.h, are fitted and rounded, without a search:

    log(m)     = 2 s + s^3 p(s^2)    s = (m - 1) / (m + 1)             sqrt(1/2) <= m <= sqrt 2
    log(1 + u) = 2 s + s^3 p(s^2)    s = u / (2 + u)                   0 <= u <= 1
    Phi(x)     = 1/2 + x p(x^2)                                        |x| <= 1/2
    Phi(-a)    = e^(-a^2/2) p(q) r   r = 1 / (a + c), q = (a - c) r    0 <= a <= 14.5, c = 2.5

Three steps for each of the first three: a minimax fit of the relative error in float64 (Lawson's
reweighted least squares), rounding to float32, and a search over neighbouring floats that lowers
the largest error in ulp of the whole function. The search evaluates the function as math.h does,
with every float32 rounding emulated. Everything is deterministic; it takes a minute or two.
"""

import math
from collections.abc import Callable
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Evaluate = Callable[[Vector, list[float]], Vector]

LAWSON_STEPS = 600
SEARCH_PASSES = 3
TAIL_C = 2.5  # where q is 0: the larger, the smaller the degree, but the more roundings of q count
INTERVAL_SLACK = 1.0002  # n rounds an already rounded product: r overshoots its interval

LN2 = Decimal(2).ln()
LOG2E = float(np.float32(float(1 / LN2)))
LN2_HALF = float(np.float32(float(LN2 / 2)))
LN2_HI = int(LN2 * 2**15) / 2**15  # 15 bits: n * LN2_HI is exact for |n| <= 2^9
LN2_LO = float(np.float32(float(LN2 - Decimal(LN2_HI))))


def main() -> None:
    """Fit, search and print the three functions."""
    for name, value in (
        ("LOG2E", LOG2E),
        ("LN2_HI", LN2_HI),
        ("LN2_LO", LN2_LO),
        ("LN2_HALF", LN2_HALF),
    ):
        print(f"{name:9s}{hex_float(value)}")
    half = INTERVAL_SLACK * float(LN2) / 2

    series, bound = fit(np.exp, fixed=[1.0, 1.0], degree=6, half_width=half)
    x = to_float(np.linspace(-87.3, 88.7, 1_000_000))
    report("exp", bound, *search(exp_float, series, x, np.exp(x), first_free=2))

    series, bound = fit(lambda r: np.exp(-r), fixed=[1.0, -1.0], degree=6, half_width=half)
    x = -every_float(0.25, 32.0, step=29)
    exact = np.exp(x) / (1.0 + np.exp(x))
    # The worst results have p just above 1 (about 1.2 w + 0.5 ulp) or just below w (2 / w + 0.5).
    scale = min(
        (float(np.float32(w)) for w in np.arange(1.32, 1.345, 0.0005)),
        key=lambda w: largest(sigmoid_float(x, nearest(w * series)), exact),
    )
    report("sigmoid", bound, *search(sigmoid_float, scale * series, x, exact, first_free=2))

    series, bound = fit(lambda r: -np.expm1(-2 * r) / r, [2.0], degree=5, half_width=half / 2)
    x = every_float(0.03125, 9.1, step=67)
    report("tanh", bound, *search(tanh_float, series, x, np.tanh(x), first_free=1))

    for name, most, degree in (
        ("log", (2**0.5 - 1) / (2**0.5 + 1) * INTERVAL_SLACK, 2),
        ("log1p", 1 / 3, 3),
    ):
        s = np.linspace(0.02, most, 2000)  # below, what the series adds is less than half an ulp
        exact = 2 * np.arctanh(s) / s
        powers = np.vander(s * s, degree + 1, increasing=True)
        series, bound = minimax(powers, (exact - 2) / s**2, s**2 / exact)
        report(name, bound, nearest(series))

    x = np.linspace(1e-3, 0.5, 2000)
    exact = np.array([math.erf(value / 2**0.5) / 2 / value for value in x])
    series, bound = minimax(np.vander(x * x, 4, increasing=True), exact, 1 / exact)
    report("normal centre", bound, nearest(series))

    a = np.concatenate([np.linspace(0, 3, 1500), np.linspace(3, 14.5, 1500)])
    exact = np.array([math.exp(x * x / 2) * math.erfc(x / 2**0.5) / 2 for x in a]) * (a + TAIL_C)
    powers = np.vander((a - TAIL_C) / (a + TAIL_C), 11, increasing=True)
    series, bound = minimax(powers, exact, 1 / exact)
    report("normal tail", bound, nearest(series))


def fit(
    function: Callable[[Vector], Vector], fixed: list[float], degree: int, half_width: float
) -> tuple[Vector, float]:
    """Coefficients, lowest first, of the smallest relative error on |r| <= half_width, and it.

    The lowest coefficients are held at `fixed`.
    """
    positive = np.linspace(1e-3, half_width, 1500)
    r = np.concatenate([-positive[::-1], positive])
    f = function(r)
    powers = np.vander(r, degree + 1, increasing=True)
    rest = f - powers[:, : len(fixed)] @ np.array(fixed)
    best, bound = minimax(powers[:, len(fixed) :], rest, 1 / f)
    return np.concatenate([fixed, best]), bound


def minimax(basis: Vector, f: Vector, importance: Vector) -> tuple[Vector, float]:
    """Coefficients of the columns of `basis` with the smallest weighted error from f, and it."""
    weight = np.ones_like(f)
    best, bound = np.zeros(basis.shape[1]), np.inf
    for _ in range(LAWSON_STEPS):
        root = np.sqrt(weight) * importance
        solution = np.linalg.lstsq(basis * root[:, None], f * root, rcond=None)[0]
        error = np.abs((basis @ solution - f) * importance)
        if error.max() < bound:
            best, bound = solution, float(error.max())
        weight *= error / error.max() + 1e-3
        weight /= weight.sum()
    return best, bound


def search(
    evaluate: Evaluate, series: Vector, x: Vector, exact: Vector, first_free: int
) -> tuple[list[float], float]:
    """Round to float32, then move one coefficient at a time by an ulp while that helps."""
    best = nearest(series)
    error = largest(evaluate(x, best), exact)
    for _ in range(SEARCH_PASSES):
        before = error
        for k in range(first_free, len(best)):
            for toward in (-np.inf, np.inf):
                trial = list(best)
                trial[k] = float(np.nextafter(np.float32(best[k]), np.float32(toward)))
                trial_error = largest(evaluate(x, trial), exact)
                if trial_error < error:
                    best, error = trial, trial_error
        if error == before:
            break
    return best, error


def exp_float(x: Vector, c: list[float]) -> Vector:
    """vf_exp, without its limits."""
    n = np.rint(to_float(x * LOG2E))
    r = fma(n, -LN2_LO, fma(n, -LN2_HI, x))
    return to_float(polynomial(r, c) * np.exp2(n))


def sigmoid_float(x: Vector, c: list[float]) -> Vector:
    """vf_sigmoid, without its limits; w = c[0]."""
    n = np.rint(to_float(x * -LOG2E))
    r = fma(n, LN2_LO, fma(n, LN2_HI, x))
    return to_float(c[0] / fma(np.exp2(n), polynomial(r, c), c[0]))


def tanh_float(a: Vector, c: list[float]) -> Vector:
    """vf_tanh for a >= 0."""
    n = np.rint(to_float(a * (-2 * LOG2E)))
    r = fma(n, LN2_HALF, a)
    power = np.exp2(n)
    m = fma(power * r, polynomial(r, c), to_float(1.0 - power))
    return to_float(m / to_float(2.0 - m))


def polynomial(r: Vector, c: list[float]) -> Vector:
    """Horner's rule in float32."""
    p = np.full_like(r, c[-1])
    for coefficient in c[-2::-1]:
        p = fma(p, r, coefficient)
    return p


def fma(a: Vector | float, b: Vector | float, c: Vector | float) -> Vector:
    """a * b + c rounded to float32; the float64 sum may round first, which is rare and harmless."""
    return to_float(np.asarray(a * b + c))


def to_float(x: Vector) -> Vector:
    """Round to float32, kept in float64."""
    return x.astype(np.float32).astype(np.float64)


def every_float(first: float, last: float, step: int) -> Vector:
    """Every step-th float32 between two positive numbers."""
    low, high = np.array([first, last], dtype=np.float32).view(np.int32)
    return np.arange(low, high, step, dtype=np.int32).view(np.float32).astype(np.float64)


def nearest(series: Vector) -> list[float]:
    """The coefficients rounded to float32."""
    return [float(c) for c in series.astype(np.float32)]


def largest(y: Vector, exact: Vector) -> float:
    """The largest error in ulp of the exact result."""
    ulp = np.exp2(np.floor(np.log2(exact)) - 23)
    return float(np.max(np.abs(y - exact) / ulp))


def report(name: str, bound: float, coefficients: list[float], error: float | None = None) -> None:
    """Print one function: its coefficients from the highest power down, as Horner takes them."""
    found = "" if error is None else f", function {error:.3f} ulp on the sample"
    print(f"{name}: relative error of the fit {bound:.2g}{found}")
    for k in range(len(coefficients) - 1, -1, -1):
        print(f"    c{k}  {hex_float(coefficients[k])}")


def hex_float(value: float) -> str:
    """A C float literal without trailing zeros."""
    mantissa, exponent = value.hex().split("p")
    return f"{mantissa.rstrip('0').rstrip('.')}p{exponent}f"


if __name__ == "__main__":
    main()
