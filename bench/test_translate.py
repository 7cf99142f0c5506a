"""Training steps and translations of Seq2Seq beside PyTorch; results are compared first."""

from __future__ import annotations

from typing import Any

import pytest
import translation

import fastrnn

pytestmark = pytest.mark.benchmark(max_time=0.5, min_rounds=5, warmup=True)


@pytest.mark.parametrize("engine", translation.NAMES)
@pytest.mark.parametrize("work", translation.cases(), ids=lambda work: work.label)
def test_seq2seq(benchmark: Any, threads: int, work: translation.Translating, engine: str) -> None:
    if not translation.available(engine):
        pytest.skip("torch is not installed")
    built = translation.build(engine, work, threads)
    benchmark.group = work.label
    benchmark.name = engine
    with fastrnn.num_threads(threads):
        built.prepare()
        benchmark(built.run)
