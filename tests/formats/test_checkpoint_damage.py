"""Damaged checkpoints: cut, flipped and random bytes give an answer or a CheckpointError."""

from __future__ import annotations

import argparse
import pickle
import pickletools
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import GOLDEN
from pickles import legacy, zipped

from fastrnn.formats import CheckpointError, open_checkpoint

FLIPS = 400
SMALL = ["rnn.pt", "gru_legacy.pt", "lstm.npz", "kinds.safetensors"]


FLIPPED = [
    *SMALL, "kinds.pt", "kinds_legacy.pt", "weight_norm_new.pt", "whole_module.pt",
    "torchscript.pt", "quantised.pt",
]  # fmt: skip


def tried(path: Path, content: bytes, key: Any = None) -> bool:
    """True if a file of these bytes can be read; any error but a CheckpointError is a failure."""
    path.unlink(missing_ok=True)  # a new file; some file systems flush one that is overwritten
    path.write_bytes(content)
    try:
        open_checkpoint(path, key)
    except CheckpointError:
        return False
    return True


@pytest.mark.parametrize("name", SMALL)
def test_a_file_cut_at_any_byte_is_refused(tmp_path: Path, name: str) -> None:
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    content = (GOLDEN / name).read_bytes()
    path = tmp_path / "cut"
    assert [n for n in range(len(content)) if tried(path, content[:n])] == []
    assert tried(path, content)


@pytest.mark.parametrize("name", FLIPPED)
def test_flipped_bytes_give_an_answer_or_a_checkpoint_error(tmp_path: Path, name: str) -> None:
    if name.endswith("safetensors"):
        pytest.importorskip("safetensors")
    chance = random.Random(name)
    content = (GOLDEN / name).read_bytes()
    for _ in range(FLIPS // 4):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 1, 1, 2, 8])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        tried(tmp_path / "damaged", bytes(damaged))


@pytest.mark.parametrize("file", ["nested.pt", "whole_module.pt", "torchscript.pt"])
def test_damaged_pickles_give_an_answer_or_a_checkpoint_error(tmp_path: Path, file: str) -> None:
    """The pickle alone is damaged, and its archive made anew, so that checksums are right."""
    chance = random.Random(1)
    with zipfile.ZipFile(GOLDEN / file) as golden:
        entries = [(name, golden.read(name)) for name in golden.namelist()]
    place = next(i for i, (name, _) in enumerate(entries) if name.endswith("data.pkl"))
    name, good = entries[place]
    for _ in range(FLIPS // 2):
        entries[place] = (name, damaged(chance, good))
        tried(tmp_path / "damaged", zipped(*entries))


def test_damaged_pickles_alone_give_an_answer_or_a_checkpoint_error(tmp_path: Path) -> None:
    chance = random.Random(3)
    values = {"w": np.ones((2, 3)), "x": [argparse.Namespace(a={1}), 1j, b"ab", 1 << 70, None]}
    for i in range(FLIPS):
        good = pickle.dumps(values, i % 6)
        tried(tmp_path / "damaged", damaged(chance, good), chance.choice([None, (), "x"]))


def damaged(chance: random.Random, good: bytes) -> bytes:
    """The bytes with a few of them changed, left out, doubled, or made instructions."""
    bad = bytearray(good)
    for _ in range(chance.choice([1, 1, 2, 5])):
        at = chance.randrange(len(bad) + 1)
        new = chance.choice([
            b"", chance.randbytes(1), bytes([chance.choice(OPCODES)]), bad[at : at + 30],
            b"\xff\xff\xff\x7f",
        ])  # fmt: skip
        bad[at : at + chance.choice([0, 1, 1, 3])] = new
    return bytes(bad)


OPCODES = [ord(code.code) for code in pickletools.opcodes]


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    chance = random.Random(2)
    starts = [b"", b"PK\x03\x04", b"\x80\x02", legacy(b"")[:40], struct.pack("<Q", 50) + b"{"]
    for i in range(300):
        content = starts[i % len(starts)] + chance.randbytes(chance.randrange(1, 400))
        assert not tried(tmp_path / "random", content)
