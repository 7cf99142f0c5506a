"""Forecasting on the command line: a series, errors beside the linear baseline, the next steps."""

from __future__ import annotations

import csv
import io
import shlex
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from fastrnn._arrays import MAX_ROWS, AnyArray, narrowed
from fastrnn._errors import counted, shown
from fastrnn.cli._input import as_file
from fastrnn.cli._model import model_arguments
from fastrnn.cli._parser import Add
from fastrnn.cli._values import names as list_of_names
from fastrnn.cli._values import whole
from fastrnn.cli.tasks.base import BATCH, Figures, Job, Task
from fastrnn.data import Scaler, Table, Windows, read_csv, read_numpy, split
from fastrnn.data._columns import ColumnError
from fastrnn.data.readers import PathLike
from fastrnn.data.scaling import as_series
from fastrnn.data.tables import in_a_row, places_of
from fastrnn.models import AutoRegression, Forecaster
from fastrnn.models._objective import REGRESSIONS
from fastrnn.train.protocols import kept_in_place

_MOST_SHOWN = 12  # targets with lines of their own
_ORDER = 16  # past steps of the baseline
# Of a target: errors of float32 networks stay below 1e39 units, so that sums of squares are finite.
_LARGEST_UNIT = 1e100
_MOST_WEIGHTS = 1 << 18  # of a baseline, beyond which it is not kept: the file's header holds it


class Forecasting(Task):
    """The next steps of a time series."""

    name = "forecast"
    model = Forecaster
    summary = "a forecaster: the next steps of a time series, beside a linear baseline"
    data = "a .csv file, time downwards, or a .npy array (steps,) or (steps, features)"
    count = "1"
    examples = """\
  fastrnn train forecast load.csv --out model --columns load,temperature --targets load
  fastrnn train forecast series.npy --out model --steps 96 --horizon 24 --order 24"""
    prints = "CSV: the names of the columns, then a line for each step"
    defaults: ClassVar[Figures] = {
        "hidden": 64, "layers": 1, "batch_size": 32, "epochs": 40, "lr": 3e-3, "dropout": 0.0,
    }  # fmt: skip

    decided = ("input_size",)

    def add_data(self, add: Add) -> None:
        add("--columns", "the columns of a CSV file that go in, with commas between (default: all "
            "that hold numbers)", type=list_of_names, metavar="NAMES")  # fmt: skip
        add("--targets", "the columns that are forecast (default: all; needed to look beyond "
            "--horizon)", type=list_of_names, metavar="NAMES")  # fmt: skip
        add("--steps", "steps that the model sees before it forecasts", 48, type=whole(1),
            metavar="T")  # fmt: skip
        add("--horizon", "steps that it forecasts at once", 1, type=whole(1), metavar="K")
        add("--stride", "steps between the starts of two windows; more is faster", 1, type=whole(1))
        add("--order", "past steps of the linear baseline (default: 16, at most --steps)",
            type=whole(1), metavar="K", may_change=True)  # fmt: skip
        add("--objective", "the loss; mae and huber give less weight to outliers", "mse",
            choices=tuple(REGRESSIONS))  # fmt: skip

    def add_predict_options(self, add: Add) -> None:
        add("--steps", "forecast: so many steps; beyond the horizon of the model forecasts are fed "
            "back, which needs all columns as targets (default: the horizon)", type=whole(1),
            metavar="N")  # fmt: skip

    def inputs(self, options: Namespace) -> Sequence[str | None]:
        """Paths; None for standard input, which may hold an array of NumPy too."""
        return options.input or [options.file]

    def prepare(self, options: Namespace) -> Job:
        """Scaling, windows, the fitted baseline and a new model."""
        try:
            series, columns = _read(options.data[0], options.columns, options.encoding)
        except ColumnError as error:
            raise ValueError(error.told("--columns")) from None
        names = options.targets or list(columns)
        targets = places_of(names, columns, "the data")
        parts = split(series, options.validation, 0.0, context=options.steps)
        _check_size(parts.train, options, "to train on")
        _check_size(parts.validation, options, "to validate on")
        scaler = Scaler.fit(parts.train)
        arguments: Figures = {"horizon": options.horizon, "targets": targets, "scaler": scaler}
        network = model_arguments(Forecaster, options) | arguments
        model = Forecaster(len(columns), **network)
        _units(model)
        baseline = _baseline(parts.train, options, arguments)
        size = (options.steps, options.batch_size)
        origin = "" if names == list(columns) else f" from {in_a_row(columns)}"
        stride = options.stride
        about = {
            "columns": list(columns),
            "targets": names,
            "steps": options.steps,
            "stride": stride,
        }
        return Job(
            model,
            Windows(parts.train, *size, stride=stride, seed=options.seed, **arguments),
            Windows(parts.validation, *size, shuffle=False, **arguments),
            f"{len(parts.train):,} steps to learn from, {len(series) - len(parts.train):,} to "
            f"validate on, {counted(len(columns), 'feature')}, forecast: {in_a_row(names)}{origin}",
            shlex.quote(options.data[0]),
            {**about, "baseline": _kept(baseline)},
        )

    def evaluate(self, model: Forecaster, options: Namespace) -> Figures:
        """Errors on all windows of a series."""
        series = _series_for(model, options.data[0], options.encoding)
        windows = Windows(series, _about(model).steps, BATCH, shuffle=False, **_arguments(model))
        return self.measure(model, windows)

    def measure(self, model: Forecaster, source: Any) -> Figures:
        """Errors of the model and of its baseline on the same windows, in the series' own units."""
        names = _about(model).targets
        figures: Figures = {
            "windows": len(source),
            "targets": names,
            "model": _errors(model, source),
        }
        baseline = baseline_of(model)
        if baseline is not None:
            figures["baseline"] = {"order": baseline.order, **_errors(baseline, source)}
        return figures

    def describe(self, figures: Figures) -> Iterator[str]:
        """The figures in lines for a person."""
        yield f"{counted(figures['windows'], 'window')}; errors in the series' own units"
        yield f"{'':<28}{'MSE':>12}{'RMSE':>12}{'MAE':>12}"
        rows = {"model": figures["model"]}
        if "baseline" in figures:
            rows[f"linear baseline of order {figures['baseline']['order']}"] = figures["baseline"]
        for name, f in rows.items():
            yield _error_row(name, f["mse"], f["mae"])
            if 1 < len(figures["targets"]) <= _MOST_SHOWN:
                parts = zip(
                    figures["targets"], f["mse_per_target"], f["mae_per_target"], strict=True
                )
                yield from (_error_row(f"  {target}", mse, mae) for target, mse, mae in parts)
        if "baseline" in figures and figures["baseline"]["mse"] > 0:
            ratio = figures["model"]["mse"] / figures["baseline"]["mse"]
            words = "better" if ratio < 1 else "worse; more epochs, data or units may help"
            yield f"the model's MSE is {ratio:.3g} times the baseline's: {words}"

    def predict(
        self, model: Forecaster, paths: Sequence[str | None], options: Namespace
    ) -> list[Figures]:
        """The steps after the end of each series."""
        names = _about(model).targets
        found = []
        for path in paths:
            series = _series_for(model, path, options.encoding or "utf-8")
            forecast = model.predict(series[-_about(model).steps :], options.steps)
            found.append({"columns": names, "forecast": forecast.astype(np.float64).tolist()})
        return found

    def show(self, found: list[Figures], options: Namespace) -> Iterator[str]:
        """CSV with the names of the columns first; all digits that read as the same float64."""
        for one in found:
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(one["columns"])
            writer.writerows([[repr(value) for value in row] for row in one["forecast"]])
            yield text.getvalue().rstrip("\n")


def _read(source: str | None, columns: Sequence[str] | None, encoding: str) -> Table:
    """A series and the names of its features, which are numbers where the file has none.

    `source`: a path, or None for standard input.
    """
    with as_file(source) as path:
        return _read_file(path, columns, encoding)


def _read_file(path: PathLike, columns: Sequence[str] | None, encoding: str) -> Table:
    with Path(path).open("rb") as file:
        start = file.read(6)
    if start[:2] != b"PK" and start != b"\x93NUMPY":
        return read_csv(path, columns, encoding=encoding, skip_text=columns is None)
    try:
        values = as_series(read_numpy(path), str(path))
    except TypeError as error:  # the fault of the file, not of a caller
        raise ValueError(str(error)) from None
    found = tuple(map(str, range(values.shape[1])))
    if columns is None:
        return Table(values, found)
    return Table(values[:, places_of(columns, found, str(path))], tuple(columns))


def _check_size(part: AnyArray, options: Namespace, use: str) -> None:
    needed = options.steps + options.horizon
    if len(part) < needed:
        raise ValueError(
            f"the series has {counted(len(part), 'step')} {use}, --steps {options.steps} and "
            f"--horizon {options.horizon} need {needed}"
        )


def _baseline(train: AnyArray, options: Namespace, arguments: Figures) -> AutoRegression:
    order = min(options.order or _ORDER, options.steps)
    baseline = AutoRegression(train.shape[1], order, **arguments)
    baseline.fit(train)
    return baseline


def _kept(baseline: AutoRegression) -> Figures:
    """Description of the baseline for the model's file, which `baseline_of` reads."""
    kept: Figures = {"order": baseline.order}
    if baseline.num_parameters <= _MOST_WEIGHTS:
        kept["parameters"] = baseline.flat.tolist()
    return kept


def baseline_of(model: Forecaster) -> AutoRegression | None:
    """The baseline that the model was compared with, from its file."""
    kept = _about(model).baseline
    if "parameters" not in kept:
        return None
    damaged = "the model's baseline is damaged, expected its order and its parameters"
    order, parameters = kept.get("order"), kept["parameters"]
    if type(order) is not int or order < 1 or not isinstance(parameters, list):
        raise ValueError(damaged)
    needed = (order * model.input_size + 1) * model.horizon * len(model.targets)
    if needed > len(parameters) or any(type(x) is not float for x in parameters):
        raise ValueError(damaged)
    baseline = AutoRegression(model.input_size, order, **_arguments(model))
    if baseline.flat.size != len(parameters):  # padded to whole cache lines
        raise ValueError(damaged)
    baseline.flat[...] = narrowed(np.asarray(parameters), "the model's baseline")
    baseline.repack()
    return baseline


def _arguments(model: Forecaster) -> Figures:
    """Settings that windows and a baseline must have in common with a model."""
    return {"horizon": model.horizon, "targets": model.targets, "scaler": model.scaler}


class _About(NamedTuple):
    """Content of the model's file beside its parameters; `baseline` as `_kept` makes it."""

    columns: list[str]
    targets: list[str]
    steps: int
    baseline: Figures


def _about(model: Forecaster) -> _About:
    extra = model.extra
    if not isinstance(extra, dict) or not {"columns", "steps"} <= set(extra):
        raise ValueError("the model does not name its columns, expected one of fastrnn train")
    targets = extra.get("targets", [str(i) for i in model.targets])
    for key, names, count in (
        ("columns", extra["columns"], model.input_size), ("targets", targets, len(model.targets)),
    ):  # fmt: skip
        if type(names) is not list or [type(name) for name in names] != [str] * count:
            raise ValueError(
                f"the model's {key} are {shown(names)}, expected {counted(count, 'name')}"
            )
    steps, baseline = extra["steps"], extra.get("baseline", {})
    if type(steps) is not int or not 0 < steps <= MAX_ROWS:
        raise ValueError(f"the model's steps are {shown(steps)}, expected an int from 1")
    if not isinstance(baseline, dict):
        raise ValueError(
            f"the model's baseline is {shown(baseline)}, expected order and parameters"
        )
    return _About(extra["columns"], targets, steps, baseline)


def _series_for(model: Forecaster, path: str | None, encoding: str) -> AnyArray:
    """The columns that the model knows, from another file or from standard input (None)."""
    names = _about(model).columns
    is_numbered = all(name.isdecimal() for name in names)
    try:
        series, found = _read(path, None if is_numbered else names, encoding)
    except ColumnError as error:  # no option names columns here: the model does
        raise ValueError(error.problem) from None
    if is_numbered and set(names) <= set(found):
        series, found = series[:, places_of(names, found, "the data")], tuple(names)
    if len(found) != len(names):
        given = path or "standard input"
        there = counted(len(found), "column")
        raise ValueError(f"{given} has {there}, the model expects {len(names)}")
    return series


def _errors(model: Forecaster | AutoRegression, source: Any) -> Figures:
    """Mean squared and absolute errors of each target, and of all."""
    squares, sizes, count, loss = 0.0, 0.0, 0, 0.0
    scale = _units(model)
    with kept_in_place(source):
        for batch in source.batches():
            scaled = model(batch.inputs).astype(np.float64) - batch.targets
            difference = scaled * scale
            squares = squares + (difference**2).sum(axis=(0, 1))
            sizes = sizes + np.abs(difference).sum(axis=(0, 1))
            loss += float((scaled**2).sum())
            count += scaled.shape[0] * scaled.shape[1]
    mse, mae = np.atleast_1d(squares / count), np.atleast_1d(sizes / count)
    return {
        "loss": loss / (count * len(mse)),
        "mse": float(mse.mean()),
        "mae": float(mae.mean()),
        "mse_per_target": mse.tolist(),
        "mae_per_target": mae.tolist(),
    }


def _units(model: Forecaster | AutoRegression) -> npt.NDArray[np.float64] | float:
    """The scale of each target; ValueError where float64 could not hold squared errors in it."""
    if model.scaler is None:
        return 1.0
    scale = model.scaler.select(model.targets).scale
    if scale.max() > _LARGEST_UNIT:
        raise ValueError(
            f"the series spreads over {scale.max():.3g} in feature "
            f"{model.targets[int(scale.argmax())]}, expected at most {_LARGEST_UNIT:g}: float64 "
            f"could not hold squared errors"
        )
    return scale


def _error_row(name: str, mse: float, mae: float) -> str:
    return f"{name:<28}{mse:>12.5g}{mse**0.5:>12.5g}{mae:>12.5g}"
