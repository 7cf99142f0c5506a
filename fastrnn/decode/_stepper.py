"""Models that can be decoded, and the one stream that a call runs through them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from fastrnn import _core
from fastrnn._arrays import ArrayLike, FloatArray, IntArray, as_float32, with_article

READ_TOKENS = 256  # of all prompts at once; between them an interrupt is noticed
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
    """The stream of one call, and the logits it writes: (capacity, V), the first N valid.

    `core`: the stream as the kernels run it, where the model is a network. Any other model gives
    logits for one step at a time, and nothing above this class sees the difference but for that.
    """

    def __init__(self, model: Decodable, rows: int, logits: FloatArray) -> None:
        self.rows, self.logits = rows, logits
        capacity = len(logits)
        self.stream: Any = model.stream(capacity)
        self.core = core_of(self.stream)
        self._view()
        if rows < capacity:
            self.reorder(list(range(rows)))

    def read(self, prompts: list[list[int]]) -> list[int]:
        """Read the rows' prompts up to the last token; the numbers of tokens read.

        A network reads whole sequences without outputs. Any other model reads nothing here: its
        rows are fed their prompts step by step, while others may write already.
        """
        if self.core is None:
            return [0] * len(prompts)
        lengths = [len(prompt) - 1 for prompt in prompts]
        steps = max(1, READ_TOKENS // len(prompts))
        for start in range(0, max(lengths), steps):
            counts = [min(max(length - start, 0), steps) for length in lengths]
            tokens = np.zeros((max(counts), len(prompts)), np.int64)
            for row, (prompt, count) in enumerate(zip(prompts, counts, strict=True)):
                tokens[:count, row] = prompt[start : start + count]
            self.core.read(tokens, None if min(counts) == len(tokens) else np.array(counts))
        return lengths

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
