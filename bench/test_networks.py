"""A step of whole networks: a voice detector, an amplifier, a noise suppressor; one thread."""

from __future__ import annotations

from typing import Any

import onnx_networks
import pytest

import fastrnn

pytestmark = pytest.mark.benchmark(max_time=0.5, min_rounds=20, warmup=True)


@pytest.mark.parametrize("engine", onnx_networks.NAMES)
@pytest.mark.parametrize("network", onnx_networks.NETWORKS)
def test_one_step_of_a_network(benchmark: Any, network: str, engine: str) -> None:
    if engine == "onnxruntime":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    built = onnx_networks.build(engine, network)
    benchmark.group, benchmark.name = f"{network}, 1 thread", engine
    with fastrnn.num_threads(1):
        benchmark(built.run)
