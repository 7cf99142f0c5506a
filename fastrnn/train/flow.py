"""A heat map of gradient norms over layers and time, made of characters."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable
from typing import TextIO

import numpy as np
import numpy.typing as npt

from fastrnn._arrays import as_size
from fastrnn.nn.gradient_flow import GradientFlow

Numbers = npt.NDArray[np.float64]
_Paint = Callable[[float], str]  # a share of the scale, NaN for no value -> one character

_BLOCKS, _ASCII = "▁▂▃▄▅▆▇█", ".:-=+*#@"
_COLOURS = (17, 18, 19, 25, 31, 37, 43, 79, 114, 150, 186, 228)  # of 256, dark blue to yellow
_MOST_DECADES = 12.0  # of a scale; beyond them a gradient is as good as zero
_FEWEST_COLUMNS = 8


def heat_map(
    flow: GradientFlow, *, width: int = 80, colour: bool = False, ascii: bool = False
) -> str:
    """Two maps, gradient norm on a log scale and share of saturated gates, as text with lines.

    Layers are rows, the last on top as in a picture of the network; steps go from left to right,
    binned to fit `width` characters. `colour`: 256-colour codes instead of blocks; `ascii`: no
    character beyond ASCII. Below: change of the norm of each layer per step of the backward pass.
    """
    names = flow.names
    room = max(_FEWEST_COLUMNS, as_size(width, "width") - max(map(len, names)) - 3)
    paint = _coloured if colour else _with(_ASCII if ascii else _BLOCKS)
    norm, saturated = (_binned(grid, room) for grid in (flow.norm, flow.saturated))
    low, high = _decades(norm)
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = (np.log10(norm) - low) / (high - low)
    shares[norm == 0] = math.nan  # a true zero has no place on a log scale
    steps = flow.norm.shape[1]
    ends = [f"{10.0**low:.0e}", f"{10.0**high:.0e}"]
    lines = ["norm of dL/dh, step by step", *_rows(names, shares, paint, steps, ascii)]
    lines += [_legend(paint, ends, len(names[0])), ""]
    lines += ["saturated gates", *_rows(names, saturated, paint, steps, ascii)]
    lines += [_legend(paint, ["0 %", "100 %"], len(names[0])), ""]
    return "\n".join(lines + _changes(flow))


def show_flow(flow: GradientFlow, file: TextIO | None = None) -> None:
    """Print the heat map as `file` (by default standard output) can show it.

    Colours on a terminal only, and not if NO_COLOR is set; ASCII where there is nothing else.
    """
    file = sys.stdout if file is None else file
    is_terminal = file.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else 80
    colour = is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    unicode = "utf" in (file.encoding or "utf-8").lower()
    print(heat_map(flow, width=width, colour=colour, ascii=not unicode), file=file)


def _binned(grid: npt.NDArray[np.float32], columns: int) -> Numbers:
    """At most `columns` means over neighbouring steps."""
    steps = grid.shape[1]
    if steps <= columns:
        return grid.astype(np.float64)
    starts = np.arange(columns) * steps // columns
    sizes = np.diff(np.append(starts, steps))
    return np.asarray(np.add.reduceat(grid.astype(np.float64), starts, axis=1) / sizes)


def _decades(norm: Numbers) -> tuple[float, float]:
    """Whole powers of ten around the values."""
    usable = norm[np.isfinite(norm) & (norm > 0)]
    if not usable.size:
        return -1.0, 0.0
    high = math.ceil(math.log10(usable.max()) - 1e-6)
    low = max(math.floor(math.log10(usable.min()) + 1e-6), high - _MOST_DECADES)
    return float(min(low, high - 1)), float(high)


def _rows(names: list[str], shares: Numbers, paint: _Paint, steps: int, ascii: bool) -> list[str]:
    """One line per layer, the last layer first, and the steps at the two ends."""
    indent, side = max(map(len, names)), "|" if ascii else "│"
    lines = [
        f"{name:>{indent}} {side}{''.join(map(paint, row))}{side}"
        for name, row in zip(names[::-1], shares[::-1], strict=True)
    ]
    last = str(steps - 1) if steps > 1 else ""
    return [*lines, f"{'step':>{indent}}  0{last:>{shares.shape[1] - 1}}"]


def _with(ramp: str) -> _Paint:
    def paint(share: float) -> str:
        if math.isnan(share):
            return " "
        if math.isinf(share):
            return "!" if share > 0 else ramp[0]
        return ramp[min(max(int(share * len(ramp)), 0), len(ramp) - 1)]

    return paint


def _coloured(share: float) -> str:
    if math.isnan(share):
        return " "
    level = min(max(share, 0.0), 1.0) * len(_COLOURS)  # infinite values are the brightest
    return f"\x1b[48;5;{_COLOURS[min(int(level), len(_COLOURS) - 1)]}m \x1b[0m"


def _legend(paint: _Paint, ends: list[str], indent: int) -> str:
    ramp = "".join(paint((i + 0.5) / 8) for i in range(8))
    return f"{'':{indent}}  {ends[0]} {ramp} {ends[1]}"


def _changes(flow: GradientFlow) -> list[str]:
    """Change of each layer's norm between the last step and the first."""
    lines, steps = [], flow.norm.shape[1]
    for name, row in zip(flow.names, flow.norm.astype(np.float64), strict=True):
        first, last = float(row[0]), float(row[-1])
        text = f"{name}: {last:.1e} at step {steps - 1}, {first:.1e} at step 0"
        if steps > 1 and first > 0 and last > 0 and math.isfinite(first * last):
            text += f", times {(first / last) ** (1 / (steps - 1)):.3f} per step back"
        lines.append(text)
    return lines
