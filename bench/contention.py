"""Two threads while none, one, two or four other processes want the cores.

A library whose threads wait for each other at every step waits a scheduler's time slice each time
one of them is off its core. Two threads are compared with one under the same load: both take turns,
and what counts are the medians and the worst call.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from statistics import median

import engines
from peers import Engine
from timing import turn, warm_up
from workloads import Training, Work, sequence

from fastrnn.cli._floor import Workload
from fastrnn.cli._measure import format_seconds

THREADS = 2
BUSY = (0, 1, 2, 4)
ENGINES = ("fastrnn", "torch")
ROUNDS = 5
TURN_SECONDS = 0.25  # many pauses after a late thread, and many time slices
WORKLOADS: tuple[Work, ...] = (
    sequence("lstm", 128),
    sequence("lstm", 256),
    sequence("lstm", 512, steps=50),
    sequence("lstm", 256, 4),
    sequence("lstm", 128, 8),
    sequence("gru", 512, steps=1),
    Training(Workload("gru", 20, 33, 5, 20, layers=2)),
    Training(Workload("lstm", 128, 128, 32, 50)),
)
# A busy process ends by itself, should nobody be left to end it.
_BUSY = """
import sys, time
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    pass
"""


@dataclass(frozen=True)
class Report:
    """Times of one engine beside `busy` processes, in seconds per call."""

    name: str
    engine: str
    busy: int
    two: float  # median of calls with two threads
    worst: float
    one: float  # median with one thread, under the same load
    worst_one: float
    calls: int  # with two threads

    @property
    def ratio(self) -> float:
        """Time of a call with two threads over its time with one."""
        return self.two / self.one


@contextmanager
def busy_processes(count: int, seconds: float) -> Iterator[None]:
    """`count` processes that compute without pause, for at most `seconds`."""
    command = [sys.executable, "-S", "-c", _BUSY, str(seconds)]
    running = [subprocess.Popen(command) for _ in range(count)]
    try:
        if count:
            time.sleep(0.2)
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def call_times(engine: Engine, seconds: float) -> list[float]:
    """Seconds of single calls, one after the other, for about `seconds`; at least one."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        times.append(turn(engine, 1))
    return times


def measure(one: Engine, two: Engine, name: str, busy: int) -> Report:
    """Times one and two threads of an engine in turn beside `busy` processes."""
    times: dict[int, list[float]] = {1: [], 2: []}
    warm_up(one)
    warm_up(two)
    with busy_processes(busy, 60 * ROUNDS * TURN_SECONDS):
        for _ in range(ROUNDS):
            for threads, engine in ((1, one), (2, two)):
                engine.prepare()
                times[threads] += call_times(engine, TURN_SECONDS)
    return Report(
        name,
        two.name,
        busy,
        median(times[2]),
        max(times[2]),
        median(times[1]),
        max(times[1]),
        len(times[2]),
    )


def run_cases(only: str = "") -> list[Report]:
    """Prints a row per workload, engine and load: medians, their ratio, and the worst calls."""
    columns = (
        ("", 30),
        ("engine", -9),
        ("busy", 5),
        ("1 thread", 12),
        ("2 threads", 12),
        ("ratio", 8),
        ("worst: 1 thread", 18),
        ("2 threads", 12),
    )
    print("".join(f"{text:<{-w}}" if w < 0 else f"{text:>{w}}" for text, w in columns))
    reports = []
    for work in WORKLOADS:
        for name in ENGINES:
            if not (engines.available(name) and fnmatch(work.label, f"*{only}*")):
                continue
            one, two = engines.build(name, work, 1), engines.build(name, work, THREADS)
            for busy in BUSY:
                reports.append(measure(one, two, work.label, busy))
                print(_line(reports[-1]), flush=True)
    return reports


def _line(report: Report) -> str:
    return (
        f"{report.name:<30}{report.engine:<9}{report.busy:>5}{format_seconds(report.one):>12}"
        f"{format_seconds(report.two):>12}{report.ratio:>7.2f} "
        f"{format_seconds(report.worst_one):>18}{format_seconds(report.worst):>12}"
    )
