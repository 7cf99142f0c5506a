"""Forecasting time series with recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    as_array,
    as_float32,
    as_probability,
    as_size,
    with_article,
)
from fastrnn.data.scaling import Doubles, Scaler
from fastrnn.models._forecasts import Forecasts, checked_targets
from fastrnn.models._pooling import last
from fastrnn.models._sequence import Rnn, new_parts
from fastrnn.nn import Linear
from fastrnn.nn.dropout import dropped
from fastrnn.nn.module import Module
from fastrnn.nn.pullback import once
from fastrnn.nn.stream import Stream, stack_stream


class Forecaster(Forecasts):
    """Recurrent layers over a series, and a linear head on their last state.

    inputs (T, N, I), scaled -> the next `horizon` steps (horizon, N, F) of the features `targets`
    (all by default), all at once. `predict(series, steps)` works in the series' own units, which
    `scaler` (a Scaler of the I features) leads to and from, and feeds forecasts back to look
    further ahead. `dropout` acts in training only, between recurrent layers and before the head.
    `objective`: "mse", "mae" or "huber", the loss, of targets (horizon, N, F), scaled. Parameters:
    rnn.weight_ih_l0, ..., head.weight (horizon * F, hidden_size), head.bias.
    """

    flow: bool = False  # whether a way back leaves its GradientFlow in rnn.last_flow
    _options = ("dropout", "horizon")
    _settings = ("objective",)

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        horizon: int = 1,
        targets: Sequence[int] | None = None,
        cell: str = "lstm",
        dropout: float = 0.0,
        scaler: Scaler | None = None,
        objective: str = "mse",
    ) -> None:
        input_size = as_size(input_size, "input_size", MAX_SIZE)
        _, rnn = new_parts(None, None, input_size, hidden_size, num_layers, cell, dropout)
        columns = checked_targets(targets, input_size)
        head = Linear(rnn.output_size, as_size(horizon, "horizon", MAX_SIZE) * len(columns))
        self._compose(
            rnn=rnn, head=head, horizon=horizon, targets=columns, dropout=dropout, scaler=scaler,
            objective=objective,
        )  # fmt: skip

    def _compose(
        self,
        *,
        rnn: Rnn,
        head: Linear,
        horizon: int,
        targets: Sequence[int],
        dropout: float,
        scaler: Any = None,
        objective: str = "mse",
    ) -> None:
        if head.in_features != rnn.state_size or rnn.bidirectional or rnn.batch_first:
            raise ValueError(
                f"the head takes {head.in_features} features, expected the {rnn.state_size} of "
                f"recurrent layers of one direction, time first"
            )
        self.rnn = rnn
        self.dropout = as_probability(dropout, "dropout")
        self._take_head(head, rnn.input_size, horizon, targets, scaler, objective)
        self._assemble()

    @property
    def _parts(self) -> dict[str, Module]:
        return {"rnn": self.rnn, "head": self.head}

    def __call__(self, inputs: ArrayLike, lengths: ArrayLike | None = None) -> FloatArray:
        """The forecast (horizon, N, F) after each row's own last step; N may be missing."""
        _, state = self.rnn(self._checked(inputs), lengths=lengths)
        return self._as_steps(self.head(self._h(state)[-1]))

    def vjp(
        self, inputs: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[FloatArray, Callable[[ArrayLike], FloatArray]]:
        """As the call, in training mode, and pullback(dforecast) -> dinputs."""
        generator = self.generator  # makes it the generator of all parts
        (y, state), to_inputs = self.rnn.vjp(self._checked(inputs), lengths=lengths, flow=self.flow)
        features, to_state = last(y, self._h(state), None, 1)
        features, undropped = dropped(features, self.dropout, generator)
        flat, to_features = self.head.vjp(features)

        def pullback(dforecast: ArrayLike) -> FloatArray:
            _, dh = to_state(undropped(to_features(self._as_flat(dforecast))))
            dstate = (dh, np.zeros_like(state[1])) if self.rnn.has_cell else dh
            dx: FloatArray = to_inputs(None, dstate)[0]
            return dx

        return self._as_steps(flat), once(pullback, "a Forecaster")

    def _advance(self, inputs: FloatArray, past: Any) -> tuple[FloatArray, Any]:
        _, state = self.rnn(inputs, past)
        return self._as_steps(self.head(self._h(state)[-1])), state

    def _h(self, state: Any) -> FloatArray:
        h: FloatArray = state[0] if self.rnn.has_cell else state
        return h

    def stream(self, batch_size: int = 1) -> Stream:
        """A stream whose `step(x)` gives the forecast (horizon, F) or (horizon, N, F) so far.

        x and forecasts are in the series' own units, forecasts as `predict` gives them.
        """
        stream = stack_stream(
            ForecastStream,
            self.rnn._shared_stack(),
            batch_size,
            self.fingerprint(),
            self.rnn._first_state,
            head=self.head._shared_dense(),
        )
        stream.forecasts, stream.scaler = self, self.scaler
        stream.unscaler = None if self.scaler is None else self.scaler.select(self.targets)
        return stream


class ForecastStream(Stream):
    """A stream over the steps of a series, in its own units."""

    forecasts: Forecaster
    scaler: Scaler | None
    unscaler: Scaler | None

    def step(  # type: ignore[override]
        self, x: ArrayLike, out: FloatArray | Doubles | None = None
    ) -> FloatArray | Doubles:
        """As `Stream.step`; forecasts are (horizon, F) or (horizon, N, F).

        `out`: an array of this shape, float64 or, which rounds, float32.
        """
        if out is not None:
            self._check_out(out, as_array(x, "x").shape[:-1])
        flat = super().step(x if self.scaler is None else self.scaler(x))
        steps = self.forecasts._as_steps(as_float32(flat, "y"))
        forecast = steps if self.unscaler is None else self.unscaler.inverse(steps)
        if out is None:
            return forecast
        out[...] = forecast
        return out

    def _check_out(self, out: Any, rows: tuple[int, ...]) -> None:
        """Before the stream goes on: afterwards its state would be a step further."""
        wanted = (self.forecasts.horizon, *rows, len(self.forecasts.targets))
        if not isinstance(out, np.ndarray) or out.dtype not in (np.float32, np.float64):
            kind = getattr(out, "dtype", with_article(type(out).__name__))
            raise TypeError(f"out is {kind}, expected a float64 or float32 array")
        if out.shape != wanted:
            raise ValueError(f"out has shape {out.shape}, expected {wanted}")
