"""An option that is given on resume is used, or refused by name: whatever the option."""

from __future__ import annotations

import numpy as np
import pytest
from resuming import REFUSED, TOKENS, USED, about, arguments_of, fitted, language_model, resumed

from fastrnn import data, optim, schedules, train
from fastrnn.optim.optimizer import Optimizer
from fastrnn.train.settings import Settings

# ---- Trainer -----------------------------------------------------------------------------------

TRAINER = {
    "clip_norm": (USED, 1.0, 0.5),
    "clip_value": (USED, None, 0.1),
    "schedule": (USED, None, schedules.Constant(0.125)),
    "accumulate": (REFUSED, 1, 2),
    "truncation": (REFUSED, None, train.RandomTruncation(0.5)),
    "max_loss": (USED, None, 77.0),
    "max_norm": (USED, None, 88.0),
}


def test_no_argument_of_a_trainer_is_forgotten_here():
    assert arguments_of(train.Trainer.__init__) == set(TRAINER)


@pytest.mark.parametrize("name", TRAINER)
def test_every_argument_of_a_trainer(name, tmp_path):
    expected, old, new = TRAINER[name]
    was = (old, new) if name == "accumulate" else ()
    k = resumed(tmp_path, expected, name, {"trainer": {name: old}}, {"trainer": {name: new}}, was)
    if k is not None:
        assert getattr(k.trainer, name) is new
        assert k.trainer.steps == 9


# ---- fit ---------------------------------------------------------------------------------------

FIT = {  # name: (before, after, what shows that it was used)
    "validation": (None, data.TextStream(TOKENS, 1, 50), lambda k: k.result.best_loss is not None),
    "epochs": (1, 2, lambda k: k.result.epochs == 2),
    "max_steps": (3, 7, lambda k: k.result.steps == 7),
    "out": None,  # says which training goes on
    "patience": (None, 1, lambda k: k.result.stopped == "patience"),
    "validate_every": (100, 1, lambda k: len(k.records) >= 5),
    "restore_best": (False, True, lambda k: k.result.best_loss is not None),
    "checkpoint_every": (None, 1, lambda k: k.saves > 5),
    "log_every": (10, 1, lambda k: len(k.records) == 5),
    "resume": None,
    "history": (None, "other.jsonl", lambda k: k.result.history.name == "other.jsonl"),
    "progress": None,  # only shown
    "on_begin": (None, lambda: None, lambda k: True),
}


def test_no_argument_of_fit_is_forgotten_here():
    assert arguments_of(train.Trainer.fit) == set(FIT)
    assert set(Settings.__annotations__) <= set(FIT)


@pytest.mark.parametrize("name", [name for name, case in FIT.items() if case])
def test_every_argument_of_fit(name, tmp_path, monkeypatch):
    old, new, shows = FIT[name]
    monkeypatch.chdir(tmp_path)
    common = {}
    if name in ("patience", "validate_every"):
        common = {"validation": data.TextStream(TOKENS, 1, 50), "trainer": {
            "schedule": schedules.Constant(0.0 if name == "patience" else 0.1)}}  # fmt: skip
    if name == "epochs":
        common = {"max_steps": None}
    if name == "restore_best":
        new = True
        fitted(tmp_path / "run")
        fit = {"validation": data.TextStream(TOKENS, 1, 50), "restore_best": True}
        assert shows(fitted(tmp_path / "run", max_steps=9, **fit))
        return
    fitted(tmp_path / "run", **{**common, name: old})
    saves, write = [], train.fit.save_training
    monkeypatch.setattr(train.fit, "save_training", lambda *a: saves.append(1) or write(*a))
    records = None if name == "history" else []
    more = {"history": records} if records is not None else {}
    k = fitted(tmp_path / "run", **{"max_steps": 9, **common, **more, name: new})
    k.records, k.saves = records, len(saves)
    assert shows(k)


def test_other_validation_data_is_refused_and_none_is_taken(tmp_path):
    first, other = (data.TextStream((TOKENS + i) % 9, 1, 50) for i in range(2))
    fitted(tmp_path / "run", validation=first)
    with pytest.raises(train.ResumeError, match="its validation gave other batches"):
        fitted(tmp_path / "run", validation=other, max_steps=9)
    with pytest.raises(train.ResumeError, match="validation 'steps' is 40, there 50"):
        fitted(tmp_path / "run", validation=data.TextStream(TOKENS, 1, 40), max_steps=9)
    assert fitted(tmp_path / "run", max_steps=9).result.steps == 9
    with pytest.raises(train.ResumeError, match="its validation gave other batches"):
        fitted(tmp_path / "run", validation=other, max_steps=11)
    fitted(tmp_path / "late")
    fitted(tmp_path / "late", validation=other, max_steps=5)
    with pytest.raises(train.ResumeError, match="its validation gave other batches"):
        fitted(tmp_path / "late", validation=first, max_steps=9)


def test_another_interval_of_validation_counts_from_the_last_one(tmp_path):
    def validated(**options):
        records = []
        fit = {"validation": data.TextStream(TOKENS, 1, 50), "history": records, **options}
        fitted(tmp_path / "run", **fit)
        return [record["step"] for record in records if record["kind"] == "validation"]

    assert validated(validate_every=1, max_steps=5) == [1, 2, 3, 4, 5]
    assert validated(validate_every=4, max_steps=13) == [8, 12, 13]
    assert validated(max_steps=21) == [20, 21]  # ends of epochs


# ---- optimisers --------------------------------------------------------------------------------

NEW = {
    "lr": 0.015, "weight_decay": 0.25, "momentum": 0.5, "dampening": 0.125, "nesterov": True,
    "betas": (0.8, 0.95), "eps": 1e-3, "alpha": 0.9, "centered": True, "lr_decay": 0.5,
    "initial_accumulator_value": 0.5,
}  # fmt: skip
OPTIMIZERS = [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad]
WITH = {  # what else an option needs, before and after
    (optim.SGD, "nesterov"): {"momentum": 0.9},
    (optim.SGD, "dampening"): {"momentum": 0.9},
}
UNFIT = {"momentum", "centered", "initial_accumulator_value"}  # the vectors are others


def test_no_optimiser_is_forgotten_here():
    kinds = {kind for kind in vars(optim).values() if isinstance(kind, type)}
    assert {k for k in kinds if issubclass(k, Optimizer)} == {*OPTIMIZERS, Optimizer}


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind in OPTIMIZERS for name in arguments_of(kind.__init__)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_option_of_every_optimiser(kind, name, tmp_path):
    common = {"lr": 0.01, **WITH.get((kind, name), {})}
    expected = REFUSED if name in UNFIT else USED
    k = resumed(
        tmp_path,
        expected,
        name,
        {"optimizer": lambda model: kind(model, **common)},
        {"optimizer": lambda model: kind(model, **{**common, name: NEW[name]})},
        was=(NEW[name],),
    )
    if k is None:
        return
    fresh = kind(language_model(), **{**common, name: NEW[name]})
    assert k.optimizer.options == fresh.options
    saved = about(tmp_path / "run")["states"]["optimizer"]
    assert {name: saved[name] for name in fresh.options} == fresh.options
    assert k.optimizer.steps == 9
    if name == "lr":
        assert k.trainer.last.lr == about(tmp_path / "run")["lr"] == NEW["lr"]


def test_a_momentum_that_stays_above_zero_may_change(tmp_path):
    fitted(tmp_path / "run", optimizer=lambda m: optim.SGD(m, 0.1, 0.9))
    k = fitted(tmp_path / "run", optimizer=lambda m: optim.SGD(m, 0.1, 0.5), max_steps=9)
    assert k.optimizer.options["momentum"] == 0.5


def test_options_that_are_used_change_what_is_learnt(tmp_path):
    def flat(out, lr):
        fitted(tmp_path / out)
        return fitted(tmp_path / out, optimizer=lambda m: optim.Adam(m, lr), max_steps=9).model.flat

    one, same, other = flat("a", 1e-3), flat("b", 1e-3), flat("c", 0.5)
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.1


# ---- schedules ---------------------------------------------------------------------------------

SCHEDULES = {
    "Constant": (schedules.Constant, {"rate": (0.5, 0.25)}),
    "Cosine": (schedules.Cosine, {"rate": (0.5, 0.25), "steps": (20, 30), "low": (0.0, 0.1)}),
    "StepDecay": (
        schedules.StepDecay, {"rate": (0.5, 0.25), "every": (3, 2), "factor": (0.5, 0.1)},
    ),
    "Exponential": (schedules.Exponential, {"rate": (0.5, 0.25), "factor": (0.9, 0.5)}),
    "Warmup": (
        schedules.Warmup,
        {
            "after": (schedules.Constant(0.5), schedules.Plateau(0.25)),
            "steps": (20, 30),
            "start": (0.0, 0.5),
        },
    ),
    "Plateau": (
        schedules.Plateau,
        {
            "rate": (0.5, 0.25), "mode": ("min", "max"), "factor": (0.1, 0.5), "patience": (1, 2),
            "threshold": (1e-4, 0.1), "threshold_mode": ("rel", "abs"), "cooldown": (0, 1),
            "low": (0.0, 0.1), "eps": (1e-8, 1e-3),
        },
    ),
}  # fmt: skip


def test_no_schedule_and_no_argument_of_one_is_forgotten_here():
    kinds = {k for k in vars(schedules).values() if isinstance(k, type)}
    found = {k.__name__ for k in kinds if issubclass(k, schedules.Schedule)}
    assert found == {"Schedule", *SCHEDULES}
    for kind, options in SCHEDULES.values():
        assert arguments_of(kind.__init__) == set(options)


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, (_, o) in SCHEDULES.items() for name in o]
)
def test_every_argument_of_every_schedule(kind, name, tmp_path):
    make, options = SCHEDULES[kind]
    old = {key: pair[0] for key, pair in options.items()}
    fitted(tmp_path / "run", trainer={"schedule": make(**old)})
    schedule, fresh = (make(**{**old, name: options[name][1]}) for _ in range(2))
    k = fitted(tmp_path / "run", trainer={"schedule": schedule}, max_steps=5)
    assert k.trainer.last.lr == fresh.lr(4)
    assert about(tmp_path / "run")["schedule"] == fresh.describe()
    assert (
        fresh.describe()[name] == getattr(options[name][1], "describe", lambda: options[name][1])()
    )


def test_another_plateau_starts_from_its_arguments_and_the_same_one_goes_on(tmp_path):
    def trained(steps, **options):
        plateau = schedules.Plateau(
            **{"rate": 0.4, "mode": "max", "patience": 0, "eps": 0, **options}
        )
        fit = {"validation": data.TextStream(TOKENS, 1, 50), "validate_every": 1}
        k = fitted(tmp_path / "run", trainer={"schedule": plateau}, max_steps=steps, **fit)
        return k.trainer.last.lr

    lower = trained(5)
    assert lower < 0.4
    assert trained(6) <= lower
    assert trained(7, rate=1e-5) == 1e-5
    assert trained(8, rate=0.3, patience=50) == 0.3


def test_a_schedule_may_be_given_up(tmp_path):
    fitted(tmp_path / "run", trainer={"schedule": schedules.Constant(0.5)})
    k = fitted(tmp_path / "run", optimizer=lambda m: optim.Adam(m, 0.25), max_steps=5)
    assert k.trainer.last.lr == 0.25
