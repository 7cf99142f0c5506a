"""Models made of modules: one buffer for all parameters, each part on its own cache lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar
from weakref import ref

import numpy as np

from fastrnn._arrays import ALIGNMENT, FloatArray, aligned_zeros, as_seed, with_article
from fastrnn._names import listed
from fastrnn.nn.module import Module


class Composite(Module):
    """A module whose parameters are those of its parts, named `part.parameter`."""

    # Whether a parameter's name begins with that of its part.
    _names_parts: ClassVar[bool] = True

    @property
    def _parts(self) -> dict[str, Module]:
        """The parts by name, in the order of the buffer: by default the arguments that are modules.

        Attributes of the same names.
        """
        parts = {name: getattr(self, name) for name in self._modules}
        return {name: part for name, part in parts.items() if part is not None}

    def _assemble(self) -> None:
        """Move the parts' parameters into buffers of this model."""
        self._forget()
        parts = self._parts
        _check_parts(parts, self)
        for part in parts.values():
            part._home = ref(self)
        size = sum(_padded(part.flat.size) for part in parts.values())
        self._live_in(aligned_zeros(size), aligned_zeros(size))

    def _place(self, flat: FloatArray, flat_grad: FloatArray) -> None:
        super()._place(flat, flat_grad)
        start = 0
        for part in self._parts.values():
            end = start + part.flat.size
            part._move_to(flat[start:end], flat_grad[start:end])
            start += _padded(part.flat.size)

    def _bind_own(self) -> None:
        for part in self._parts.values():
            part._bind_own()

    def _bind_tied(self) -> None:
        """And the names of the parts' tensors, wherever those live now."""
        for part in self._parts.values():
            part._bind_tied()
        self.parameters, self.grads = self._named("parameters"), self._named("grads")

    def _owner_of(self, name: str) -> tuple[Module, str]:
        part, key = self._find(name, "name")
        return part._owner_of(key)

    def _named(self, which: str) -> dict[str, FloatArray]:
        return {
            f"{name}.{key}" if self._names_parts else key: tensor
            for name, part in self._parts.items()
            for key, tensor in getattr(part, which).items()
        }

    def tie(self, owner: Module, name: str = "weight", of: str | None = None) -> None:
        """As `Module.tie`; `name` and, if `owner` is this model, `of` are whole names.

        The buffers become new ones: optimisers that have the old ones have to be made again.
        """
        home = self._home and self._home()
        if home is not None:
            raise ValueError(
                f"this {type(self).__name__} is part of {with_article(type(home).__name__)} "
                f"already, expected a tie within the whole of it"
            )
        part, key = self._find(name, "name")
        if of is not None and isinstance(owner, Composite):
            owner, of = owner._find(of, "of")
        part._check_tie(owner, key, key if of is None else of)
        part._tie(owner, key, key if of is None else of)
        self._reassemble()

    def _find(self, name: str, argument: str) -> tuple[Module, str]:
        """The module below that has a parameter of this whole name, and the name there."""
        for key, part in self._parts.items():
            rest = name.removeprefix(f"{key}.") if self._names_parts else name
            if rest in part.parameters and (rest != name or not self._names_parts):
                return part._find(rest, argument) if isinstance(part, Composite) else (part, rest)
        raise ValueError(f"{argument} is {name!r}, expected one of {listed(self.parameters)}")

    def _reassemble(self) -> None:
        for part in self._parts.values():
            if isinstance(part, Composite):
                part._reassemble()
        self._assemble()
        self.repack()

    def _owners(self) -> Iterator[Module]:
        for part in self._parts.values():
            yield from part._owners()

    def _share_generator(self, generator: np.random.Generator) -> None:
        super()._share_generator(generator)
        for part in self._parts.values():
            part._share_generator(generator)

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw all parameters anew, the same for the same `seed` (an int of 0 or more)."""
        seed = as_seed(seed)
        for i, part in enumerate(self._parts.values()):
            part.reset_parameters(None if seed is None else seed + i)
        for part in self._parts.values():
            part._reset_tied(seed)
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


def _check_parts(parts: Mapping[str, Module], owner: Module) -> None:
    """A module has one place: two models that move one buffer about would lose each other's."""
    names: dict[int, str] = {}
    for name, part in parts.items():
        first = names.setdefault(id(part), name)
        if first != name:
            kind = type(part).__name__
            raise ValueError(f"{first} and {name} are the same {kind}, expected two of them")
        check_free(part, name, owner)


def check_free(part: Module, name: str, owner: Module | None = None) -> None:
    """ValueError for a part of another model than `owner`, whose buffer it would leave."""
    home = part._home and part._home()
    if home is not None and home is not owner:
        raise ValueError(
            f"{name} is part of {with_article(type(home).__name__)} already, expected one that is "
            f"not, such as copy.deepcopy({name})"
        )


def _padded(size: int) -> int:
    """Floats from one part's start to the next one's, which is on a cache line again."""
    return -(-size * 4 // ALIGNMENT) * ALIGNMENT // 4
