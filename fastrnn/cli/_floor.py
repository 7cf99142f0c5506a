"""The physical floor: the least time that a recurrent layer can take on a machine.

Letters: T steps, N rows, I inputs, H units, G gates (LSTM 4, GRU 3, RNN 1), F multiply-adds per
second, BW(s) bytes per second that a core reads when it sweeps s bytes over and over, w bytes of
float32 weights. A floor knows no activation, no barrier and no call: nothing gets below it.

    step      max(MACs / F, w / BW(w))
    sequence  max(T N G H I / F, w_in / BW(w_in)) + T max(N G H H / F, w_rec / BW(w_rec))
    training  sequence + T N G H (H+I) / F for dh and dX + the same for dW
    model     training + 3 T N H V / F for the head + 4 p / BW(4 p) for the optimiser

With n threads F counts all of them and every thread reads its own n-th of the weights. V: tokens of
a language model, p: bytes of its parameters; Adam reads them, their gradients and two averages.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from fastrnn.cli._cells import GATES

FLOAT_BYTES = 4
ADAM_VECTORS = 4  # parameters, gradients, and the averages of these and of their squares


@dataclass(frozen=True)
class Workload:
    """One call to time: a step of a stream (`steps` None) or a whole sequence of `steps`."""

    cell: str  # a key of GATES
    hidden: int
    inputs: int
    rows: int = 1
    steps: int | None = None
    layers: int = 1
    directions: int = 1

    @property
    def is_step(self) -> bool:
        """True for one step of a stream, which runs in one thread."""
        return self.steps is None

    @property
    def label(self) -> str:
        """A short name, such as `LSTM 256 step` or `2 x bi LSTM 256 N=16 T=100`."""
        depth = f"{self.layers} x " if self.layers > 1 else ""
        both = "bi " if self.directions == 2 else ""
        sizes = f"{self.hidden}" if self.inputs == self.hidden else f"{self.inputs}-{self.hidden}"
        batch = f" N={self.rows}" if self.rows > 1 else ""
        kind = "step" if self.steps is None else f"T={self.steps}"
        return f"{depth}{both}{self.cell.upper()} {sizes}{batch} {kind}"

    def layer_inputs(self) -> Iterator[int]:
        """The inputs of every layer and direction in turn."""
        for layer in range(self.layers):
            for _ in range(self.directions):
                yield self.directions * self.hidden if layer else self.inputs

    @property
    def weights(self) -> int:
        """Numbers in all weight matrices, biases left out."""
        gate_rows = GATES[self.cell] * self.hidden
        return sum(gate_rows * (inputs + self.hidden) for inputs in self.layer_inputs())

    @property
    def macs(self) -> int:
        """Multiply-adds of one call."""
        return self.weights * self.rows * (self.steps or 1)


@dataclass(frozen=True)
class Machine:
    """Limits of `threads` threads at the same time; see `fastrnn.cli._calibrate`."""

    threads: int
    macs_per_second: float  # F, of all threads together
    footprints: tuple[int, ...]  # bytes per thread, rising
    bandwidths: tuple[float, ...]  # bytes per second and thread, at these footprints

    def bandwidth(self, footprint: float) -> float:
        """BW: bytes per second and thread; the time per byte is linear in log(footprint).

        Below the smallest and above the largest footprint that was measured, those count.
        """
        after = bisect_right(self.footprints, footprint)
        if after == 0 or after == len(self.footprints):
            return self.bandwidths[after - 1 if after else 0]
        low, high = self.footprints[after - 1], self.footprints[after]
        share = math.log(footprint / low) / math.log(high / low)
        per_byte = (1 - share) / self.bandwidths[after - 1] + share / self.bandwidths[after]
        return 1 / per_byte

    def read_seconds(self, size: float) -> float:
        """Seconds to read `size` bytes that are read again and again, shared by the threads."""
        share = size / self.threads
        return share / self.bandwidth(share)


def floor_seconds(work: Workload, machine: Machine) -> float:
    """The least time in seconds that one call can take; a step needs a machine of one thread."""
    if work.steps is None:
        size = FLOAT_BYTES * work.weights
        return max(work.macs / machine.macs_per_second, machine.read_seconds(size))
    return sum(
        _sequence_seconds(work, inputs, work.steps, machine) for inputs in work.layer_inputs()
    )


def _sequence_seconds(work: Workload, inputs: int, steps: int, machine: Machine) -> float:
    """One layer in one direction: the x part of all steps at once, then step after step."""
    gate_rows = GATES[work.cell] * work.hidden
    x_macs = steps * work.rows * gate_rows * inputs
    h_macs = work.rows * gate_rows * work.hidden
    x_read = machine.read_seconds(FLOAT_BYTES * gate_rows * inputs)
    h_read = machine.read_seconds(FLOAT_BYTES * gate_rows * work.hidden)
    x_part = max(x_macs / machine.macs_per_second, x_read)
    return x_part + steps * max(h_macs / machine.macs_per_second, h_read)


def training_floor_seconds(work: Workload, machine: Machine) -> float:
    """The least time in seconds of a sequence forward and backward: y, dx and all gradients."""
    return floor_seconds(work, machine) + 2 * work.macs / machine.macs_per_second


def model_floor_seconds(work: Workload, vocabulary: int, machine: Machine) -> float:
    """The same of one optimiser step of a language model: embedding, the layers, head, Adam.

    The embedding costs nothing here: it multiplies nothing and touches few of its rows.
    """
    head = work.hidden * vocabulary
    products = 3 * work.rows * (work.steps or 1) * head / machine.macs_per_second
    parameters = work.weights + work.inputs * vocabulary + head
    update = machine.read_seconds(ADAM_VECTORS * FLOAT_BYTES * parameters)
    return training_floor_seconds(work, machine) + products + update
