"""Time series: parts, scaling, windows."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn.data import Scaler, Windows, split


def series(steps: int = 100, features: int = 3) -> np.ndarray:
    """Every number says its step and its feature."""
    return np.arange(steps)[:, None] + np.arange(features) / 10


def steps_of(windows: Windows) -> tuple[set[int], set[int]]:
    """Which steps are seen as inputs, and which as targets."""
    batches = list(windows.batches())
    seen = [{int(x) for batch in batches for x in batch[i][..., 0].flat} for i in (0, 1)]
    return seen[0], seen[1]


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 5), st.integers(1, 7), st.booleans())
def test_every_window_comes_once_with_the_steps_right_after_it(
    steps, horizon, stride, rows, shuffle
):
    x = series(40)
    windows = Windows(x, steps, rows, horizon=horizon, stride=stride, shuffle=shuffle, seed=0)
    starts = []
    for batch in windows.batches():
        for n, start in enumerate(np.rint(batch.inputs[0, :, 0]).astype(int)):
            middle = start + steps
            assert np.array_equal(batch.inputs[:, n], x[start:middle].astype(np.float32))
            after = x[middle : middle + horizon].astype(np.float32)
            assert np.array_equal(batch.targets[:, n], after)
            starts.append(int(start))
    assert sorted(starts) == list(range(0, 40 - steps - horizon + 1, stride))
    assert shuffle or starts == sorted(starts)
    assert len(windows) == len(starts)


def test_targets_can_be_some_of_the_features():
    batch = next(Windows(series(), 5, 4, horizon=2, targets=[2, 0], shuffle=False).batches())
    assert batch.inputs.shape == (5, 4, 3)
    assert batch.targets.shape == (2, 4, 2)
    assert np.allclose(batch.targets[:, 0], [[5.2, 5.0], [6.2, 6.0]])
    for array in (batch.inputs, batch.targets):
        assert array.dtype == np.float32
        assert array.flags.c_contiguous


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_the_series_is_not_copied(dtype):
    x = series().astype(dtype)
    parts = split(x)
    assert all(np.shares_memory(part, x) for part in parts)
    windows = Windows(parts.train, 5, 4)
    assert np.shares_memory(windows.series, x)
    assert np.shares_memory(windows._windows, x)


def test_batches_belong_to_whoever_takes_them():
    x = series().astype(np.float32)
    for batch in Windows(x, 5, 4).batches():
        assert not np.shares_memory(batch.inputs, x)
        batch.inputs[...] = -1
    assert x.min() == 0


def test_parts_come_in_time_order_without_overlap():
    x = series(100)
    parts = split(x, 0.2, 0.1)
    assert [len(part) for part in parts] == [70, 20, 10]
    assert np.array_equal(np.concatenate(parts), x)
    assert [len(part) for part in split(x, 0.0, 0.0)] == [100, 0, 0]


@pytest.mark.parametrize("context", [0, 8])
def test_no_step_is_a_target_in_two_parts_and_training_sees_nothing_of_the_others(context):
    parts = split(series(100), 0.2, 0.2, context=context)
    inputs, targets = zip(*(steps_of(Windows(part, 8, 5)) for part in parts), strict=True)
    assert not targets[0] & targets[1]
    assert not targets[1] & targets[2]
    assert max(inputs[0] | targets[0]) < 60
    assert targets[1] | targets[2] == set(range(60, 100)) if context else True
    assert max(inputs[1]) < 80


def test_context_never_reaches_before_the_series():
    assert len(split(series(10), 0.5, 0.1, context=99).validation) == 9


@pytest.mark.parametrize("kind", ["standard", "minmax"])
def test_scaling_sees_the_training_part_only(kind):
    x = np.random.default_rng(0).standard_normal((100, 2))
    scaler = Scaler.fit(split(x, 0.2, 0.1).train, kind)
    x[70:] = 1e6
    assert Scaler.fit(split(x, 0.2, 0.1).train, kind) == scaler


def test_standard_scaling_gives_mean_0_and_deviation_1():
    x = np.random.default_rng(0).standard_normal((500, 3)) * [1, 20, 300] + [5, -40, 1e4]
    y = Scaler.fit(x)(x)
    assert y.dtype == np.float32
    assert np.allclose(y.mean(axis=0), 0, atol=1e-6)
    assert np.allclose(y.std(axis=0), 1, atol=1e-6)


def test_minmax_scaling_gives_0_to_1():
    x = np.random.default_rng(0).standard_normal((500, 3)) * [1, 20, 300]
    y = Scaler.fit(x, "minmax")(x)
    assert y.min(axis=0).tolist() == [0, 0, 0]
    assert y.max(axis=0).tolist() == [1, 1, 1]


@settings(deadline=None)
@given(st.integers(0, 99), st.sampled_from(["standard", "minmax"]))
def test_the_inverse_gives_the_series_back(seed, kind):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((30, 2)) * 10.0 ** rng.integers(-3, 4, 2)).astype(np.float32)
    scaler = Scaler.fit(x, kind)
    # One rounding to float32 of numbers up to a few scales.
    assert np.allclose(scaler.inverse(scaler(x)), x, rtol=0, atol=8 * 2**-24 * scaler.scale.max())


def test_a_feature_that_never_changes_is_only_shifted():
    scaler = Scaler.fit(np.full((50, 1), 0.1))
    assert scaler.scale.tolist() == [1.0]
    assert np.abs(scaler(np.full((3, 1), 0.1))).max() < 1e-7


def test_some_features_can_be_scaled_back():
    scaler = Scaler([1.0, 2.0, 3.0], [10.0, 20.0, 30.0])
    y = scaler.select([2, 0]).inverse(np.ones((4, 5, 2)))
    assert y.shape == (4, 5, 2)
    assert y[0, 0].tolist() == [33, 11]


def test_a_scaler_survives_json_exactly():
    scaler = Scaler.fit(np.random.default_rng(1).standard_normal((50, 4)))
    again = Scaler.from_dict(json.loads(json.dumps(scaler.to_dict())))
    assert again == scaler
    assert np.array_equal(again.scale, scaler.scale)
    assert repr(again) == "Scaler(4 features)"


def test_windows_are_scaled_as_the_series_would_be():
    x = series()
    scaler = Scaler.fit(x)
    scaled = Windows(scaler(x), 5, 4, seed=0).batches()
    for batch, expected in zip(
        Windows(x, 5, 4, scaler=scaler, seed=0).batches(), scaled, strict=True
    ):
        assert np.array_equal(batch.inputs, expected.inputs)
        assert np.array_equal(batch.targets, expected.targets)


def test_one_feature_can_be_a_plain_row_of_numbers():
    batch = next(Windows(np.arange(9), 3, 2, shuffle=False).batches())
    assert batch.inputs[..., 0].tolist() == [[0, 1], [1, 2], [2, 3]]
    assert batch.targets[..., 0].tolist() == [[3, 4]]


def with_value(value: float) -> np.ndarray:
    x = series()
    x[7, 1] = value
    return x


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Windows(with_value(np.nan), 5, 4), ValueError, "nan at step 7, feature 1"),
        (lambda: Windows(with_value(np.inf), 5, 4), ValueError, "inf at step 7, feature 1"),
        (lambda: Scaler.fit(with_value(np.nan)), ValueError, "nan at step 7, feature 1"),
        (lambda: split(with_value(np.nan)), ValueError, "nan at step 7, feature 1"),
        (lambda: Windows([], 5, 4), ValueError, "series is empty"),
        (lambda: Windows(np.zeros((2, 2, 2)), 1, 1), ValueError, "series has shape"),
        (lambda: Windows(["a"], 1, 1), TypeError, "series has dtype <U1"),
        (lambda: Windows(series(6), 5, 4, horizon=2), ValueError, "has 6 steps, one window .* 7"),
        (lambda: Windows(series(), -5, 4), ValueError, "steps must be greater than zero"),
        (lambda: Windows(series(), 5, 4, horizon=0), ValueError, "horizon must be greater"),
        (lambda: Windows(series(), 5, 4, stride=0), ValueError, "stride must be greater"),
        (lambda: Windows(series(), 5, 4, targets=[3]), ValueError, "holds 3, .* from 0 to 2"),
        (lambda: Windows(series(), 5, 4, targets=[]), ValueError, "targets is empty"),
        (
            lambda: Windows(series(), 5, 4, scaler=Scaler([0.0], [1.0])),
            ValueError,
            "scaler has 1 feature, expected the series' 3",
        ),
        (lambda: split(series(), 0.6, 0.5), ValueError, "none is left to train"),
        (lambda: split(series(), -0.1), ValueError, "validation is -0.1"),
        (lambda: split(series(), context=-1), ValueError, "context is -1"),
        (lambda: Scaler.fit(series(), "robust"), ValueError, "kind is 'robust'"),
        (lambda: Scaler([0.0], [0.0]), ValueError, "scale holds 0.0"),
        (lambda: Scaler([0.0], [np.nan]), ValueError, "must be finite"),
        (lambda: Scaler([0.0, 1.0], [1.0]), ValueError, "shift and scale have shapes"),
        (lambda: Scaler([0.0], [1.0])(series()), ValueError, "x has 3 features, this scaler"),
        (lambda: Scaler([0.0], [1.0])(3.0), ValueError, "x has no dimension"),
        (lambda: Scaler.from_dict({"shift": []}), ValueError, "a scaler has shift and scale"),
    ],
)
def test_series_that_cannot_be_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
