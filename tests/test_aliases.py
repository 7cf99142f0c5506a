"""Tied weights that a safetensors file holds once, with their other names in its metadata."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn.formats import format_inspection, inspect_checkpoint, open_checkpoint
from fastrnn.formats.aliases import find_aliases
from fastrnn.models import LanguageModel


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [
        ({"encoder.weight": "decoder.weight"}, {"encoder.weight": "decoder.weight"}),
        ({"decoder.weight": "encoder.weight"}, {"encoder.weight": "decoder.weight"}),
        ({"weight": "decoder.weight"}, {"weight": "decoder.weight"}),
        ({"a.table": "decoder.weight"}, {"a.table": "decoder.weight"}),
        (
            {"a.weight": "b.weight", "b.weight": "c.weight", "c.weight": "decoder.weight"},
            dict.fromkeys(["a.weight", "b.weight", "c.weight"], "decoder.weight"),
        ),
        (
            {"decoder.weight": "c.weight", "c.weight": "b.weight", "a.weight": "c.weight"},
            dict.fromkeys(["a.weight", "b.weight", "c.weight"], "decoder.weight"),
        ),
        (
            {"a.bias": "decoder.bias", "a.weight": "decoder.weight"},
            {"a.bias": "decoder.bias", "a.weight": "decoder.weight"},
        ),
        # no ties
        ({"format": "pt", "framework": "decoder", "": "decoder.weight"}, {}),
        ({"a.weight": "nowhere.weight", "b.weight": "a.weight"}, {}),
        ({"a.weight": "b.weight", "b.weight": "a.weight"}, {}),
        ({"a.weight": "a.weight", "decoder.weight": "decoder.weight"}, {}),
        ({"decoder.weight": "decoder.bias"}, {}),
        ({"decoder.weight": "gates i f g o", "decoder.bias": "v1.2", "dtype": "float32"}, {}),
        ({"main": "decoder.weight", "see also: x": "decoder.weight"}, {}),
        ({"decoder.weight": "x.weight", "other.weight": "x.weight"}, {}),
        (
            {"decoder.weight": "x.weight", "other.weight": "x.weight", "y.weight": "other.weight"},
            {"y.weight": "other.weight"},
        ),
    ],
)
def test_ties_are_found_and_the_rest_is_passed_over(metadata, wanted):
    assert find_aliases(metadata, {"decoder.weight", "decoder.bias", "other.weight"}) == wanted


def test_long_chains_take_linear_time_and_no_recursion():
    count = 20000
    metadata = {f"a{k}.w": f"a{k + 1}.w" for k in range(count)}
    assert set(find_aliases(metadata, [f"a{count}.w"]).values()) == {f"a{count}.w"}
    assert len(find_aliases(metadata, ["a0.w"])) == count


def write(path: Path, tensors: dict[str, Any], metadata: dict[str, str]) -> Path:
    """A safetensors file, written by hand."""
    header: dict[str, Any] = {"__metadata__": metadata}
    body = b""
    for name, array in tensors.items():
        data = np.asarray(array, "<f4").tobytes()
        span = [len(body), len(body) + len(data)]
        header[name] = {"dtype": "F32", "shape": list(np.shape(array)), "data_offsets": span}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


@pytest.mark.parametrize("kept", ["encoder.weight", "decoder.weight"])
def test_a_file_with_tied_weights_gives_both_names_and_a_tied_model(tmp_path, kept):
    pytest.importorskip("safetensors")
    gone = ({"encoder.weight", "decoder.weight"} - {kept}).pop()
    model = LanguageModel(9, 8, 8, tie_weights=True)
    state = {f"rnn.{k}": v for k, v in model.rnn.state_dict().items()}
    state |= {kept: model.embedding.weight, "decoder.bias": model.head.state_dict()["bias"]}
    path = write(tmp_path / "tied.safetensors", state, {gone: kept, "format": "pt"})
    found = open_checkpoint(path)
    assert found.tensors[gone] is found.tensors[kept]
    assert found.metadata == {gone: kept, "format": "pt"}
    loaded = LanguageModel.from_state_dict(found.tensors)
    assert loaded.tie_weights
    assert loaded.fingerprint() == model.fingerprint()
    assert gone in format_inspection(inspect_checkpoint(path))


def test_both_names_lose_the_prefixes_of_wrappers(tmp_path):
    pytest.importorskip("safetensors")
    tensors = {"module.a.weight": np.ones((2, 2)), "module.rnn._orig_mod.w": np.ones(2)}
    metadata = {"module.b._orig_mod.weight": "module.a.weight"}
    found = fastrnn.read_checkpoint(write(tmp_path / "a.safetensors", tensors, metadata))
    assert set(found) == {"a.weight", "rnn.w", "b.weight"}
    assert found["b.weight"] is found["a.weight"]


def test_a_tie_to_a_tensor_that_is_not_read_is_passed_over(tmp_path):
    pytest.importorskip("safetensors")
    tensors = {"a.weight": np.ones((2, 2))}
    path = write(tmp_path / "a.safetensors", tensors, {"b.weight": "c.weight", "n": "a"})
    assert set(fastrnn.read_checkpoint(path)) == {"a.weight"}
