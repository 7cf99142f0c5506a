"""Paired timing: all engines of a workload take turns, so that a disturbance hits them alike."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from statistics import median

from peers import Engine

TURN_SECONDS = 0.03
WARM_SECONDS = 0.003
PAUSE_SECONDS = 0.01  # so that threads of the engine before are no longer waiting for work


@dataclass(frozen=True)
class Ratio:
    """Ratio of two engines' times over all rounds."""

    median: float
    low: float
    high: float


def turn(engine: Engine, count: int) -> float:
    """Seconds per call of `count` calls."""
    run = engine.run
    begin = time.perf_counter()
    for _ in repeat(None, count):
        run()
    return (time.perf_counter() - begin) / count


def warm_up(engine: Engine, seconds: float = WARM_SECONDS) -> float:
    """Calls for a while, at least once: caches, clock, threads. Seconds of the fastest call."""
    engine.prepare()
    end, fastest = time.perf_counter() + seconds, float("inf")
    while True:
        fastest = min(fastest, turn(engine, 1))
        if time.perf_counter() >= end:
            return fastest


def interleave(engines: Sequence[Engine], rounds: int, seed: int = 0) -> list[list[float]]:
    """Seconds per call of every engine in every round; the order within a round is random."""
    counts = [max(1, round(TURN_SECONDS / warm_up(engine, TURN_SECONDS))) for engine in engines]
    times: list[list[float]] = [[] for _ in engines]
    order, shuffle = list(range(len(engines))), random.Random(seed).shuffle
    for _ in range(rounds):
        shuffle(order)
        for i in order:
            time.sleep(PAUSE_SECONDS)
            warm_up(engines[i])
            times[i].append(turn(engines[i], counts[i]))
    return times


def ratio(slow: Sequence[float], fast: Sequence[float]) -> Ratio:
    """slow / fast, round by round."""
    ratios = [s / f for s, f in zip(slow, fast, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))
