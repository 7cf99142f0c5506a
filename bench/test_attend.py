"""Attention of every kind, forward and backward, beside PyTorch; both are compared first."""

from __future__ import annotations

from typing import Any

import attention
import pytest

import fastrnn

pytestmark = pytest.mark.benchmark(max_time=0.5, min_rounds=5, warmup=True)

PAIRS = [(work, name) for work in attention.cases() for name in attention.names(work)]


@pytest.mark.parametrize(
    ("work", "engine"), PAIRS, ids=[f"{work.label}-{name}" for work, name in PAIRS]
)
def test_attention(benchmark: Any, threads: int, work: attention.Attending, engine: str) -> None:
    if not attention.available(engine):
        pytest.skip("torch is not installed")
    built = attention.build(engine, work, threads)
    benchmark.group = f"attention, {work.label}"
    benchmark.name = engine
    with fastrnn.num_threads(threads):
        built.prepare()
        benchmark(built.run)
