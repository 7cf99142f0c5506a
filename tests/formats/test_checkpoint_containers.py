"""Containers from strangers: archives, arrays, legacy files and headers that lie."""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pickles import archive, legacy, mapping, named, numbers, opened, tensor, text, whole, zipped

from fastrnn.formats import CheckpointError, open_checkpoint

PICKLE = b"\x80\x02" + mapping(w=tensor()) + b"."


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (zipped(("a/data.pkl", PICKLE)), "no entry 'a/data/0'"),
        (zipped(("a/data.pkl", PICKLE), ("b/data.pkl", PICKLE)), "2 entries data.pkl"),
        (zipped(("a/data.pkl", PICKLE), ("a/data.pkl", PICKLE)), "more than once"),
        (zipped(("a/data.pkl", PICKLE), ("a/data/0", bytes(20))), "20 bytes, expected 24"),
        (zipped(("a/data.pkl", PICKLE), ("a/data/0", bytes(28))), "28 bytes, expected 24"),
        (zipped(("a/data.pkl", b"")), "truncated"),
        (zipped(("a/data.pkl", PICKLE[:-1])), "truncated"),
        (zipped(("a/data.pkl", PICKLE), ("a/byteorder", b"middle")), "byte order 'middle'"),
        (zipped(("a/constants.pkl", b""), ("a/code/x.py", b"")), "TorchScript"),
        (zipped(("a/archive_format", b"pt2"), ("a/models/model.json", b"{}")), "torch.export"),
        (archive(b"}", compression=zipfile.ZIP_BZIP2), "compressed by method 12"),
        (zipped(("a/data.pkl", bytes(1 << 24)), compression=zipfile.ZIP_DEFLATED), "at most 1"),
        (zipped(("w.npy", b"")), "corrupt"),
        (zipped(("w.npy", b"\x93NUMPY\x01\x00\xff\xff{")), "corrupt"),
    ],
)  # fmt: skip
def test_an_archive_of_the_wrong_build_is_refused(refused: Any, content: bytes, words: str) -> None:
    refused(content, words)


def npy(header: str, data: bytes = b"") -> bytes:
    line = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(line)) + line + data


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0, " + "9" * 40 + ")}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -1)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1, " * 100 + ")}",
        "{'descr': '<q9', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 'x'}",
        "__import__('os').system('true')",
        "(" * 5000,
        "{'descr': '<f4'",
    ],
)
def test_an_array_with_a_false_header_is_refused(refused: Any, header: str) -> None:
    refused(zipped(("w.npy", npy(header, bytes(4)))), "")


def test_an_array_that_unpacks_without_bound_is_refused(refused: Any) -> None:
    content = bytearray(zipped(("w.npy", bytes(1 << 16)), compression=zipfile.ZIP_DEFLATED))
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 0xF0000000)
    refused(bytes(content), "unpack")


def test_overlapping_entries_are_refused(refused: Any) -> None:
    entries = [("a/data.pkl", PICKLE), *((f"a/data/{i}", bytes(4000)) for i in range(8))]
    content = bytearray(zipped(*entries))
    first = content.index(b"PK\x01\x02")
    for _ in range(9):
        content[first + 42 : first + 46] = bytes(4)
        content[first + 20 : first + 28] = struct.pack("<II", 30_000, 30_000)
        first += 46 + struct.unpack_from("<H", content, first + 28)[0]
    refused(bytes(content), "claim more")


def test_a_false_count_in_a_legacy_file_is_refused(refused: Any) -> None:
    for count in (-1, 5, 7, 1 << 40, (1 << 63) - 1, -(1 << 63)):
        refused(legacy(mapping(w=tensor()), count=count), "")


def test_legacy_views_are_bounded(tmp_path: Path, refused: Any) -> None:
    def view(start: int, size: int) -> bytes:
        storage = b"(" + text("storage") + named("torch", "FloatStorage") + text("0")
        storage += text("cpu") + whole(6) + b"(" + text("v") + whole(start) + whole(size) + b"ttQ"
        arguments = b"(" + storage + whole(0) + numbers(2) + numbers(1) + b"\x89}t"
        return mapping(w=named("torch._utils", "_rebuild_tensor_v2") + arguments + b"R")

    data = np.arange(6, dtype="<f4").tobytes()
    assert opened(tmp_path, legacy(view(3, 2), data)).tensors["w"].tolist() == [3, 4]
    refused(legacy(view(3, 1), data), "reaches element")
    refused(legacy(view(5, 2), data), "past its 6 elements")
    refused(legacy(view(-1, 2), data), "view offset")


def test_safetensors_with_false_headers_are_refused(refused: Any) -> None:
    pytest.importorskip("safetensors")
    good = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    for header, size in (
        (good, 4),
        (good, 12),
        (good.replace(b"[2]", b"[3]"), 8),
        (good.replace(b"[2]", b"[4611686018427387904,4]"), 8),
        (good.replace(b"[0,8]", b"[0,99]"), 8),
        (good.replace(b"F32", b"F99"), 8),
        (good[:-1], 8),
        (b'{"w":' * 10_000, 0),
    ):
        refused(struct.pack("<Q", len(header)) + header + bytes(size), "safetensors")
    refused(struct.pack("<Q", 1 << 60) + good, "safetensors")


def test_a_directory_and_a_device_are_no_checkpoints(tmp_path: Path) -> None:
    for path in (tmp_path, Path(os.devnull)):
        with pytest.raises(CheckpointError, match="no regular file"):
            open_checkpoint(path)
