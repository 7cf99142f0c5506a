"""One optimiser step: what it computes, and what it refuses to do to the parameters."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import train_fakes
from train_fakes import Batch, Momentum, Recorder, Result, TinyRNN, kit, text

from fastrnn.train import Trainer, TrainingDiverged


def recorder(**options):
    model = TinyRNN()
    return Trainer(model, Recorder(model), **options), model


def exact():
    return train_fakes.recorder(TinyRNN(dtype=np.float64))


def halves(tokens):
    return [Batch(tokens[:-1, :1], tokens[1:, :1]), Batch(tokens[:-1, 1:], tokens[1:, 1:])]


def test_a_step_lowers_the_loss_and_gives_the_state_the_batch_ended_in():
    model = TinyRNN()
    trainer, tokens = Trainer(model, Momentum(model, lr=0.1)), text()
    before = model.loss(tokens[:-1], tokens[1:])
    loss, state = trainer.step(tokens[:-1], tokens[1:])
    assert loss == before.loss
    np.testing.assert_array_equal(state, before.state)
    assert model.loss(tokens[:-1], tokens[1:]).loss < loss
    assert trainer.last.step == trainer.steps == 1
    assert trainer.last.lr == 0.1


def test_the_state_that_is_passed_on_is_where_the_next_window_starts():
    trainer, model = recorder()
    tokens = text(21)
    _, state = trainer.step(tokens[:10], tokens[1:11])
    loss, _ = trainer.step(tokens[10:20], tokens[11:21], state)
    assert loss == model.loss(tokens[10:20], tokens[11:21], state).loss
    assert loss != model.loss(tokens[10:20], tokens[11:21]).loss


@pytest.mark.parametrize("ignored", [0, 5], ids=["equal counts per step", "unequal counts"])
def test_accumulated_batches_equal_one_batch_of_them_all(ignored):
    tokens = text()
    tokens[1 : 1 + ignored, 0] = -1  # as a target only: inputs of -1 would be the last token
    inputs = np.maximum(tokens[:-1], 0)
    whole, parts = exact(), exact()
    loss, _ = whole.step(inputs, tokens[1:])
    micro = [Batch(inputs[:, :1], tokens[1:, :1]), Batch(inputs[:, 1:], tokens[1:, 1:])]
    assert parts.step_on(micro)[0] == pytest.approx(loss, rel=1e-14)
    one, other = whole.optimizer.gradients[0], parts.optimizer.gradients[0]
    np.testing.assert_allclose(other, one, rtol=1e-12, atol=1e-15)
    assert parts.last.count == whole.last.count == 180 - ignored


def test_fit_accumulates_as_many_batches_as_asked_for():
    k = kit(accumulate=4)
    result = k.trainer.fit(k.source, epochs=2, progress=False)
    assert k.source.num_batches == 9
    assert result.steps == 2 * 3


def test_a_batch_in_which_nothing_counts_changes_nothing():
    trainer, model = recorder()
    tokens = text(9)
    before = model.flat.copy()
    loss, _ = trainer.step(tokens, np.full_like(tokens, -1))
    assert loss == 0
    assert trainer.optimizer.gradients == []
    np.testing.assert_array_equal(model.flat, before)
    trainer.step_on([Batch(tokens, np.full_like(tokens, -1)), *halves(tokens)])
    assert np.isfinite(trainer.optimizer.gradients[0]).all()


def test_clipping_limits_the_norm_and_then_the_elements():
    free, _ = recorder()
    clipped, _ = recorder(clip_norm=0.01)
    bounded, _ = recorder(clip_value=0.001)
    tokens = text()
    for trainer in (free, clipped, bounded):
        trainer.step(tokens[:-1], tokens[1:])
    norm = np.linalg.norm(free.optimizer.gradients[0])
    assert free.last.norm == pytest.approx(norm, rel=1e-6)
    assert clipped.last.norm == pytest.approx(norm, rel=1e-6)
    assert np.linalg.norm(clipped.optimizer.gradients[0]) == pytest.approx(0.01, rel=1e-3)
    assert np.abs(bounded.optimizer.gradients[0]).max() == pytest.approx(0.001, rel=1e-6)


def test_the_schedule_says_the_learning_rate_of_every_step():
    class Halving:
        def lr(self, step):
            return 0.5**step

    trainer, _ = recorder(schedule=Halving())
    tokens, rates = text(), []
    for _ in range(3):
        trainer.step(tokens[:-1], tokens[1:])
        rates.append((trainer.last.lr, trainer.optimizer.lr))
    assert rates == [(1.0, 1.0), (0.5, 0.5), (0.25, 0.25)]


def test_a_loss_that_is_not_finite_stops_before_the_parameters_change():
    trainer, model = recorder(clip_norm=1.0)
    model.parameters["U"][1, 2] = np.nan
    before, tokens = model.flat.copy(), text()
    with pytest.raises(TrainingDiverged, match=r"step 1: the loss is not finite") as caught:
        trainer.step(tokens[:-1], tokens[1:])
    error = caught.value
    assert (error.step, error.norm, error.lr) == (1, None, 0.1)
    assert error.parameters == ["U"]
    assert "not finite: U" in str(error)
    assert "lower learning rate" in str(error)
    np.testing.assert_array_equal(model.flat, before)
    assert trainer.steps == 0


def test_a_gradient_that_is_not_finite_stops_before_the_parameters_change():
    class Broken(TinyRNN):
        def loss_vjp(self, *arguments):
            result, _ = super().loss_vjp(*arguments)
            return result, lambda scale=1.0, dstate=None: self.grads["W"].fill(np.inf)

    model = Broken()
    trainer = Trainer(model, Momentum(model))
    before, tokens = model.flat.copy(), text()
    with pytest.raises(TrainingDiverged, match="gradient is not finite") as caught:
        trainer.step(tokens[:-1], tokens[1:])
    assert "W" in caught.value.gradients
    assert "clip_norm=1.0" in str(caught.value)
    np.testing.assert_array_equal(model.flat, before)
    assert not trainer.optimizer.velocity.any()


def test_a_loss_of_a_thousand_times_the_first_has_exploded():
    trainer, _ = recorder()
    tokens = text()
    trainer.step(tokens[:-1], tokens[1:])
    trainer.first_loss = 2.0
    trainer._check_loss(Result(1999.0, 1, None, None), Batch(tokens, tokens))
    with pytest.raises(TrainingDiverged, match="the loss exceeds 2000"):
        trainer._check_loss(Result(2001.0, 1, None, None), Batch(tokens, tokens))


def test_own_limits_of_loss_and_norm_are_kept():
    tokens = text()
    for option in ({"max_loss": 0.5}, {"max_norm": 1e-3}):
        trainer, _ = recorder(**option)
        with pytest.raises(TrainingDiverged, match="exceeds 0"):
            trainer.step(tokens[:-1], tokens[1:])


def test_gaps_in_the_data_are_named_as_the_cause():
    class Sum:
        flat = flat_grad = np.zeros(1)
        parameters = grads = {"w": flat}  # noqa: RUF012

        def zero_grad(self):
            pass

        def loss_vjp(self, inputs, targets, state, lengths):
            return Result(float(inputs.sum()), 1, None, None), None

    trainer = Trainer(Sum(), Momentum(Sum()))
    with pytest.raises(TrainingDiverged, match="look for gaps in the data"):
        trainer.step(np.array([1.0, np.nan]), None)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"clip_norm": 0}, "clip_norm is 0, expected a number above zero"),
        ({"clip_value": -1.0}, "clip_value is -1, expected a number above zero"),
        ({"max_loss": float("nan")}, "max_loss is nan"),
        ({"accumulate": 0}, "accumulate must be greater than zero"),
    ],
)
def test_impossible_settings_are_refused(option, message):
    with pytest.raises(ValueError, match=message):
        recorder(**option)


def test_a_limit_that_is_no_number_is_a_type_error():
    with pytest.raises(TypeError, match="clip_norm is a str, expected a number"):
        recorder(clip_norm="1")


def test_no_batches_at_all_are_no_step():
    trainer, _ = recorder()
    with pytest.raises(ValueError, match="batches is empty"):
        trainer.step_on([])


def test_evaluation_leaves_source_and_parameters_alone():
    k = kit()
    place, before = k.validation.state_dict(), k.model.flat.copy()
    first, second = k.trainer.evaluate(k.validation), k.trainer.evaluate(k.validation)
    assert first.loss == second.loss
    tokens = text(seed=1)
    assert first.loss == pytest.approx(k.model.loss(tokens[:-1], tokens[1:]).loss, rel=1e-6)
    assert first.count == 180
    assert k.validation.state_dict() == place
    np.testing.assert_array_equal(k.model.flat, before)


def test_the_error_of_a_divergence_survives_a_pickle():
    trainer, _ = recorder(clip_norm=3.0)
    error = trainer.diverged("the loss is not finite", math.nan, None, 0.1)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert again.clip_norm == 3.0
    assert "Try clip_norm below 3, a learning rate below 0.1" in str(again)
    assert "Try --clip-norm below 3, a" in again.told("--clip-norm 1.0", "--clip-norm")
