"""The inert records that stand for what a checkpoint's pickle describes, and their limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ._errors import CheckpointError, shown

__all__ = [
    "MAX_EXTENT",
    "Dtype",
    "Global",
    "Handler",
    "Opaque",
    "Storage",
    "TensorRecord",
    "extents",
    "integer",
    "storage_from",
]

MAX_DIMS = 32
MAX_EXTENT = 1 << 48  # elements: far above any file, far below the overflow of 64-bit sizes


@dataclass(frozen=True, eq=False)
class Opaque:
    """An object that is no tensor: its kind is known, its contents are dropped."""

    what: str


@dataclass(frozen=True, eq=False)
class Dtype:
    """An element type by PyTorch's name, e.g. `float32`."""

    name: str


@dataclass(frozen=True, eq=False)
class Storage:
    """`numel` elements of the file's storage `key`, from element `start` on."""

    key: str
    dtype: str
    numel: int
    root_numel: int
    start: int = 0
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class TensorRecord:
    """A tensor as the pickle describes it: a strided window (in elements) into a storage."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    problem: str = ""  # not empty: why the tensor cannot be had as a plain array


Handler = Callable[[tuple[object, ...]], object]


@dataclass(frozen=True, eq=False)
class Global:
    """A listed name; calling it in the pickle means `build(arguments)`."""

    name: str
    build: Handler
    storage_dtype: str = ""


def integer(value: object, what: str) -> int:
    """`value` as a non-negative int below MAX_EXTENT, else an error that names `what`."""
    if type(value) is not int or not 0 <= value <= MAX_EXTENT:
        raise CheckpointError(f"{what} is {shown(value)}, expected an integer from 0 to 2**48")
    return value


def extents(value: object, what: str) -> tuple[int, ...]:
    """`value` as a tuple of at most MAX_DIMS non-negative ints."""
    if not isinstance(value, (tuple, list)):
        raise CheckpointError(f"{what} is no tuple")
    if len(value) > MAX_DIMS:
        raise CheckpointError(f"{what} has {len(value)} dimensions, expected at most {MAX_DIMS}")
    return tuple(integer(v, what) for v in value)


def storage_from(pid: object) -> Storage:
    """The storage meant by a persistent id ("storage", type, key, device, numel[, view])."""
    if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage":
        if isinstance(pid, tuple) and pid and pid[0] == "module":
            raise CheckpointError("a whole pickled module; save model.state_dict() instead")
        raise CheckpointError("a persistent id that is no storage")
    _, kind, key, device, count = pid[:5]
    if not isinstance(kind, Global) or not kind.storage_dtype:
        raise CheckpointError("a storage without a storage type")
    if not isinstance(key, (str, int)):
        raise CheckpointError("a storage key that is no string")
    numel = integer(count, f"the size of storage {shown(key)}")
    start, window = 0, numel
    if len(pid) == 6 and pid[5] is not None:
        view = pid[5]
        if not isinstance(view, tuple) or len(view) != 3:
            raise CheckpointError(f"storage {shown(key)} has a malformed view")
        start = integer(view[1], f"the view offset of storage {shown(key)}")
        window = integer(view[2], f"the view size of storage {shown(key)}")
        if start + window > numel:
            raise CheckpointError(
                f"a view of storage {shown(key)} ends at {start + window}, "
                f"past its {numel} elements"
            )
    where = device if isinstance(device, str) else ""
    return Storage(str(key), kind.storage_dtype, window, numel, start, where)
