"""Files that are whole at any moment: the old one, or the new one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from fastrnn._arrays import AnyArray

_TYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip


def replace_with(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, bring it to the disk, and only then take its place.

    When writing fails or the process dies, the previous file is untouched; what a killed process
    left behind is overwritten by the next save. OSError names `path`.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        _sync(part)
        os.replace(part, path)
        _sync(path.parent)
    except OSError as error:
        reason = f"{error.strerror or error}, an earlier file is untouched"
        raise OSError(error.errno, reason, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def write_safetensors(
    path: Path, arrays: Mapping[str, AnyArray], metadata: Mapping[str, str]
) -> None:
    """Arrays and text in a .safetensors file, straight from where they are in memory.

    The package safetensors would copy them first, or leave a file behind when killed.
    """
    whole = {name: np.require(array, requirements="C") for name, array in arrays.items()}
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for name, array in whole.items():
        end = start + array.nbytes
        kind = _TYPES[array.dtype.name]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": (start, end)}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in whole.values():
            file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).data)


def _sync(path: Path) -> None:
    """Wait until the file or folder is on the disk."""
    if path.is_dir() and os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
