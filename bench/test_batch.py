"""Batches of sequences: a hundred steps for 1 to 8 and for 32 rows."""

from __future__ import annotations

from collections.abc import Callable

import peers
import pytest
from workloads import DEEP, sequence

from fastrnn.cli._floor import Workload

TimeEngine = Callable[[str, Workload], None]

pytestmark = pytest.mark.benchmark(max_time=0.5, min_rounds=5, warmup=True)


@pytest.mark.parametrize("engine", peers.NAMES)
@pytest.mark.parametrize("rows", [*range(1, 9), 32])
@pytest.mark.parametrize("hidden", [256, 512])
def test_a_batch(time_engine: TimeEngine, hidden: int, rows: int, engine: str) -> None:
    time_engine(engine, sequence("lstm", hidden, rows))


@pytest.mark.parametrize("engine", peers.NAMES)
def test_two_bidirectional_layers(time_engine: TimeEngine, engine: str) -> None:
    time_engine(engine, DEEP)
