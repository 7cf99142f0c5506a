"""Forecasting time series with recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    IntArray,
    as_array,
    as_float32,
    as_lengths,
    as_probability,
    as_size,
    with_article,
)
from fastrnn.data.scaling import Doubles, Scaler
from fastrnn.models._forecasts import Forecasts
from fastrnn.models._layer_stream import LayerStream
from fastrnn.models._network_stream import lowered_model, network_stream, stream_kind
from fastrnn.models._parts import Sizes, is_lowered
from fastrnn.models._pooling import pooled
from fastrnn.models._sequence import sequence_parts
from fastrnn.nn import Linear
from fastrnn.nn.dropout import dropped
from fastrnn.nn.network_stream import NetworkStream
from fastrnn.nn.pullback import once
from fastrnn.nn.registry import registered
from fastrnn.nn.stream import Stream


@registered
class Forecaster(Forecasts):
    """Recurrent layers over a series, and a linear head on their last state.

    inputs (T, N, I), scaled -> the next `horizon` steps (horizon, N, F) of the features `targets`
    (all by default), all at once. `predict(series, steps)` works in the series' own units, which
    `scaler` (a Scaler of the I features) leads to and from, and feeds forecasts back to look
    further ahead. `dropout` acts in training only, between recurrent layers and before the head.
    rnn: the recurrent layers, or others over sequences, in one direction, in place of the sizes and
    cell (one LSTM by default); head: that part as it is.
    `objective`: "mse", "mae" or "huber", the loss, of targets (horizon, N, F), scaled. Parameters:
    rnn.weight_ih_l0, ..., head.weight (horizon * F, hidden_size), head.bias.
    """

    flow: bool = False  # whether a backward pass leaves its GradientFlow in rnn.last_flow
    _modules = ("rnn", "head")
    _options = ("dropout", "horizon", "targets", "scaler")
    _settings = ("objective",)

    def __init__(
        self,
        input_size: int | None = None,
        hidden_size: int | None = None,
        num_layers: int | None = None,
        *,
        horizon: int = 1,
        targets: Sequence[int] | None = None,
        cell: str | None = None,
        dropout: float = 0.0,
        scaler: Scaler | None = None,
        objective: str = "mse",
        rnn: Any = None,
        head: Linear | None = None,
    ) -> None:
        sizes = Sizes(hidden_size, num_layers, cell)
        if rnn is None:
            as_size(input_size, "input_size", MAX_SIZE)
        _, self.rnn = sequence_parts(None, rnn, sizes, None, None, input_size, dropout)
        if getattr(self.rnn, "bidirectional", False):
            raise ValueError("rnn is bidirectional, but a Forecaster reads forwards alone")
        self.dropout = as_probability(dropout, "dropout")
        self._take_head(
            head, self.rnn.output_size, self.rnn.input_size, horizon, targets, scaler, objective
        )
        self._assemble()

    def __call__(self, inputs: ArrayLike, lengths: ArrayLike | None = None) -> FloatArray:
        """The forecast (horizon, N, F) after each row's own last step; N may be missing."""
        y, state = self.rnn(self._checked(inputs), lengths=lengths)
        return self._forecast(y, state, lengths)

    def vjp(
        self, inputs: ArrayLike, lengths: ArrayLike | None = None
    ) -> tuple[FloatArray, Callable[[ArrayLike], FloatArray]]:
        """As the call, in training mode, and pullback(dforecast) -> dinputs."""
        generator = self.generator  # makes it the generator of all parts
        flow = {"flow": True} if self.flow else {}
        (y, state), to_inputs = self.rnn.vjp(self._checked(inputs), lengths=lengths, **flow)
        features, to_steps = pooled("last", self.rnn, y, state, _ends(y, lengths))
        features, undropped = dropped(features, self.dropout, generator)
        flat, to_features = self.head.vjp(features)

        def pullback(dforecast: ArrayLike) -> FloatArray:
            dfeatures = undropped(to_features(self._as_flat(dforecast)))
            dx: FloatArray = to_inputs(*to_steps(dfeatures))[0]
            return dx

        return self._as_steps(flat), once(pullback, "a Forecaster")

    def _advance(self, inputs: FloatArray, past: Any) -> tuple[FloatArray, Any]:
        y, state = self.rnn(inputs, past)
        return self._forecast(y, state, None), state

    def _forecast(self, y: FloatArray, state: Any, lengths: ArrayLike | None) -> FloatArray:
        features, _ = pooled("last", self.rnn, y, state, _ends(y, lengths))
        return self._as_steps(self.head(features))

    def stream(self, batch_size: int = 1) -> Any:
        """A stream whose `step(x)` gives the forecast (horizon, F) or (horizon, N, F) so far.

        x and forecasts are in the series' own units, forecasts as `predict` gives them.
        """
        stream: Any
        if is_lowered(self.rnn):
            kind = _STREAMS[stream_kind(self.rnn)]
            lowered = lowered_model(self._versions(), self.rnn, None, self.head)
            stream = network_stream(kind, lowered, self.rnn, batch_size, self.fingerprint())
        else:
            stream = ForecastLayerStream(self.rnn, batch_size, self.fingerprint(), None, self.head)
        stream.forecasts, stream.scaler = self, self.scaler
        stream.unscaler = None if self.scaler is None else self.scaler.select(self.targets)
        return stream


def _ends(y: FloatArray, lengths: ArrayLike | None) -> IntArray | None:
    return None if lengths is None else as_lengths(lengths, y.shape[1], len(y))


class _ForecastSteps:
    """Steps of a series in its own units, over those of a stream in the network's."""

    forecasts: Forecaster
    scaler: Scaler | None
    unscaler: Scaler | None

    def step(self, x: ArrayLike, out: FloatArray | Doubles | None = None) -> FloatArray | Doubles:
        """As `Stream.step`; forecasts are (horizon, F) or (horizon, N, F).

        `out`: an array of this shape, float64 or, which rounds, float32.
        """
        if out is not None:
            self._check_out(out, as_array(x, "x").shape[:-1])
        flat = super().step(x if self.scaler is None else self.scaler(x))  # type: ignore[misc]
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


class ForecastStream(_ForecastSteps, Stream):
    """A stream over the steps of a series, in its own units."""


class ForecastNetworkStream(_ForecastSteps, NetworkStream):
    """The same through a network, whose state is a dict."""


_STREAMS: dict[type[Stream], type[Stream]] = {
    Stream: ForecastStream,
    NetworkStream: ForecastNetworkStream,
}


class ForecastLayerStream(_ForecastSteps, LayerStream):  # type: ignore[misc]
    """The same around a layer that is no recurrent one."""
