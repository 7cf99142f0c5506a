"""Scaling keeps what float64 has: large offsets, large integers, through files, there and back."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn.cli import main
from fastrnn.data import Scaler, Sequences, TextStream, Windows, split
from fastrnn.models import AutoRegression, Forecaster

OFFSET = 1.6e9
STEPS = np.arange(400)
WAVE = 10 * np.sin(STEPS / 5)
SERIES = OFFSET + WAVE[:, None]


def exact_moments(numbers):
    """Mean and variance without any rounding."""
    exact = [Fraction(float(x)) for x in numbers]
    mean = sum(exact) / len(exact)
    return mean, sum((x - mean) ** 2 for x in exact) / len(exact)


@pytest.mark.parametrize("offset", [0.0, 1.6e9, -1e12])
@pytest.mark.parametrize("size", [1e-3, 10.0, 1e6])
def test_moments_have_all_digits_whatever_the_offset(offset, size, rng):
    x = offset + size * rng.standard_normal(999)
    scaler = Scaler.fit(x)
    mean, variance = exact_moments(x)
    spacing = np.spacing(max(abs(offset), np.abs(x).max()))
    assert abs(float(mean - Fraction(scaler.shift[0]))) <= spacing
    assert scaler.scale[0] == pytest.approx(float(variance) ** 0.5, rel=1e-12)


@pytest.mark.parametrize("size", [5e-324, 1e-200, 1e200, 8e307])
def test_moments_neither_overflow_nor_vanish(size):
    scaler = Scaler.fit([-size, size, -size, size])
    assert scaler.shift.tolist() == [0.0]
    assert scaler.scale.tolist() == [size]


def test_moments_of_many_steps_do_not_drift():
    x = np.full(200_001, 0.1)
    x[::2] += 1e8
    scaler = Scaler.fit(x.astype(np.float64))
    assert scaler.shift[0] == pytest.approx(0.1 + 1e8 * 100_001 / 200_001, rel=1e-15)
    assert scaler.scale[0] == pytest.approx(5e7, rel=1e-9)


@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_a_small_wave_on_a_large_offset_comes_back(kind):
    scaler = Scaler.fit(SERIES, kind)
    scaled = scaler(SERIES)
    assert scaled.dtype == np.float32
    assert np.ptp(scaled) >= 1.0
    back = scaler.inverse(scaled)
    assert back.dtype == np.float64
    assert np.abs(back - SERIES).max() <= 20 * 2**-24 + 2 * np.spacing(OFFSET)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int32, np.int64, np.uint64])
def test_series_of_every_type_are_scaled_in_float64(dtype, rng):
    x = rng.integers(0, 1000, (200, 2)).astype(dtype)
    assert Scaler.fit(x) == Scaler.fit(x.astype(np.float64))
    assert np.array_equal(Scaler.fit(x)(x), Scaler.fit(x)(x.astype(np.float64)))


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=4))
def test_a_scaler_is_the_same_after_any_way_through_a_file(tmp_path_factory, shift):
    scale = [float(np.nextafter(abs(x) + 0.1, 2)) for x in shift]
    scaler = Scaler(shift, scale)
    again = Scaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert again.shift.tobytes() == scaler.shift.tobytes()
    assert again.scale.tobytes() == scaler.scale.tobytes()


@pytest.mark.parametrize("name", ["forecaster", "autoregression"])
def test_a_saved_model_keeps_its_scaler_exactly_and_forecasts_in_float64(name, tmp_path):
    scaler = Scaler.fit(SERIES)
    options = {"horizon": 3, "scaler": scaler}
    model = Forecaster(1, 4, **options) if name == "forecaster" else AutoRegression(1, 4, **options)
    model.save(tmp_path / "model")
    again = fastrnn.load(tmp_path / "model")
    assert again.scaler == scaler
    assert again.scaler.shift.tobytes() == scaler.shift.tobytes()
    forecast = model.predict(SERIES, 7)
    assert forecast.dtype == np.float64
    assert np.array_equal(again.predict(SERIES, 7), forecast)


def test_a_model_forecasts_a_small_wave_on_a_large_offset():
    model = AutoRegression(1, 4, horizon=2, scaler=Scaler.fit(SERIES))
    model.fit(SERIES)
    wanted = OFFSET + 10 * np.sin(np.arange(400, 410) / 5)
    assert np.abs(model.predict(SERIES, 10)[:, 0] - wanted).max() < 1e-3
    assert np.abs(np.float32(wanted) - wanted).max() > 1  # what float32 would say


def test_a_stream_of_forecasts_gives_what_predict_gives_to_every_digit():
    model = Forecaster(1, 4, horizon=2, scaler=Scaler.fit(SERIES))
    stream, rounded = model.stream(), np.empty((2, 1), np.float32)
    for t in range(5):
        wanted = model.predict(SERIES[: t + 1])
        out = np.empty((2, 1))
        assert stream.step(SERIES[t], out=out) is out
        assert np.array_equal(out, wanted)
    before = stream.snapshot()
    wrong = [np.empty((1, 1)), np.empty((3, 2, 1)), np.empty((2, 1), np.int64), [0.0, 0.0]]
    for out in wrong:
        with pytest.raises((ValueError, TypeError), match="out "):
            stream.step(SERIES[5], out=out)
    assert stream.snapshot() == before
    stream.step(SERIES[5], out=rounded)
    assert np.array_equal(rounded, np.float32(model.predict(SERIES[:6])))


def test_a_training_on_the_command_line_keeps_a_wave_on_a_large_offset(tmp_path, capsys):
    lines = [f"{day},{value!r}" for day, value in zip(STEPS, SERIES[:, 0].tolist(), strict=True)]
    path, model = tmp_path / "a.csv", str(tmp_path / "model")
    path.write_text("\n".join(["day,load", *(f"d{line}" for line in lines)]))
    words = ["--steps", "12", "--hidden", "8", "--epochs", "2", "--quiet", "--horizon", "3"]
    assert main(["train", "forecast", str(path), "--out", model, *words]) == 0
    capsys.readouterr()
    assert main(["eval", model, str(path), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["baseline"]["mse"] < 1e-6
    assert figures["model"]["mse"] < 200
    assert main(["predict", model, str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)[0]["forecast"]
    assert np.array_equal(found, fastrnn.load(model).predict(SERIES[-12:]))
    assert main(["predict", model, str(path)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "load"
    assert [[float(line)] for line in printed[1:]] == found


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Scaler.fit([-1e308, 1e308]), ValueError, r"-1e\+308 and 1e\+308 in feature 0"),
        (lambda: Scaler([0.0], [1.0])([1e39]), ValueError, "scaled x holds 1e.39, beyond float32"),
        (lambda: Scaler([1e308], [1e-9])([-1e308]), ValueError, "x holds numbers too far from"),
        (lambda: Scaler([0.0], [1e300]).inverse([1e30]), ValueError, "x holds numbers too far"),
        (lambda: Scaler([0.0], [1.0])(["1"]), TypeError, "x has dtype <U1, expected real numbers"),
        (lambda: Scaler(["0"], [1.0]), TypeError, "shift has dtype <U1, expected real numbers"),
        (
            lambda: Scaler.from_dict({"shift": [10**400], "scale": [1.0]}),
            ValueError,
            "a scaler's shift has dtype object, expected real numbers",
        ),
        (
            lambda: Scaler.from_dict({"shift": ["0"], "scale": [1.0]}),
            ValueError,
            "a scaler's shift has dtype <U1",
        ),
        (
            lambda: Scaler.from_dict({"shift": None, "scale": [1.0]}),
            ValueError,
            "a scaler's shift has dtype object",
        ),
        (
            lambda: Windows([[0.0], [1e39], [0.0]], 1, 1),
            ValueError,
            "1e.39 at step 1, feature 0, b",
        ),
        (
            lambda: Windows(np.array([0, 2**53 + 1, 2]), 1, 1),
            ValueError,
            "series holds 9007199254740993, an integer that float64 would round",
        ),
        (
            lambda: split(np.array([0, 2**64 - 1], np.uint64), 0.0, 0.0),
            ValueError,
            "series holds 18446744073709551615, an integer",
        ),
        (lambda: Scaler.fit(np.array([-(2**63), -(2**60) - 1])), ValueError, "holds -11529215046"),
        (
            lambda: TextStream(np.array([1, 2, 2**63], np.uint64), 1, 1),
            ValueError,
            "tokens holds 9223372036854775808, which does not fit into 64 signed bits",
        ),
    ],
)
def test_numbers_that_would_be_rounded_or_lost_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_large_integers_that_float64_holds_are_taken():
    x = np.array([2**53, 2**53 + 2, 2**60, -(2**63), 3 << 60])
    assert Scaler.fit(x, "minmax").shift.tolist() == [-(2.0**63)]
    assert Windows(np.array([2**63, 1, 2**53], np.uint64), 1, 1).series.dtype == np.uint64


def test_integers_of_several_types_stay_integers():
    parts = [np.array([1, 2], np.uint64), np.array([-100, 2**53 + 1])]
    found = Sequences.of(parts)
    assert found.values.tolist() == [1, 2, -100, 2**53 + 1]
