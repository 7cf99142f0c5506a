"""Results of compare.py about one workload, as a row of a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import peers
import training
from timing import Ratio

from fastrnn.cli._measure import format_seconds


@dataclass(frozen=True)
class Report:
    """Results of one workload; times in seconds."""

    name: str
    threads: int
    seconds: dict[str, float]  # engine -> median time of a call
    fastest_peer: str | None
    ratio: Ratio | None  # fastest peer's time over fastrnn's
    target: float | None
    scaling: Ratio | None  # one thread's time over all threads'
    scaling_target: float | None
    floor_percent: float
    gflops: float  # useful operations of fastrnn, 2 per multiply-add, in 1e9 per second
    tokens_per_second: float | None  # fastrnn's, of a language model

    @property
    def verdict(self) -> str:
        """ok or short, where something was asked for and could be compared."""
        pairs = [(self.ratio, self.target), (self.scaling, self.scaling_target)]
        asked = [r.median >= t for r, t in pairs if r is not None and t is not None]
        return "" if not asked else "ok" if all(asked) else "short"


class Column(NamedTuple):
    """A title, how it is aligned (as in a format), and what stands below it."""

    title: str
    form: str
    text: Callable[[Report], str]


def columns(trains: bool) -> list[Column]:
    """The columns of inference or of training."""
    engines = training.NAMES if trains else peers.NAMES
    return [
        Column("", "<34" if trains else "<27", lambda r: r.name),
        *(_time(name) for name in engines),
        Column("   fastest peer / fastrnn", "<28", lambda r: f"   {_spread(r.ratio)}"),
        Column("target", ">6", lambda r: _asked(r.target)),
        Column("of floor", ">10", lambda r: f"{r.floor_percent:.0f} %"),
        Column("GFLOP/s", ">9", lambda r: f"{r.gflops:.3g}"),
        *([Column("tokens/s", ">10", _tokens)] if trains else []),
        Column("  1 thread / all", "<26", lambda r: f"  {_spread(r.scaling)}"),
        *([] if trains else [Column("target", ">6", lambda r: _asked(r.scaling_target))]),
        Column("", "<7", lambda r: f"  {r.verdict}"),
    ]


def header(trains: bool = False) -> str:
    """The column names of `line`."""
    return "".join(f"{c.title:{c.form}}" for c in columns(trains)).rstrip()


def line(report: Report, trains: bool = False) -> str:
    """One row of the table."""
    return "".join(f"{c.text(report):{c.form}}" for c in columns(trains)).rstrip()


def _time(name: str) -> Column:
    return Column(name, ">13", lambda r: format_seconds(r.seconds.get(name)))


def _tokens(report: Report) -> str:
    return "" if report.tokens_per_second is None else f"{report.tokens_per_second:,.0f}"


def _asked(target: float | None) -> str:
    return "" if target is None else f"{target:.2f}"


def _spread(value: Ratio | None) -> str:
    return "" if value is None else f"{value.median:.2f} ({value.low:.2f} to {value.high:.2f})"
