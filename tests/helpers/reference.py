"""Recurrent networks in plain float64 NumPy: the specification the kernels are tested against.

Written to be read, not to be fast. Letters: T steps, N rows, I inputs, H units, P projected size,
R = P or H (what a layer hands on), G gates, D directions, s the activation of gates. h' and c' are
the states before the step. Weights of one layer and direction are PyTorch's tensors: weight_ih
(G*H, I), weight_hh (G*H, R), bias_ih and bias_hh (G*H), weight_hr (P, H), and ours, weight_ch
(3*H).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class Weights:
    """The tensors of one layer and direction; absent biases are zero, other absent ones None."""

    ih: Array
    hh: Array
    b_ih: Array
    b_hh: Array
    hr: Array | None
    ch: Array | None


def sigmoid(a: Array) -> Array:
    """1 / (1 + exp(-a)), written with tanh so that it cannot overflow."""
    return 0.5 * (1 + np.tanh(0.5 * a))


def relu(a: Array) -> Array:
    """a where it is positive, else 0; NaN stays NaN."""
    return np.where(a < 0, 0.0, a)


@dataclass(frozen=True)
class Gate:
    """The activation s of gates, and its slope by the activated value."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]


SIGMOID = Gate(sigmoid, lambda s: s * (1 - s))


def hard_sigmoid(alpha: float, beta: float) -> Gate:
    """s = max(0, min(1, alpha a + beta)), whose slope is alpha strictly between 0 and 1.

    alpha and beta are rounded to float32, as the layers have them.
    """
    alpha, beta = float(np.float32(alpha)), float(np.float32(beta))
    return Gate(
        lambda a: np.clip(alpha * a + beta, 0.0, 1.0),
        lambda s: np.where((s > 0) & (s < 1), alpha, 0.0),
    )


def parts(gates: int, a: Array) -> Array:
    """The pre-activations (N, G*H) of all gates as (G, N, H)."""
    return a.reshape(len(a), gates, -1).swapaxes(0, 1)


# ---- one step: (x (N, I), h' (N, R), c' (N, H), weights, s) -> (h (N, R), c (N, H)) -------------


def rnn_step(act: Callable[[Array], Array] | None) -> Callable[..., tuple[Array, Array]]:
    """h = act(W_ih x + b_ih + W_hh h' + b_hh), act = s unless given; c is not used."""

    def step(x: Array, h: Array, c: Array, w: Weights, s: Gate = SIGMOID) -> tuple[Array, Array]:
        return (act or s.value)(x @ w.ih.T + w.b_ih + h @ w.hh.T + w.b_hh), c

    return step


def lstm_step(x: Array, h: Array, c: Array, w: Weights, s: Gate = SIGMOID) -> tuple[Array, Array]:
    """i, f, o = s(...); g = tanh(...); c = f c' + i g; h = o tanh(c), or W_hr (o tanh(c)).

    With peepholes p: i = s(... + p_i c'), f = s(... + p_f c'), o = s(... + p_o c).
    """
    *_, o, c1 = lstm_gates(x, h, c, w, s)
    h1 = o * np.tanh(c1)
    return (h1 if w.hr is None else h1 @ w.hr.T), c1


def lstm_gates(x: Array, h: Array, c: Array, w: Weights, s: Gate = SIGMOID) -> tuple[Array, ...]:
    """i, f, g, o and the new c."""
    i, f, g, o = parts(4, x @ w.ih.T + w.b_ih + h @ w.hh.T + w.b_hh)
    p_i, p_f, p_o = peepholes(w, c.shape[1])
    i, f, g = s.value(i + p_i * c), s.value(f + p_f * c), np.tanh(g)
    c1 = f * c + i * g
    return i, f, g, s.value(o + p_o * c1), c1


def peepholes(w: Weights, units: int) -> Array:
    """p_i, p_f, p_o as (3, H); zero where the cell has none."""
    return np.zeros((3, units)) if w.ch is None else w.ch.reshape(3, units)


def gru_step(x: Array, h: Array, c: Array, w: Weights, s: Gate = SIGMOID) -> tuple[Array, Array]:
    """r, z = s(...); n = tanh(W_in x + b_in + r (W_hn h' + b_hn)); h = (1 - z) n + z h'."""
    _, z, n, _ = gru_gates(x, h, w, s)
    return (1 - z) * n + z * h, c


def gru_gates(x: Array, h: Array, w: Weights, s: Gate = SIGMOID) -> tuple[Array, ...]:
    """r, z, n, and what r multiplies: W_hn h' + b_hn."""
    x_r, x_z, x_n = parts(3, x @ w.ih.T + w.b_ih)
    h_r, h_z, h_n = parts(3, h @ w.hh.T + w.b_hh)
    r, z = s.value(x_r + h_r), s.value(x_z + h_z)
    return r, z, np.tanh(x_n + r * h_n), h_n


def gru_reset_before_step(
    x: Array, h: Array, c: Array, w: Weights, s: Gate = SIGMOID
) -> tuple[Array, Array]:
    """As above, but n = tanh(W_in x + b_in + W_hn (r h') + b_hn)."""
    _, z, n = gru_reset_before_gates(x, h, w, s)
    return (1 - z) * n + z * h, c


def gru_reset_before_gates(x: Array, h: Array, w: Weights, s: Gate = SIGMOID) -> tuple[Array, ...]:
    """r, z, n."""
    x_r, x_z, x_n = parts(3, x @ w.ih.T + w.b_ih)
    w_r, w_z, w_n = w.hh.reshape(3, -1, w.hh.shape[1])
    b_r, b_z, b_n = w.b_hh.reshape(3, -1)
    r, z = s.value(x_r + h @ w_r.T + b_r), s.value(x_z + h @ w_z.T + b_z)
    return r, z, np.tanh(x_n + (r * h) @ w_n.T + b_n)


def light_gru_step(
    x: Array, h: Array, c: Array, w: Weights, s: Gate = SIGMOID
) -> tuple[Array, Array]:
    """z = s(...); n = relu(W_in x + b_in + W_hn h' + b_hn); h = (1 - z) n + z h'."""
    z, n = light_gru_gates(x, h, w, s)
    return (1 - z) * n + z * h, c


def light_gru_gates(x: Array, h: Array, w: Weights, s: Gate = SIGMOID) -> tuple[Array, ...]:
    """z, n."""
    z, n = parts(2, x @ w.ih.T + w.b_ih + h @ w.hh.T + w.b_hh)
    return s.value(z), relu(n)


# What a step's gates are, of cells that have any: (x, h', c', weights, s) -> gates.
GATES: dict[str, Callable[..., list[Array]]] = {
    "lstm": lambda x, h, c, w, s=SIGMOID: [lstm_gates(x, h, c, w, s)[i] for i in (0, 1, 3)],
    "lstm_peephole": lambda x, h, c, w, s=SIGMOID: [
        lstm_gates(x, h, c, w, s)[i] for i in (0, 1, 3)
    ],
    "gru": lambda x, h, c, w, s=SIGMOID: list(gru_gates(x, h, w, s)[:2]),
    "light_gru": lambda x, h, c, w, s=SIGMOID: [light_gru_gates(x, h, w, s)[0]],
    "gru_reset_before": lambda x, h, c, w, s=SIGMOID: list(gru_reset_before_gates(x, h, w, s)[:2]),
}

STEPS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "rnn_tanh": rnn_step(np.tanh),
    "rnn_relu": rnn_step(relu),
    "rnn_sigmoid": rnn_step(None),
    "rnn_identity": rnn_step(lambda a: a),
    "lstm": lstm_step,
    "lstm_peephole": lstm_step,
    "gru": gru_step,
    "gru_reset_before": gru_reset_before_step,
    "light_gru": light_gru_step,
}


# ---- sequences -----------------------------------------------------------------------------------


def run_direction(
    cell: str,
    x: Array,
    h: Array,
    c: Array,
    w: Weights,
    lengths: Array,
    backwards: bool,
    gate: Gate,
) -> tuple[Array, Array, Array]:
    """One layer in one direction: x (T, N, I) -> y (T, N, R), h_n, c_n.

    A row takes part in its first `lengths[n]` steps only: y is 0 after them, and its state stands
    still, so that going backwards it starts at its own end.
    """
    y = np.zeros((*x.shape[:2], h.shape[1]))
    for t in reversed(range(len(x))) if backwards else range(len(x)):
        alive = (t < lengths)[:, None]
        h1, c1 = STEPS[cell](x[t], h, c, w, gate)
        h, c = np.where(alive, h1, h), np.where(alive, c1, c)
        y[t] = np.where(alive, h1, 0.0)
    return y, h, c


def run(
    cell: str,
    tensors: Mapping[str, Any],
    x: Any,
    h0: Any = None,
    c0: Any = None,
    lengths: Any = None,
    *,
    merge: str = "concat",
    gate: Gate = SIGMOID,
) -> tuple[Array, Array, Array]:
    """A stack: x (T, N, I) -> y (T, N, D*R), h_n (layers*D, N, R), c_n (layers*D, N, H).

    State index = layer * D + direction. Layer k > 0 reads the output of layer k - 1: forward half
    first, or the sum of both halves with merge="sum". Layers and directions are told by the names.
    """
    values, h_n, c_n = run_levels(cell, tensors, x, h0, c0, lengths, merge=merge, gate=gate)
    return values[-1], h_n, c_n


def run_levels(
    cell: str,
    tensors: Mapping[str, Any],
    x: Any,
    h0: Any = None,
    c0: Any = None,
    lengths: Any = None,
    *,
    merge: str = "concat",
    gate: Gate = SIGMOID,
) -> tuple[list[Array], Array, Array]:
    """As `run`, with x and the outputs of all layers, first to last, in place of y."""
    values = [np.asarray(x, np.float64)]
    lengths = every_length(lengths, values[0])
    h0, c0 = first_states(tensors, values[0].shape[1], h0, c0)
    h_n, c_n = [], []
    for level in levels(tensors):
        outputs = []
        for suffix in level:
            w, at = weights(tensors, suffix), len(h_n)
            backwards = suffix in level[1:]
            y, h, c = run_direction(cell, values[-1], h0[at], c0[at], w, lengths, backwards, gate)
            outputs.append(y)
            h_n.append(h)
            c_n.append(c)
        values.append(sum(outputs) if merge == "sum" else np.concatenate(outputs, axis=2))
    return values, np.stack(h_n), np.stack(c_n)


def levels(tensors: Mapping[str, Any]) -> list[list[str]]:
    """For every layer the suffixes of its tensors' names, one per direction, forward first."""
    ends = ["", "_reverse"] if "weight_hh_l0_reverse" in tensors else [""]
    count = sum(name.startswith("weight_hh") for name in tensors) // len(ends)
    return [[f"_l{layer}{end}" for end in ends] for layer in range(count)]


def every_length(lengths: Any, x: Array) -> Array:
    """How many steps every row of x (T, N, I) has: all T unless told."""
    return np.full(x.shape[1], len(x)) if lengths is None else np.asarray(lengths)


def first_states(tensors: Mapping[str, Any], rows: int, h0: Any, c0: Any) -> tuple[Array, Array]:
    """h0 (layers*D, N, R) and c0 (layers*D, N, H) in float64; zeros unless given."""
    flat = [suffix for level in levels(tensors) for suffix in level]
    w = weights(tensors, flat[0])
    r = w.hh.shape[1]
    units = r if w.hr is None else w.hr.shape[1]
    h = np.zeros((len(flat), rows, r)) if h0 is None else np.asarray(h0, np.float64)
    return h, np.zeros((len(flat), rows, units)) if c0 is None else np.asarray(c0, np.float64)


def weights(tensors: Mapping[str, Any], suffix: str) -> Weights:
    """The tensors of one layer and direction, in float64."""
    get = {k: np.asarray(v, np.float64) for k, v in tensors.items() if k.endswith(suffix)}.get
    ih, hh = get("weight_ih" + suffix), get("weight_hh" + suffix)
    assert ih is not None
    assert hh is not None
    none = np.zeros(len(ih))
    return Weights(
        ih,
        hh,
        get("bias_ih" + suffix, none),
        get("bias_hh" + suffix, none),
        get("weight_hr" + suffix),
        get("weight_ch" + suffix),
    )


# ---- how far float32 may be from this ----------------------------------------------------------


def tolerance(products: int, steps: int, layers: int = 1, scale: float = 1.0) -> float:
    """Largest absolute difference between a float32 run and this float64 one.

    One pre-activation is a chain of K = `products` fused multiply-adds; every one rounds a partial
    sum, of a size up to about `scale`, by at most eps/2. Rounding errors are as good as
    independent, so the chain is off by eps/2 * sqrt(K); the bias adds eps/2, and an activation (3
    ulp), a gate product and the state's own rounding no more than 4 eps together:
    e = eps * (sqrt(K)/2 + 5). A step passes the error of the state on by a factor near 1 at most
    (forget gate, update gate, or a W_hh of entries in +-1/sqrt(H), whose norm is near 1), so T
    steps add up to T * e; a layer above sees that as error of its input, hence `layers` times.
    A factor 2 covers the tail of the random walk: we look at the worst of thousands of values.
    """
    return 2 * EPS * (products**0.5 / 2 + 5) * steps * layers * max(1.0, scale)


# ---- the same for a fastrnn layer --------------------------------------------------------------


def cell_name(module: Any) -> str:
    """The key of STEPS for a layer or a cell of fastrnn."""
    return str(module._cell)


def gate_of(module: Any) -> Gate:
    """The activation of a layer's gates."""
    activation = module.config.get("recurrent_activation", "sigmoid")
    return SIGMOID if activation == "sigmoid" else hard_sigmoid(*activation[1:])


def run_layer(
    layer: Any, x: Any, h0: Any = None, c0: Any = None, lengths: Any = None
) -> tuple[Array, Array, Array]:
    """`run` with the parameters and options of a layer; x is (T, N, I) always."""
    name, gate = cell_name(layer), gate_of(layer)
    return run(name, layer.state_dict(), x, h0, c0, lengths, merge=layer.merge, gate=gate)


def layer_tolerance(layer: Any, steps: int, scale: float = 1.0) -> float:
    """`tolerance` for a layer: a chain runs over the widest layer's inputs and its state."""
    widest = max(layer.input_size, layer.output_size) + layer.hidden_size
    return tolerance(widest, steps, layer.num_layers, scale)
