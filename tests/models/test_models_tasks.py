"""Classifier, tagger, forecaster and baseline: what they compute, stream and refuse."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from families import normal

import fastrnn
from fastrnn import models
from fastrnn.data.scaling import Scaler
from fastrnn.models import AutoRegression, Forecaster, SequenceClassifier, SequenceTagger

CELLS = ["rnn", "lstm", "gru"]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_classifier_is_its_parts_in_a_row(cell, bidirectional, rng):
    model = SequenceClassifier(4, 5, 2, vocab_size=7, cell=cell, bidirectional=bidirectional)
    tokens = rng.integers(0, 7, (6, 3))
    y, state = model.rnn(model.embedding(tokens))
    h = state[0] if cell == "lstm" else state
    ends = [y[-1, :, :5], y[0, :, 5:]] if bidirectional else [y[-1]]
    assert np.array_equal(model(tokens), model.head(np.concatenate(ends, -1)))
    assert np.array_equal(ends[-1], h[-1])
    model = SequenceClassifier(4, 5, input_size=3, bidirectional=bidirectional, pooling="mean")
    x = normal(rng, 6, 3, 3)
    wanted = model.head(model.rnn(x)[0].mean(0))
    assert np.allclose(model(x), wanted, rtol=1e-5, atol=1e-6)
    model = SequenceClassifier(4, 5, input_size=3, bidirectional=bidirectional, pooling="max")
    assert np.array_equal(model(x), model.head(model.rnn(x)[0].max(0)))


@pytest.mark.parametrize("cell", CELLS)
def test_a_tagger_has_one_head_for_all_steps(cell, rng):
    model = SequenceTagger(4, 5, 2, vocab_size=7, cell=cell, bidirectional=True)
    tokens = rng.integers(0, 7, (6, 3))
    assert np.array_equal(model(tokens), model.head(model.rnn(model.embedding(tokens))[0]))
    assert model(tokens[:, 0]).shape == (6, 4)
    short = model(tokens, [6, 2, 4])
    assert np.allclose(short[:2, 1], model(tokens[:2, 1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_streams_of_classifiers_and_taggers_have_the_bits_of_the_call(cell, rng):
    tokens, x = rng.integers(0, 7, (6, 3)), normal(rng, 6, 3, 3)
    for inputs, options in ((tokens, {"vocab_size": 7}), (x, {"input_size": 3})):
        tagger = SequenceTagger(4, 5, 2, cell=cell, **options)
        stream = tagger.stream(3)
        logits = np.stack([stream.step(step) for step in inputs])
        assert np.array_equal(logits, tagger(inputs))
        classifier = SequenceClassifier(4, 5, 2, cell=cell, **options)
        stream = classifier.stream(3)
        for t, step in enumerate(inputs):
            assert np.array_equal(stream.step(step), classifier(inputs[: t + 1]))
    for model in (
        SequenceTagger(4, 5, input_size=3, bidirectional=True),
        SequenceClassifier(4, 5, input_size=3, bidirectional=True),
    ):
        with pytest.raises(ValueError, match=r"bidirectional .* cannot stream"):
            model.stream()
    with pytest.raises(ValueError, match="pooling 'mean' needs the whole sequence"):
        SequenceClassifier(4, 5, input_size=3, pooling="mean").stream()


def test_parameters_are_named_as_in_pytorch():
    model = SequenceClassifier(4, 5, vocab_size=7, embedding_dim=2)
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    rest = [*(f"rnn.{name}" for name in names), "head.weight", "head.bias"]
    assert list(model.state_dict()) == ["embedding.weight", *rest]
    assert list(Forecaster(3, 5).state_dict()) == rest
    assert list(AutoRegression(3, 5).state_dict()) == ["head.weight", "head.bias"]
    assert repr(model).startswith("SequenceClassifier(\n  (embedding): Embedding(7, 2)\n  (rnn): ")


MADE = {
    "classifier": lambda: SequenceClassifier(4, 5, vocab_size=7, pooling="max"),
    "tagger": lambda: SequenceTagger(4, 5, input_size=3, bidirectional=True),
    "forecaster": lambda: Forecaster(2, 5, horizon=3, scaler=Scaler([1, 2], [3, 4])),
    "autoregression": lambda: AutoRegression(2, 5, targets=[1]),
}


@pytest.mark.parametrize("name", MADE)
def test_a_copy_is_a_model_of_its_own(name):
    model = MADE[name]()
    model.vocabulary = {"tokens": ["a"]}
    twin = copy.deepcopy(model)
    assert twin.fingerprint() == model.fingerprint()
    assert twin.vocabulary == model.vocabulary
    twin.flat[...] = 0
    twin.vocabulary["tokens"].append("b")
    assert model.flat.any()
    assert model.vocabulary == {"tokens": ["a"]}


SIZES = {"num_classes": 4, "hidden_size": 5}
BAD_CLASSIFIERS = [
    ({}, "vocab_size is None and input_size is None, expected one of them"),
    ({"vocab_size": 7, "input_size": 3}, "vocab_size is 7 and input_size is 3"),
    ({"input_size": 3, "embedding_dim": 3}, "embedding_dim is 3, but features have no embedding"),
    ({"input_size": 3, "pooling": "sum"}, "pooling is 'sum', expected one of 'last'"),
    ({"input_size": 3, "cell": "tcn"}, "cell is 'tcn', expected one of 'lstm'"),
    ({"input_size": 3, "dropout": 2}, "dropout is 2, expected a number in the range"),
    ({"input_size": 3, "label_smoothing": 1.0}, "label_smoothing is 1.0, expected a number from 0"),
    ({"input_size": 0}, "input_size must be greater than zero"),
    ({"vocab_size": 2**21}, "vocab_size must be at most"),
]


@pytest.mark.parametrize(("options", "message"), BAD_CLASSIFIERS)
def test_an_impossible_classifier_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SequenceClassifier(**SIZES, **options)


def test_wrong_inputs_and_targets_are_refused(rng):
    over_tokens = SequenceTagger(4, 5, vocab_size=7)
    over_features = SequenceClassifier(4, 5, input_size=3)
    x, tokens = normal(rng, 6, 2, 3), rng.integers(0, 7, (6, 2))
    refused = [
        (lambda: over_tokens(tokens + 7), "inputs holds .*, expected indices from 0 to 6"),
        (lambda: over_tokens.vjp(np.tile(tokens, 3) - 7), "inputs holds -.*, expected indices"),
        (lambda: over_tokens.vjp(tokens[:3] + 7), "inputs holds .*, expected indices from 0"),
        (lambda: over_tokens.vjp(tokens[None]), "inputs has 3 dimensions"),
        (lambda: over_tokens(tokens[None]), "inputs has 3 dimensions"),
        (lambda: over_tokens(tokens[:0]), "inputs has 0 steps, this SequenceTagger expects"),
        (lambda: over_features(x[..., :2]), r"inputs has shape \(6, 2, 2\), expected \(T, N, 3\)"),
        (lambda: over_features(x, [1]), r"lengths has shape \(1,\)"),
        (lambda: over_tokens.loss(tokens, tokens[:5]), r"targets has shape \(5, 2\), .* expect"),
        (lambda: over_tokens.loss(tokens, tokens % 4, 1), "state is given, but a SequenceTagger"),
        (lambda: over_features.loss(x, [0]), r"targets has shape \(1,\), .* \(2,\)"),
        (lambda: over_features.loss(x, [0, 4]), "targets holds 4, expected classes"),
        (lambda: Forecaster(3, 5)(x[:0]), r"inputs has shape \(0, 2, 3\)"),
        (lambda: Forecaster(3, 5).loss(x, x), r"targets has shape \(6, 2, 3\), expected \(1, 2"),
        (lambda: AutoRegression(3, 9)(x), "inputs has 6 steps, this AutoRegression expects at"),
        (lambda: AutoRegression(3, 2)(x, [1, 2]), "lengths is given"),
        (lambda: Forecaster(3, 5, targets=[3]), r"targets is \[3\], expected features from 0 to 2"),
        (lambda: Forecaster(3, 5, targets=[]), r"targets is \[\], expected some features"),
        (lambda: Forecaster(3, 5, objective="l3"), "objective is 'l3', expected one of 'mse'"),
        (lambda: Forecaster(3, 5, scaler=Scaler([0], [1])), "scaler has 1 features, expected"),
    ]  # fmt: skip
    for call, message in refused:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="inputs has dtype float32"):
        over_tokens(x[..., 0])
    with pytest.raises(TypeError, match="scaler is an int, expected a Scaler or None"):
        Forecaster(3, 5, scaler=3)


@pytest.mark.parametrize("cell", CELLS)
def test_a_forecaster_s_head_sees_every_row_s_last_step(cell, rng):
    model = Forecaster(3, 5, 2, horizon=4, targets=[2, 0], cell=cell)
    x = normal(rng, 6, 3, 3)
    wanted = model.head(model.rnn(x)[0][-1]).reshape(3, 4, 2).swapaxes(0, 1)
    assert np.array_equal(model(x), wanted)
    assert np.array_equal(model(x[:, 1]), wanted[:, 1])
    short = model(x, [6, 2, 4])
    assert np.allclose(short[:, 1], model(x[:2, 1]), rtol=1e-5, atol=1e-6)


def units(rng, *shape):
    """Series with other offsets and ranges than 0 and 1."""
    return normal(rng, *shape, 2) * [3.0, 100.0] + [50.0, -7.0]


def test_predict_works_in_the_units_of_the_series(rng):
    series = units(rng, 30)
    scaler = Scaler.fit(series)
    model = Forecaster(2, 5, horizon=3, targets=[1], scaler=scaler)
    wanted = scaler.select([1]).inverse(model(scaler(series)))
    assert np.array_equal(model.predict(series), wanted)
    assert np.array_equal(model.predict(series, 2), wanted[:2])
    with pytest.raises(ValueError, match="steps is 4, but this Forecaster forecasts 3 steps of 1"):
        model.predict(series, 4)
    rows = units(rng, 30, 4)
    assert model.predict(rows).shape == (3, 4, 1)
    with pytest.raises(ValueError, match=r"series has shape \(30, 3\), expected \(T, 2\)"):
        model.predict(np.zeros((30, 3)))
    one = Forecaster(1, 5)
    assert np.array_equal(one.predict(series[:, 0]), one.predict(series[:, :1]))


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("kind", ["forecaster", "autoregression"])
def test_forecasts_further_ahead_are_fed_back(kind, horizon, rng):
    series = units(rng, 30)
    options = {"horizon": horizon, "scaler": Scaler.fit(series)}
    model = Forecaster(2, 5, **options) if kind == "forecaster" else AutoRegression(2, 4, **options)
    x = model.scaler(series)
    found = []
    for _ in range(4):
        found.append(model(x))
        x = np.concatenate([x, found[-1]])
    wanted = model.scaler.inverse(np.concatenate(found))
    assert np.array_equal(model.predict(series, 4 * horizon - 1), wanted[: 4 * horizon - 1])


def test_a_stream_of_forecasts_takes_and_gives_the_units_of_the_series(rng):
    for scaler in (None, Scaler([50, -7], [3, 100])):
        model = Forecaster(2, 5, 2, horizon=3, targets=[1, 0], scaler=scaler)
        series = units(rng, 10, 4)
        many, one = model.stream(4), model.stream()
        out = np.empty((3, 2), np.float32 if scaler is None else np.float64)
        for t, step in enumerate(series):
            wanted = model.predict(series[: t + 1])
            assert np.array_equal(many.step(np.float32(step) if scaler is None else step), wanted)
            assert one.step(np.float32(step[1]) if scaler is None else step[1], out=out) is out
            assert np.array_equal(out, wanted[:, 1])


def test_an_autoregression_finds_the_process_that_made_the_series(rng):
    a_1, a_2 = np.array([[0.5, -0.2], [0.1, 0.3]]), np.array([[-0.3, 0.1], [0.2, 0.2]])
    series = np.zeros((4000, 2))
    for t in range(2, 4000):
        noise = 1e-3 * rng.standard_normal(2)
        series[t] = a_1 @ series[t - 1] + a_2 @ series[t - 2] + [1.0, -2.0] + noise
    model = AutoRegression(2, 2)
    model.fit(series[500:])
    weight = model.head.parameters["weight"]
    assert np.abs(weight[:, 2:] - a_1).max() < 0.1
    assert np.abs(weight[:, :2] - a_2).max() < 0.1
    wanted = [series[-1], series[-2]]
    for _ in range(5):
        wanted.insert(0, a_1 @ wanted[0] + a_2 @ wanted[1] + [1.0, -2.0])
    assert np.abs(model.predict(series, 5) - wanted[4::-1]).max() < 5e-3


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("horizon", [1, 3])
def test_an_autoregression_is_the_least_squares_solution(horizon, scaled, rng, monkeypatch):
    series = np.cumsum(units(rng, 60), axis=0) / 10
    scaler = Scaler.fit(series) if scaled else None
    model = AutoRegression(2, 4, horizon=horizon, targets=[1], scaler=scaler)
    model.fit(series)
    x = (series - scaler.shift) / scaler.scale if scaled else series
    starts = range(60 - 4 - horizon + 1)
    past = np.array([[*x[s : s + 4].ravel(), 1] for s in starts])
    coming = np.array([x[s + 4 : s + 4 + horizon, 1] for s in starts])
    solution = np.linalg.lstsq(past, coming, rcond=None)[0]
    weight, bias = model.head.parameters["weight"], model.head.parameters["bias"]
    assert np.allclose(weight, solution[:-1].T, rtol=1e-4, atol=1e-6)
    assert np.allclose(bias, solution[-1], rtol=1e-4, atol=1e-6)
    from fastrnn.models import autoregression

    monkeypatch.setattr(autoregression, "_CHUNK", 100)
    parts = AutoRegression(2, 4, horizon=horizon, targets=[1], scaler=scaler)
    parts.fit([series[:40], series[40 - 3 - horizon :], series[:3]])
    assert np.allclose(parts.head.parameters["weight"], weight, rtol=1e-3, atol=1e-5)


def test_a_series_that_cannot_be_fitted_is_refused():
    model = AutoRegression(2, 4)
    with pytest.raises(ValueError, match="series is too short, a fit needs 5 steps or more"):
        model.fit(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="series has 3 features, this AutoRegression expects 2"):
        model.fit(np.zeros((9, 3)))
    with pytest.raises(ValueError, match="series holds nan at step 3"):
        model.fit(np.where(np.arange(9)[:, None] == 3, np.nan, np.zeros((9, 2))))
    model.fit(np.ones((9, 2)))  # any number of solutions: the smallest one
    assert np.allclose(model.predict(np.ones((4, 2)), 3), 1)


def test_models_are_there_without_being_imported():
    assert fastrnn.models is models
    assert set(models.__all__) <= set(dir(models))
    assert set(fastrnn.__all__) <= set(dir(fastrnn))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fastrnn.nothing  # noqa: B018
