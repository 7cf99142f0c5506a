"""Batches in which nothing counts: no step, no NaN, and means over what is left."""

from __future__ import annotations

import numpy as np
import pytest
from train_fakes import Batch

from fastrnn import data, models, optim, train

T, N, V = 4, 3, 6
SETTINGS = {"ignore_index": 0}


def tokens(rng, rows=N, low=1):
    return rng.integers(low, V, (T, rows))


def series(rng, rows=N):
    return rng.standard_normal((T, rows, 2)).astype(np.float32)


# name: (a model, its inputs, its targets (a function of what is counted), lengths that leave none)
CASES = {
    "language": (
        lambda: models.LanguageModel(V, 3, 5, dropout=0.2, **SETTINGS), tokens, tokens, 1,
    ),
    "tied language": (
        lambda: models.LanguageModel(V, 5, 5, cell="gru", tie_weights=True, **SETTINGS),
        tokens, tokens, 1,
    ),
    "bidirectional language": (
        lambda: models.BidirectionalLanguageModel(V, 3, 5, **SETTINGS), tokens, tokens, 1,
    ),
    "tagger": (
        lambda: models.SequenceTagger(V, 5, vocab_size=V, bidirectional=True, **SETTINGS),
        tokens, tokens, 1,
    ),
    "feature tagger": (
        lambda: models.SequenceTagger(V, 5, input_size=2, **SETTINGS), series, tokens, 1,
    ),
    "classifier, last": (
        lambda: models.SequenceClassifier(V, 5, vocab_size=V), tokens,
        lambda rng, rows=N: rng.integers(0, V, rows), 1,
    ),
    "classifier, mean": (
        lambda: models.SequenceClassifier(V, 5, input_size=2, pooling="mean"), series,
        lambda rng, rows=N: rng.integers(0, V, rows), 1,
    ),
    "classifier, max": (
        lambda: models.SequenceClassifier(V, 5, vocab_size=V, pooling="max", bidirectional=True),
        tokens, lambda rng, rows=N: rng.integers(0, V, rows), 1,
    ),
    "forecaster": (
        lambda: models.Forecaster(2, 5, horizon=3), series,
        lambda rng, rows=N: rng.standard_normal((3, rows, 2)).astype(np.float32), 1,
    ),
    "robust forecaster": (
        lambda: models.Forecaster(2, 5, horizon=3, objective="huber", cell="gru"), series,
        lambda rng, rows=N: rng.standard_normal((3, rows, 2)).astype(np.float32), 1,
    ),
    "autoregression": (
        lambda: models.AutoRegression(2, 3, horizon=2), series,
        lambda rng, rows=N: rng.standard_normal((2, rows, 2)).astype(np.float32), 0,
    ),
    "seq2seq": (
        lambda: models.Seq2Seq(V, V, 5, attention="additive", bidirectional=True, **SETTINGS),
        lambda rng, rows=N: (tokens(rng, rows), tokens(rng, rows)), tokens, 2,
    ),
    "seq2seq with feeding": (
        lambda: models.Seq2Seq(V, V, 5, attention="scaled_dot", input_feeding=True, **SETTINGS),
        lambda rng, rows=N: (tokens(rng, rows), tokens(rng, rows)), tokens, 2,
    ),
    "seq2seq without attention": (
        lambda: models.Seq2Seq(V, V, 5, **SETTINGS),
        lambda rng, rows=N: (tokens(rng, rows), tokens(rng, rows)), tokens, 2,
    ),
    "captions": (
        lambda: models.FeaturesToSequence(2, V, 5, attention="multiplicative", **SETTINGS),
        lambda rng, rows=N: (series(rng, rows), tokens(rng, rows)), tokens, 2,
    ),
}  # fmt: skip


def batches(name, rng):
    """Batches in which nothing counts, by why: the model's kind has some of the reasons."""
    make, inputs, targets, parts = CASES[name]
    model = make()
    model.reset_parameters(1)
    model.seed(2)
    found = {"no rows": Batch(inputs(rng, 0), targets(rng, 0), fresh=True)}
    if getattr(model, "ignore_index", None) is not None:
        ids, ignored = inputs(rng), np.zeros((T, N), np.int64)
        if name == "bidirectional language":  # backwards the inputs are the targets
            ids = np.zeros_like(ids)
        found["all ignored"] = Batch(ids, ignored)
    none = np.zeros(N, np.int64)
    if parts:
        lengths = none if parts == 1 else (none, none)
        found["lengths of 0"] = Batch(inputs(rng), targets(rng), lengths)
    if parts == 2:
        found["targets of length 0"] = Batch(inputs(rng), targets(rng), (None, none))
    return model, found


def filled(name, rng, rows=N):
    _, inputs, targets, _ = CASES[name]
    return Batch(inputs(rng, rows), targets(rng, rows), fresh=True)


def arguments(batch, state=None):
    return batch.inputs, batch.targets, state, batch.lengths


class Some:
    """The same batches in every epoch."""

    def __init__(self, given):
        self.given, self.position = list(given), 0

    @property
    def num_batches(self):
        return len(self.given)

    def batches(self):
        while self.position < len(self.given):
            self.position += 1
            yield self.given[self.position - 1]
        self.position = 0

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


@pytest.mark.parametrize("name", CASES)
def test_every_model_counts_nothing_and_adds_no_gradient(name, rng):
    model, empty = batches(name, rng)
    for why, batch in empty.items():
        shown = model.loss(*arguments(batch))
        result, backward = model.loss_vjp(*arguments(batch))
        backward()
        for found in (shown, result):
            assert (found.loss, found.count) == (0.0, 0), why
            assert found.correct in (0, None)
        assert not model.flat_grad.any(), why
    assert (found.correct is None) == isinstance(model, (models.Forecaster, models.AutoRegression))


@pytest.mark.parametrize("name", CASES)
def test_every_training_takes_no_step_on_them(name, rng, tmp_path):
    model, empty = batches(name, rng)
    before = model.flat.copy()
    trainer = train.Trainer(model, optim.Adam(model, weight_decay=0.1), accumulate=2)
    for batch in empty.values():
        loss, _ = trainer.step(batch.inputs, batch.targets, lengths=batch.lengths)
        assert loss == 0.0
        loss, _ = trainer.step_on([batch, batch])
        assert loss == 0.0
    result = trainer.fit(Some(empty.values()), epochs=2, out=tmp_path / "run", progress=False)
    assert (result.steps, result.epochs, trainer.steps, trainer.optimizer.steps) == (0, 2, 0, 0)
    assert trainer.last is None
    np.testing.assert_array_equal(model.flat, before)
    total = trainer.evaluate(Some(empty.values()))
    assert (total.loss, total.count, total.batches) == (0.0, 0, len(empty))


@pytest.mark.parametrize("name", CASES)
def test_between_others_they_change_neither_means_nor_gradients(name, rng):
    model, empty = batches(name, rng)
    model.dropout = 0.0
    one, two = filled(name, rng), filled(name, rng, 2)
    trainers = []
    for group in ([one, two], [*empty.values(), one, *empty.values(), two, *empty.values()]):
        trainer = train.Trainer(model, _Still(model))
        trainer.step_on(group)
        trainers.append((trainer.last.loss, trainer.last.count, trainer.last.correct))
        trainers.append(model.flat_grad.tobytes())
    assert trainers[:2] == trainers[2:]
    source = Some([one, *empty.values(), two])
    whole, part = trainer.evaluate(source), trainer.evaluate(Some([one, two]))
    assert (whole.loss, whole.count, whole.correct) == (part.loss, part.count, part.correct)


class _Still:
    """An optimiser that leaves everything as it is."""

    lr = 0.1

    def __init__(self, model):
        self.model = model

    def step(self):
        pass


@pytest.mark.parametrize("name", ["classifier, last", "classifier, max", "forecaster"])
def test_a_row_without_steps_has_a_target_that_does_not_count(name, rng):
    model = CASES[name][0]()
    model.reset_parameters(1)
    batch = filled(name, rng)
    lengths = np.array([T, 0, 2])
    rows = [0, 2]
    part = [np.ascontiguousarray(np.take(a, rows, axis=min(1, a.ndim - 1))) for a in batch[:2]]
    whole = model.loss(batch.inputs, batch.targets, None, lengths)
    kept = model.loss(*part, None, lengths[rows])
    assert whole.count == kept.count < model.loss(*arguments(batch)).count
    assert whole.loss == pytest.approx(kept.loss, rel=1e-6)
    assert whole.correct == kept.correct
    _, backward = model.loss_vjp(batch.inputs, batch.targets, None, lengths)
    backward()
    expected = model.flat_grad.copy()
    model.zero_grad()
    _, backward = model.loss_vjp(*part, None, lengths[rows])
    backward()
    np.testing.assert_allclose(expected, model.flat_grad, rtol=1e-5, atol=1e-7)


def test_an_ignored_target_among_others_is_as_if_it_were_not_there():
    tokens = np.repeat([1, 0, 2], 100)
    model = models.LanguageModel(3, 4, 4, ignore_index=0)
    trainer = train.Trainer(model, optim.Adam(model), accumulate=5)
    source = data.TextStream(tokens, 1, 20)
    assert trainer.fit(source, epochs=1, progress=False).steps == 3
    trainer = train.Trainer(model, optim.Adam(model))
    assert trainer.fit(source, epochs=1, progress=False).steps == 11  # of 15 windows


def test_the_state_goes_on_over_windows_in_which_nothing_counts(rng):
    model = models.LanguageModel(V, 3, 5, ignore_index=0)
    first, ignored, last = (Batch(tokens(rng), tokens(rng), fresh=not i) for i in range(3))
    ignored = ignored._replace(targets=np.zeros_like(ignored.targets))
    trainer = train.Trainer(model, _Still(model))
    total = trainer.evaluate(Some([first, ignored, last]))
    state = model.loss(*arguments(first)).state
    state = model(ignored.inputs, state)[1]
    expected = model.loss(*arguments(last, state))
    for part, wanted in zip(total.state, expected.state, strict=True):
        np.testing.assert_array_equal(part, wanted)
    seen = []
    fit = model.loss_vjp
    model.loss_vjp = lambda *given: seen.append(given[2]) or fit(*given)
    trainer.optimizer.state_dict = dict
    trainer.fit(Some([first, ignored, last]), epochs=1, progress=False)
    np.testing.assert_array_equal(seen[2][0], state[0])


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_random_truncation_takes_no_step_on_them_either(probability, rng):
    model = models.LanguageModel(V, 3, 5, ignore_index=0)
    cut = train.RandomTruncation(probability, seed=1)
    trainer = train.Trainer(model, optim.Adam(model), truncation=cut)
    ids = np.zeros(200, np.int64)
    assert trainer.fit(data.TextStream(ids, 2, 9), epochs=2, progress=False).steps == 0
    ids[60:] = 1
    result = trainer.fit(data.TextStream(ids, 1, 20), epochs=1, progress=False)
    assert 0 < result.steps < 10
    assert np.isfinite(model.flat).all()


def test_a_number_of_steps_that_can_never_be_reached_is_an_error():
    model = models.LanguageModel(3, 4, 4, ignore_index=0)
    trainer = train.Trainer(model, optim.Adam(model))
    source = data.TextStream(np.zeros(50, np.int64), 1, 9)
    with pytest.raises(ValueError, match="no target that counts in a whole epoch"):
        trainer.fit(source, max_steps=3, progress=False)


def test_an_epoch_without_a_step_is_not_validated_and_costs_no_patience(rng):
    model = models.LanguageModel(V, 3, 5, ignore_index=0)
    trainer = train.Trainer(model, optim.Adam(model))
    empty = Batch(tokens(rng), np.zeros((T, N), np.int64))
    validation, records = Some([filled("language", rng)]), []
    result = trainer.fit(
        Some([empty]), validation=validation, epochs=5, patience=1, history=records, progress=False
    )
    assert (result.stopped, result.steps, records) == ("epochs", 0, [])


def test_records_and_the_schedule_know_only_steps_that_were_made(rng):
    model = models.LanguageModel(V, 3, 5, ignore_index=0)
    rates = []

    class Counting:
        def lr(self, step):
            rates.append(step)
            return 0.01

    trainer, records = train.Trainer(model, optim.Adam(model), schedule=Counting()), []
    empty = Batch(tokens(rng), np.zeros((T, N), np.int64))
    source = Some([empty, filled("language", rng), empty, empty, filled("language", rng), empty])
    trainer.fit(source, epochs=2, log_every=1, history=records, progress=False)
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    assert [record["units"] for record in records] == [12, 24, 36, 48]
    assert rates == [0, 1, 2, 3]
    assert all(np.isfinite(record["loss"]) for record in records)
