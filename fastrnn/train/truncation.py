"""Truncated backpropagation through time at random places, without bias."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np

from fastrnn._arrays import as_probability, as_seed


class RandomTruncation:
    """Consecutive windows of a stream are cut apart with `probability`, and connected otherwise.

    One optimiser step takes the windows up to the next cut (1 / probability on average, and their
    memory). Where windows are connected, the gradient of the state is multiplied by
    1 / (1 - probability) in the backward pass, which makes the expected gradient that of the whole
    stream; fixed windows leave out what reaches beyond them. A probability of 1 is fixed
    windows, one of 0 is full backpropagation. Source: Tallec and Ollivier 2017, Unbiasing
    Truncated Backpropagation Through Time.
    """

    def __init__(self, probability: float, *, seed: int | None = None) -> None:
        self.probability = as_probability(probability, "probability")
        self.seed = as_seed(seed)
        self.generator = np.random.default_rng(self.seed)

    def __copy__(self) -> RandomTruncation:
        """A copy that draws on its own."""
        return deepcopy(self)

    @property
    def weight(self) -> float:
        """Factor of the state's gradient where windows are connected."""
        return 1.0 / (1.0 - self.probability) if self.probability < 1 else 1.0

    def segment(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Batches up to the next cut."""
        for batch in batches:
            yield batch
            if self.generator.random() < self.probability:
                return

    def scale(self, windows: int, per_epoch: int | None) -> float:
        """1 / the expected number of windows of a step, out of `per_epoch` ones.

        It depends on no cut, as a mean over the actual number would, and that would be a bias.
        """
        if self.probability == 0:
            return 1.0 / windows  # always the whole epoch
        if per_epoch is None:
            return self.probability
        return self.probability / (1.0 - (1.0 - self.probability) ** per_epoch)

    def state_dict(self) -> dict[str, Any]:
        """The state of the generator."""
        return {
            "probability": self.probability,
            "generator": dict(self.generator.bit_generator.state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the cuts that the one with this state would have made."""
        if state["probability"] != self.probability:
            raise ValueError(
                f"probability is {self.probability}, the saved one is {state['probability']}"
            )
        self.generator.bit_generator.state = state["generator"]
