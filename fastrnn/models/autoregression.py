"""The linear baseline of every forecast."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from fastrnn._arrays import MAX_SIZE, AnyArray, ArrayLike, FloatArray, as_size
from fastrnn.data.scaling import Scaler, as_series
from fastrnn.models._forecasts import Forecasts
from fastrnn.nn import Linear
from fastrnn.nn.pullback import once
from fastrnn.nn.registry import registered

_CHUNK = 1 << 22  # numbers of the least-squares problem that are held at a time


@registered
class AutoRegression(Forecasts):
    """The next `horizon` steps as a linear map of the last `order` steps, fitted by least squares.

    inputs (T, N, I), T >= order -> (horizon, N, F) of the features `targets` (all by default).
    `fit(series)` solves for all parameters at once; `predict(series, steps)` forecasts directly and
    feeds back beyond the horizon, as a Forecaster's does. `scaler`, `objective`: as a Forecaster's.
    head: the linear map as it is, of order * input_size features.
    Parameters: head.weight (horizon * F, order * I), the oldest step first, and head.bias.
    """

    _modules = ("head",)
    _options = ("order", "horizon", "targets", "scaler")
    _settings = ("objective",)

    def __init__(
        self,
        input_size: int | None = None,
        order: int | None = None,
        *,
        horizon: int = 1,
        targets: Sequence[int] | None = None,
        scaler: Scaler | None = None,
        objective: str = "mse",
        head: Linear | None = None,
    ) -> None:
        self.order = as_size(order, "order", MAX_SIZE)
        if input_size is None and isinstance(head, Linear):
            if head.in_features % self.order:
                raise ValueError(
                    f"the head takes {head.in_features} numbers, expected a multiple of "
                    f"{self.order} steps (order)"
                )
            input_size = head.in_features // self.order
        size = as_size(input_size, "input_size", MAX_SIZE)
        if isinstance(head, Linear) and not head.bias:
            raise ValueError("head has no bias, an AutoRegression expects one")
        features = as_size(self.order * size, "order * input_size", MAX_SIZE)
        self._take_head(head, features, size, horizon, targets, scaler, objective)
        self._assemble()

    def fit(self, series: ArrayLike) -> None:
        """Least squares over a series (S, I), or a list of such, in their own units.

        Solved in float64 from the triangular factor of the problem, a part of the series at a time.
        """
        many = series if isinstance(series, (list, tuple)) else [series]
        width = self.head.in_features + 1
        factor: Any = np.zeros((0, width + self.head.out_features))
        for problem in self._problems(many):
            factor = np.linalg.qr(np.concatenate([factor, problem]), mode="r")
        if not len(factor):
            needed = self.order + self.horizon
            raise ValueError(f"series is too short, a fit needs {needed} steps or more in a row")
        found = np.linalg.lstsq(factor[:, :width], factor[:, width:], rcond=None)[0]
        self.head.parameters["weight"][...] = found[:-1].T
        self.head.parameters["bias"][...] = found[-1]
        self.repack()

    def _problems(self, many: Sequence[ArrayLike]) -> Iterator[npt.NDArray[np.float64]]:
        """Rows of the past steps, a one, and the steps to come, some at a time."""
        length = self.order + self.horizon
        rows = max(1, _CHUNK // (self.head.in_features + self.head.out_features))
        for one in many:
            x = as_series(one, "series")
            if x.shape[1] != self.input_size:
                raise ValueError(
                    f"series has {x.shape[1]} features, this AutoRegression expects "
                    f"{self.input_size}"
                )
            for start in range(0, len(x) - length + 1, rows):
                yield self._problem(self._whole(x[start : start + rows + length - 1]))

    def _whole(self, part: AnyArray) -> npt.NDArray[np.float64]:
        """Scaled in float64: rounding would cost digits of the solution."""
        whole = np.asarray(part, np.float64)
        return whole if self.scaler is None else (whole - self.scaler.shift) / self.scaler.scale

    def _problem(self, part: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        windows = sliding_window_view(part, self.order + self.horizon, axis=0).swapaxes(1, 2)
        past, coming = windows[:, : self.order], windows[:, self.order :, list(self.targets)]
        count = len(windows)
        columns = [past.reshape(count, -1), np.ones((count, 1)), coming.reshape(count, -1)]
        return np.concatenate(columns, axis=1)

    def __call__(self, inputs: ArrayLike, lengths: None = None) -> FloatArray:
        """The forecast (horizon, N, F) after the last step; N may be missing."""
        return self._as_steps(self.head(self._past(inputs, lengths)))

    def vjp(
        self, inputs: ArrayLike, lengths: None = None
    ) -> tuple[FloatArray, Callable[[ArrayLike], FloatArray]]:
        """As the call, and pullback(dforecast) -> dinputs."""
        x = self._checked(inputs)
        flat, to_past = self.head.vjp(self._past(x, lengths))

        def pullback(dforecast: ArrayLike) -> FloatArray:
            dpast = to_past(self._as_flat(dforecast))
            dx = np.zeros_like(x)
            shape = (*x.shape[1:-1], self.order, self.input_size)
            dx[-self.order :] = np.moveaxis(dpast.reshape(shape), -2, 0)
            return dx

        return self._as_steps(flat), once(pullback, "an AutoRegression")

    def _past(self, inputs: ArrayLike, lengths: None) -> FloatArray:
        """The last steps (N, order * I), the oldest first."""
        if lengths is not None:
            raise ValueError("lengths is given, but an AutoRegression needs rows of one length")
        x = self._checked(inputs)
        if len(x) < self.order:
            raise ValueError(
                f"inputs has {len(x)} steps, this AutoRegression expects at least {self.order}"
            )
        rows = np.moveaxis(x[-self.order :], 0, -2)
        return rows.reshape(*rows.shape[:-2], self.head.in_features)

    def _advance(self, inputs: FloatArray, past: Any) -> tuple[FloatArray, Any]:
        x = inputs if past is None else np.concatenate([past, inputs])
        return self(x), x[-self.order :]
