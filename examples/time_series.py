"""Forecast a time series with an LSTM, next to the linear baseline that it must beat.

Without a file the series is generated: a slow trend, a season of 7 days, days of 24 steps, and
noise. How high a day rises follows from the day before by the logistic map, which no linear map of
the past can say. A CSV file gives a series of its own: one column, or the one that --column names,
time downwards.

    python examples/time_series.py
    python examples/time_series.py weather.csv --column temperature --steps 72 --horizon 24

Both models see the last --steps values and forecast the next --horizon ones: directly, all at once,
and fed back, a model of one step that takes its own forecasts as inputs. The table holds the root
mean squared error on the last tenth of the series, which neither saw, in the series' own units.
Expect 0.25 and 0.33 from the LSTM on the generated series, next to 0.63 and 0.65, after ten
seconds. Where matplotlib is installed (pip install fastrnn[plot]) one forecast is drawn.
"""

from argparse import (
    ArgumentDefaultsHelpFormatter,
    ArgumentParser,
    Namespace,
    RawDescriptionHelpFormatter,
)
from pathlib import Path

import numpy as np

from fastrnn.data import Scaler, Windows, read_csv, split
from fastrnn.models import AutoRegression, Forecaster
from fastrnn.optim import Adam
from fastrnn.optim.schedules import Cosine
from fastrnn.train import Trainer

NOISE = 0.1


def generate(count: int, seed: int) -> np.ndarray:
    """(count, 1): trend, weeks, days and noise."""
    generator, t = np.random.default_rng(seed), np.arange(count)
    heights = [0.3]
    while len(heights) <= count // 24:
        heights.append(3.8 * heights[-1] * (1 - heights[-1]))
    trend, week = 10 + np.sin(2 * np.pi * t / 2000), 0.5 * np.sin(2 * np.pi * t / 168)
    day = np.array(heights)[t // 24] * np.sin(np.pi * (t % 24) / 24) ** 2
    noise = NOISE * generator.standard_normal(count)
    return np.asarray(trend + week + 4 * day + noise)[:, None]


def train(series: np.ndarray, horizon: int, scaler: Scaler, options: Namespace) -> Forecaster:
    """An LSTM that forecasts `horizon` steps at once."""
    model = Forecaster(1, options.hidden, horizon=horizon, scaler=scaler)
    model.reset_parameters(options.seed)
    parts = split(series, context=options.steps)
    source = Windows(
        parts.train, options.steps, 64, horizon=horizon, scaler=scaler, seed=options.seed
    )
    validation = Windows(
        parts.validation, options.steps, 256, horizon=horizon, scaler=scaler, shuffle=False
    )
    steps = options.max_steps or options.epochs * source.num_batches
    schedule = Cosine(options.lr, steps)
    trainer = Trainer(model, Adam(model), clip_norm=1.0, schedule=schedule)
    result = trainer.fit(
        source, validation=validation, epochs=options.epochs, max_steps=options.max_steps
    )
    print(f"LSTM for {horizon} steps: {result.steps} steps of training, {result.seconds:.1f} s")
    return model


def baseline(series: np.ndarray, horizon: int, scaler: Scaler, order: int) -> AutoRegression:
    model = AutoRegression(1, order, horizon=horizon, scaler=scaler)
    model.fit(split(series).train)
    return model


def error(model: Forecaster | AutoRegression, windows: np.ndarray, options: Namespace) -> float:
    """Root mean squared error of forecasts after the first --steps of windows (T, N, 1)."""
    forecast = model.predict(windows[: options.steps], options.horizon)
    return float(np.sqrt(np.mean((forecast - windows[options.steps :]) ** 2)))


def draw(path: Path, window: np.ndarray, forecasts: dict[str, np.ndarray], known: int) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no picture: matplotlib is not installed (pip install fastrnn[plot])")
        return
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(window, color="#999999", label="series")
    for name, forecast in forecasts.items():
        axes.plot(range(known, len(window)), forecast, label=name)
    axes.axvline(known - 0.5, color="#333333", linewidth=0.6)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    print(f"one forecast is drawn in {path}")


class Help(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """The text above as it stands, and defaults."""


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("csv", nargs="?", type=Path, help="a CSV file, time downwards")
    add("--column", help="name of the column to forecast")
    add("--steps", type=int, default=48, help="steps that a forecast sees")
    add("--horizon", type=int, default=24, help="steps that are forecast")
    add("--order", type=int, help="steps that the baseline sees; by default --steps")
    add("--hidden", type=int, default=64, help="units of the LSTM")
    add("--epochs", type=int, default=10, help="times that the series is read")
    add("--max-steps", type=int, help="stop earlier")
    add("--lr", type=float, default=3e-3, help="first learning rate")
    add("--length", type=int, default=8000, help="steps of the generated series")
    add("--seed", type=int, default=0, help="of series, weights and order")
    add("--picture", type=Path, default=Path("forecast.png"), help="file to draw a forecast in")
    options = parser.parse_args()

    series = generate(options.length, options.seed)
    if options.csv is not None:
        series = read_csv(options.csv, [options.column] if options.column else None).values
    if series.shape[1] != 1:
        parser.error(f"{options.csv} has {series.shape[1]} columns, choose one by --column")
    parts = split(series, context=options.steps)
    scaler, order = Scaler.fit(parts.train), options.order or options.steps
    length = options.steps + options.horizon
    windows = np.lib.stride_tricks.sliding_window_view(parts.test[:, 0], length).T[..., None]
    print(f"{len(series)} steps, {windows.shape[1]} forecasts of {options.horizon} to test on")

    rows = {"direct": options.horizon, "fed back": 1}
    lstm = {row: train(series, horizon, scaler, options) for row, horizon in rows.items()}
    linear = {row: baseline(series, horizon, scaler, order) for row, horizon in rows.items()}
    print(f"\nRMSE      {'LSTM':>8} {f'AR({order})':>8}")
    for row in rows:
        ours, theirs = error(lstm[row], windows, options), error(linear[row], windows, options)
        print(f"{row:<9} {ours:8.4f} {theirs:8.4f}")
    if options.csv is None:
        print(f"noise alone is {NOISE}: no forecast gets below it")
    seen = windows[: options.steps, -1]
    forecasts = {
        "LSTM": lstm["direct"].predict(seen),
        f"AR({order})": linear["direct"].predict(seen),
    }
    draw(options.picture, windows[:, -1, 0], forecasts, options.steps)


if __name__ == "__main__":
    main()
