"""Scaling of time series, as the training part has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn._arrays import AnyArray, ArrayLike, FloatArray, as_array, as_choice, is_real

KINDS = ("standard", "minmax")


def as_series(value: ArrayLike, name: str) -> AnyArray:
    """Real numbers (steps, features), all finite; (steps,) is one feature. Nothing is copied."""
    series = as_array(value, name)
    if not is_real(series.dtype):
        raise TypeError(f"{name} has dtype {series.dtype}, expected real numbers")
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


class Scaler:
    """(x - shift) / scale for each feature; a feature that never changes keeps scale 1.

    Made by `Scaler.fit` from the training part. Computed in float64, results are float32.
    `shift` and `scale`: (features,) float64.
    """

    def __init__(self, shift: ArrayLike, scale: ArrayLike) -> None:
        self.shift = np.asarray(shift, np.float64)
        self.scale = np.asarray(scale, np.float64)
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
        if as_choice(kind, "kind", KINDS) == "standard":
            shift, scale = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
        else:
            shift = x.min(axis=0).astype(np.float64)
            scale = x.max(axis=0) - shift
        is_constant = x.max(axis=0) == x.min(axis=0)  # its deviation may have rounded above 0
        return cls(shift, np.where(is_constant, 1.0, scale))

    def __call__(self, x: ArrayLike) -> FloatArray:
        """x (..., features) scaled, as new float32."""
        return ((self._checked(x) - self.shift) / self.scale).astype(np.float32)

    def inverse(self, y: ArrayLike) -> FloatArray:
        """Scaled y (..., features) in the units that the series had, as new float32."""
        return (self._checked(y) * self.scale + self.shift).astype(np.float32)

    def select(self, columns: Sequence[int]) -> Scaler:
        """The scaler of some features, for example of those that are forecast."""
        return Scaler(self.shift[list(columns)], self.scale[list(columns)])

    def _checked(self, value: ArrayLike) -> npt.NDArray[np.float64]:
        x = as_array(value, "x")
        if x.shape[-1:] != self.shift.shape:
            came = f"{x.shape[-1]} features" if x.ndim else "no dimension"
            raise ValueError(f"x has {came}, this scaler expects {len(self.shift)}")
        return np.asarray(x, np.float64)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scaler) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # its arrays can change

    def __repr__(self) -> str:
        return f"Scaler({len(self.shift)} features)"

    def to_dict(self) -> dict[str, Any]:
        """What `from_dict` needs, JSON-able and exact."""
        return {"shift": self.shift.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scaler:
        """The scaler that `to_dict` described."""
        if not isinstance(values, Mapping) or set(values) != {"shift", "scale"}:
            raise ValueError("a scaler has shift and scale, and nothing else")
        return cls(values["shift"], values["scale"])
