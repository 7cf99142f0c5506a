"""Builds checkpoints byte by byte, so that tests of the reader need no PyTorch."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

from fastrnn.formats import open_checkpoint


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def whole(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(whole, values)) + b"t"


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return named(module, name) + b"(" + b"".join(arguments) + b"tR"


def tensor(
    offset: bytes = whole(0),
    shape: bytes = numbers(2, 3),
    strides: bytes = numbers(3, 1),
    *,
    numel: int = 6,
    kind: str = "FloatStorage",
) -> bytes:
    """A tensor over storage "0"."""
    storage = b"(" + text("storage") + named("torch", kind) + text("0") + text("cpu")
    storage += whole(numel) + b"tQ"
    arguments = b"(" + storage + offset + shape + strides + b"\x89}t"
    return named("torch._utils", "_rebuild_tensor_v2") + arguments + b"R"


def mapping(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def archive(
    body: bytes, storage: bytes = bytes(24), compression: int = zipfile.ZIP_STORED
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("a/data.pkl", b"\x80\x02" + body + b".")
        file.writestr("a/byteorder", "little")
        file.writestr("a/data/0", storage)
    return buffer.getvalue()


def legacy(body: bytes, storage: bytes = bytes(24), count: int = 6) -> bytes:
    parts = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2)]
    parts += [b"\x80\x02" + body + b".", pickle.dumps(["0"], 2)]
    return b"".join(parts) + struct.pack("<q", count) + storage


def zipped(*entries: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as file:
        warnings.simplefilter("ignore")  # about names that come twice
        for name, data in entries:
            file.writestr(name, data)
    return buffer.getvalue()


def opened(tmp_path: Path, content: bytes) -> Any:
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    return open_checkpoint(path)
