"""Scaling of time series, as the training part has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn._arrays import (
    AnyArray,
    ArrayLike,
    FloatArray,
    as_array,
    as_choice,
    is_real,
    narrowed,
)
from fastrnn._errors import counted

Doubles = npt.NDArray[np.float64]

KINDS = ("standard", "minmax")
_PART = 1 << 15  # steps whose moments are taken at a time, in little memory


def as_series(value: ArrayLike, name: str) -> AnyArray:
    """Real numbers (steps, features), all finite; (steps,) is one feature. Nothing is copied.

    ValueError for integers that float64 would round.
    """
    series = _as_real(value, name)
    if series.ndim == 1:
        series = series[:, None]
    if series.ndim != 2:
        raise ValueError(f"{name} has shape {series.shape}, expected (steps, features)")
    if not series.size:
        raise ValueError(f"{name} is empty")
    if series.dtype.kind == "f" and not np.isfinite(series).all():
        step, feature = np.argwhere(~np.isfinite(series))[0]
        raise ValueError(
            f"{name} holds {series[step, feature]} at step {step}, feature {feature}, expected "
            f"finite numbers"
        )
    return series


def _as_real(value: ArrayLike, name: str) -> AnyArray:
    """Numbers that float64 holds."""
    array = as_array(value, name)
    if not is_real(array.dtype):
        raise TypeError(f"{name} has dtype {array.dtype}, expected real numbers")
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8 and array.size:
        _check_exact(array, name)
    return array


def _check_exact(integers: AnyArray, name: str) -> None:
    """Beyond 2**53 float64 holds every second, fourth, ... integer."""
    limit = 1 << 53
    if -limit <= int(integers.min()) and int(integers.max()) <= limit:
        return
    large = integers[(integers < -limit) | (integers > limit)]
    _, exponents = np.frexp(large.astype(np.float64))
    wrong = large[large % (1 << np.maximum(exponents - 53, 0)).astype(large.dtype) != 0]
    if wrong.size:
        raise ValueError(f"{name} holds {wrong[0]}, an integer that float64 would round")


class Scaler:
    """(x - shift) / scale for each feature; a feature that never changes keeps scale 1.

    Made by `Scaler.fit` from the training part. All is computed in float64; what is scaled is
    float32, for a network, and the inverse float64. `shift` and `scale`: (features,) float64.
    """

    def __init__(self, shift: ArrayLike, scale: ArrayLike) -> None:
        self.shift = _as_real(shift, "shift").astype(np.float64)
        self.scale = _as_real(scale, "scale").astype(np.float64)
        if self.shift.ndim != 1 or self.shift.shape != self.scale.shape:
            raise ValueError(
                f"shift and scale have shapes {self.shift.shape} and {self.scale.shape}, expected "
                f"(features,) twice"
            )
        if not (np.isfinite(self.shift).all() and np.isfinite(self.scale).all()):
            raise ValueError("shift and scale must be finite")
        if (self.scale <= 0).any():
            raise ValueError(f"scale holds {self.scale.min()}, expected numbers above 0")

    @classmethod
    def fit(cls, series: ArrayLike, kind: str = "standard") -> Scaler:
        """ "standard": to mean 0 and standard deviation 1; "minmax": to 0 to 1."""
        x = as_series(series, "series")
        low, high = (bound.astype(np.float64) for bound in (x.min(axis=0), x.max(axis=0)))
        with np.errstate(over="ignore"):
            span = high - low
        if np.isinf(span).any():
            at = int(np.isinf(span).argmax())
            raise ValueError(
                f"series holds {low[at]} and {high[at]} in feature {at}, expected a range that "
                f"float64 can hold"
            )
        unit = np.where(span > 0, span, 1.0)  # a feature that never changes keeps scale 1
        if as_choice(kind, "kind", KINDS) == "minmax":
            return cls(low, unit)
        mean, deviation = _moments(x, low, unit)
        scale = np.where(span > 0, unit * deviation, 1.0)
        return cls(low + unit * mean, np.where(scale > 0, scale, unit))

    def __call__(self, x: ArrayLike) -> FloatArray:
        """x (..., features) scaled, as new float32."""
        return narrowed(
            self._within_float64(lambda x: (x - self.shift) / self.scale, x), "scaled x"
        )

    def inverse(self, y: ArrayLike) -> Doubles:
        """Scaled y (..., features) in the units that the series had, as new float64."""
        return self._within_float64(lambda y: y * self.scale + self.shift, y)

    def select(self, columns: Sequence[int]) -> Scaler:
        """The scaler of some features, for example of those that are forecast."""
        return Scaler(self.shift[list(columns)], self.scale[list(columns)])

    def _within_float64(self, way: Callable[[Doubles], Doubles], value: ArrayLike) -> Doubles:
        x = _as_real(value, "x")
        if x.shape[-1:] != self.shift.shape:
            came = f"{x.shape[-1]} features" if x.ndim else "no dimension"
            raise ValueError(f"x has {came}, this scaler expects {len(self.shift)}")
        try:
            with np.errstate(over="raise"):
                return way(np.asarray(x, np.float64))
        except FloatingPointError:
            raise ValueError("x holds numbers too far from those that this scaler is for") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scaler) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # its arrays can change

    def __repr__(self) -> str:
        return f"Scaler({counted(len(self.shift), 'feature')})"

    def to_dict(self) -> dict[str, Any]:
        """The scaler as plain JSON values, exactly; `from_dict` reads them."""
        return {"shift": self.shift.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scaler:
        """The scaler that `to_dict` described."""
        if not isinstance(values, Mapping) or set(values) != {"shift", "scale"}:
            raise ValueError("a scaler has shift and scale, and nothing else")
        try:
            return cls(values["shift"], values["scale"])
        except TypeError as error:
            raise ValueError(f"a scaler's {error}") from error


def _moments(x: AnyArray, low: Doubles, unit: Doubles) -> tuple[Doubles, Doubles]:
    """Mean and standard deviation (features,) of (x - low) / unit, which lies between 0 and 1.

    Two passes, and what rounding left of the mean in the first is added in the second. Source:
    Chan, Golub and LeVeque, Algorithms for computing the sample variance, 1983.
    """

    def mean_of(power: int, centre: Doubles | float) -> Doubles:
        parts = (x[start : start + _PART] for start in range(0, len(x), _PART))
        sums = [(((part - low) / unit - centre) ** power).sum(axis=0) for part in parts]
        return np.asarray(np.sum(sums, axis=0) / len(x), np.float64)

    mean = mean_of(1, 0.0)
    left = mean_of(1, mean)
    return mean + left, np.sqrt(np.maximum(mean_of(2, mean) - left**2, 0.0))
