"""The trainer with the package's own models, optimisers, schedules and data."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from train_fakes import text

import fastrnn
from fastrnn.data import TextStream
from fastrnn.models import LanguageModel
from fastrnn.optim import SGD, Adam, RMSprop
from fastrnn.optim.schedules import Cosine, Plateau, Warmup
from fastrnn.train import RandomTruncation, ResumeError, Trainer

VOCABULARY = 7
TOKENS = text(length=601, rows=1, vocabulary=VOCABULARY)[:, 0]


def language_model(cell="lstm", **options):
    model = LanguageModel(VOCABULARY, 8, 8, 2, cell=cell, **options)
    model.reset_parameters(1)
    model.seed(2)
    return model


def training(cell="lstm", optimizer=Adam, schedule=None, truncation=None, **options):
    model = language_model(cell, **{"dropout": 0.2, **options})
    schedule = schedule or Warmup(Cosine(0.02, 200), 5)
    trainer = Trainer(
        model, optimizer(model, lr=0.01), clip_norm=0.5, schedule=schedule, truncation=truncation
    )
    return trainer, TextStream(TOKENS[:400], 4, 10, seed=3), TextStream(TOKENS[400:], 4, 10)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_language_model_learns_a_text(cell, tmp_path):
    trainer, source, validation = training(cell, dropout=0.0)
    first = trainer.evaluate(validation).loss
    result = trainer.fit(
        source, validation=validation, max_steps=150, out=tmp_path / "run", progress=False
    )
    assert first > 1.8
    assert result.best_loss < 0.8  # the text's own entropy is 0.50
    best = fastrnn.load(result.best)
    assert Trainer(best, Adam(best)).evaluate(validation).loss == result.best_loss


VARIANTS = {
    "Adam, warm-up": lambda: training("gru"),
    "RMSprop, plateau": lambda: training("rnn", RMSprop, Plateau(0.01, patience=0, factor=0.5)),
    "random truncation": lambda: training("lstm", SGD, None, RandomTruncation(0.4, seed=5)),
    "tied weights": lambda: training("gru", tie_weights=True),
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_training_in_pieces_gives_the_bits_of_one_in_one_go(tmp_path, variant):
    def trained(name, *stops):
        for stop in stops:
            trainer, source, validation = variant()
            trainer.fit(
                source,
                validation=validation,
                validate_every=4,
                max_steps=stop,
                out=tmp_path / name,
                resume=True,
                progress=False,
            )
        return trainer.model.flat

    np.testing.assert_array_equal(trained("once", 32), trained("parts", 4, 12, 20, 32))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_random_truncation_is_unbiased_for_every_cell(cell):
    windows, probability, steps = 4, 0.3, 3

    class Script:
        def __init__(self, cuts):
            self.draws = iter([0.0 if cut else 1.0 for cut in cuts])

        def random(self):
            return next(self.draws)

    def total(cuts, probability):
        model, gradients = language_model(cell), []
        optimizer = SGD(model, lr=0.0)
        optimizer.step = lambda: gradients.append(model.flat_grad.astype(np.float64))
        truncation = RandomTruncation(probability)
        truncation.generator = Script(cuts)
        source = TextStream(TOKENS[: 2 * windows * steps + 1], 2, steps)
        Trainer(model, optimizer, truncation=truncation).fit(source, epochs=1, progress=False)
        scale = truncation.scale(windows, windows)
        return np.sum(gradients, axis=0) / scale

    full = total([False] * windows, 0.0)
    mean = 0.0
    for cuts in product([False, True], repeat=windows - 1):
        share = np.prod([probability if cut else 1 - probability for cut in cuts])
        mean += share * total([*cuts, True], probability)
    fixed = total([True] * windows, 1.0)
    size = np.linalg.norm(full)
    assert np.linalg.norm(mean - full) < 1e-6 * size
    assert np.linalg.norm(fixed - full) > 1e-3 * size


def classifying(rng):
    """Whether a sequence begins with a 1."""
    from fastrnn.data import Buckets, LabelledSequences
    from fastrnn.models import SequenceClassifier

    sequences = [rng.integers(0, 2, rng.integers(1, 9)) for _ in range(200)]
    examples = LabelledSequences(sequences, [int(sequence[0]) for sequence in sequences])
    return SequenceClassifier(2, 8, vocab_size=2), Buckets(examples, 16, seed=1), "rows"


def tagging(rng):
    """Whether the token before was a 1."""
    from fastrnn.data import Buckets, TaggedSequences
    from fastrnn.models import SequenceTagger

    sequences = [rng.integers(0, 2, rng.integers(1, 9)) for _ in range(200)]
    tags = [np.concatenate(([0], sequence[:-1])) for sequence in sequences]
    model = SequenceTagger(2, 8, vocab_size=2, cell="gru")
    return model, Buckets(TaggedSequences(sequences, tags), tokens=100, seed=1), "tokens"


def forecasting(rng):
    """A sine."""
    from fastrnn.data import Windows
    from fastrnn.models import Forecaster

    series = np.sin(np.arange(300) / 3)[:, None].astype(np.float32)
    return Forecaster(1, 8, horizon=2), Windows(series, 10, 16, horizon=2, seed=1), "numbers"


@pytest.mark.parametrize("task", [classifying, tagging, forecasting])
def test_every_kind_of_model_learns_from_its_kind_of_data(rng, task):
    model, source, unit = task(rng)
    model.reset_parameters(1)
    trainer, records = Trainer(model, Adam(model, lr=0.02), clip_norm=1.0), []
    first = trainer.evaluate(source).loss
    trainer.fit(source, validation=source, epochs=15, history=records, progress=False)
    assert records[-1]["loss"] < 0.1 * first
    assert {record["unit"] for record in records} == {unit}
    assert ("accuracy" in records[-1]) == (unit != "numbers")


def test_accumulated_rows_equal_one_batch_of_them_all():
    whole, parts = language_model(), language_model()
    tokens = text(21, 6, VOCABULARY)
    for model, step in ((whole, [slice(0, 6)]), (parts, [slice(0, 1), slice(1, 4), slice(4, 6)])):
        batches = [fastrnn.data.Batch(tokens[:-1, rows], tokens[1:, rows]) for rows in step]
        Trainer(model, SGD(model, lr=0.1)).step_on(batches)
    difference = np.linalg.norm(whole.flat_grad - parts.flat_grad)
    assert difference < 1e-6 * np.linalg.norm(whole.flat_grad)


def test_another_cell_or_size_is_refused_on_resume(tmp_path):
    trainer, source, _ = training("lstm")
    trainer.fit(source, max_steps=2, out=tmp_path / "run", progress=False)
    for cell in ("gru", "rnn"):
        other, source, _ = training(cell)
        with pytest.raises(ResumeError, match="is of another training: architecture"):
            other.fit(source, max_steps=4, out=tmp_path / "run", resume=True, progress=False)


def test_a_flow_of_a_real_layer_can_be_shown(rng):
    layer = fastrnn.LSTM(3, 8, 2, bidirectional=True)
    x = rng.standard_normal((12, 5, 3), dtype=np.float32)
    (y, _), pullback = layer.vjp(x, flow=True)
    pullback(np.ones_like(y))
    lines = fastrnn.train.heat_map(layer.last_flow).splitlines()
    assert [line.split("│")[0].strip() for line in lines[1:5]] == [
        "layer 2 reverse",
        "layer 2",
        "layer 1 reverse",
        "layer 1",
    ]


def test_restored_parameters_are_what_a_language_model_and_its_streams_use(tmp_path, rng):
    model = LanguageModel(5, 8, 8, tie_weights=True)
    model.reset_parameters(1)
    tokens = rng.integers(0, 5, 400)  # nothing to learn: it gets worse
    result = Trainer(model, Adam(model, lr=0.1)).fit(
        TextStream(tokens[:300], 4, 8),
        validation=TextStream(tokens[300:], 4, 8),
        validate_every=1,
        max_steps=30,
        out=tmp_path / "run",
        restore_best=True,
        progress=False,
    )
    assert result.best_step < 30
    best = fastrnn.load(result.best)
    inputs = tokens[:50, None]
    np.testing.assert_array_equal(model(inputs)[0], best(inputs)[0])
    np.testing.assert_array_equal(model.stream().step(3), best.stream().step(3))
