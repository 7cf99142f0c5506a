"""The inert records that stand for what a checkpoint's pickle describes, and their limits."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fastrnn._errors import outline, outline_parts, safe
from fastrnn.formats.errors import CheckpointError

__all__ = [
    "MAX_EXTENT",
    "QUANTISED",
    "SETS",
    "Bag",
    "Dtype",
    "Handler",
    "Name",
    "OddKey",
    "Storage",
    "TensorRecord",
    "extents",
    "integer",
    "is_quantised",
    "storage_from",
]

QUANTISED = ", of a quantised model; save model.state_dict() of the float model instead"
_QUANTISED_NAMES = (
    "torch.qint", "torch.quint", "torch.per_", "torch.ScriptObject", "torch._utils._rebuild_qtensor"
)  # fmt: skip

SETS = ("builtins.set", "builtins.frozenset")  # plain data, as lists are
MAX_DIMS = 32
MAX_EXTENT = 1 << 48  # elements: far above any file, far below the overflow of 64-bit sizes


@dataclass(eq=False, repr=False, slots=True)
class Bag:
    """An object that is no tensor: `what` made it; what the pickle gave it is kept as data.

    Nothing of it is ever imported or called: `arguments` are those of the call that an ordinary
    reader would make, `state` its attributes, `items` what was appended, `entries` what was set.
    """

    what: str
    arguments: tuple[object, ...] = ()
    state: object = None
    items: list[object] | None = None
    entries: dict[object, object] | None = None

    def __bool__(self) -> bool:
        """False for an empty set, of which a byte makes one."""
        return self.what not in SETS or bool(self.arguments or self.items)

    def attributes(self) -> Mapping[object, object]:
        """The attributes that its state names; those in slots come second."""
        parts = self.state if isinstance(self.state, tuple) else (self.state,)
        return ChainMap(*(part for part in parts[:2] if isinstance(part, dict)))

    def outline(self, depth: int) -> str:
        """Its name and its arguments, in a few words."""
        if not self.arguments or depth < 0:
            return safe(self.what)
        return f"{safe(self.what)}({', '.join(outline_parts(self.arguments, depth - 1))})"


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class OddKey:
    """The key of an entry that is no plain value, e.g. a tuple; it equals nothing but itself."""

    value: object

    def outline(self, depth: int) -> str:
        return outline(self.value)


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Dtype:
    """An element type by PyTorch's name, e.g. `float32`."""

    name: str

    def outline(self, depth: int) -> str:
        return f"torch.{self.name}"


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Storage:
    """`numel` elements of the file's storage `key`, from element `start` on.

    `dtype` is the full name of its type where that is none of PyTorch's; `data` holds the bytes
    where the pickle itself carries them.
    """

    key: str
    dtype: str
    numel: int
    root_numel: int
    start: int = 0
    device: str = "cpu"
    data: memoryview | None = None

    def outline(self, depth: int) -> str:
        return "a bare storage"


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class TensorRecord:
    """A tensor as the pickle describes it: a strided window (in elements) into a storage."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    problem: str = ""  # reason why the tensor cannot become a plain array; empty if it can

    def outline(self, depth: int) -> str:
        return "a bare tensor"


Handler = Callable[[tuple[object, ...]], object]


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Name:
    """A class or function that the pickle names; only with `build` does calling it mean more."""

    full: str
    build: Handler | None = None
    storage_dtype: str = ""
    is_part: bool = False  # of tensors: its absence from the result says nothing

    def call(self, arguments: tuple[object, ...]) -> object:
        """Result of a call in the pickle: a record of a tensor, or a bag."""
        return self.build(arguments) if self.build else Bag(self.full, arguments)

    def outline(self, depth: int) -> str:
        return safe(self.full)


def is_quantised(value: object) -> bool:
    """True for a part of a quantised model, whose weights are no arrays of numbers."""
    full = value.what if isinstance(value, Bag) else value.full if isinstance(value, Name) else ""
    return full.startswith(_QUANTISED_NAMES) or ".quantized." in full or ".quantization." in full


def integer(value: object, what: str) -> int:
    """`value` as a non-negative int below MAX_EXTENT, else an error that names `what`."""
    if type(value) is not int or not 0 <= value <= MAX_EXTENT:
        raise CheckpointError(f"{what} is {safe(value)}, expected an integer from 0 to 2**48")
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
        raise CheckpointError("a persistent id that is no storage")
    _, kind, key, device, count = pid[:5]
    if not isinstance(kind, Name):
        raise CheckpointError("a storage without a storage type")
    if not isinstance(key, (str, int)):
        raise CheckpointError("a storage key that is no string")
    numel = integer(count, f"the size of storage {safe(key)}")
    start, window = 0, numel
    if len(pid) == 6 and pid[5] is not None:
        view = pid[5]
        if not isinstance(view, tuple) or len(view) != 3:
            raise CheckpointError(f"storage {safe(key)} has a malformed view")
        start = integer(view[1], f"the view offset of storage {safe(key)}")
        window = integer(view[2], f"the view size of storage {safe(key)}")
        if start + window > numel:
            raise CheckpointError(
                f"a view of storage {safe(key)} ends at {start + window}, past its {numel} elements"
            )
    where = device if isinstance(device, str) else ""
    return Storage(str(key), kind.storage_dtype or kind.full, window, numel, start, where)
