"""Every argument of every constructor of a module refuses what it cannot be, by its name."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from activations import ACTIVATIONS
from made import public_classes

import fastrnn
from fastrnn import models
from fastrnn.nn.module import Module
from fastrnn.nn.recurrent import LAYERS

# Arguments that make a small one of each class whose constructor takes no other module.
SMALL = {
    fastrnn.RNN: {"input_size": 2, "hidden_size": 3, "num_layers": 2},
    fastrnn.LSTM: {"input_size": 2, "hidden_size": 3, "num_layers": 2},
    fastrnn.GRU: {"input_size": 2, "hidden_size": 3, "num_layers": 2},
    fastrnn.RNNCell: {"input_size": 2, "hidden_size": 3},
    fastrnn.LSTMCell: {"input_size": 2, "hidden_size": 3},
    fastrnn.GRUCell: {"input_size": 2, "hidden_size": 3},
    fastrnn.Linear: {"in_features": 2, "out_features": 3},
    fastrnn.Embedding: {"num": 2, "dim": 3},
    fastrnn.LayerNorm: {"size": 2},
    fastrnn.Conv1d: {"in_channels": 2, "out_channels": 3, "kernel_size": 2},
    fastrnn.ScaleShift: {"num_features": 2},
    fastrnn.PReLU: {},
    fastrnn.Pooling: {},
    fastrnn.Add: {},
    fastrnn.Multiply: {},
    fastrnn.Concatenate: {},
    fastrnn.Select: {"start": 0, "stop": 2},
    fastrnn.Reshape: {"length": 2, "channels": 3},
    fastrnn.Flip: {},
    fastrnn.Dropout: {},
    fastrnn.LockedDropout: {},
    fastrnn.ScalarMix: {"size": 2},
    fastrnn.Attention: {"kind": "additive", "query_size": 2, "memory_size": 3},
    models.LanguageModel: {"vocab_size": 5, "embedding_dim": 3, "hidden_size": 3},
    models.SequenceClassifier: {"num_classes": 3, "hidden_size": 3, "vocab_size": 5},
    models.SequenceTagger: {"num_tags": 3, "hidden_size": 3, "input_size": 2},
    models.Forecaster: {"input_size": 2, "hidden_size": 3},
    models.AutoRegression: {"input_size": 2, "order": 3},
    models.BidirectionalLanguageModel: {"vocab_size": 5, "embedding_dim": 3, "hidden_size": 3},
    models.Seq2Seq: {"source_vocab": 5, "target_vocab": 5, "hidden_size": 3},
    models.FeaturesToSequence: {"feature_size": 2, "target_vocab": 5, "hidden_size": 3},
} | {kind: {} for kind in ACTIVATIONS}
SMALL |= {kind: {"input_size": 2, "hidden_size": 3} for kind in LAYERS.values()}
AROUND_OTHERS = {
    fastrnn.WeightDrop, fastrnn.EmbeddingDropout, models.Model, fastrnn.Sequential,
    fastrnn.Residual, fastrnn.Graph,
}  # fmt: skip
# Arguments that may be any number which a float holds, or any above 0.
LARGE = {"sampling_temperature"}
ANY = {
    "alpha", "beta", "high", "init", "low", "max_val", "min_val", "negative_slope", "threshold",
}  # fmt: skip
WRONG = {
    "10**400": 10**400,
    "-10**400": -(10**400),
    "2**63": 2**63,
    "2**64 of NumPy": np.uint64(2**64 - 1),
    "-0.5": -0.5,
    "NaN": float("nan"),
    "object": object(),
}


def test_every_module_is_made_here():
    modules = {kind for kind in public_classes() if issubclass(kind, Module)}
    assert modules == set(SMALL) | AROUND_OTHERS


ARGUMENTS = [(kind, name) for kind in SMALL for name in inspect.signature(kind).parameters]


def may_be(kind, name, wrong):
    """True if the argument may have that value: a number that a float holds."""
    if wrong in ("2**63", "2**64 of NumPy"):
        return name in LARGE | ANY
    return wrong == "-0.5" and name in ANY and (kind, name) != (fastrnn.Softplus, "beta")


def refusal(kind, name, value):
    """Text of the error; "" if there is none."""
    try:
        kind(**{**SMALL[kind], name: value})
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("kind", "name"), ARGUMENTS, ids=[f"{k.__name__}-{n}" for k, n in ARGUMENTS]
)
def test_what_no_argument_can_be_is_refused_by_name(kind, name):
    for wrong, value in WRONG.items():
        if may_be(kind, name, wrong):
            continue
        found = refusal(kind, name, value)
        assert name.split("_")[0] in found, wrong
        assert len(found) < 600, wrong


@pytest.mark.parametrize(
    ("kind", "name"), ARGUMENTS, ids=[f"{k.__name__}-{n}" for k, n in ARGUMENTS]
)
def test_true_is_no_number_and_one_is_no_flag(kind, name):
    made = kind(**SMALL[kind])
    default = inspect.signature(kind).parameters[name].default
    usual = SMALL[kind].get(name, default)
    wrong = 1 if isinstance(usual, bool) or name == "bridge" else True
    with pytest.raises((TypeError, ValueError)) as error:
        kind(**{**SMALL[kind], name: wrong})
    assert name.split("_")[0] in str(error.value)
    assert made.num_parameters >= 0


@pytest.mark.parametrize("wrong", [w for w in WRONG if w != "2**63"])
def test_budgets_seeds_and_rows_refuse_the_same(wrong):
    value, layer = WRONG[wrong], fastrnn.GRU(2, 3)
    model = models.LanguageModel(5, 3, 3)
    for name, call in {
        "batch_size": lambda: layer.stream(value),
        "p is": lambda: fastrnn.WeightDrop(layer, value),
    }.items():
        with pytest.raises((TypeError, ValueError), match=name):
            call()
    if not isinstance(value, (int, np.integer)) or value < 0:
        for name, call in {
            "seed": lambda: layer.seed(value),
            "memory_budget": lambda: setattr(layer, "memory_budget", value),
            "budget": lambda: model.limit_memory(value),
        }.items():
            with pytest.raises((TypeError, ValueError), match=name):
                call()
    assert layer.memory_budget is None
    assert model.rnn.memory_budget is None


def test_a_budget_smaller_than_its_shares_is_kept_by_all_layers():
    model = models.BidirectionalLanguageModel(5, 3, 3)
    model.limit_memory(1)
    assert [rnn.memory_budget for rnn in model.recurrent.values()] == [1, 1]
