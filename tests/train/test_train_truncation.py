"""Truncated backpropagation: fixed windows are biased, random ones with reweighting are not."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from train_fakes import TinyRNN, Windows, kit, recorder, text

from fastrnn.train import RandomTruncation

STEPS, WINDOWS = 2, 5


class Script:
    """A generator that cuts where it is told to: draws of 0 cut, draws of 1 do not."""

    def __init__(self, cuts):
        self.draws = iter([0.0 if cut else 1.0 for cut in cuts])

    def random(self):
        return next(self.draws)


def gradient(truncation, cuts=None):
    """The sum of the gradients of all steps of one epoch, and how many steps it took."""
    model = TinyRNN(dtype=np.float64)
    if cuts is not None:
        truncation.generator = Script(cuts)
    trainer = recorder(model, truncation=truncation)
    trainer.fit(source(), epochs=1, progress=False)
    return np.sum(trainer.optimizer.gradients, axis=0), trainer.steps


def source():
    return Windows(text(STEPS * WINDOWS + 1), STEPS)


def full_gradient():
    """Of the sum of the windows' mean losses, through all time."""
    model, tokens = TinyRNN(dtype=np.float64), text(STEPS * WINDOWS + 1)
    _, backward = model.loss_vjp(tokens[:-1], tokens[1:])
    backward(WINDOWS)
    return model.flat_grad


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.9])
def test_the_mean_over_all_ways_to_cut_is_the_full_gradient(probability):
    mean = 0.0
    for cuts in product([False, True], repeat=WINDOWS - 1):
        total, steps = gradient(RandomTruncation(probability), [*cuts, True])
        assert steps == 1 + sum(cuts)
        mean += total * np.prod([probability if cut else 1 - probability for cut in cuts])
    scale = RandomTruncation(probability).scale(WINDOWS, WINDOWS)
    np.testing.assert_allclose(mean / scale, full_gradient(), rtol=1e-11, atol=1e-13)


def test_fixed_windows_miss_part_of_the_gradient():
    total, steps = gradient(RandomTruncation(1.0))
    assert steps == WINDOWS
    full = full_gradient()
    assert np.linalg.norm(total - full) > 0.02 * np.linalg.norm(full)
    model = TinyRNN(dtype=np.float64)
    plain = recorder(model)
    plain.fit(source(), epochs=1, progress=False)
    np.testing.assert_allclose(total, np.sum(plain.optimizer.gradients, axis=0), rtol=1e-12)


def test_a_probability_of_zero_is_full_backpropagation_in_one_step():
    total, steps = gradient(RandomTruncation(0.0))
    assert steps == 1
    np.testing.assert_allclose(total * WINDOWS, full_gradient(), rtol=1e-12, atol=1e-15)


def test_no_gradient_goes_back_through_a_fresh_start():
    model = TinyRNN(dtype=np.float64)
    trainer = recorder(model, truncation=RandomTruncation(0.0))
    shuffled = Windows(text(STEPS * WINDOWS + 1), STEPS, shuffled=True)
    trainer.fit(shuffled, epochs=1, progress=False)
    alone = TinyRNN(dtype=np.float64)
    for batch in shuffled.batches():
        alone.loss_vjp(batch.inputs, batch.targets)[1](1 / WINDOWS)
    np.testing.assert_allclose(trainer.optimizer.gradients[0], alone.flat_grad, rtol=1e-12)


def test_steps_take_one_over_the_probability_windows_on_average():
    k = kit(steps=1, truncation=RandomTruncation(0.25, seed=3))
    result = k.trainer.fit(k.source, epochs=20, progress=False)
    assert 20 * 60 / result.steps == pytest.approx(3.95, rel=0.1)  # the end of an epoch cuts too


def test_a_resumed_training_makes_the_cuts_it_would_have_made(tmp_path):
    def trained(name, *stops):
        for stop in stops:
            k = kit(truncation=RandomTruncation(0.4, seed=5), dropout=0.2)
            k.trainer.fit(
                k.source, max_steps=stop, out=tmp_path / name, resume=True, progress=False
            )
        return k.model.flat

    np.testing.assert_array_equal(trained("once", 30), trained("parts", 1, 8, 17, 30))


def test_another_probability_is_refused_on_resume(tmp_path):
    for probability in (0.4, 0.5):
        k = kit(truncation=RandomTruncation(probability))
        arguments = {"max_steps": 3, "out": tmp_path / "run", "resume": True, "progress": False}
        if probability == 0.4:
            k.trainer.fit(k.source, **arguments)
        else:
            with pytest.raises(ValueError, match=r"truncation: probability is 0\.5"):
                k.trainer.fit(k.source, **arguments)


def test_impossible_truncations_are_refused():
    with pytest.raises(ValueError, match=r"probability is 1\.5"):
        RandomTruncation(1.5)
    with pytest.raises(ValueError, match="accumulate is 2, expected 1"):
        kit(truncation=RandomTruncation(0.5), accumulate=2)
