"""Models made of modules: one buffer for all parameters, each part on its own cache lines."""

from __future__ import annotations

import numpy as np

from fastrnn._arrays import ALIGNMENT, FloatArray, aligned_zeros, as_seed
from fastrnn.nn.module import Module


class Composite(Module):
    """A module whose parameters are those of its parts, named `part.parameter`."""

    @property
    def _parts(self) -> dict[str, Module]:
        """The parts by name, in the order of the buffer; the attributes of the same names."""
        raise NotImplementedError

    def _assemble(self) -> None:
        """Move the parts' parameters into buffers of this model."""
        self._forget()
        parts = self._parts
        size = sum(_padded(part.flat.size) for part in parts.values())
        self._live_in(aligned_zeros(size), aligned_zeros(size))

    def _live_in(self, flat: FloatArray, flat_grad: FloatArray) -> None:
        self.flat, self.flat_grad = flat, flat_grad
        start = 0
        for part in self._parts.values():
            end = start + part.flat.size
            part._move_to(flat[start:end], flat_grad[start:end])
            start += _padded(part.flat.size)
        self._name_parameters()

    def _name_parameters(self) -> None:
        """Names of the parts' tensors, wherever those live now."""
        parts = self._parts.items()
        self.parameters = {
            f"{name}.{key}": tensor
            for name, part in parts
            for key, tensor in part.parameters.items()
        }
        self.grads = {
            f"{name}.{key}": tensor for name, part in parts for key, tensor in part.grads.items()
        }

    def _share_generator(self, generator: np.random.Generator) -> None:
        super()._share_generator(generator)
        for part in self._parts.values():
            part._share_generator(generator)

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw all parameters anew, the same for the same `seed` (an int of 0 or more)."""
        seed = as_seed(seed)
        for i, part in enumerate(self._parts.values()):
            part.reset_parameters(None if seed is None else seed + i)
        super().repack()

    def repack(self) -> None:
        for part in self._parts.values():
            part.repack()
        super().repack()

    def _forget(self) -> None:
        """Start without what calls keep for the next ones."""

    def _own(self, tensors: dict[str, FloatArray]) -> dict[str, FloatArray]:
        return {}

    def _restore(self, parameters: dict[str, FloatArray], gradients: dict[str, FloatArray]) -> None:
        """The parts have been restored, each in a buffer of its own."""
        self._assemble()

    def trim(self) -> None:
        self._forget()
        for part in self._parts.values():
            part.trim()

    def _versions(self) -> tuple[int, ...]:
        return tuple(number for part in self._parts.values() for number in part._versions())

    def __repr__(self) -> str:
        shown = (repr(part).replace("\n", "\n  ") for part in self._parts.values())
        parts = "".join(
            f"  ({name}): {text}\n" for name, text in zip(self._parts, shown, strict=True)
        )
        return f"{type(self).__name__}(\n{parts})"


def _padded(size: int) -> int:
    """Floats from one part's start to the next one's, which is on a cache line again."""
    return -(-size * 4 // ALIGNMENT) * ALIGNMENT // 4
