"""Whole networks that tests and benchmarks share: builders, and their float64 references."""

from __future__ import annotations

import numpy as np
from reference import sigmoid

from fastrnn import (
    GRU,
    LSTM,
    Add,
    Conv1d,
    Dropout,
    Graph,
    LayerNorm,
    Linear,
    Magnitude,
    Multiply,
    PReLU,
    ReLU,
    Residual,
    ScaleShift,
    Select,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
)


def voice_detector():
    """32 ms frames of 512 samples with 64 before them: spectrum, four convolutions, LSTM, head."""
    frame = {"over": "frame"}
    return Graph(
        {"x": (576, 1)},
        {
            "stft": Conv1d(1, 258, 256, 128, bias=False, **frame),
            "magnitude": Magnitude(),
            "conv1": Conv1d(129, 128, 3, padding=1, **frame),
            "relu1": ReLU(),
            "conv2": Conv1d(128, 64, 3, 2, padding=1, **frame),
            "relu2": ReLU(),
            "conv3": Conv1d(64, 64, 3, 2, padding=1, **frame),
            "relu3": ReLU(),
            "conv4": Conv1d(64, 128, 3, padding=1, **frame),
            "relu4": ReLU(),
            "rnn": LSTM(128, 128),
            "relu5": ReLU(),
            "head": Linear(128, 1),
            "probability": Sigmoid(),
        },
    )


def amplifier():
    """One sample in and out: two layers, a head, and the input added."""
    return Residual(Sequential(LSTM(1, 16, 2), Linear(16, 1)))


def noise_suppressor():
    """A spectrum of 257 bins, masked."""
    return Graph(
        {"x": 257},
        {"rnn": LSTM(257, 128, 2), "head": Linear(128, 257), "mask": Sigmoid(), "y": Multiply()},
        wires={"y": ("mask", "x")},
    )


def chain():
    """A network of modules of many kinds, one after the other."""
    return Sequential(
        Linear(4, 7),
        LayerNorm(7),
        Residual(Sequential(Conv1d(7, 7, 3, padding="causal"), Tanh())),
        LSTM(7, 9, 2, learned_state=True),
        Dropout(0.5),
        ScaleShift(9),
        PReLU(9),
        GRU(9, 5, reset="before"),
        Linear(5, 3),
        Softmax(),
    )


def branches():
    """Every kind of join, a convolution along time, and two states."""
    return Graph(
        {"x": 6},
        {
            "low": Select(0, 3),
            "high": Select(3, 6),
            "past": Conv1d(3, 5, 3, padding="causal", dilation=2),
            "rnn": LSTM(3, 5),
            "both": Add(),
            "gate": Linear(6, 1),
            "open": Sigmoid(),
            "y": Multiply(),
        },
        wires={
            "low": "x", "high": "x", "past": "low", "rnn": "high", "both": ("past", "rnn"),
            "gate": "x", "open": "gate", "y": ("both", "open"),
        },
    )  # fmt: skip


# ---- references, float64 ------------------------------------------------------------------------


def lstm64(layer, x):
    """y of x (T, N, I) from zeros, by the equations."""
    p = {name: tensor.astype(np.float64) for name, tensor in layer.parameters.items()}
    H = layer.hidden_size
    for k in range(layer.num_layers):
        w, u = p[f"weight_ih_l{k}"], p[f"weight_hh_l{k}"]
        b = p[f"bias_ih_l{k}"] + p[f"bias_hh_l{k}"]
        h = c = np.zeros((x.shape[1], H))
        y = []
        for step in x:
            i, f, g, o = np.split(step @ w.T + h @ u.T + b, 4, axis=-1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            y.append(h)
        x = np.stack(y)
    return x


def linear64(layer, x):
    return x @ layer.parameters["weight"].astype(np.float64).T + layer.parameters["bias"]


def conv64(layer, x):
    """Over the next to last axis of x (..., L, C)."""
    before, after = layer._around
    pad = [(0, 0)] * (x.ndim - 2) + [(before, after), (0, 0)]
    x, w = np.pad(x, pad), layer.parameters["weight"].astype(np.float64)
    reach = (layer.kernel_size - 1) * layer.dilation
    places = range(0, x.shape[-2] - reach, layer.stride)
    taps = [x[..., p : p + reach + 1 : layer.dilation, :] for p in places]
    y = np.stack([np.einsum("...kc,ock->...o", tap, w) for tap in taps], axis=-2)
    return y + (layer.parameters["bias"] if layer.bias else 0.0)


def voice_detector64(net, x):
    m = net.modules
    spectrum = conv64(m["stft"], x.astype(np.float64))
    x = np.hypot(spectrum[..., :129], spectrum[..., 129:])
    for name in ("conv1", "conv2", "conv3", "conv4"):
        x = np.maximum(conv64(m[name], x), 0)
    x = lstm64(m["rnn"], x.reshape(*x.shape[:2], -1))
    return sigmoid(linear64(m["head"], np.maximum(x, 0)))


def amplifier64(net, x):
    inner = net.module
    return x + linear64(inner[1], lstm64(inner[0], x.astype(np.float64)))


def noise_suppressor64(net, x):
    m = net.modules
    return x * sigmoid(linear64(m["head"], lstm64(m["rnn"], x.astype(np.float64))))


NETWORKS = {
    "voice": (voice_detector, voice_detector64, (576, 1)),
    "amplifier": (amplifier, amplifier64, (1,)),
    "noise": (noise_suppressor, noise_suppressor64, (257,)),
}
