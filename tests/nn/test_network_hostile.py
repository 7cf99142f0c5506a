"""Files of networks from strangers: a clear error, whatever they say, and little memory."""

from __future__ import annotations

import json
import resource

import numpy as np
import pytest
from networks import branches

import fastrnn
from fastrnn import Linear, ReLU, Sequential
from fastrnn.formats import CheckpointError
from fastrnn.formats.safetensors import write_safetensors


def written(tmp_path, kind, config, tensors=None):
    path = tmp_path / "net.safetensors"
    text = json.dumps({"format": 1, "kind": kind, "config": config})
    write_safetensors(
        tensors or {"0.weight": np.zeros((2, 3), np.float32)}, {"fastrnn": text}, path
    )
    return path


LINEAR = ["Linear", {"in_features": 3, "out_features": 2, "bias": False}]
HUGE = ["Linear", {"in_features": 1 << 20, "out_features": 1 << 20, "bias": False}]
WIDE = ["Linear", {"in_features": 200, "out_features": 200, "bias": False}]
DAMAGED = {
    "no modules": ("Sequential", {"modules": [], "input_shape": None}),
    "no list": ("Sequential", {"modules": 3, "input_shape": None}),
    "no pair": ("Sequential", {"modules": [["Linear"]], "input_shape": None}),
    "unknown kind": ("Sequential", {"modules": [["os.system", {}]], "input_shape": None}),
    "unknown name": ("Sequential", {"modules": [LINEAR], "depth": 3}),
    "a huge module": ("Sequential", {"modules": [HUGE], "input_shape": None}),
    "many modules": ("Sequential", {"modules": [WIDE] * 4000, "input_shape": None}),
    "too many modules": ("Sequential", {"modules": [["Tanh", {}]] * 5000, "input_shape": 3}),
    "a huge input": ("Sequential", {"modules": [["Tanh", {}]], "input_shape": [1 << 20, 1 << 20]}),
    "a negative input": ("Sequential", {"modules": [["Tanh", {}]], "input_shape": -1}),
    "misfits": ("Sequential", {"modules": [LINEAR, LINEAR], "input_shape": None}),
    "no input": ("Graph", {"inputs": {}, "modules": {"a": LINEAR}, "wires": {}, "outputs": ["a"]}),
    "a wire to nowhere": (
        "Graph",
        {"inputs": {"x": 3}, "modules": {"a": LINEAR}, "wires": {"a": ["b"]}, "outputs": ["a"]},
    ),
    "a wire of numbers": (
        "Graph",
        {"inputs": {"x": 3}, "modules": {"a": LINEAR}, "wires": {"a": [7]}, "outputs": ["a"]},
    ),
    "a loop": (
        "Graph",
        {
            "inputs": {"x": 3},
            "modules": {"a": ["Tanh", {}], "b": ["Tanh", {}]},
            "wires": {"a": ["b"], "b": ["a"]},
            "outputs": ["b"],
        },
    ),
    "a module that is none": ("Residual", {"module": [3, 4]}),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_description_is_a_clear_error(what, tmp_path):
    path = written(tmp_path, *DAMAGED[what])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"net\.safetensors: "):
        fastrnn.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_deep_networks_are_refused_or_made(tmp_path):
    config = LINEAR
    for _ in range(200):
        config = ["Sequential", {"modules": [config], "input_shape": None}]
    with pytest.raises(CheckpointError):
        fastrnn.load(written(tmp_path, *config))


def test_every_cut_of_a_file_is_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    branches().save(path)
    whole = path.read_bytes()
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointError):
            fastrnn.load(path)


def test_a_subclass_is_not_saved_as_its_base(tmp_path):
    class Own(Linear):
        pass

    with pytest.raises(TypeError, match="a subclass of fastrnn's Linear"):
        Sequential(Own(3, 4), ReLU()).save(tmp_path / "net.safetensors")
