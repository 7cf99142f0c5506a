"""Engines by the kind of work: inference has more peers than training."""

from __future__ import annotations

import peers
import training
from peers import Engine
from workloads import Training, Work

NAMES = tuple(dict.fromkeys(peers.NAMES + training.NAMES))


def names(work: Work) -> tuple[str, ...]:
    """The engines that have the work's cell, fastrnn first, whether installed or not."""
    every, layers = peers.NAMES, work
    if isinstance(work, Training):
        every, layers = training.names(work), work.layers
    return tuple(name for name in every if name == "fastrnn" or layers.cell in peers.CELLS)


def available(name: str) -> bool:
    """True if the modules that the engine needs are installed."""
    return (training if name in training.MODEL_ONLY else peers).available(name)


def build(name: str, work: Work, threads: int = 1) -> Engine:
    """The engine of that name, proved; ImportError if it is not installed."""
    if isinstance(work, Training):
        return training.build(name, work, threads)
    return peers.build(name, work, threads)
