"""Numbers that no float holds, wherever a training takes a number: a sentence, not a traceback."""

from __future__ import annotations

from fractions import Fraction
from inspect import signature

import numpy as np
import pytest
from test_train_options import OPTIMIZERS, SCHEDULES
from train_fakes import TinyRNN

import fastrnn
from fastrnn import models, optim, train
from fastrnn._errors import ArgumentError, ArgumentTypeError
from fastrnn.train import RandomTruncation

HUGE = [10**400, -(10**400), Fraction(10**400), 10**5000, float("nan")]
FLAGS = {"nesterov", "centered"}
IDS = ["1e400", "-1e400", "fraction", "1e5000", "nan"]


def refuses(make, name):
    with pytest.raises((TypeError, ValueError), match=name) as caught:
        make()
    assert len(str(caught.value)) < 300
    assert type(caught.value) in (TypeError, ValueError, ArgumentError, ArgumentTypeError)
    assert len(repr(caught.value)) < 350


@pytest.mark.parametrize("value", HUGE, ids=IDS)
def test_optimisers_name_the_option(value):
    for kind in OPTIMIZERS:
        for name in set(signature(kind).parameters) - {"model", "betas"} - FLAGS:
            options = {"lr": 0.1, name: value}
            refuses(lambda kind=kind, options=options: kind(TinyRNN(), **options), name)
    for betas in ((value, 0.9), (0.9, value)):
        refuses(lambda betas=betas: optim.Adam(TinyRNN(), betas=betas), "beta")
    optimizer = optim.Adam(TinyRNN())
    refuses(lambda: setattr(optimizer, "lr", value), "lr")
    refuses(lambda: optim.clip_grad_norm(TinyRNN(), value), "max_norm")
    refuses(lambda: optim.clip_grad_value(TinyRNN(), value), "clip_value")
    assert optimizer.options == optim.Adam(TinyRNN()).options


@pytest.mark.parametrize("value", HUGE, ids=IDS)
def test_schedules_name_the_argument(value):
    for kind, options in SCHEDULES.values():
        for name, (old, _) in options.items():
            if isinstance(old, (int, float)):
                given = {key: pair[0] for key, pair in options.items()} | {name: value}
                refuses(lambda kind=kind, given=given: kind(**given), name)


@pytest.mark.parametrize("value", HUGE, ids=IDS)
def test_trainers_and_truncation_name_the_argument(value):
    model = TinyRNN()
    for name in ("clip_norm", "clip_value", "max_loss", "max_norm", "accumulate"):
        make = lambda name=name: train.Trainer(model, optim.SGD(model, 0.1), **{name: value})  # noqa: E731
        refuses(make, name)
    refuses(lambda: RandomTruncation(value), "probability")


@pytest.mark.parametrize("value", HUGE, ids=IDS)
def test_fits_name_the_argument(value):
    model = fastrnn.models.LanguageModel(3, 2, 2)
    trainer = train.Trainer(model, optim.SGD(model, 0.1))
    source = fastrnn.data.TextStream(np.arange(20) % 3, 1, 5)
    for name in ("epochs", "max_steps", "patience", "validate_every", "checkpoint_every"):
        fit = {"epochs": 1, "validation": source, name: value, "progress": False}
        refuses(lambda fit=fit: trainer.fit(source, **fit), name)
    refuses(lambda: trainer.fit(source, epochs=1, log_every=value, progress=False), "log_every")
    assert trainer.steps == 0


@pytest.mark.parametrize("value", HUGE, ids=IDS)
def test_settings_of_a_loss_name_the_argument(value):
    for name in ("label_smoothing", "dropout", "weight_drop"):
        refuses(lambda name=name: models.LanguageModel(3, 2, 2, **{name: value}), name)
    refuses(lambda: models.Seq2Seq(3, 3, 2, sampling_temperature=value), "sampling_temperature")
    refuses(lambda: models.Seq2Seq(3, 3, 2, sampling_probability=value), "sampling_probability")
