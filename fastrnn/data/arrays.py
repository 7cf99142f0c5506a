"""Arrays from NumPy's files, which may be damaged or hostile."""

from __future__ import annotations

import os
import struct
import tokenize
import zlib
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile, ZipFile

import numpy as np

from fastrnn._arrays import AnyArray
from fastrnn.data.readers import PathLike

MAX_UNPACKED = 1 << 30  # bytes; a compressed file may also grow to MAX_RATIO times its size
MAX_RATIO = 100

# Errors of NumPy and zipfile on files that are none of theirs.
_DAMAGED = (
    ValueError, OSError, EOFError, BadZipFile, OverflowError, FloatingPointError, SyntaxError,
    TypeError, KeyError, IndexError, NotImplementedError, RuntimeError, tokenize.TokenError,
    zlib.error, struct.error,
)  # fmt: skip


def read_numpy(path: PathLike, name: str | None = None) -> AnyArray:
    """The array of a .npy file, which stays on disk until it is read, or one of a .npz file.

    `name` says which one of a .npz file that holds several. ValueError for damaged files, for those
    with pickled objects, and for compressed ones that grow beyond 1 GiB and 100 times their size.
    """
    with Path(path).open("rb") as file:
        is_archive = file.read(2) == b"PK"
        try:
            with np.errstate(over="raise"):  # sizes that overflow
                if is_archive:
                    return _from_archive(file, str(path), name)
                return _from_array(path)
        except _NotThereError as error:
            raise ValueError(str(error)) from None
        except _DAMAGED as error:
            raise ValueError(
                f"{path} is no .npy or .npz file of plain arrays: {error or type(error).__name__}"
            ) from None


class _NotThereError(Exception):
    """An array that was asked for and that a sound file does not hold."""


def _from_array(path: PathLike) -> AnyArray:
    try:
        return np.asarray(np.load(os.fspath(path), mmap_mode="r", allow_pickle=False))
    except MemoryError:  # nothing is allocated but what the header asks Python to parse
        raise ValueError("its header is nested too deeply") from None


def _from_archive(file: BinaryIO, path: str, name: str | None) -> AnyArray:
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        names: list[str] = arrays.files
        if name is None and len(names) == 1:
            name = names[0]
        if name not in names:
            asked = (
                f"none called {name!r}" if name is not None else f"{len(names)}, name one of them"
            )
            raise _NotThereError(f"{path} holds {', '.join(names)}: {asked}")
        _check_claims(arrays.zip, name, os.fstat(file.fileno()).st_size)
        return np.asarray(arrays[name])


def _check_claims(archive: ZipFile, name: str, size: int) -> None:
    """ValueError for an array whose data is not in the file, before memory is taken for it."""
    members = archive.namelist()
    member = archive.getinfo(name if name in members else f"{name}.npy")
    if member.file_size > max(MAX_UNPACKED, MAX_RATIO * size):
        raise ValueError(f"{size} bytes that claim to unpack to {member.file_size} are refused")
    with archive.open(member) as stream:
        shape, itemsize = _header(stream)
        count = 1
        for extent in shape:
            count *= extent
        if min(shape, default=0) < 0 or stream.tell() + count * itemsize > member.file_size:
            raise ValueError(f"the array {name!r} claims the shape {shape}, more than its data")


def _header(stream: Any) -> tuple[tuple[int, ...], int]:
    """Shape and bytes per element, which the file says before its data."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"it has version {version} of the format, expected (1, 0) or (2, 0)")
    read = getattr(np.lib.format, f"read_array_header_{version[0]}_0")
    try:
        shape, _, dtype = read(stream)
    except MemoryError:
        raise ValueError("its header is nested too deeply") from None
    return shape, dtype.itemsize
