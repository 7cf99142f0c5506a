"""NumPy's files, sound and damaged: an array, or one clear error."""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile

import numpy as np
import pytest

from fastrnn.data import read_numpy

ARRAY = np.arange(6.0).reshape(3, 2)


def written(write, **more) -> bytes:
    file = io.BytesIO()
    write(file, **more)
    return file.getvalue()


FILES = {
    "npy": written(np.save, arr=ARRAY),
    "npz": written(np.savez, x=ARRAY),
    "compressed npz": written(np.savez_compressed, x=ARRAY),
}


def npy(shape: str, dtype: str = "<f8", data: int = 64) -> bytes:
    """A .npy file whose header claims what it likes."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(data)


def archive(content: bytes, compressed: bool = False) -> bytes:
    file = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(file, "w", kind) as out:
        out.writestr("x.npy", content)
    return file.getvalue()


def headers():
    shapes = ["(-1,)", "(2.0,)", "(None,)", "'ab'", "(1000000000000,)", "(4294967296, 4294967296)"]
    shapes += [f"({'9' * digits},)" for digits in (19, 20, 400, 5000)]
    yield from (npy(shape) for shape in shapes)
    yield npy("(1,)", "|O")
    yield npy("(1,)", "<f9")
    for text in (b"(" * 3000, b"[" * 9000, b"-" * 9000 + b"1", b"\0\0", b"{" * 100, b"'"):
        yield b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(8)
    yield b"\x93NUMPY\x07\x00" + bytes(80)


@pytest.mark.parametrize("content", list(headers()), ids=lambda raw: str(raw[:70][10:]))
@pytest.mark.parametrize("zipped", [False, True])
def test_a_header_that_lies_is_an_error_and_takes_no_memory(content, zipped, tmp_path):
    (tmp_path / "a").write_bytes(archive(content) if zipped else content)
    with pytest.raises(ValueError, match=r"a is no \.npy or \.npz file of plain arrays: \S"):
        read_numpy(tmp_path / "a")


@pytest.mark.parametrize("name", FILES)
def test_damage_anywhere_gives_an_array_or_an_error(name, tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "a"
    for _ in range(400):
        raw = bytearray(FILES[name])
        for place in rng.integers(0, len(raw), rng.integers(1, 5)):
            raw[place] = rng.integers(0, 256)
        path.write_bytes(raw[: rng.integers(1, len(raw))] if rng.random() < 0.2 else raw)
        with contextlib.suppress(ValueError):
            assert isinstance(read_numpy(path), np.ndarray)


def test_what_unpacks_to_far_more_than_the_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fastrnn.data.arrays.MAX_UNPACKED", 1 << 20)
    (tmp_path / "a").write_bytes(archive(npy("(1000000,)", data=8_000_000), compressed=True))
    with pytest.raises(ValueError, match=r"bytes that claim to unpack to 80000.. are refused"):
        read_numpy(tmp_path / "a")
    (tmp_path / "b").write_bytes(archive(npy("(100000,)", data=800_000), compressed=True))
    assert read_numpy(tmp_path / "b").shape == (100_000,)
