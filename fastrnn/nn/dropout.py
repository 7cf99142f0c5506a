"""Dropout in its three forms: of values, of features for a whole sequence, of words."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from fastrnn._arrays import ArrayLike, FloatArray, as_flag, as_float32, as_int64, as_probability
from fastrnn.nn.composite import Composite
from fastrnn.nn.embedding import Embedding, check_shape
from fastrnn.nn.module import Module
from fastrnn.nn.pullback import once
from fastrnn.nn.registry import registered


def draw_mask(generator: np.random.Generator, p: float, shape: tuple[int, ...]) -> FloatArray:
    """0 with probability p, else 1 / (1 - p), so that the expectation is 1."""
    kept = generator.random(shape, np.float32) >= np.float32(p)
    return kept * np.float32(0.0 if p == 1 else 1 / (1 - p))


def dropped(
    x: FloatArray, p: float, generator: np.random.Generator, shape: tuple[int, ...] | None = None
) -> tuple[FloatArray, Callable[[FloatArray], FloatArray]]:
    """x under a new mask of `shape` (default: of x), and what applies it to a gradient."""
    if p == 0:
        return x, lambda dy: dy
    mask = draw_mask(generator, p, x.shape if shape is None else shape)
    return x * mask, lambda dy: dy * mask


def locked_shape(x: FloatArray, batch_first: bool = False) -> tuple[int, ...]:
    """The shape of a mask that is the same for all steps of x (T, N, F) or (T, F)."""
    if batch_first and x.ndim == 3:
        return (x.shape[0], 1, x.shape[2])
    return (1, *x.shape[1:])


@registered
class Dropout(Module):
    """In training, zeroes every value with probability p and divides the others by 1 - p.

    x (*) -> (*); the call returns x. Source: torch.nn.Dropout; Srivastava et al. 2014.
    """

    _options: ClassVar[tuple[str, ...]] = ("p",)
    _keeps_shape = True

    def __init__(self, p: float = 0.5) -> None:
        self.p = as_probability(p, "p")
        self._allocate([])

    def reset_parameters(self, seed: int | None = None) -> None:
        """There is nothing to draw."""

    def __call__(self, x: ArrayLike) -> FloatArray:
        """x: nothing is dropped outside training."""
        return as_float32(x, "x")

    def vjp(self, x: ArrayLike) -> tuple[FloatArray, Callable[[ArrayLike], FloatArray]]:
        """x under a new mask, and a pullback that applies the same mask."""
        x = as_float32(x, "x")
        y, back = dropped(x, self.p, self.generator, self._mask_shape(x))

        def pullback(dy: ArrayLike) -> FloatArray:
            dy = as_float32(dy, "dy")
            check_shape(dy, x.shape, "dy")
            return back(dy)

        return y, once(pullback, f"a {type(self).__name__}")

    def _mask_shape(self, x: FloatArray) -> tuple[int, ...]:
        return x.shape


@registered
class LockedDropout(Dropout):
    """Dropout with one mask per row and feature for all time steps of a call.

    x (T, N, F), (N, T, F) if batch_first, or (T, F) for one row.
    Source: Gal and Ghahramani, A theoretically grounded application of dropout in recurrent
    neural networks, 2016.
    """

    _options = ("p", "batch_first")

    def __init__(self, p: float = 0.5, batch_first: bool = False) -> None:
        self.batch_first = as_flag(batch_first, "batch_first")
        super().__init__(p)

    def _mask_shape(self, x: FloatArray) -> tuple[int, ...]:
        if x.ndim not in (2, 3):
            raise ValueError(f"x has {x.ndim} dimensions, this LockedDropout expects 2 or 3")
        return locked_shape(x, self.batch_first)


@registered
class EmbeddingDropout(Composite):
    """In training, zeroes whole words of an embedding's table, all their occurrences at once.

    indices (*) -> (*, dim), like the `embedding` it holds. Source: Gal and Ghahramani 2016;
    Merity et al., Regularizing and optimizing LSTM language models, 2018.
    """

    _options = ("p",)
    _modules = ("embedding",)

    def __init__(self, embedding: Embedding, p: float = 0.1) -> None:
        self.embedding = embedding
        self.p = as_probability(p, "p")
        self._assemble()

    def __call__(self, indices: ArrayLike) -> FloatArray:
        """The vectors at `indices`, none of them dropped."""
        return self.embedding(indices)

    def vjp(self, indices: ArrayLike) -> tuple[FloatArray, Callable[[ArrayLike], None]]:
        """The vectors with some words zeroed, and the embedding's pullback under that mask."""
        y, embedding_pullback = self.embedding.vjp(indices)
        if not self.p:
            return y, embedding_pullback
        words = draw_mask(self.generator, self.p, (self.embedding.num, 1))
        mask = words[as_int64(indices, "indices")]

        def pullback(dy: ArrayLike) -> None:
            dy = as_float32(dy, "dy")
            check_shape(dy, y.shape, "dy")
            embedding_pullback(dy * mask)

        return y * mask, once(pullback, "an EmbeddingDropout")
