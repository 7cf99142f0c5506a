"""Base of all sources of batches: an epoch, a position in it, and a generator of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastrnn._arrays import AnyArray, as_int, as_seed, with_article
from fastrnn._digest import arrays_of, digest_of

MOST_BATCHES = 1000  # of which a digest is made where a source does not name its arrays

if TYPE_CHECKING:
    from typing_extensions import Self


class Batch(NamedTuple):
    """Inputs and targets of one training step.

    `inputs`: time first: token ids (T, N) int64 or features (T, N, I) float32.
    `targets`: ids (T, N) or (N,) int64, or numbers float32.
    `lengths`: (N,) int64 where rows are padded.
    `fresh`: start from the zero state; False: carry the state of the batch before on.
    """

    inputs: Any
    targets: Any
    lengths: Any = None
    fresh: bool = True


class Source:
    """Batches, epoch after epoch; a base for classes that have the three methods at the end.

    `epoch`: number of finished epochs. `position`: number of batches given in the current one.
    An epoch is planned when it starts, with the source's own generator, so that its start and a
    position determine all further batches. `seed`: that of the generator; None for a random one.
    """

    epoch: int
    position: int
    seed: int | None

    def __init__(self, seed: int | None) -> None:
        self.seed = as_seed(seed)
        self._generator = np.random.default_rng(self.seed)
        self._begin(0)

    def _begin(self, epoch: int) -> None:
        self._start: Mapping[str, Any] = self._generator.bit_generator.state
        self._plan = self._draw(self._generator)
        self.epoch, self.position = epoch, 0

    def __copy__(self) -> Self:
        """A source over the same data that goes on by itself from here."""
        twin = type(self).__new__(type(self))
        vars(twin).update(vars(self), _generator=deepcopy(self._generator))
        return twin

    @property
    def num_batches(self) -> int:
        """Number of batches in the current epoch, the ones already given included."""
        return self._count(self._plan)

    def batches(self) -> Iterator[Batch]:
        """The rest of the current epoch; its end moves the source to the next one."""
        epoch = self.epoch
        while self.epoch == epoch and self.position < self.num_batches:
            batch = self._batch(self._plan, self.position)
            self.position += 1
            yield batch
        if self.epoch == epoch:
            self._begin(epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        """Position of the source as plain JSON values; a round trip through JSON is exact."""
        start = {**self._start, "state": dict(self._start["state"])}
        place = {"epoch": self.epoch, "position": self.position, "generator": start}
        return {"source": {"type": type(self).__name__, **self._describe()}, **place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with exactly the batches that the source of `state` would have given.

        ValueError if `state` is of a source of other data or settings; then nothing changes.
        """
        if not isinstance(state, Mapping):
            kind = with_article(type(state).__name__)
            raise TypeError(f"state is {kind}, expected what state_dict() gave")
        missing = {"source", "epoch", "position", "generator"} - set(state)
        if missing:
            raise ValueError(
                f"state has no {sorted(missing)[0]!r}, expected what state_dict() gave"
            )
        self._check_same(state["source"])
        generator = _restored(state["generator"])
        start, plan = generator.bit_generator.state, self._draw(generator)
        epoch, position = as_int(state["epoch"], "epoch"), as_int(state["position"], "position")
        if epoch < 0 or not 0 <= position <= self._count(plan):
            raise ValueError(
                f"state is at batch {position} of epoch {epoch}, expected a batch from 0 to "
                f"{self._count(plan)} of an epoch from 0"
            )
        self._generator, self._start, self._plan = generator, start, plan
        self.epoch, self.position = epoch, position

    def digest(self) -> dict[str, str]:
        """Fingerprints of all that the batches are made of, by name.

        2**26 values (half a second) of each array are read, of a larger one from everywhere in it.
        """
        return {name: digest_of(arrays) for name, arrays in self._held().items()}

    def _held(self) -> Mapping[str, Iterable[AnyArray]]:
        """The arrays, by the names of the arguments that they came in; by default some batches."""
        count = self.num_batches
        some = np.unique(np.linspace(0, count - 1, min(count, MOST_BATCHES)).astype(np.int64))
        batches = (self._batch(self._plan, int(index)) for index in some)
        return {"batches": (array for batch in batches for array in arrays_of(batch[:3]))}

    def __repr__(self) -> str:
        settings = {k: v for k, v in self._describe().items() if v is not None}
        about = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        place = f"batch {self.position} of {self.num_batches} in epoch {self.epoch}"
        return f"{type(self).__name__}({about}; {place})"

    def _check_same(self, theirs: Mapping[str, Any]) -> None:
        ours = {"type": type(self).__name__, **self._describe()}
        for name, value in ours.items():
            if theirs.get(name) != value:
                raise ValueError(
                    f"state is of a source with {name} {theirs.get(name)!r}, this one has {value!r}"
                )

    def _describe(self) -> dict[str, Any]:
        """Sizes and settings that determine the batches, as plain JSON values."""
        raise NotImplementedError

    def _draw(self, generator: np.random.Generator) -> Any:
        """The plan of an epoch; nothing else draws from the generator."""
        raise NotImplementedError

    def _count(self, plan: Any) -> int:
        """Number of batches of a plan, which by default holds their (count + 1,) bounds."""
        return len(plan) - 1

    def _batch(self, plan: Any, index: int) -> Batch:
        raise NotImplementedError


def _restored(state: Any) -> np.random.Generator:
    """A generator in the state given, which may come from JSON."""
    generator = np.random.default_rng(0)
    try:
        generator.bit_generator.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"generator of the state is not one of PCG64: {error}") from error
    return generator
