"""Time series: parts in time order, and sliding windows over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fastrnn._arrays import (
    AnyArray,
    ArrayLike,
    FloatArray,
    IntArray,
    as_flag,
    as_int,
    as_size,
    with_article,
)
from fastrnn._arrays import as_probability as as_share
from fastrnn._errors import counted
from fastrnn.data._batch import Batch, Source
from fastrnn.data.scaling import Scaler, as_series


class Split(NamedTuple):
    """Views of the parts of a series, in time order."""

    train: AnyArray
    validation: AnyArray
    test: AnyArray


def split(
    series: ArrayLike, validation: float = 0.1, test: float = 0.1, *, context: int = 0
) -> Split:
    """Cut a series (steps, features) in time order; the shares are of all steps, 0 to 1.

    Windows over one part never see another one. With `context` steps, validation and test also
    hold the last steps before them, as inputs: give the windows' steps, and their first target is
    the part's own first step. No step is a target in two parts then, and training sees nothing new.
    """
    x = as_series(series, "series")
    shares = as_share(validation, "validation"), as_share(test, "test")
    behind = as_int(context, "context")
    if behind < 0:
        raise ValueError(f"context is {behind}, expected 0 or more")
    last = len(x) - round(shares[1] * len(x))
    middle = last - round(shares[0] * len(x))
    if middle < 1:
        raise ValueError(f"validation and test take all {len(x)} steps, none is left to train")
    return Split(
        x[:middle],
        x[max(0, middle - behind) : last] if last > middle else x[:0],
        x[max(0, last - behind) :] if len(x) > last else x[:0],
    )


class Windows(Source):
    """Sliding windows over a series (S, features), each with the steps that follow it.

    inputs (T, N, features) float32, T = `steps`; targets (horizon, N, columns) float32, the steps
    right after the window, of the features `targets` (all by default). Windows start `stride` steps
    apart. `scaler` is applied to each batch; fit it on the training part. The series is held once,
    as it came. `shuffle` draws a new order in every epoch.
    """

    def __init__(
        self,
        series: ArrayLike,
        steps: int,
        batch_size: int,
        *,
        horizon: int = 1,
        stride: int = 1,
        targets: Sequence[int] | None = None,
        scaler: Scaler | None = None,
        shuffle: bool = True,
        seed: int | None = None,
    ) -> None:
        self.series = as_series(series, "series")
        self.steps, self.horizon = as_size(steps, "steps"), as_size(horizon, "horizon")
        self.batch_size, self.stride = as_size(batch_size, "batch_size"), as_size(stride, "stride")
        self.shuffle = as_flag(shuffle, "shuffle")
        features = self.series.shape[1]
        self.targets = _checked_columns(targets, features)
        self.scaler = scaler
        if scaler is not None and not isinstance(scaler, Scaler):
            kind = with_article(type(scaler).__name__)
            raise TypeError(f"scaler is {kind}, expected a Scaler or None")
        if scaler is None:
            _check_float32(self.series)
        elif len(scaler.shift) != features:
            raise ValueError(
                f"scaler has {counted(len(scaler.shift), 'feature')}, expected the series' "
                f"{features}"
            )
        length = self.steps + self.horizon
        if len(self.series) < length:
            raise ValueError(
                f"series has {counted(len(self.series), 'step')}, one window with its targets "
                f"needs {length}"
            )
        windows = sliding_window_view(self.series, length, axis=0)[:: self.stride]
        self._windows = windows.transpose(2, 0, 1)  # (steps + horizon, windows, features)
        super().__init__(seed)

    def __len__(self) -> int:
        """Number of windows."""
        return int(self._windows.shape[1])

    def _describe(self) -> dict[str, Any]:
        shape = {"series": list(self.series.shape), "steps": self.steps, "horizon": self.horizon}
        sizes = {"stride": self.stride, "batch_size": self.batch_size}
        return {**shape, **sizes, "targets": list(self.targets), "shuffle": self.shuffle}

    def _held(self) -> dict[str, list[AnyArray]]:
        scaler = [] if self.scaler is None else [self.scaler.shift, self.scaler.scale]
        return {"series": [self.series], "scaler": scaler}

    def _draw(self, generator: np.random.Generator) -> IntArray:
        return generator.permutation(len(self)) if self.shuffle else np.arange(len(self))

    def _count(self, plan: IntArray) -> int:
        return -(-len(plan) // self.batch_size)

    def _batch(self, plan: IntArray, index: int) -> Batch:
        rows = plan[index * self.batch_size : (index + 1) * self.batch_size]
        windows = self._scaled(self._windows[:, rows])
        inputs, after = windows[: self.steps], windows[self.steps :]
        return Batch(inputs, np.ascontiguousarray(after[..., self.targets]))

    def _scaled(self, windows: AnyArray) -> FloatArray:
        if self.scaler is None:
            return np.ascontiguousarray(windows, np.float32)
        return np.ascontiguousarray(self.scaler(windows))


def _check_float32(series: AnyArray) -> None:
    """Without a scaler numbers go to the network as they are."""
    largest = np.finfo(np.float32).max
    beyond = (series < -largest) | (series > largest)
    if beyond.any():
        step, feature = np.argwhere(beyond)[0]
        raise ValueError(
            f"series holds {series[step, feature]} at step {step}, feature {feature}, beyond "
            f"float32's largest number: give a scaler"
        )


def _checked_columns(targets: Sequence[int] | None, features: int) -> list[int]:
    if targets is None:
        return list(range(features))
    columns = [as_int(column, "targets") for column in targets]
    if not columns:
        raise ValueError("targets is empty")
    for column in columns:
        if not 0 <= column < features:
            raise ValueError(f"targets holds {column}, expected features from 0 to {features - 1}")
    return columns
