"""fastrnn beside PyTorch, ONNX Runtime and OpenVINO, in one process and taking turns.

    python bench/compare.py                        every workload, one thread
    python bench/compare.py --threads 2 --only N=  batches, two threads
    python bench/compare.py --training             forward and backward, and whole training steps
    python bench/compare.py --contention           two threads beside busy processes

Per workload: the median time of every engine, how many times faster fastrnn is than the fastest
peer (median of the rounds, and their range), the ratio that is asked for, how much of what the
machine allows is reached, and useful operations (of a language model also tokens) per second. Only
ratios of one run mean something; machines and days differ.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from fnmatch import fnmatch
from statistics import median
from typing import Any

import contention
import engines
from table import Report, header, line
from timing import interleave, ratio
from workloads import Case, cases, training_cases

import fastrnn
from fastrnn.cli._calibrate import calibrate
from fastrnn.cli._floor import Machine

MIN_ROUNDS = 7
ONE_THREAD = "fastrnn, 1 thread"


def measure(case: Case, threads: int, rounds: int, machines: dict[int, Machine]) -> Report:
    """Builds and proves the engines of a case, then times them in turn."""
    work = case.work
    names = [
        name
        for name in engines.names(work)
        if name == "fastrnn" or (case.with_peers and engines.available(name))
    ]
    built = [engines.build(name, work, threads) for name in names]
    if threads > 1 and not work.is_step:
        built.append(replace(engines.build("fastrnn", work, 1), name=ONE_THREAD))
    times = dict(zip((e.name for e in built), interleave(built, rounds), strict=True))
    own, one = times["fastrnn"], times.get(ONE_THREAD)
    ratios = {n: ratio(times[n], own) for n in names if n != "fastrnn"}
    fastest = min(ratios, key=lambda n: ratios[n].median) if ratios else None
    floor = case.floor_seconds(machines[1 if work.is_step else threads])
    return Report(
        work.label,
        threads,
        {name: median(values) for name, values in times.items()},
        fastest,
        ratios[fastest] if fastest else None,
        case.target,
        ratio(one, own) if one else None,
        case.scaling if one else None,
        100 * floor / median(own),
        2e-9 * work.macs / median(own),
        case.tokens / median(own) if case.tokens else None,
    )


def run_cases(options: argparse.Namespace) -> list[Report]:
    """Times every case whose name fits, and prints a row as soon as it is known."""
    machines = {n: calibrate(n) for n in {1, options.threads}}
    limits = machines[options.threads]
    print(
        f"threads: {options.threads}, rounds: {options.rounds}, {fastrnn.show_config()['isa']} "
        f"kernels, at most {2e-9 * limits.macs_per_second:.0f} GFLOP/s\n\n"
        f"{header(options.training)}"
    )
    reports = []
    for case in training_cases() if options.training else cases():
        if fnmatch(case.work.label, f"*{options.only}*"):
            reports.append(measure(case, options.threads, options.rounds, machines))
            print(line(reports[-1], options.training), flush=True)
    short = [report.name for report in reports if report.verdict == "short"]
    print(f"\n{len(short)} short" + "".join(f"\n  {name}" for name in short))
    return reports


def _rounds(text: str) -> int:
    if not text.isdecimal() or int(text) < MIN_ROUNDS:
        raise argparse.ArgumentTypeError(f"expected at least {MIN_ROUNDS} rounds, got {text}")
    return int(text)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1)
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="names with this in them; * and ? are wild"
    )
    parser.add_argument("--rounds", type=_rounds, default=MIN_ROUNDS)
    parser.add_argument("--json", metavar="FILE", help="write the figures there as well")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--training", action="store_true", help="forward and backward, and steps")
    kinds.add_argument(
        "--contention", action="store_true", help="two threads and one beside busy processes"
    )
    options = parser.parse_args()
    figures: list[Any]
    if options.contention:
        figures = [asdict(report) for report in contention.run_cases(options.only)]
    else:
        figures = [asdict(report) | {"verdict": report.verdict} for report in run_cases(options)]
    if options.json:
        with open(options.json, "w") as file:
            json.dump(figures, file, indent=2)


if __name__ == "__main__":
    main()
