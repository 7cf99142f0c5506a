"""Pictures of gradient flow, loss curves and attention weights. Needs matplotlib."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from fastrnn._arrays import ArrayLike, as_float32
from fastrnn._atomic import replacing
from fastrnn.nn.gradient_flow import GradientFlow

__all__ = ["attention", "gradient_flow", "loss_curve"]

_INK, _FAINT, _STRONG, _OTHER = "#333333", "#9db8d9", "#1f5fa8", "#d1495b"
_MOST_DECADES = 12.0  # of the colour scale
_SMOOTHING = 40  # the bold line is a mean over 1/40 of the points around it
_MOST_ACROSS = 2  # letters of a label that fit the width of a cell; longer ones stand upright
_STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.edgecolor": _INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}

Path = str | os.PathLike[str]
Points = tuple[list[int], list[float]]


def gradient_flow(flow: GradientFlow, path: Path, *, title: str | None = None) -> None:
    """A picture of norm (log scale) and saturation, layers over steps, one beside the other.

    Its format follows from the name: .png, .pdf, .svg. ImportError without matplotlib.
    """
    figure_class, settings, colours = _matplotlib()
    rows = len(flow.names)
    with settings(_STYLE):
        figure = figure_class(figsize=(10, 1.5 + 0.45 * max(rows, 2)), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        norm = np.ma.masked_less_equal(np.ma.masked_invalid(flow.norm), 0.0)
        high = float(norm.max()) if norm.count() else 1.0
        low = max(float(norm.min()), high / 10**_MOST_DECADES) if norm.count() else 0.1
        scale = colours.LogNorm(low if low < high else high / 10, high, clip=True)
        image = _grid(left, norm, flow.names, "viridis", norm=scale)
        left.set_title("norm of dL/dh")
        figure.colorbar(image, ax=left, pad=0.02)
        image = _grid(right, flow.saturated, flow.names, "magma", vmin=0.0, vmax=1.0)
        right.set_title("share of saturated gates")
        figure.colorbar(image, ax=right, pad=0.02)
        figure.suptitle(title or "Gradient flow", color=_INK)
        _write(figure, path)


def loss_curve(
    history: Path | Iterable[dict[str, Any]], path: Path, *, title: str | None = None
) -> None:
    """A picture of training and validation loss over steps, and of the learning rate below.

    `history`: a history.jsonl, or its objects. ValueError if it holds no loss, ImportError
    without matplotlib.
    """
    figure_class, settings, _ = _matplotlib()
    records = _records(history)
    train, validation = _points(records, "train", "loss"), _points(records, "validation", "loss")
    if not train[0] and not validation[0]:
        raise ValueError("history holds no loss, expected objects of kind train or validation")
    with settings(_STYLE):
        figure = figure_class(figsize=(8, 5), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        _losses(top, train, validation)
        steps, rates = _points(records, "train", "lr")
        bottom.plot(steps, rates, color=_INK, linewidth=1.0)
        bottom.set_ylim(bottom=0.0)
        bottom.set_ylabel("learning rate")
        bottom.set_xlabel("step")
        figure.suptitle(title or "Loss", color=_INK)
        _write(figure, path)


def attention(
    weights: ArrayLike,
    source: Sequence[object],
    target: Sequence[object],
    path: Path,
    *,
    title: str | None = None,
) -> None:
    """A picture of attention weights (T, S) of one row, target over source, labelled by both.

    Labels are texts, or ids; they and the title are shown as they stand, without mathematics
    between dollar signs. Weights past the ends of `source` (S' <= S) and `target` (T' <= T) are
    cut off. ValueError for other shapes and for no labels, ImportError without matplotlib.
    """
    shown = as_float32(weights, "weights")
    for name, labels in (("source", source), ("target", target)):
        if not len(labels):
            raise ValueError(f"{name} is empty, expected a label for each position")
    if shown.ndim != 2 or shown.shape[0] < len(target) or shown.shape[1] < len(source):
        raise ValueError(
            f"weights has shape {shown.shape}, expected at least ({len(target)}, {len(source)})"
        )
    figure_class, settings, _ = _matplotlib()
    with settings(_STYLE):
        across, down = [_visible(label) for label in source], [_visible(label) for label in target]
        widest, tallest = max(map(len, down)), max(map(len, across))
        is_upright = tallest > _MOST_ACROSS
        height = 1.6 + 0.24 * len(down) + (0.08 * tallest if is_upright else 0.0)
        size = 2.4 + 0.24 * len(across) + 0.08 * widest, height
        figure = figure_class(figsize=size, layout="constrained")
        axes = figure.subplots()
        cells = shown[: len(target), : len(source)]
        image = axes.imshow(cells, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
        plain = {"parse_math": False}
        axes.set_xticks(range(len(across)), across, rotation=90 if is_upright else 0, **plain)
        axes.set_yticks(range(len(down)), down, **plain)
        axes.xaxis.tick_top()
        axes.xaxis.set_label_position("top")
        axes.tick_params(length=0)
        axes.set_xlabel("source")
        axes.set_ylabel("target")
        figure.colorbar(image, ax=axes, pad=0.02, label="weight")
        figure.suptitle(_visible(title or "Attention"), color=_INK, **plain)
        _write(figure, path)


def _write(figure: Any, path: Path) -> None:
    """The picture in the format of its name, whole or not at all."""
    name = os.fsdecode(path)
    kind = os.path.splitext(name)[1]
    with replacing(name if kind else f"{name}.png") as file:
        figure.savefig(file, dpi=150, format=kind[1:] or "png")


def _visible(label: object) -> str:
    """Escapes for what fonts cannot draw, and a sign in place of a space, which shows nothing."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(label))
    return text if text.strip() else "\N{OPEN BOX}"


def _matplotlib() -> tuple[Any, Any, Any]:
    """Figure, temporary settings and colour scales; no window and no global figure is touched."""
    try:
        figures = import_module("matplotlib.figure")
    except ImportError as error:
        raise ImportError(
            "pictures need the package matplotlib: pip install fastrnn[plot]"
        ) from error
    colours = import_module("matplotlib.colors")
    return figures.Figure, import_module("matplotlib").rc_context, colours


def _grid(axes: Any, values: Any, names: list[str], colours: str, **scale: Any) -> Any:
    """Layers from the bottom up, steps from left to right; grey is where there is no gradient."""
    axes.set_facecolor("#dddddd")
    image = axes.imshow(
        values, origin="lower", aspect="auto", interpolation="nearest", cmap=colours, **scale
    )
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    axes.hlines(np.arange(1, len(names)) - 0.5, -0.5, values.shape[1] - 0.5, "white", linewidth=2)
    axes.spines[:].set_visible(False)
    axes.locator_params(axis="x", integer=True)
    axes.set_xlabel("step")
    return image


def _losses(axes: Any, train: Points, validation: Points) -> None:
    steps, losses = train
    if steps:
        width = max(1, len(steps) // _SMOOTHING)
        if width > 1:
            axes.plot(steps, losses, color=_FAINT, linewidth=0.7)
        axes.plot(steps, _smooth(losses, width), color=_STRONG, linewidth=1.6, label="training")
    steps, losses = validation
    if steps:
        axes.plot(
            steps, losses, "o-", color=_OTHER, markersize=4, linewidth=1.2, label="validation"
        )
        best = int(np.nanargmin(losses))
        axes.plot(steps[best], losses[best], "o", color=_OTHER, markersize=9, fillstyle="none")
        axes.annotate(
            f"best {losses[best]:.3f}",
            (steps[best], losses[best]),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            color=_OTHER,
        )
    axes.set_ylabel("loss")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.legend()


def _smooth(values: list[float], width: int) -> Any:
    """Means over `width` neighbours, over fewer at the ends."""
    window = np.ones(width)
    sums = np.convolve(values, window, mode="same")
    return sums / np.convolve(np.ones(len(values)), window, mode="same")


def _records(history: Path | Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    if isinstance(history, (str, os.PathLike)):
        from fastrnn.train import read_history

        return read_history(history)
    return list(history)


def _points(records: list[dict[str, Any]], kind: str, key: str) -> Points:
    found = [(r["step"], r[key]) for r in records if r.get("kind") == kind and key in r]
    return [step for step, _ in found], [value for _, value in found]
