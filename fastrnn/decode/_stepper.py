"""What a model must offer to be decoded, and the one stream that a call runs through it."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from fastrnn import _core
from fastrnn._arrays import ArrayLike, FloatArray, IntArray, as_float32, with_article

READ_STEPS = 256  # of a prompt at once; between them an interrupt is noticed
RUN_STEPS = 32  # that the kernels decide without coming back


class TokenStream(Protocol):
    """A running model over rows of tokens.

    A new one has `batch_size` rows in their initial states; if the model belongs to several
    sources (sentences to translate), row i starts from source i, and rows past the last source
    from any.
    """

    def step(self, tokens: IntArray, /) -> ArrayLike:
        """logits (N, V) of what follows, given the next token of every row: tokens (N,)."""

    def reorder(self, indices: IntArray, /) -> None:
        """Row n becomes a copy of row indices[n]; from 1 to batch_size of them, the new N."""


class Decodable(Protocol):
    """A model that can be decoded: the size of its vocabulary, and streams through it.

    `LanguageModel` is one. Any other needs these two and nothing else.
    """

    @property
    def vocab_size(self) -> int:
        """V; tokens are 0 to V - 1."""

    def stream(self, batch_size: int, /) -> TokenStream:
        """A stream of `batch_size` rows."""


def check_model(model: Any) -> int:
    """The size of the model's vocabulary; TypeError if this is no model that can be decoded."""
    vocab_size = getattr(model, "vocab_size", None)
    if not isinstance(vocab_size, (int, np.integer)) or not callable(
        getattr(model, "stream", None)
    ):
        kind = with_article(type(model).__name__)
        raise TypeError(
            f"model is {kind}, expected an object with vocab_size and stream(batch_size)"
        )
    return int(vocab_size)


def core_of(stream: Any) -> _core.Stream | None:
    """The stream over tokens that the kernels can run for many steps, if there is one."""
    core = stream if isinstance(stream, _core.Stream) else getattr(stream, "core", None)
    if not isinstance(core, _core.Stream) or not core.vocabulary:
        return None
    own = type(core).step, type(core).reorder  # a subclass with steps of its own keeps them
    return core if own == (_core.Stream.step, _core.Stream.reorder) else None


class Stepper:
    """The stream of one call, and the logits it writes: (capacity, V), the first N valid."""

    def __init__(self, model: Decodable, rows: int, logits: FloatArray) -> None:
        self.rows, self.logits = rows, logits
        self.capacity = capacity = len(logits)
        self.stream: Any = model.stream(capacity)
        self.core = core_of(self.stream)
        self._view()
        if rows < capacity:
            self.reorder(list(range(rows)))

    def read(self, texts: list[list[int]]) -> int:
        """Give each row its text, as far as all of them go but one token; how far that is.

        Only a stream of the kernels reads without giving logits; any other reads nothing here.
        """
        count = min(len(text) for text in texts) - 1
        if self.core is None or count < 1:
            return 0
        tokens = np.array([text[:count] for text in texts]).T
        for start in range(0, count, READ_STEPS):
            self.core.read(tokens[start : start + READ_STEPS])
        return count

    def step(self, tokens: list[int]) -> None:
        """One token for every row."""
        if self.core is None:
            self._copy(as_float32(self.stream.step(np.array(tokens)), "logits"))
        elif self.rows == 1:
            self.core.step(tokens[0], out=self._flat)
        else:
            self.core.step(np.array(tokens), out=self.valid)

    def reorder(self, indices: list[int]) -> None:
        """The stream's rows; the logits stay where they are."""
        self.stream.reorder(np.array(indices))
        self.resize(len(indices))

    def resize(self, rows: int) -> None:
        """Take note of how many rows the stream has now."""
        if rows != self.rows:
            self.rows = rows
            self._view()

    def _view(self) -> None:
        self.valid: FloatArray = self.logits[: self.rows]
        self._flat: FloatArray = self.logits[0]

    def _copy(self, logits: FloatArray) -> None:
        if logits.shape != self.valid.shape:
            raise ValueError(
                f"the model's step gave logits of shape {logits.shape}, expected {self.valid.shape}"
            )
        self.valid[...] = logits
