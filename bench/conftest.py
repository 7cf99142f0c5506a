"""Fixtures of the benchmarks: `pytest bench`, with `--threads 2` for two threads.

The engines of one workload form a group, so that pytest-benchmark prints them side by side. An
engine that is not installed is skipped; what it computes is compared before it is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import engines
import pytest
from workloads import Work

import fastrnn

COLUMNS = ["min", "median", "iqr", "ops", "rounds"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--threads", type=int, choices=(1, 2), default=1, help="for every engine")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Fewer columns, unless someone chose."""
    given = config.invocation_params.args
    if not any(str(argument).startswith("--benchmark-columns") for argument in given):
        config.option.benchmark_columns = COLUMNS


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--threads"))


@pytest.fixture
def time_engine(benchmark: Any, threads: int) -> Callable[[str, Work], None]:
    """Times one engine on one workload, in the group of that workload."""

    def run(name: str, work: Work) -> None:
        if name not in engines.names(work):
            pytest.skip(f"{name} does not do {work.label}")
        if not engines.available(name):
            pytest.skip(f"{name} is not installed")
        engine = engines.build(name, work, threads)
        benchmark.group = f"{work.label}, {threads} thread" + ("s" if threads > 1 else "")
        benchmark.name = name
        with fastrnn.num_threads(threads):
            engine.prepare()
            benchmark(engine.run)

    return run
