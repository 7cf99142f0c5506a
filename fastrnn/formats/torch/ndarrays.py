"""NumPy's arrays, scalars and element types as a pickle describes them.

An array is made empty and then given its state: version, shape, element type, order, bytes; the
names are those of NumPy 1 (`numpy.core`) and NumPy 2 (`numpy._core`). Pickles of protocol 5 hold
a buffer instead. Source: NumPy's `array_reduce`, `array_setstate` and `arraydescr_reduce`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastrnn._errors import safe
from fastrnn.formats.errors import CheckpointError
from fastrnn.formats.torch.objects import MAX_EXTENT, Bag, Handler, extents
from fastrnn.formats.torch.reader import bytes_of

__all__ = ["NUMPY_BUILDERS", "ArrayRecord", "NumpyType"]

_CODE = re.compile(r"[biufc][0-9]{1,2}")
_KNOWN = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16")


@dataclass(eq=False, repr=False, slots=True)
class NumpyType:
    """An element type: a code such as `f4`, and the byte order that its state brings."""

    code: str
    order: str = "="

    def set_state(self, state: object) -> None:
        """State: version, byte order, then what only records and the like have."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise CheckpointError("a NumPy element type with a malformed state")
        self.order = str(state[1])

    def dtype(self) -> np.dtype[Any] | None:
        """NumPy's type; None if its elements are no numbers."""
        known = _CODE.fullmatch(self.code) and self.code in _KNOWN
        return np.dtype(self.code).newbyteorder(self.order) if known else None  # type: ignore[arg-type]

    def outline(self, depth: int) -> str:
        return f"numpy.dtype({safe(self.code, 20)!r})"


@dataclass(eq=False, repr=False, slots=True)
class ArrayRecord:
    """A NumPy array that the pickle holds with all its bytes."""

    kind: NumpyType | None = None
    shape: tuple[int, ...] = ()
    data: bytes | bytearray = b""
    is_fortran: bool = False
    problem: str = "a NumPy array without its data"

    @property
    def dtype(self) -> str:
        """The name of the element type, in native byte order."""
        found = self.kind.dtype() if self.kind else None
        return found.name if found else "unknown"

    def set_state(self, state: object) -> None:
        """State: version, shape, element type, whether in Fortran's order, bytes or objects."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise CheckpointError("a NumPy array with a malformed state")
        shape, kind, is_fortran, data = state[-4:]
        self.fill(kind, shape, data, is_fortran=bool(is_fortran))

    def fill(self, kind: object, shape: object, data: object, *, is_fortran: bool) -> None:
        """Take the parts; CheckpointError if the shape and the bytes do not fit together."""
        self.shape = extents(shape, "an array's shape")
        self.is_fortran = is_fortran
        content, found = bytes_of(data), kind.dtype() if isinstance(kind, NumpyType) else None
        if content is None or found is None or not isinstance(kind, NumpyType):
            what = safe(kind.code, 20) if isinstance(kind, NumpyType) else "objects"
            self.problem = f"a NumPy array of type {what}, expected numbers"
            return
        if math.prod(max(1, n) for n in self.shape) > MAX_EXTENT:
            raise CheckpointError(f"a NumPy array of shape {self.shape} is too large")
        if math.prod(self.shape) * found.itemsize != len(content):
            raise CheckpointError(
                f"a NumPy array of shape {self.shape} and type {found.name} has "
                f"{len(content)} bytes"
            )
        self.kind, self.data, self.problem = kind, content, ""

    def array(self, content: NDArray[np.uint8]) -> NDArray[Any]:
        """The values, in native byte order; `content` is a copy of `data`, which it may share."""
        found = self.kind.dtype() if self.kind else None
        if found is None or self.problem:
            raise CheckpointError(self.problem)
        is_bool = found.kind == "b"
        flat = np.not_equal(content, 0) if is_bool else content.view(found)
        flat = flat.astype(found.newbyteorder("="), copy=False)
        return flat.reshape(self.shape, order="F" if self.is_fortran else "C")

    def outline(self, depth: int) -> str:
        return self.problem or f"a NumPy array of {self.dtype}"


def _element_type(args: tuple[object, ...]) -> object:
    code = args[0] if args else None
    return NumpyType(code) if isinstance(code, str) else Bag("numpy.dtype", args)


def _empty_array(args: tuple[object, ...]) -> object:
    return ArrayRecord()


def _from_buffer(args: tuple[object, ...]) -> object:
    """`_frombuffer(buffer, element type, shape, order)`, from pickles of protocol 5."""
    if len(args) != 4:
        raise CheckpointError(f"a NumPy buffer with {len(args)} parts, expected 4")
    data, kind, shape, order = args
    made = ArrayRecord()
    made.fill(kind, shape, data, is_fortran=order == "F")
    return made


def _scalar(args: tuple[object, ...]) -> object:
    """`scalar(element type, bytes)`: a plain number where it is one."""
    kind, data = args if len(args) == 2 else (None, None)
    content, found = bytes_of(data), kind.dtype() if isinstance(kind, NumpyType) else None
    if content is None or found is None or found.itemsize != len(content) or found.kind == "c":
        return Bag("a NumPy scalar", args)
    return np.frombuffer(content, found)[0].item()


NUMPY_BUILDERS: dict[str, Handler] = {
    "numpy.dtype": _element_type,
    **{
        f"numpy.{core}.{name}": build
        for core in ("core", "_core")
        for name, build in (
            ("multiarray._reconstruct", _empty_array),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _from_buffer),
        )
    },
}
