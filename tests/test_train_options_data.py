"""A training that goes on has the data, the seeds and the model that it began with."""

from __future__ import annotations

import numpy as np
import pytest
from resuming import REFUSED, SERIES, TOKENS, USED, arguments_of, fitted, language_model, resumed

from fastrnn import data, models, optim, train
from fastrnn.data.scaling import Scaler
from fastrnn.nn.registry import KINDS
from fastrnn.train._belongs import USED_SETTINGS

# ---- truncation, sources, seeds ----------------------------------------------------------------

SOURCES = {
    data.TextStream: {
        "tokens": (TOKENS, (TOKENS + 1) % 9), "batch_size": (2, 3), "steps": (20, 10),
        "lengths": ("fixed", "random"), "seed": (1, 2),
    },
    train.RandomTruncation: {"probability": (0.5, 0.4), "seed": (1, 2)},
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, name) for kind, o in SOURCES.items() for name in o],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_argument_that_decides_what_a_step_sees_is_refused(kind, name, tmp_path):
    options = SOURCES[kind]
    assert arguments_of(kind.__init__) == set(options)
    old = {key: pair[0] for key, pair in options.items()}
    new = {**old, name: options[name][1]}
    key = "source" if kind is data.TextStream else "trainer"

    def made(arguments):
        part = kind(**arguments)
        return {key: part if key == "source" else {"truncation": part}}

    was = () if name == "tokens" else options[name]
    resumed(tmp_path, REFUSED, name, made(old), made(new), was)


WINDOWS = {
    "series": (SERIES, SERIES + 1), "steps": (5, 6), "batch_size": (4, 5), "horizon": (1, 1),
    "stride": (1, 2), "targets": ([0, 1], [1, 0]), "scaler": (None, Scaler.fit(SERIES)),
    "shuffle": (True, False), "seed": (1, 2),
}  # fmt: skip


def test_no_argument_of_windows_is_forgotten_here():
    assert arguments_of(data.Windows.__init__) == set(WINDOWS)


@pytest.mark.parametrize("name", [name for name, (old, new) in WINDOWS.items() if old is not new])
def test_every_argument_of_windows_is_refused(name, tmp_path):
    if name == "horizon":
        return  # the model's outputs would be others
    old = {key: pair[0] for key, pair in WINDOWS.items()}

    def made(arguments):
        model = models.Forecaster(2, 4)
        model.reset_parameters(1)
        return {"model": model, "source": data.Windows(**arguments)}

    resumed(tmp_path, REFUSED, name, made(old), made({**old, name: WINDOWS[name][1]}))


BUCKETS = {"batch_size": (4, 5), "shuffle": (True, False), "pool": (100, 1), "seed": (1, 2)}
EXAMPLES = {"pad": (0, 1), "ignore_index": (-100, -1)}


@pytest.mark.parametrize("name", [*BUCKETS, *EXAMPLES, "sequences", "tags"])
def test_every_argument_of_buckets_and_their_examples_is_refused(name, tmp_path):
    def made(change):
        options = {**BUCKETS, **EXAMPLES}
        at = {key: pair[1 if change and key == name else 0] for key, pair in options.items()}
        ids = [np.arange(1, 2 + i % 5) for i in range(20)]
        tags = [np.arange(len(one)) for one in ids]
        if change and name in ("sequences", "tags"):
            (ids if name == "sequences" else tags)[-1][-1] += 1
        examples = data.TaggedSequences(ids, tags, **{key: at[key] for key in EXAMPLES})
        model = models.SequenceTagger(9, 4, vocab_size=9, ignore_index=-100)
        model.reset_parameters(1)
        return {
            "model": model,
            "source": data.Buckets(examples, **{key: at[key] for key in BUCKETS}),
        }

    first, second = made(False), made(True)
    second["model"].ignore_index = first["model"].ignore_index
    resumed(tmp_path, REFUSED, name, first, second)


def test_seeds_that_are_not_given_are_not_asked_for(tmp_path):
    fitted(tmp_path / "run", source=data.TextStream(TOKENS, 2, 20, seed=4))
    fitted(tmp_path / "run", source=data.TextStream(TOKENS, 2, 20), max_steps=6)
    model = models.LanguageModel(9, 4, 4)
    model.reset_parameters(1)
    fitted(tmp_path / "run", model=model, max_steps=7)
    model = language_model()
    model.seed(6)
    with pytest.raises(train.ResumeError, match="seed 'model' is 6, there None"):
        fitted(tmp_path / "run", model=model, max_steps=8)


# ---- models ------------------------------------------------------------------------------------


def settings():
    return sorted({name for kind in KINDS.values() for name in kind._settings})


VALUES = {
    "label_smoothing": (0.0, 0.1), "ignore_index": (None, 3), "objective": ("mse", "huber"),
    "weight_drop": (0.0, 0.5), "locked_dropout": (False, True),
    "sampling_probability": (0.0, 0.5), "sampling_temperature": (1.0, 2.0),
}  # fmt: skip


def test_no_setting_of_a_model_is_forgotten_here():
    assert settings() == sorted(VALUES)


@pytest.mark.parametrize("name", VALUES)
def test_every_setting_of_a_model(name, tmp_path):
    kind = next(kind for kind in KINDS.values() if name in kind._settings and _makes(kind))

    def made(value):
        model, source = _makes(kind)
        setattr(model, name, value)
        return {"model": model, "source": source}

    old, new = VALUES[name]
    k = resumed(
        tmp_path, USED if name in USED_SETTINGS else REFUSED, name, made(old), made(new), (old, new)
    )
    if k is not None:
        assert getattr(k.model, name) == new


def _makes(kind):
    if kind is models.LanguageModel:
        return language_model(), data.TextStream(TOKENS, 2, 20)
    if kind is models.Forecaster:
        model = models.Forecaster(2, 4)
        model.reset_parameters(1)
        return model, data.Windows(SERIES, 5, 4, shuffle=False)
    if kind is models.Seq2Seq:
        model = models.Seq2Seq(9, 9, 4)
        model.reset_parameters(1)
        ids = [np.arange(3, 6) for _ in range(20)]
        return model, data.Buckets(data.Pairs(ids, ids, bos=1, eos=2), 4, shuffle=False)
    return None


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dropout", {"dropout": 0.5}),
        ("tie_weights", {"tie_weights": True}),
        ("rnn", {"cell": "gru"}),
        ("num_layers", {"num_layers": 2}),
    ],
)
def test_another_architecture_is_refused_and_its_difference_named(name, options, tmp_path):
    resumed(tmp_path, REFUSED, name, {}, {"model": language_model(**options)})


def test_a_memory_budget_is_used(tmp_path):
    fitted(tmp_path / "run")
    model = language_model()
    model.limit_memory(1 << 20)
    k = fitted(tmp_path / "run", model=model, max_steps=9)
    assert k.model.rnn.memory_budget == 1 << 20


def test_all_differences_are_named_at_once(tmp_path):
    fitted(tmp_path / "run")
    with pytest.raises(train.ResumeError) as caught:
        fitted(
            tmp_path / "run",
            model=language_model(dropout=0.5, label_smoothing=0.25),
            source=data.TextStream(TOKENS, 4, 10),
            trainer={"accumulate": 3},
            optimizer=lambda m: optim.SGD(m, 0.1),
            max_steps=9,
        )
    for part in (
        "architecture 'dropout' is 0.5, there 0.0",
        "loss 'label_smoothing' is 0.25, there 0.0",
        "source 'batch_size' is 4, there 2",
        "source 'steps' is 10, there 20",
        "accumulate is 3, there 1",
        "optimizer is 'SGD', there 'Adam'",
    ):
        assert part in str(caught.value)
