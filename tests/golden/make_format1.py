"""Makes the files of the folder format1, with fastrnn 0.1: python make_format1.py

One small module of each kind that it saved, what a call of each gives, and three pickles.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

import fastrnn
from fastrnn import models
from fastrnn.data.scaling import Scaler

FOLDER = Path(__file__).parent / "format1"
rng = np.random.default_rng(0)
X = rng.standard_normal((5, 2, 3)).astype(np.float32)
TOKENS = rng.integers(0, 7, (5, 2))
TARGET = rng.integers(0, 6, (4, 2))
SCALER = Scaler([1.5, -2.0, 1 / 3], [0.1, 7.0, 1e6])
MODULES = {
    "rnn": lambda: fastrnn.RNN(3, 4, 2, "relu", bidirectional=True, merge="sum"),
    "lstm": lambda: fastrnn.LSTM(3, 4, 2, proj_size=2, peephole=True, learned_state=True),
    "gru": lambda: fastrnn.GRU(3, 4, reset="before", bias=False),
    "rnn_cell": lambda: fastrnn.RNNCell(3, 4, nonlinearity="sigmoid"),
    "lstm_cell": lambda: fastrnn.LSTMCell(3, 4, peephole=True),
    "gru_cell": lambda: fastrnn.GRUCell(3, 4, bias=False),
    "linear": lambda: fastrnn.Linear(3, 4, bias=False),
    "embedding": lambda: fastrnn.Embedding(7, 3),
    "layer_norm": lambda: fastrnn.LayerNorm(3, eps=1e-3),
    "attention": lambda: fastrnn.Attention("additive", 3, 3, 2),
    "scalar_mix": lambda: fastrnn.ScalarMix(2),
    "language": lambda: models.LanguageModel(
        7,
        3,
        4,
        2,
        dropout=0.25,
        label_smoothing=0.1,
        ignore_index=3,
        weight_drop=0.5,
        locked_dropout=True,
    ),
    "language_tied": lambda: models.LanguageModel(7, 3, 3, cell="gru", tie_weights=True),
    "classifier": lambda: models.SequenceClassifier(
        2, 4, vocab_size=7, pooling="mean", bidirectional=True, label_smoothing=0.2
    ),
    "tagger": lambda: models.SequenceTagger(2, 4, input_size=3, cell="rnn", ignore_index=-100),
    "forecaster": lambda: models.Forecaster(
        3, 4, horizon=2, targets=[2, 0], scaler=SCALER, objective="huber"
    ),
    "autoregression": lambda: models.AutoRegression(3, 2, horizon=2),
    "both_ways": lambda: models.BidirectionalLanguageModel(
        7, 3, 4, 2, cell="gru", dropout=0.5, ignore_index=0
    ),
    "seq2seq": lambda: models.Seq2Seq(
        7,
        6,
        3,
        num_layers=2,
        cell="rnn",
        bidirectional=True,
        attention="additive",
        tie_weights=True,
        input_feeding=True,
        sampling_probability=0.5,
    ),
    "seq2seq_plain": lambda: models.Seq2Seq(7, 6, 4, embedding_dim=3, bridge=True),
    "features": lambda: models.FeaturesToSequence(
        3, 6, 4, cell="gru", attention="scaled_dot", label_smoothing=0.1
    ),
}
PICKLED = ("lstm", "language_tied", "seq2seq")


def call(module):
    """Result of a call of the module, of several the first."""
    name = type(module).__name__
    inputs = {
        "Embedding": (TOKENS,), "SequenceClassifier": (TOKENS,), "LanguageModel": (TOKENS,),
        "BidirectionalLanguageModel": (TOKENS, TOKENS[::-1]), "Seq2Seq": (TOKENS, TARGET),
        "FeaturesToSequence": (X, TARGET), "Attention": (X, X), "ScalarMix": ([X, X[::-1]],),
    }  # fmt: skip
    y = module(*inputs.get(name, (X[0] if name.endswith("Cell") else X,)))
    return y[0] if isinstance(y, tuple) else y


def main():
    found = {}
    for seed, (name, make) in enumerate(MODULES.items()):
        module = make()
        module.reset_parameters(seed)
        if isinstance(module, models.Model):
            module.vocabulary, module.extra = ["a", {"b": 1}], {"note": name}
        elif getattr(module, "learned_state", False):
            module.parameters["h_0"][...] = 0.5
            module.parameters["c_0"][...] = -0.5
            module.repack()
        fastrnn.save(module, FOLDER / f"{name}.safetensors")
        found[f"y_{name}"] = call(module)
        found[f"fingerprint_{name}"] = np.frombuffer(module.fingerprint(), np.uint8)
        if name in PICKLED:
            (FOLDER / f"{name}.pkl").write_bytes(pickle.dumps(module))
    np.savez_compressed(FOLDER / "outputs.npz", **found)


if __name__ == "__main__":
    main()
