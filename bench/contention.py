"""Two threads while four other processes want the cores: how late can a call be?

A library whose threads wait for each other at every step waits a scheduler's time slice each time
one of them is off its core. Compared are the median and the worst call with the same calls on a
quiet machine.
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

import peers
from timing import turn, warm_up
from workloads import sequence, step

from fastrnn.cli._measure import format_seconds

THREADS = 2
BUSY_PROCESSES = 4
QUIET_SECONDS = 1.0
CONTENDED_SECONDS = 3.0
ENGINES = ("fastrnn", "torch")
WORKLOADS = (
    sequence("lstm", 256, 4),
    sequence("gru", 512),
    sequence("rnn", 256),
    step("lstm", 256),
    step("gru", 512),
    step("rnn", 256),
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
    """What one engine needed for a workload; seconds of a call."""

    name: str
    engine: str
    quiet: float  # median
    contended: float  # median
    worst: float  # of the contended calls
    calls: int  # contended


@contextmanager
def busy_processes(count: int, seconds: float) -> Iterator[None]:
    """`count` processes that compute without pause, for at most `seconds`."""
    command = [sys.executable, "-S", "-c", _BUSY, str(seconds)]
    running = [subprocess.Popen(command) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait()


def call_times(engine: peers.Engine, seconds: float) -> list[float]:
    """Seconds of single calls, one after the other, for about `seconds`; at least one."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        times.append(turn(engine, 1))
    return times


def measure(engine: peers.Engine, name: str) -> Report:
    """Times an engine on a quiet machine, then on a contended one."""
    warm_up(engine)
    quiet = call_times(engine, QUIET_SECONDS)
    with busy_processes(BUSY_PROCESSES, 10 * CONTENDED_SECONDS):
        time.sleep(0.2)
        contended = call_times(engine, CONTENDED_SECONDS)
    return Report(
        name, engine.name, median(quiet), median(contended), max(contended), len(contended)
    )


def run_cases(only: str = "") -> list[Report]:
    """Prints a row per workload and engine: times, and how many times the quiet median they are."""
    columns = (("", 27), ("engine", -12), ("quiet median", 15), ("median", 24), ("worst", 26))
    print(f"threads: {THREADS}, beside {BUSY_PROCESSES} busy processes\n")
    print("".join(f"{text:<{-w}}" if w < 0 else f"{text:>{w}}" for text, w in columns))
    reports = []
    for work in WORKLOADS:
        for name in ENGINES:
            if peers.available(name) and fnmatch(work.label, f"*{only}*"):
                report = measure(peers.build(name, work, THREADS), work.label)
                reports.append(report)
                print(_line(report), flush=True)
    return reports


def _line(report: Report) -> str:
    def times(seconds: float) -> str:
        return f"{format_seconds(seconds)} ({seconds / report.quiet:,.1f} x)"

    return (
        f"{report.name:<27}{report.engine:<12}{format_seconds(report.quiet):>15}"
        f"{times(report.contended):>24}{times(report.worst):>26}"
    )
