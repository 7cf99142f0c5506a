"""Whole sequences at batch 1."""

from __future__ import annotations

from collections.abc import Callable

import peers
import pytest
from workloads import CELLS, ODD_SIZES, SEQUENCE_TARGETS, SIZES, sequence

from fastrnn.cli._floor import Workload

TimeEngine = Callable[[str, Workload], None]

pytestmark = pytest.mark.benchmark(max_time=0.5, min_rounds=5, warmup=True)

SHAPES = [(cell, hidden) for cell, targets in SEQUENCE_TARGETS.items() for hidden in targets]


@pytest.mark.parametrize("engine", peers.NAMES)
@pytest.mark.parametrize(("cell", "hidden"), SHAPES)
def test_a_hundred_steps(time_engine: TimeEngine, cell: str, hidden: int, engine: str) -> None:
    time_engine(engine, sequence(cell, hidden))


@pytest.mark.parametrize("engine", peers.NAMES)
@pytest.mark.parametrize("hidden", ODD_SIZES)
def test_a_hundred_steps_of_an_odd_size(time_engine: TimeEngine, hidden: int, engine: str) -> None:
    time_engine(engine, sequence("lstm", hidden))


@pytest.mark.parametrize("engine", peers.NAMES)
@pytest.mark.parametrize("hidden", SIZES)
@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_of_one_step(
    time_engine: TimeEngine, cell: str, hidden: int, engine: str
) -> None:
    time_engine(engine, sequence(cell, hidden, steps=1))
