"""Training on a model's own tokens instead of those of the target."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fastrnn._arrays import (
    AnyArray,
    FloatArray,
    IntArray,
    as_float,
    as_probability,
    shown,
)
from fastrnn.models._decoder_stream import DecoderStream


class ScheduledSampling:
    """`sampling_probability`: the share of the target's inputs that training replaces by tokens of
    the model's own, drawn with `sampling_temperature` (0: the most probable). Set it as training
    goes on. No gradient goes through the draw. Source: Bengio et al., Scheduled sampling, 2015.
    """

    _sampling_probability: float
    _sampling_temperature: float

    @property
    def sampling_probability(self) -> float:
        """The share of a target's inputs that training draws from the model, 0 to 1."""
        return self._sampling_probability

    @sampling_probability.setter
    def sampling_probability(self, value: float) -> None:
        self._sampling_probability = as_probability(value, "sampling_probability")

    @property
    def sampling_temperature(self) -> float:
        """What logits are divided by before training draws; 0 for the most probable token."""
        return self._sampling_temperature

    @sampling_temperature.setter
    def sampling_temperature(self, value: float) -> None:
        temperature = as_float(value)
        if not temperature >= 0:
            raise ValueError(f"sampling_temperature is {shown(value)}, expected a number from 0")
        self._sampling_temperature = temperature

    def _sampled(
        self, stream: DecoderStream, tokens: IntArray, generator: np.random.Generator
    ) -> IntArray:
        """tokens (T, N) of which a share, but never the first step, is the model's own."""
        mixed = tokens.copy()
        chosen = generator.random(tokens.shape) < self.sampling_probability
        for t, logits in enumerate(_steps(stream, mixed), 1):
            drawn = _drawn(logits, self.sampling_temperature, generator)
            mixed[t] = np.where(chosen[t], drawn, mixed[t])
        return mixed


def _steps(stream: DecoderStream, tokens: IntArray) -> Iterator[FloatArray]:
    """Logits of every step but the last; tokens may change while this runs."""
    for t in range(len(tokens) - 1):
        yield stream.step(tokens[t])


def _drawn(logits: FloatArray, temperature: float, generator: np.random.Generator) -> IntArray:
    """One token for each row from softmax(logits / temperature), by the Gumbel-max trick."""
    scores: AnyArray = logits
    if temperature > 0:
        scores = logits / temperature + generator.gumbel(size=logits.shape)
    ids: IntArray = scores.argmax(axis=1)
    return ids
