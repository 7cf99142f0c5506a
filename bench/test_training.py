"""Forward and backward of every cell, and whole training steps of language models."""

from __future__ import annotations

from collections.abc import Callable

import engines
import pytest
from workloads import Case, Work, training_cases

TimeEngine = Callable[[str, Work], None]

pytestmark = pytest.mark.benchmark(max_time=0.5, min_rounds=5)


def engine_on(cases: list[Case]) -> pytest.MarkDecorator:
    """One test per workload and engine."""
    pairs = [(case.work, name) for case in cases for name in engines.names(case.work)]
    ids = [f"{work.label}-{name}" for work, name in pairs]
    return pytest.mark.parametrize(("work", "engine"), pairs, ids=ids)


@engine_on([case for case in training_cases() if not case.tokens])
def test_forward_and_backward(time_engine: TimeEngine, work: Work, engine: str) -> None:
    time_engine(engine, work)


@engine_on([case for case in training_cases() if case.tokens])
def test_a_training_step(time_engine: TimeEngine, work: Work, engine: str) -> None:
    time_engine(engine, work)
