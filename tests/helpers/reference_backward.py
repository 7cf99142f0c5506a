"""Gradients of the networks in `reference.py`, in the same plain float64 NumPy: the specification.

dq is the gradient of q: the derivative of a loss sum(dy y) + sum(dh_n h_n) + sum(dc_n c_n) by q.
Letters as in `reference.py`; a stands for pre-activations, so da (N, G*H) belongs to
a = W_ih x + b_ih + W_hh h' + b_hh. Activations' slopes by their values: s' as `Gate` has it,
tanh' = 1 - tanh^2, and relu' = 0 at 0, as in PyTorch. Nothing is kept from the forward pass but
the states before every step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from reference import (
    SIGMOID,
    STEPS,
    Array,
    Gate,
    Weights,
    cell_name,
    every_length,
    first_states,
    gate_of,
    gru_gates,
    gru_reset_before_gates,
    levels,
    light_gru_gates,
    lstm_gates,
    peepholes,
    run_levels,
    tolerance,
    weights,
)

Gradients = tuple[Array, Array, Array, Weights]  # dx (N, I), dh' (N, R), dc' (N, H), dW
NAMES = {
    "ih": "weight_ih",
    "hh": "weight_hh",
    "b_ih": "bias_ih",
    "b_hh": "bias_hh",
    "hr": "weight_hr",
    "ch": "weight_ch",
}


# ---- one step: (x, h', c', weights, dh (N, R), dc (N, H)) -> dx, dh', dc', dW --------------------


def product_back(
    da_x: Array, da_h: Array, x: Array, h: Array, w: Weights
) -> tuple[Array, Array, Weights]:
    """a_x = W_ih x + b_ih and a_h = W_hh h' + b_hh.

    dx = W_ih^T da_x; dh' = W_hh^T da_h; summed over rows, dW_ih = da_x x^T, dW_hh = da_h h'^T,
    db_ih = da_x, db_hh = da_h.
    """
    dw = Weights(da_x.T @ x, da_h.T @ h, da_x.sum(0), da_h.sum(0), None, None)
    return da_x @ w.ih, da_h @ w.hh, dw


def rnn_step_back(cell: str, slope: Callable[[Array], Any] | None) -> Callable[..., Gradients]:
    """da = dh act'(a), where `slope` (s' unless given) tells act'(a) from h = act(a)."""

    def back(x: Array, h: Array, c: Array, w: Weights, dh: Array, dc: Array, s: Gate) -> Gradients:
        h1, _ = STEPS[cell](x, h, c, w, s)
        da = dh * (slope or s.slope)(h1)
        dx, dh0, dw = product_back(da, da, x, h, w)
        return dx, dh0, dc, dw

    return back


def lstm_step_back(
    x: Array, h: Array, c: Array, w: Weights, dh: Array, dc: Array, s: Gate
) -> Gradients:
    """With m = o tanh(c): dm = dh, or with h = W_hr m: dm = W_hr^T dh and dW_hr = dh m^T.

    da_o = dm tanh(c) o'; dc += dm o tanh'(c) + p_o da_o;
    da_i = dc g i'; da_f = dc c' f'; da_g = dc i g'; dc' = dc f + p_i da_i + p_f da_f;
    dp = (da_i c', da_f c', da_o c), summed over rows.
    """
    i, f, g, o, c1 = lstm_gates(x, h, c, w, s)
    p_i, p_f, p_o = peepholes(w, c.shape[1])
    tanh_c = np.tanh(c1)
    dm = dh if w.hr is None else dh @ w.hr
    da_o = dm * tanh_c * s.slope(o)
    dc = dc + dm * o * (1 - tanh_c**2) + p_o * da_o
    da_i, da_f, da_g = dc * g * s.slope(i), dc * c * s.slope(f), dc * i * (1 - g**2)
    da = np.concatenate([da_i, da_f, da_g, da_o], axis=1)
    dx, dh0, dw = product_back(da, da, x, h, w)
    d_hr = None if w.hr is None else dh.T @ (o * tanh_c)
    d_ch = None if w.ch is None else np.concatenate([da_i * c, da_f * c, da_o * c1], 1).sum(0)
    dc0 = dc * f + p_i * da_i + p_f * da_f
    return dx, dh0, dc0, Weights(dw.ih, dw.hh, dw.b_ih, dw.b_hh, d_hr, d_ch)


def gru_step_back(
    x: Array, h: Array, c: Array, w: Weights, dh: Array, dc: Array, s: Gate
) -> Gradients:
    """With q = W_hn h' + b_hn, which r multiplies:

    da_n = dh (1 - z) n'; da_z = dh (h' - n) z'; da_r = da_n q r'; dq = da_n r;
    dh' = dh z + what comes through the products.
    """
    r, z, n, q = gru_gates(x, h, w, s)
    da_n = dh * (1 - z) * (1 - n**2)
    da_z = dh * (h - n) * s.slope(z)
    da_r = da_n * q * s.slope(r)
    da_x = np.concatenate([da_r, da_z, da_n], axis=1)
    da_h = np.concatenate([da_r, da_z, da_n * r], axis=1)
    dx, dh0, dw = product_back(da_x, da_h, x, h, w)
    return dx, dh * z + dh0, dc, dw


def gru_reset_before_step_back(
    x: Array, h: Array, c: Array, w: Weights, dh: Array, dc: Array, s: Gate
) -> Gradients:
    """With u = r h', which W_hn multiplies:

    da_n = dh (1 - z) n'; da_z = dh (h' - n) z'; du = W_hn^T da_n; da_r = du h' r';
    dh' = dh z + du r + W_hr^T da_r + W_hz^T da_z; dW_hn = da_n u^T, summed over rows.
    """
    r, z, n = gru_reset_before_gates(x, h, w, s)
    w_r, w_z, w_n = w.hh.reshape(3, -1, w.hh.shape[1])
    da_n = dh * (1 - z) * (1 - n**2)
    da_z = dh * (h - n) * s.slope(z)
    du = da_n @ w_n
    da_r = du * h * s.slope(r)
    da = np.concatenate([da_r, da_z, da_n], axis=1)
    d_hh = np.concatenate([da_r.T @ h, da_z.T @ h, da_n.T @ (r * h)])
    dw = Weights(da.T @ x, d_hh, da.sum(0), da.sum(0), None, None)
    return da @ w.ih, dh * z + du * r + da_r @ w_r + da_z @ w_z, dc, dw


def light_gru_step_back(
    x: Array, h: Array, c: Array, w: Weights, dh: Array, dc: Array, s: Gate
) -> Gradients:
    """da_n = dh (1 - z) relu'; da_z = dh (h' - n) z'; dh' = dh z + what comes by the products."""
    z, n = light_gru_gates(x, h, w, s)
    da_n = dh * (1 - z) * (n > 0)
    da_z = dh * (h - n) * s.slope(z)
    da = np.concatenate([da_z, da_n], axis=1)
    dx, dh0, dw = product_back(da, da, x, h, w)
    return dx, dh * z + dh0, dc, dw


STEPS_BACK: dict[str, Callable[..., Gradients]] = {
    "rnn_tanh": rnn_step_back("rnn_tanh", lambda h: 1 - h**2),
    "rnn_relu": rnn_step_back("rnn_relu", lambda h: h > 0),
    "rnn_sigmoid": rnn_step_back("rnn_sigmoid", None),
    "rnn_identity": rnn_step_back("rnn_identity", lambda h: 1.0),
    "lstm": lstm_step_back,
    "lstm_peephole": lstm_step_back,
    "gru": gru_step_back,
    "gru_reset_before": gru_reset_before_step_back,
    "light_gru": light_gru_step_back,
}


# ---- sequences -----------------------------------------------------------------------------------


def states_before(
    cell: str,
    x: Array,
    h: Array,
    c: Array,
    w: Weights,
    lengths: Array,
    order: list[int],
    gate: Gate,
) -> dict[int, tuple[Array, Array]]:
    """h' and c' of every step t, steps taken in this order."""
    before = {}
    for t in order:
        before[t] = h, c
        h1, c1 = STEPS[cell](x[t], h, c, w, gate)
        alive = (t < lengths)[:, None]
        h, c = np.where(alive, h1, h), np.where(alive, c1, c)
    return before


def run_direction_backward(
    cell: str,
    x: Array,
    h: Array,
    c: Array,
    w: Weights,
    lengths: Array,
    backwards: bool,
    dy: Array,
    dh: Array,
    dc: Array,
    gate: Gate,
) -> Gradients:
    """One layer in one direction, with dy (T, N, R) and the last states' dh and dc.

    The steps are undone last first. Where a row has no step its dy does not count, its dx is 0,
    and dh and dc stand still.
    """
    order = list(reversed(range(len(x)))) if backwards else list(range(len(x)))
    before = states_before(cell, x, h, c, w, lengths, order, gate)
    dx, total = np.zeros_like(x), zeros_like(w)
    for t in reversed(order):
        alive = (t < lengths)[:, None]
        dh1, dc1 = np.where(alive, dh + dy[t], 0.0), np.where(alive, dc, 0.0)
        dx[t], dh0, dc0, dw = STEPS_BACK[cell](x[t], *before[t], w, dh1, dc1, gate)
        dh, dc = np.where(alive, dh0, dh), np.where(alive, dc0, dc)
        total = added(total, dw)
    return dx, dh, dc, total


def zeros_like(w: Weights) -> Weights:
    """Zeros for every tensor there is."""
    return Weights(*(None if part is None else np.zeros_like(part) for part in vars(w).values()))


def added(a: Weights, b: Weights) -> Weights:
    """The sum, tensor by tensor."""
    pairs = zip(vars(a).values(), vars(b).values(), strict=True)
    return Weights(*(None if one is None else one + other for one, other in pairs))


def run_backward(
    cell: str,
    tensors: Mapping[str, Any],
    x: Any,
    h0: Any = None,
    c0: Any = None,
    lengths: Any = None,
    dy: Any = None,
    dh_n: Any = None,
    dc_n: Any = None,
    *,
    merge: str = "concat",
    gate: Gate = SIGMOID,
) -> tuple[Array, Array, Array, dict[str, Array]]:
    """A stack: dy (T, N, D*R), dh_n, dc_n as `run` shapes them -> dx, dh0, dc0, gradients by name.

    What is not given is zero. A layer's dx is the sum over its directions and is the dy of the
    layer below; merge="sum" gives both directions the whole dy, "concat" each its own half.
    """
    x = np.asarray(x, np.float64)
    lengths, all_levels = every_length(lengths, x), levels(tensors)
    h0, c0 = first_states(tensors, x.shape[1], h0, c0)
    values, *_ = run_levels(cell, tensors, x, h0, c0, lengths, merge=merge, gate=gate)
    dh0, dc0 = (last_gradient(d, s) for d, s in ((dh_n, h0), (dc_n, c0)))
    dy = last_gradient(dy, values.pop())
    grads: dict[str, Array] = {}
    at = len(h0)
    for level, own_x in zip(reversed(all_levels), reversed(values), strict=True):
        halves = [dy] * len(level) if merge == "sum" else np.split(dy, len(level), axis=2)
        dy = np.zeros_like(own_x)
        at -= len(level)
        for i, (suffix, half) in enumerate(zip(level, halves, strict=True), at):
            dx, dh0[i], dc0[i], dw = run_direction_backward(
                cell, own_x, h0[i], c0[i], weights(tensors, suffix), lengths,
                suffix in level[1:], half, dh0[i], dc0[i], gate,
            )  # fmt: skip
            dy += dx
            grads |= {NAMES[k] + suffix: v for k, v in vars(dw).items() if v is not None}
    return dy, dh0, dc0, {name: grads[name] for name in tensors}


def last_gradient(given: Any, like: Array) -> Array:
    """A copy of the gradient given for an array, or zeros."""
    return np.zeros_like(like) if given is None else np.array(given, np.float64)


# ---- the same for a fastrnn layer --------------------------------------------------------------


def run_layer_backward(
    layer: Any,
    x: Any,
    h0: Any = None,
    c0: Any = None,
    lengths: Any = None,
    dy: Any = None,
    dh_n: Any = None,
    dc_n: Any = None,
) -> tuple[Array, Array, Array, dict[str, Array]]:
    """`run_backward` with the parameters and options of a layer; x and dy are (T, N, *) always."""
    name, tensors = cell_name(layer), layer.state_dict()
    return run_backward(
        name, tensors, x, h0, c0, lengths, dy, dh_n, dc_n, merge=layer.merge, gate=gate_of(layer)
    )


def layer_tolerance_backward(layer: Any, steps: int, rows: int, scale: float = 1.0) -> float:
    """Largest absolute difference between a float32 gradient and this float64 one.

    As `reference.tolerance`, with the chains of the way back added. A pre-activation's gradient
    needs dh, a chain of K = G*H products, and slopes of values that the forward pass left off by
    its own tolerance; all slopes change by no more than twice what the value does, and their
    factors are at most 1. So an error takes the way there and back: 2*T steps through every
    layer. Weight gradients are chains of K = T*N products. `scale` bounds every partial sum: the
    largest of all values and gradients stands for it.
    """
    gates = len(next(t for name, t in layer.parameters.items() if name.startswith("weight_ih")))
    widest = max(layer.input_size, layer.output_size) + layer.hidden_size
    return tolerance(max(widest, gates, steps * rows), 2 * steps, layer.num_layers, scale)
