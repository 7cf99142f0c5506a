"""Small sequence-to-sequence models and batches for them."""

from __future__ import annotations

import numpy as np

from fastrnn.models import Seq2Seq

BOS, EOS = 1, 2
SETTINGS: list[dict] = [
    {"attention": "none", "cell": "gru"},
    {"attention": "none", "cell": "lstm", "bidirectional": True, "num_layers": 2},
    {"attention": "additive", "cell": "lstm"},
    {"attention": "multiplicative", "cell": "gru", "bidirectional": True},
    {"attention": "scaled_dot", "cell": "rnn", "num_layers": 2, "encoder_layers": 1},
    {"attention": "additive", "cell": "gru", "bridge": True, "tie_weights": True},
    {"attention": "additive", "cell": "lstm", "input_feeding": True, "embedding_dim": 5},
    {
        "attention": "multiplicative",
        "cell": "gru",
        "input_feeding": True,
        "bidirectional": True,
        "num_layers": 2,
    },
    {"attention": "scaled_dot", "cell": "rnn", "input_feeding": True, "tie_weights": True},
]


def made(seed=0, scale=1.0, **options):
    model = Seq2Seq(9, 11, 6, **options)
    model.reset_parameters(seed)
    model.flat *= np.float32(scale)
    model.repack()
    return model


def batch(seed=0, S=7, T=5, N=4):
    rng = np.random.default_rng(seed)
    source, target = rng.integers(0, 9, (S, N)), rng.integers(3, 11, (T, N))
    target[0] = BOS
    lengths = rng.integers(1, S + 1, N), rng.integers(1, T + 1, N)
    return source, target, rng.integers(0, 11, (T, N)), lengths
