"""What models that forecast series share.

Letters: T steps, N rows, I features, F = len(targets) features that are forecast, K horizon.
The network itself lives in scaled numbers, as `Windows` with the same scaler gives them: so do the
call, `vjp`, `loss` and `loss_vjp`. `predict` and streams take and give the series' own units, in
float64 where there is a scaler: its offset may have more digits than float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    as_array,
    as_choice,
    as_float32,
    as_int,
    as_size,
    with_article,
)
from fastrnn.data.scaling import Doubles, Scaler
from fastrnn.losses import LossResult
from fastrnn.models._base import Model
from fastrnn.models._objective import REGRESSIONS, StatelessLoss, numbers
from fastrnn.models._parts import head_of
from fastrnn.nn import Linear


class Forecasts(StatelessLoss, Model):
    """inputs (T, N, I) or (T, I) -> the next `horizon` steps (horizon, N, F) or (horizon, F).

    `targets`: which features are forecast. `scaler`: a Scaler of all I features, or None.
    `objective`: "mse", "mae" or "huber", the loss's mean over targets (horizon, N, F), scaled.
    """

    head: Linear
    horizon: int
    targets: tuple[int, ...]
    objective: str
    _is_regression = True

    def _take_head(
        self,
        head: Linear | None,
        features: int,
        input_size: int,
        horizon: int,
        targets: Sequence[int] | None,
        scaler: Any,
        objective: str,
    ) -> None:
        self.input_size = input_size
        self.horizon = as_size(horizon, "horizon", MAX_SIZE)
        self.targets = checked_targets(targets, input_size)
        outputs = self.horizon * len(self.targets)
        if head is None:
            head = Linear(features, as_size(outputs, "horizon * len(targets)", MAX_SIZE))
        self.head = head_of(head, features, None, "horizon")
        if self.head.out_features != outputs:
            raise ValueError(
                f"the head gives {self.head.out_features} numbers, expected {self.horizon} steps "
                f"(horizon) of {len(self.targets)} features (targets)"
            )
        self.objective = as_choice(objective, "objective", tuple(REGRESSIONS))
        self._scaler: Scaler | None = None
        self.scaler = Scaler.from_dict(scaler) if isinstance(scaler, dict) else scaler

    @property
    def scaler(self) -> Scaler | None:
        """From the series' own units to the network's; fit it on the training part."""
        return self._scaler

    @scaler.setter
    def scaler(self, scaler: Scaler | None) -> None:
        if scaler is not None and not isinstance(scaler, Scaler):
            kind = with_article(type(scaler).__name__)
            raise TypeError(f"scaler is {kind}, expected a Scaler or None")
        if scaler is not None and len(scaler.shift) != self.input_size:
            raise ValueError(
                f"scaler has {len(scaler.shift)} features, expected the {self.input_size} of the "
                f"inputs"
            )
        self._scaler = scaler
        self._fingerprint = None

    def _advance(self, inputs: FloatArray, past: Any) -> tuple[FloatArray, Any]:
        """The horizon after `inputs`, which follow `past`, and the past of what comes next."""
        raise NotImplementedError

    def _checked(self, inputs: ArrayLike) -> FloatArray:
        x = as_float32(inputs, "inputs")
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size or len(x) == 0:
            wanted = f"(T, N, {self.input_size}) or (T, {self.input_size})"
            raise ValueError(f"inputs has shape {x.shape}, expected {wanted} with T >= 1")
        return x

    def _as_steps(self, flat: FloatArray) -> FloatArray:
        """(N, horizon * F) as (horizon, N, F)."""
        shape = (*flat.shape[:-1], self.horizon, len(self.targets))
        return np.ascontiguousarray(np.moveaxis(flat.reshape(shape), -2, 0))

    def _as_flat(self, steps: ArrayLike) -> FloatArray:
        """The inverse of `_as_steps`."""
        rows = np.moveaxis(as_float32(steps, "dforecast"), 0, -2)
        return rows.reshape(*rows.shape[:-2], self.head.out_features)

    def _objective(
        self,
        forecast: FloatArray,
        targets: ArrayLike,
        lengths: ArrayLike | None,
        gradient: bool = True,
    ) -> tuple[LossResult, FloatArray]:
        """The mean over all numbers of rows that have steps."""
        return numbers(forecast, targets, lengths, self.objective)

    def predict(self, series: ArrayLike, steps: int | None = None) -> FloatArray | Doubles:
        """The `steps` after a series (T, I) or (T, N, I), in its own units: (steps, [N,] F).

        float64 with a scaler, otherwise the network's float32.
        Up to `horizon` steps (the default) are forecast directly. Forecasts further ahead are made
        from earlier ones, fed back as inputs, which needs all features to be forecast.
        """
        steps = self.horizon if steps is None else as_size(steps, "steps")
        if steps > self.horizon and self.targets != tuple(range(self.input_size)):
            raise ValueError(
                f"steps is {steps}, but this {type(self).__name__} forecasts {self.horizon} steps "
                f"of {len(self.targets)} of {self.input_size} features: only forecasts of all "
                f"features, in order, can be fed back"
            )
        x = self._scaled(series)
        forecast, past = self._advance(x, None)
        found = [forecast]
        while len(found) * self.horizon < steps:
            forecast, past = self._advance(forecast, past)
            found.append(forecast)
        return self._unscaled(np.concatenate(found)[:steps])

    def _scaled(self, series: ArrayLike) -> FloatArray:
        x = as_array(series, "series")
        if x.ndim == 1 and self.input_size == 1:
            x = x[:, None]
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size or len(x) == 0:
            wanted = f"(T, {self.input_size}) or (T, N, {self.input_size})"
            raise ValueError(f"series has shape {x.shape}, expected {wanted} with T >= 1")
        return as_float32(x if self.scaler is None else self.scaler(x), "series")

    def _unscaled(self, forecast: FloatArray) -> FloatArray | Doubles:
        if self.scaler is None:
            return forecast
        return self.scaler.select(self.targets).inverse(forecast)


def checked_targets(targets: Sequence[int] | None, input_size: int) -> tuple[int, ...]:
    """Distinct features, all of them by default."""
    if targets is None:
        return tuple(range(input_size))
    if isinstance(targets, (str, bytes)) or not isinstance(targets, Iterable):
        kind = with_article(type(targets).__name__)
        raise TypeError(f"targets is {kind}, expected the numbers of features, or None for all")
    columns = tuple(as_int(column, "targets") for column in targets)
    if not columns or len(set(columns)) < len(columns):
        raise ValueError(f"targets is {list(columns)}, expected some features, each once")
    if min(columns) < 0 or max(columns) >= input_size:
        raise ValueError(
            f"targets is {list(columns)}, expected features from 0 to {input_size - 1}"
        )
    return columns
