"""From nothing to the first step: import, reading a checkpoint, preparing the weights."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peers
import pytest
from onnx_layer import onnx_layer
from workloads import sequence

import fastrnn
from fastrnn.cli._measure import build_layer

WORK = sequence("lstm", 512)
MODULES = {"python": "sys", "numpy": "numpy"} | {name: name for name in peers.NAMES}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.benchmark(group="a process that only imports")
def test_import(benchmark: Any, name: str) -> None:
    if name in peers.NAMES and not peers.available(name):
        pytest.skip(f"{name} is not installed")
    command = [sys.executable, "-W", "ignore", "-c", f"import {MODULES[name]}"]
    benchmark.name = name
    benchmark.pedantic(subprocess.run, (command,), {"check": True}, rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("name", ["fastrnn", "torch"])
@pytest.mark.benchmark(group="reading a .pt checkpoint of 8 MB")
def test_checkpoint(benchmark: Any, tmp_path: Path, name: str) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "layer.pt"
    state = build_layer(WORK).state_dict()
    torch.save({key: torch.from_numpy(value) for key, value in state.items()}, path)
    benchmark.name = name
    read = {"fastrnn": fastrnn.read_checkpoint, "torch": torch.load}[name]
    loaded = benchmark(read, path)
    assert all(np.array_equal(np.asarray(loaded[key]), state[key]) for key in state)


@pytest.mark.parametrize("name", peers.NAMES)
@pytest.mark.benchmark(group="weights in memory to a layer that is ready, LSTM 512")
def test_packing(benchmark: Any, name: str, threads: int) -> None:
    if not peers.available(name):
        pytest.skip(f"{name} is not installed")
    benchmark.name = name
    benchmark(_loader(name, threads))


def _loader(name: str, threads: int) -> Callable[[], object]:
    """A call that makes a layer of the engine from weights it already has in its own form."""
    layer = build_layer(WORK)
    state = layer.state_dict()
    if name == "fastrnn":
        return lambda: fastrnn.LSTM.from_state_dict(state)
    if name == "torch":
        import torch

        tensors = {key: torch.from_numpy(value) for key, value in state.items()}
        module = torch.nn.LSTM(WORK.inputs, WORK.hidden)
        return lambda: module.load_state_dict(tensors)
    return peers.session_maker(name, onnx_layer(WORK, state), threads)


@pytest.mark.benchmark(group="packing alone, LSTM 512")
def test_repacking(benchmark: Any) -> None:
    benchmark(build_layer(WORK).repack)
