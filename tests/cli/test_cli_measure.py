"""Figures of a model on the command line: those of the plain loss, and no trace in the model."""

from __future__ import annotations

import math
from copy import copy

import numpy as np
import pytest
from test_cli_train import data, run, words  # noqa: F401  (data is a fixture)

import fastrnn
from fastrnn.cli.tasks import TASKS
from fastrnn.cli.tasks.base import Job
from fastrnn.cli.train import _flows
from fastrnn.data import Buckets, Pairs, TextStream

SMOOTH = ["--label-smoothing", "0.25", "--max-steps", "3"]


def made(task, folder, capsys):
    """A model that was trained with label smoothing, and a source to measure it on."""
    run(words(task, folder, *SMOOTH), capsys)
    model = fastrnn.load(folder / "model")
    assert model.label_smoothing == 0.25
    if task == "lm":
        return model, TextStream(np.arange(400) % model.vocab_size, 4, 16)
    rng = np.random.default_rng(0)
    texts = [rng.integers(4, 7, size) for size in (3, 1, 6, 2, 4)]
    return model, Buckets(Pairs(texts, texts, bos=1, eos=2), 3, shuffle=False)


@pytest.mark.parametrize("task", ["lm", "seq2seq"])
def test_the_figures_are_those_of_the_model_without_label_smoothing(task, data, capsys):  # noqa: F811
    model, source = made(task, data, capsys)
    plain = copy(model)
    plain.label_smoothing = 0.0
    figures = TASKS[task].measure(model, source)
    loss, count, correct, state = 0.0, 0, 0, None
    for batch in source.batches():
        state = None if batch.fresh else state
        found = plain.loss(batch.inputs, batch.targets, state, batch.lengths)
        loss, count, state = loss + found.loss * found.count, count + found.count, found.state
        correct += found.correct
    assert figures["loss"] == loss / count
    assert figures["perplexity"] == math.exp(loss / count)
    assert figures["accuracy"] == correct / count


@pytest.mark.parametrize("task", ["lm", "seq2seq"])
def test_a_measure_that_fails_leaves_the_model_as_it_was(task, data, capsys):  # noqa: F811
    model, source = made(task, data, capsys)

    class Failing:
        def batches(self):
            yield next(iter(source.batches()))
            assert model.label_smoothing == 0.25  # nor is it another one in between
            raise ZeroDivisionError

    before = model.fingerprint()
    with pytest.raises(ZeroDivisionError):
        TASKS[task].measure(model, Failing())
    assert model.label_smoothing == 0.25
    assert model.fingerprint() == before


def test_a_gradient_flow_that_fails_leaves_the_model_as_it_was(data, capsys, monkeypatch):  # noqa: F811
    model, source = made("lm", data, capsys)

    def fails(*_):
        assert model.flow
        raise ZeroDivisionError

    monkeypatch.setattr(type(model), "loss_vjp", fails)
    with pytest.raises(ZeroDivisionError):
        _flows(model, Job(model, source, source, "", ""))
    assert not model.flow
