"""A training that had ended and is resumed: it makes no step, and its checkpoint says the same."""

from __future__ import annotations

import pytest
from resuming import about, fitted, language_model

from fastrnn import data, optim
from fastrnn.optim import schedules

SCHEDULES = {
    "none": lambda: None,
    "cosine": lambda: schedules.Cosine(0.5, 9),
    "warmup": lambda: schedules.Warmup(schedules.Exponential(0.5, 0.9), 3),
    "plateau": lambda: schedules.Plateau(0.5, factor=0.5, patience=0, threshold=0.9),
}


def ended(out, name):
    """A training of four steps, its validations included."""
    validation = data.TextStream([1, 2, 3, 4] * 10, 2, 20)
    trainer = {"schedule": SCHEDULES[name]()}
    return fitted(
        out, trainer=trainer, validation=validation, validate_every=1, optimizer=optim.Adagrad
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_its_checkpoint_keeps_the_learning_rate_of_the_schedule(name, tmp_path):
    ended(tmp_path / "run", name)
    before = about(tmp_path / "run")
    k = ended(tmp_path / "run", name)
    after = about(tmp_path / "run")
    assert k.result.steps == before["steps"] == after["steps"] == 4
    assert after["lr"] == before["lr"]
    assert after["states"] == before["states"]
    assert k.optimizer.lr == after["lr"]


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_saved_learning_rate_is_that_of_the_next_step(name, tmp_path):
    ended(tmp_path / "run", name)
    saved = about(tmp_path / "run")
    k = fitted(
        tmp_path / "run",
        trainer={"schedule": SCHEDULES[name]()},
        validation=data.TextStream([1, 2, 3, 4] * 10, 2, 20),
        validate_every=1,
        optimizer=optim.Adagrad,
        max_steps=5,
    )
    assert k.trainer.last.lr == saved["lr"] == saved["states"]["optimizer"]["lr"]


def test_another_schedule_s_rate_is_that_of_the_next_step_too(tmp_path):
    ended(tmp_path / "run", "cosine")
    k = fitted(tmp_path / "run", trainer={"schedule": schedules.StepDecay(0.25, 2, 0.5)},
               validation=data.TextStream([1, 2, 3, 4] * 10, 2, 20), validate_every=1,
               optimizer=optim.Adagrad)  # fmt: skip
    assert k.result.steps == 4
    assert about(tmp_path / "run")["lr"] == k.optimizer.lr == 0.0625


def test_without_a_schedule_the_optimiser_s_own_rate_is_saved(tmp_path):
    fitted(tmp_path / "run", model=language_model(), optimizer=lambda m: optim.Adam(m, 0.5))
    fitted(tmp_path / "run", optimizer=lambda m: optim.Adam(m, 0.25))
    assert about(tmp_path / "run")["lr"] == 0.25
    assert about(tmp_path / "run")["states"]["optimizer"]["lr"] == 0.25
