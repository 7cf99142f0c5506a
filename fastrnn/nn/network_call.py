"""Arguments of one call of a network: checked, laid out as the core takes them, and handed back.

Letters as in `recurrent.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastrnn._arrays import AnyArray, ArrayLike, IntArray, as_float32, as_int64, as_lengths
from fastrnn._names import listed
from fastrnn.nn.embedding import check_shape
from fastrnn.nn.packed import Places, is_packed

Port = int | tuple[int, int]  # size of a vocabulary, or (length, channels)


class Layout(NamedTuple):
    """How the caller lays out the values of a network, and how the core does, (T, N, *).

    Or (N, T, *) if `batch_first`, which says nothing of packed values.
    """

    batch_first: bool
    flat: bool = False  # one row without its axis
    places: Places | None = None  # of a packed batch

    @property
    def row_axis(self) -> int:
        """Axis of the rows in the core's arrays."""
        return 0 if self.batch_first else 1

    def inwards(self, value: Any, name: str, at_end: bool = False) -> Any:
        """An output's gradient as the core takes it; None stays None. at_end: one for a row."""
        if value is None:
            return None
        if self.places is not None and not at_end:
            data = as_float32(value.data if is_packed(value) else value, f"{name}.data")
            wanted = (len(self.places.steps), *data.shape[1:])
            check_shape(data, wanted, f"{name}.data")
            return self.places.padded(data, self.batch_first)
        array = as_float32(value, name)
        return np.expand_dims(array, self._axis(at_end)) if self.flat else array

    def outwards(self, value: Any, at_end: bool = False) -> Any:
        """An output, or an input's gradient, as the caller has it; None stays None."""
        if value is None:
            return None
        if self.places is not None and not at_end:
            return self.places.packed(value, self.batch_first)
        return value.squeeze(self._axis(at_end)) if self.flat else value

    def _axis(self, at_end: bool) -> int:
        return 0 if at_end else self.row_axis


class Arguments(NamedTuple):
    """The inputs of one call as the core takes them, and the lengths of their rows."""

    arrays: list[AnyArray]
    counts: IntArray | None
    layout: Layout

    @property
    def rows(self) -> int:
        """N."""
        return int(self.arrays[0].shape[self.layout.row_axis])


def read_arguments(
    x: Any,
    lengths: ArrayLike | None,
    names: list[str],
    ports: list[Port],
    batch_first: bool,
    owner: object,
) -> Arguments:
    """The inputs x of a network, `names` and `ports` those of its inputs; errors call `owner`."""
    me = f"this {type(owner).__name__}"
    given = _by_input(x, names, me)
    if any(is_packed(value) for value in given):
        return _packed_arguments(given, lengths, ports, batch_first, me)
    arrays, flats = [], set()
    for value, port in zip(given, ports, strict=True):
        array, flat = _array(value, port, batch_first, me)
        arrays.append(array)
        flats.add((flat, array.shape[:2]))
    if len(flats) > 1:
        raise ValueError(f"the inputs of {me} differ in their steps or rows")
    flat, sizes = flats.pop()
    rows, steps = sizes if batch_first else sizes[::-1]
    if steps == 0:
        raise ValueError(f"x has 0 steps, {me} expects at least 1")
    layout = Layout(batch_first, flat)
    if lengths is None:
        return Arguments(arrays, None, layout)
    if flat:
        raise ValueError("lengths needs a batch, but x has no axis of rows")
    return Arguments(arrays, as_lengths(lengths, rows, steps), layout)


def _by_input(x: Any, names: list[str], me: str) -> list[Any]:
    """The values of all inputs, in their order."""
    if len(names) == 1:
        return [x]
    if isinstance(x, Mapping):
        missing = [name for name in names if name not in x]
        if missing or len(x) != len(names):
            raise ValueError(f"x has {listed(list(x))}, {me} expects {listed(names)}")
        return [x[name] for name in names]
    given = list(x) if isinstance(x, (tuple, list)) and not is_packed(x) else [x]
    if len(given) != len(names):
        raise ValueError(f"x holds {len(given)} inputs, {me} expects {len(names)}")
    return given


def _array(value: ArrayLike, port: Port, batch_first: bool, me: str) -> tuple[AnyArray, bool]:
    """An input with its axis of rows, and whether it came without."""
    array, lead = _checked(value, port, "x", 1, 2, me)
    if lead == 1:
        return np.expand_dims(array, 0 if batch_first else 1), True
    return array, False


def _checked(
    value: ArrayLike, port: Port, name: str, fewest: int, most: int, me: str
) -> tuple[AnyArray, int]:
    """Numbers or tokens with the shape of an input behind `fewest` to `most` axes; how many."""
    tokens = isinstance(port, int)
    array: AnyArray = as_int64(value, name) if tokens else as_float32(value, name)
    shape: tuple[int, ...] = () if isinstance(port, int) else port if port[0] > 1 else port[1:]
    lead = array.ndim - len(shape)
    if not fewest <= lead <= most:
        wanted = " or ".join(str(n + len(shape)) for n in range(fewest, most + 1))
        raise ValueError(f"{name} has {array.ndim} dimensions, {me} expects {wanted}")
    if array.shape[lead:] != shape:
        if len(shape) == 1:
            raise ValueError(f"x has {array.shape[-1]} features, {me} expects {shape[0]}")
        raise ValueError(f"x has frames of {array.shape[lead:]}, {me} expects {shape}")
    return array, lead


def _packed_arguments(
    given: list[Any], lengths: ArrayLike | None, ports: list[Port], batch_first: bool, me: str
) -> Arguments:
    """Packed inputs, padded: what is computed for a row is the same."""
    if lengths is not None:
        raise ValueError("lengths and a packed x exclude each other: x has its own lengths")
    if not all(is_packed(value) for value in given):
        raise ValueError(f"some inputs of {me} are packed, expected all of them or none")
    places = [Places.of(value) for value in given]
    first, arrays = places[0], []
    for one, port in zip(places, ports, strict=True):
        if not one.fits(first):
            raise ValueError(f"the packed inputs of {me} differ in their rows or lengths")
        data, _ = _checked(one.sequence.data, port, "x.data", 1, 1, me)
        arrays.append(first.padded(data, batch_first))
    return Arguments(arrays, first.lengths, Layout(batch_first, places=first))
