"""`fastrnn bench`: times of layers beside the limits of the machine.

The limits (multiply-adds per second, read bandwidth of every cache) are measured in the same run,
so a figure means the same on any machine: useful GFLOP/s, and percent of the physical floor.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict
from itertools import product
from typing import Any

import fastrnn
from fastrnn._errors import counted
from fastrnn.cli._calibrate import cache_sizes, calibrate
from fastrnn.cli._cells import LAYERS
from fastrnn.cli._floor import Machine, Workload
from fastrnn.cli._measure import Result, clock_seconds, format_seconds, measure
from fastrnn.cli._values import MAX_THREADS, whole

_SECONDS = 0.4  # per workload
_QUICK_SECONDS = 0.15
_SEQUENCE = 100  # steps of a sequence by default
_size = whole(1, 1 << 20)

# (cell, H, N, T), T = None: one step of a stream; True: also in a quick run
_DEFAULT: tuple[tuple[str, int, int, int | None, bool], ...] = (
    ("lstm", 32, 1, None, True),
    ("lstm", 64, 1, None, False),
    ("lstm", 128, 1, None, True),
    ("lstm", 256, 1, None, True),
    ("lstm", 512, 1, None, True),
    ("lstm", 1024, 1, None, False),
    ("gru", 32, 1, None, True),
    ("gru", 256, 1, None, True),
    ("gru", 512, 1, None, False),
    ("rnn", 32, 1, None, True),
    ("rnn", 256, 1, None, False),
    ("lstm", 64, 1, _SEQUENCE, False),
    ("lstm", 128, 1, _SEQUENCE, True),
    ("lstm", 256, 1, _SEQUENCE, True),
    ("lstm", 512, 1, _SEQUENCE, False),
    ("gru", 256, 1, _SEQUENCE, True),
    ("rnn", 256, 1, _SEQUENCE, True),
    ("lstm", 256, 8, _SEQUENCE, True),
    ("lstm", 512, 8, _SEQUENCE, False),
    ("lstm", 256, 32, _SEQUENCE, True),
    ("lstm", 512, 32, _SEQUENCE, False),
    ("gru", 256, 32, _SEQUENCE, False),
)
_CACHES = {"L1": 32 << 10, "L2": 512 << 10, "L3": 8 << 20}  # if the system tells no sizes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--cell", nargs="+", choices=tuple(LAYERS), metavar="CELL", help=", ".join(LAYERS)
    )
    parser.add_argument(
        "--hidden", nargs="+", type=_size, metavar="H", help="hidden sizes; inputs are as many"
    )
    parser.add_argument("--batch", nargs="+", type=_size, metavar="N", help="rows of a batch")
    parser.add_argument(
        "--steps",
        nargs="+",
        type=_size,
        metavar="T",
        help="steps of a sequence; 1 is a step of a stream",
    )
    parser.add_argument(
        "--threads", type=whole(1, MAX_THREADS), metavar="N", help="threads for sequences"
    )
    parser.add_argument("--quick", action="store_true", help="fewer workloads, shorter runs")
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Calibrate, time every workload, print a table or JSON; returns the exit code 0."""
    threads = arguments.threads or fastrnn.get_num_threads()
    works = list(_workloads(arguments))
    with fastrnn.num_threads(threads):
        machines = {n: calibrate(n) for n in {1, threads}}
        clock = clock_seconds()
        seconds = _QUICK_SECONDS if arguments.quick else _SECONDS
        results = (measure(w, machines[1 if w.is_step else threads], seconds, clock) for w in works)
        if arguments.json:
            print(json.dumps(_report(threads, machines, clock, results), indent=2))
        else:
            _print_table(threads, machines, clock, results)
    return 0


def _workloads(arguments: argparse.Namespace) -> Iterable[Workload]:
    """The default list, or every combination of the sizes that were given."""
    cells = arguments.cell or tuple(LAYERS)
    if arguments.hidden or arguments.batch or arguments.steps:
        sizes = (arguments.hidden or [256], arguments.batch or [1], arguments.steps or [1, 100])
        for cell, hidden, rows, steps in product(arguments.cell or ["lstm"], *sizes):
            yield Workload(cell, hidden, hidden, rows, None if steps == 1 else steps)
        return
    for cell, hidden, rows, length, quick in _DEFAULT:
        if cell in cells and (quick or not arguments.quick):
            yield Workload(cell, hidden, hidden, rows, length)


def _report(
    threads: int, machines: dict[int, Machine], clock: float, results: Iterable[Result]
) -> dict[str, Any]:
    config = fastrnn.show_config()
    return {
        "version": config["version"],
        "isa": config["isa"],
        "threads": threads,
        "clock_seconds": clock,
        "caches_bytes": cache_sizes(),
        "machine": [asdict(machines[n]) for n in sorted(machines)],
        "workloads": [result.as_dict() for result in results],
    }


def _print_table(
    threads: int, machines: dict[int, Machine], clock: float, results: Iterable[Result]
) -> None:
    config = fastrnn.show_config()
    print(f"fastrnn {config['version']}, {config['isa']} kernels, threads: {threads}\n")
    for n in sorted(machines):
        print(_machine_line(machines[n]))
    section = ""
    for result in results:
        if (title := _section(result.work, threads)) != section:
            section = title
            print("\n" + _row(section, "time", "GFLOP/s", "of floor", *_tail_names(result)))
        print(_row(result.work.label, *_cells(result)), flush=True)
    print(
        "\nOf floor: 100 % is what the multiply-adds and the reads of the weights take at the\n"
        "limits above, without activations, barriers or calls; more than that means that the\n"
        "machine was disturbed while its limits were measured. Time is the median of batches of\n"
        "calls; p50, p99 and p99.9 are of single calls in a run of their own, less the\n"
        f"{1e9 * clock:.0f} ns that reading the clock takes."
    )


def _machine_line(machine: Machine) -> str:
    """The limits in one line: GFLOP/s of all threads, GB/s of one thread by cache."""
    who = "1 core" if machine.threads == 1 else f"{machine.threads} threads"
    reads = [(name, size / 2) for name, size in (cache_sizes() or _CACHES).items()]
    reads.append(("memory", machine.footprints[-1]))
    text = ", ".join(f"{name} {1e-9 * machine.bandwidth(size):.0f}" for name, size in reads)
    each = "" if machine.threads == 1 else " per thread"
    return f"{who:<10} {2e-9 * machine.macs_per_second:.0f} GFLOP/s; reads in GB/s{each}: {text}"


def _section(work: Workload, threads: int) -> str:
    if work.is_step:
        return "one step, 1 thread"
    kind = "batches" if work.rows > 1 else "sequences"
    return f"{kind}, {counted(threads, 'thread')}"


def _tail_names(result: Result) -> tuple[str, ...]:
    return ("p50", "p99", "p99.9") if result.work.is_step else ()


def _cells(result: Result) -> list[str]:
    cells = [
        format_seconds(result.seconds),
        f"{result.gflops:.1f}",
        f"{result.floor_percent:.0f} %",
    ]
    if result.work.is_step:
        cells += [format_seconds(result.latencies.get(p)) for p in (50.0, 99.0, 99.9)]
    return cells


def _row(name: str, *cells: str) -> str:
    return f"{name:<26}" + "".join(f"{cell:>11}" for cell in cells)
