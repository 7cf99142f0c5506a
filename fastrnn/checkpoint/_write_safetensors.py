"""Writes a safetensors file straight from the arrays' memory, without a second copy of them.

Eight bytes with the header's length, a JSON header with every tensor's type, shape and place, the
tensors one after another. Source: the format's description by its authors, version 1.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

import numpy as np

from fastrnn._arrays import FloatArray
from fastrnn._atomic import FilePath, replacing

__all__ = ["write_safetensors"]

ALIGNMENT = 64  # bytes; the format asks for 8


def write_safetensors(
    tensors: Mapping[str, FloatArray], metadata: Mapping[str, str], path: FilePath
) -> None:
    """Write float32 tensors and strings about them, atomically."""
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for tensor in tensors.values():
            file.write(_little_endian(tensor))


def _little_endian(tensor: FloatArray) -> memoryview:
    values = np.ascontiguousarray(tensor)
    return (values if sys.byteorder == "little" else values.byteswap()).data
