"""What is timed against the peers, and how much faster than the fastest fastrnn shall be."""

from __future__ import annotations

from dataclasses import dataclass

from fastrnn.cli._floor import Workload

SEQUENCE = 100  # steps
SCALING = 1.8  # two threads over one, for batches of at least 8 rows and 256 units


@dataclass(frozen=True)
class Case:
    """A workload and the ratio to reach: fastest peer's time over fastrnn's (None: only report)."""

    work: Workload
    target: float | None = None
    with_peers: bool = True

    @property
    def scaling(self) -> float | None:
        """The ratio of one thread's time to two threads' that is to be reached, if any."""
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

CELLS = ("lstm", "gru", "rnn")
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
    listed.append(Case(step("lstm", 1), with_peers=False))  # what a call costs beside the work
    return listed
