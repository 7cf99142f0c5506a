"""One step of a stream, batch 1, for which a controller, a vocoder or a typing user waits."""

from __future__ import annotations

from collections.abc import Callable

import peers
import pytest
from workloads import CELLS, ODD_SIZES, SIZES, step

from fastrnn.cli._floor import Workload

TimeEngine = Callable[[str, Workload], None]

pytestmark = pytest.mark.benchmark(max_time=0.3, min_rounds=20, warmup=True)


@pytest.mark.parametrize("engine", peers.NAMES)
@pytest.mark.parametrize("hidden", SIZES)
@pytest.mark.parametrize("cell", CELLS)
def test_one_step(time_engine: TimeEngine, cell: str, hidden: int, engine: str) -> None:
    time_engine(engine, step(cell, hidden))


@pytest.mark.parametrize("engine", peers.NAMES)
@pytest.mark.parametrize("hidden", ODD_SIZES)
@pytest.mark.parametrize("cell", CELLS)
def test_one_step_of_an_odd_size(
    time_engine: TimeEngine, cell: str, hidden: int, engine: str
) -> None:
    time_engine(engine, step(cell, hidden))
