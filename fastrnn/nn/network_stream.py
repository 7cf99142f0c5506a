"""States of whole networks by the names of their modules, and streams through them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastrnn._arrays import ArrayLike, FloatArray, as_float32, with_article
from fastrnn._names import listed
from fastrnn.nn.conv import Conv1d
from fastrnn.nn.lowering import Carried
from fastrnn.nn.stream import Part, Stream

if TYPE_CHECKING:
    from typing_extensions import Self

    from fastrnn import _core

Parts = list[tuple[int, int, FloatArray]]  # place, part, values (states, N, width)


def carried_parts(carried: Carried, network: _core.Network) -> list[Part]:
    """The parts of what one module carries."""
    found = [(carried.place, part) for part in range(2)]
    return [part for part in found if network.part_of(*part) is not None]


def state_in(
    lowered: Any, state: Mapping[str, Any] | None, rows: int, flat: bool, owner: object
) -> Parts:
    """The parts of a state that is given, checked."""
    if state is None:
        return []
    me, names = f"this {type(owner).__name__}", [c.name for c in lowered.carried]
    if not isinstance(state, Mapping):
        kind = with_article(type(state).__name__)
        raise TypeError(f"state is {kind}, {me} expects a mapping of modules' names to states")
    unknown = [str(name) for name in state if name not in names]
    if unknown:
        raise ValueError(f"state has {listed(unknown)}, {me} carries {listed(names) or 'nothing'}")
    found: Parts = []
    for carried in lowered.carried:
        if carried.name in state:
            found += _parts_in(lowered.network, carried, state[carried.name], rows, flat)
    return found


def _parts_in(network: _core.Network, carried: Carried, value: Any, rows: int, flat: bool) -> Parts:
    name, parts = f"state[{carried.name!r}]", carried_parts(carried, network)
    values = [value]
    if len(parts) == 2:
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            kind = with_article(type(value).__name__)
            raise TypeError(f"{name} is {kind}, expected a pair (h, c)")
        values = list(value)
    found: Parts = []
    for part, array in zip(parts, values, strict=True):
        shape = _shape_of(network, carried, part, rows)
        found.append((*part, _checked(array, name, shape, flat, carried)))
    return found


def _shape_of(
    network: _core.Network, carried: Carried, part: Part, rows: int
) -> tuple[int, int, int]:
    """Shape of a part as users give it: (L * D, N, R), or (N, before, C) of a convolution."""
    sizes = network.part_of(*part)
    assert sizes is not None
    if isinstance(carried.module, Conv1d):
        channels = carried.module.in_channels
        return rows, sizes[1] // channels, channels
    return sizes[0], rows, sizes[1]


def row_axis(module: object) -> int:
    """Axis of the rows in a module's state: (N, before, C) of a convolution, else (L * D, N, R)."""
    return 0 if isinstance(module, Conv1d) else 1


def _checked(
    value: ArrayLike, name: str, shape: tuple[int, int, int], flat: bool, carried: Carried
) -> FloatArray:
    """As the core takes it, (states, N, width)."""
    array, axis = as_float32(value, name), row_axis(carried.module)
    if flat and array.ndim == 2:
        array = np.expand_dims(array, axis)
    if array.shape != shape:
        expected = tuple(size for i, size in enumerate(shape) if not flat or i != axis)
        raise ValueError(f"{name} has shape {np.shape(value)}, expected {expected}")
    return array.reshape(1, shape[0], -1) if axis == 0 else array


def state_out(lowered: Any, read: Callable[[int, int], FloatArray], flat: bool) -> dict[str, Any]:
    """The state by the modules' names."""
    state: dict[str, Any] = {}
    for carried in lowered.carried:
        places = carried_parts(carried, lowered.network)
        parts = [_as_given(read(*place), carried, flat) for place in places]
        state[carried.name] = parts[0] if len(parts) == 1 else tuple(parts)
    return state


def _as_given(part: FloatArray, carried: Carried, flat: bool) -> FloatArray:
    """A part (states, N, width) as states have it."""
    if isinstance(carried.module, Conv1d):
        part = part.reshape(part.shape[1], -1, carried.module.in_channels)
    return part.squeeze(row_axis(carried.module)) if flat else part


class NetworkStream(Stream):
    """A running network: as `Stream`, with the state of every module by its name.

    x (I,) or (N, I), frames (L, C) or (N, L, C), tokens an int or (N,); several inputs or outputs
    are tuples. `state`: a dict like that of a call; setting it leaves modules that it does not
    name as they are.
    """

    _source: Any

    @classmethod
    def of(cls, lowered: Any, batch_size: int, fingerprint: bytes) -> Self:
        """A stream through a network and all that it carries."""
        parts = [p for c in lowered.carried for p in carried_parts(c, lowered.network)]
        stream = cls.over(lowered.network, batch_size, fingerprint, parts)
        stream._source = lowered
        return stream

    @property
    def state(self) -> dict[str, Any]:
        """Copies of the state, a dict of what every module carries by its name."""
        return state_out(self._source, self.read_part, False)

    @state.setter
    def state(self, value: Mapping[str, Any]) -> None:
        flat = self.rows == 1 and all(part.ndim == 2 for part in _arrays_of(value))
        self.write_parts(list(state_in(self._source, value, self.rows, flat, self)))

    def _sizes(self) -> list[int]:
        """Sizes that a snapshot holds: parts, rows and floats of a row."""
        floats = sum(states * width for states, _, width in self._shapes)
        return [len(self._parts), self.rows, floats % (1 << 32), 0]


def _arrays_of(state: Any) -> Iterator[Any]:
    """The arrays of a state, as far as it is one."""
    for value in state.values() if isinstance(state, Mapping) else ():
        for part in value if isinstance(value, (tuple, list)) else (value,):
            yield np.asarray(part) if not hasattr(part, "ndim") else part
