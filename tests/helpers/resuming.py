"""A training of some steps, and the same one gone on with something changed."""

from __future__ import annotations

import inspect
import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import safe_open

from fastrnn import data, models, optim, train

USED, REFUSED = "used", "refused"
TOKENS = np.arange(400) % 9
SERIES = np.random.default_rng(0).standard_normal((60, 2))


def about(out):
    with safe_open(f"{out}.last.safetensors", "np") as file:
        return json.loads(file.metadata()["fastrnn_training"])


def language_model(**options):
    model = models.LanguageModel(9, 4, 4, **options)
    model.reset_parameters(1)
    model.seed(5)
    return model


def fitted(out, *, model=None, optimizer=None, trainer=None, source=None, **fit):
    """A training of some steps, in all of its parts as asked for."""
    k = SimpleNamespace(model=model or language_model())
    k.optimizer = (optimizer or optim.Adam)(k.model)
    k.trainer = train.Trainer(k.model, k.optimizer, **(trainer or {}))
    k.source = source or data.TextStream(TOKENS, 2, 20)
    k.result = k.trainer.fit(
        k.source, **{"max_steps": 4, "resume": True, "progress": False, "out": out, **fit}
    )
    return k


def resumed(tmp_path, expected, name, before, after, was=None):
    """Fit, then go on with something changed: it must be used, or refused by its name."""
    fitted(tmp_path / "run", **before)
    saved = (tmp_path / "run.last.safetensors").read_bytes()
    if expected == USED:
        return fitted(tmp_path / "run", **{"max_steps": 9, **after})
    with pytest.raises(train.ResumeError, match=name) as caught:
        fitted(tmp_path / "run", **{"max_steps": 9, **after})
    assert (tmp_path / "run.last.safetensors").read_bytes() == saved
    for value in was or ():
        assert str(value) in str(caught.value)
    return None


def arguments_of(function):
    """Names without self and what is no option."""
    return set(inspect.signature(function).parameters) - {"self", "model", "optimizer", "source"}
