"""Workloads that are timed beside the peers, with the ratio to the fastest that is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from fastrnn.cli._floor import (
    GATES,
    Machine,
    Workload,
    floor_seconds,
    model_floor_seconds,
    training_floor_seconds,
)

SEQUENCE = 100  # steps
SCALING = 1.8  # two threads over one, for batches of at least 8 rows and 256 units


@dataclass(frozen=True)
class Training:
    """Forward and backward: of layers, or with a vocabulary one step of a language model.

    Layers alone give y, dx and all gradients. A step takes tokens through embedding, layers, head
    and cross-entropy, and back, clips the gradients by their norm and updates by Adam.
    """

    layers: Workload  # a whole sequence; of a language model its inputs are the embedding's width
    vocabulary: int = 0  # 0: no model around the layers

    @property
    def is_step(self) -> bool:
        """Never a step of a stream."""
        return False

    @property
    def label(self) -> str:
        """A short name, such as `LSTM 128 N=32 T=50 train` or `V=100 2 x LSTM 256 N=32 T=64`."""
        name = self.layers.label
        return f"V={self.vocabulary} {name}" if self.vocabulary else f"{name} train"

    @property
    def tokens(self) -> int:
        """Targets of one call; 0 without a model."""
        return self.layers.rows * (self.layers.steps or 1) if self.vocabulary else 0

    @property
    def macs(self) -> int:
        """Multiply-adds of one call: the product forward, and two of its size backward."""
        return 3 * (self.layers.macs + self.tokens * self.layers.hidden * self.vocabulary)

    def floor_seconds(self, machine: Machine) -> float:
        """The least time in seconds that one call can take."""
        if self.vocabulary:
            return model_floor_seconds(self.layers, self.vocabulary, machine)
        return training_floor_seconds(self.layers, machine)


Work = Workload | Training


@dataclass(frozen=True)
class Case:
    """A workload and the ratio to reach: fastest peer's time over fastrnn's (None: only report)."""

    work: Work
    target: float | None = None
    with_peers: bool = True

    def floor_seconds(self, machine: Machine) -> float:
        """The least time in seconds that one call can take."""
        if isinstance(self.work, Training):
            return self.work.floor_seconds(machine)
        return floor_seconds(self.work, machine)

    @property
    def tokens(self) -> int:
        """Tokens that one call learns from; 0 where there are none."""
        return self.work.tokens if isinstance(self.work, Training) else 0

    @property
    def scaling(self) -> float | None:
        """The ratio of one thread's time to two threads' that is to be reached, if any."""
        if isinstance(self.work, Training):
            return None
        big = self.work.rows >= 8 and self.work.hidden >= 256 and not self.work.is_step
        return SCALING if big else None


def step(cell: str, hidden: int, rows: int = 1) -> Workload:
    """One step of a stream, with as many inputs as units."""
    return Workload(cell, hidden, hidden, rows)


def sequence(cell: str, hidden: int, rows: int = 1, steps: int = SEQUENCE) -> Workload:
    """A whole sequence, with as many inputs as units."""
    return Workload(cell, hidden, hidden, rows, steps)


STEP_TARGETS = {
    "lstm": {32: 20.0, 64: 10.0, 128: 4.5, 256: 3.0, 512: 1.45, 1024: 1.15},
    "gru": {32: 15.0, 128: 5.0, 256: 2.5, 512: 1.4},
    "rnn": {32: 12.0, 256: 3.0},
}
SEQUENCE_TARGETS = {
    "lstm": {64: 1.5, 128: 1.6, 256: 2.0, 512: 1.7, 1024: 1.15},
    "gru": {256: 1.5, 512: 1.4},
    "rnn": {256: 1.5},
}
BATCH_TARGETS = {(8, 256): 1.4, (8, 512): 1.6, (32, 512): 1.4}  # (N, H) of an LSTM
DEEP = Workload("lstm", 256, 256, 16, SEQUENCE, layers=2, directions=2)
DEEP_TARGET = 1.3

TRAINING_TARGETS = {
    Workload("lstm", 650, 650, 20, 35, layers=2): 1.4,
    Workload("lstm", 512, 512, 64, 100, layers=2): 1.25,
    Workload("gru", 512, 512, 64, 100, layers=2): 1.4,
    Workload("lstm", 128, 128, 32, 50): 1.5,
    Workload("gru", 128, 128, 32, 50): 2.0,
    Workload("lstm", 64, 64, 1, 200): 3.0,
    Workload("gru", 64, 64, 1, 200): 8.0,
}
MODEL_TARGETS = {
    Training(Workload("lstm", 650, 650, 20, 35, layers=2), vocabulary=10_000): 1.4,  # words
    Training(Workload("lstm", 256, 256, 32, 64, layers=2), vocabulary=100): 1.4,  # characters
}

CELLS = tuple(GATES)
SIZES = (32, 64, 128, 256, 512, 1024)
ODD_SIZES = (5, 65, 130, 200, 257)
SMALL_BATCHES = tuple(range(1, 8))


def cases() -> list[Case]:
    """Everything that compare.py times: first what has a target, then what is only reported."""
    listed = [
        Case(step(cell, h), target)
        for cell, targets in STEP_TARGETS.items()
        for h, target in targets.items()
    ]
    listed += [
        Case(sequence(cell, h), target)
        for cell, targets in SEQUENCE_TARGETS.items()
        for h, target in targets.items()
    ]
    listed += [Case(sequence("lstm", h, n), target) for (n, h), target in BATCH_TARGETS.items()]
    listed.append(Case(DEEP, DEEP_TARGET))
    listed += [Case(step("lstm", h)) for h in ODD_SIZES]
    listed += [Case(sequence("lstm", h)) for h in ODD_SIZES]
    listed += [Case(sequence("lstm", 256, n)) for n in SMALL_BATCHES[1:]]
    listed += [Case(sequence("lstm", h, steps=1)) for h in (64, 256)]
    listed.append(Case(step("lstm", 1), with_peers=False))  # time of a call beside its work
    return listed


def training_cases() -> list[Case]:
    """Everything that compare.py --training times."""
    listed = [Case(Training(layers), target) for layers, target in TRAINING_TARGETS.items()]
    listed += [Case(Training(sequence(cell, 256, 16, steps=50))) for cell in CELLS]
    return listed + [Case(model, target) for model, target in MODEL_TARGETS.items()]
