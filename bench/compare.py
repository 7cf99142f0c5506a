"""fastrnn beside PyTorch, ONNX Runtime and OpenVINO, in one process and taking turns.

    python bench/compare.py                        every workload, one thread
    python bench/compare.py --threads 2 --only N=  batches, two threads
    python bench/compare.py --contention           two threads while other processes want the cores

Per workload: the median time of every engine, how many times faster fastrnn is than the fastest
peer (median of the rounds, and their range), the ratio that is asked for, and how much of what the
machine allows is reached. Only ratios of one run mean something; machines and days differ.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from statistics import median
from typing import Any

import contention
import peers
from timing import Ratio, interleave, ratio
from workloads import Case, cases

import fastrnn
from fastrnn.cli._calibrate import calibrate
from fastrnn.cli._floor import Machine, floor_seconds
from fastrnn.cli._measure import format_seconds

MIN_ROUNDS = 7
ONE_THREAD = "fastrnn, 1 thread"


@dataclass(frozen=True)
class Report:
    """What one workload gave; times in seconds."""

    name: str
    threads: int
    seconds: dict[str, float]  # engine -> median time of a call
    fastest_peer: str | None
    ratio: Ratio | None  # fastest peer's time over fastrnn's
    target: float | None
    scaling: Ratio | None  # one thread's time over all threads'
    scaling_target: float | None
    floor_percent: float

    @property
    def verdict(self) -> str:
        """ok or short, where something was asked for and could be compared."""
        pairs = [(self.ratio, self.target), (self.scaling, self.scaling_target)]
        asked = [r.median >= t for r, t in pairs if r is not None and t is not None]
        return "" if not asked else "ok" if all(asked) else "short"


def measure(case: Case, threads: int, rounds: int, machines: dict[int, Machine]) -> Report:
    """Builds and proves the engines of a case, then times them in turn."""
    work = case.work
    names = [n for n in peers.NAMES if n == "fastrnn" or (case.with_peers and peers.available(n))]
    engines = [peers.build(name, work, threads) for name in names]
    if threads > 1 and not work.is_step:
        engines.append(replace(peers.build("fastrnn", work, 1), name=ONE_THREAD))
    times = dict(zip((e.name for e in engines), interleave(engines, rounds), strict=True))
    own, one = times["fastrnn"], times.get(ONE_THREAD)
    ratios = {n: ratio(times[n], own) for n in names if n != "fastrnn"}
    fastest = min(ratios, key=lambda n: ratios[n].median) if ratios else None
    floor = floor_seconds(work, machines[1 if work.is_step else threads])
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
    )


def header() -> str:
    """The column names of `line`."""
    columns = "".join(f"{name:>13}" for name in peers.NAMES)
    return (
        f"{'':<27}{columns}   {'fastest peer / fastrnn':<25}{'target':>6}  {'of floor':>8}  "
        f"{'1 thread / all':<24}{'target':>6}"
    )


def line(report: Report) -> str:
    """One row of the table."""
    times = [report.seconds.get(name) for name in peers.NAMES]
    columns = "".join(f"{format_seconds(seconds):>13}" for seconds in times)
    asked = "" if report.target is None else f"{report.target:.2f}"
    scaled = "" if report.scaling_target is None else f"{report.scaling_target:.2f}"
    text = (
        f"{report.name:<27}{columns}   {_spread(report.ratio):<25}{asked:>6}  "
        f"{report.floor_percent:>6.0f} %  {_spread(report.scaling):<24}{scaled:>6}"
    )
    return f"{text}  {report.verdict}".rstrip()


def _spread(value: Ratio | None) -> str:
    return "" if value is None else f"{value.median:.2f} ({value.low:.2f} to {value.high:.2f})"


def run_cases(options: argparse.Namespace) -> list[Report]:
    """Times every case whose name fits, and prints a row as soon as it is known."""
    machines = {n: calibrate(n) for n in {1, options.threads}}
    limits = machines[options.threads]
    print(
        f"threads: {options.threads}, rounds: {options.rounds}, {fastrnn.show_config()['isa']} "
        f"kernels, at most {2e-9 * limits.macs_per_second:.0f} GFLOP/s\n\n{header()}"
    )
    reports = []
    for case in cases():
        if fnmatch(case.work.label, f"*{options.only}*"):
            reports.append(measure(case, options.threads, options.rounds, machines))
            print(line(reports[-1]), flush=True)
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
    parser.add_argument("--contention", action="store_true", help="while other processes compute")
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
