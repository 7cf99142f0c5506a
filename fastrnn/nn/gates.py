"""Recurrent layers from the arrays of any other library: gate order, transposition, biases.

Letters: I inputs, H units, G gates (LSTM 4, GRU 3, RNN 1), L layers.
"""

from __future__ import annotations

from math import isfinite
from numbers import Real
from typing import Any, NamedTuple, NoReturn

import numpy as np

from fastrnn._arrays import ArrayLike, FloatArray, as_choice, as_flag, as_float32, with_article
from fastrnn.nn.recurrent import GRU, LAYERS, LSTM, RNN, LiGRU

__all__ = ["from_gates"]

_SYNONYMS = {"g": "cj", "z": "u", "n": "hcg"}  # what others call these gates of ours


def from_gates(
    kind: str,
    w: ArrayLike,
    u: ArrayLike,
    b: ArrayLike | None = None,
    *,
    order: str | None = None,
    forget_bias: float = 0.0,
    transpose: bool = False,
    **options: Any,
) -> RNN | LSTM | GRU | LiGRU:
    """A layer, "lstm", "gru", "ligru" or "rnn", from kernels whose gates stand in any order.

    w (G*H, I) multiplies the input and u (G*H, H) the state; with `transpose` they are (I, G*H) and
    (H, G*H), as Keras and TensorFlow have them. Both may be lists of their gates, (H, I) and (H, H)
    each, or (I, H) and (H, H).
    b: None; one bias (G*H,), for a GRU the input's, so that b_hn is zero; or two, the input's and
    the state's, (2, G*H) or (2*G*H,). Gates may have an axis of their own, (G, H) or (2, G, H).
    Several layers: w, u, and b unless it is None, are lists with one entry for each layer.
    order: the letter of each gate, as the arrays have them: i f o, and g, c or j for the candidate
    of an LSTM, e.g. "ifgo" (PyTorch), "ifco" (Keras), "iofc" (ONNX), "ijfo" (BasicLSTMCell); r, z
    or u, and n, h, c or g for that of a GRU, e.g. "rzn" (PyTorch), "zrh" (Keras, ONNX); of a LiGRU
    z and n; none for an RNN. h = (1 - z) n + z h' in a GRU: where z is the share of n, negate its
    part of w, u and b.
    forget_bias: added to the bias of f, as TensorFlow's BasicLSTMCell does in every step.
    options: other arguments of the layer: batch_first, dropout, reset, nonlinearity.
    ValueError for sizes that do not fit together, and for an order that names other gates.
    """
    gates = _places(as_choice(kind, "kind", tuple(LAYERS)), order)
    form = _Form(gates, as_flag(transpose, "transpose"), _as_forget_bias(forget_bias, kind))
    kernels = as_float32(u, "u")
    many = kernels.ndim == 4 or (kernels.ndim == 3 and not _are_gates(kernels, len(gates)))
    us = kernels if many else kernels[None]
    ws, bs = (_as_layers(value, name, len(us), many) for value, name in ((w, "w"), (b, "b")))
    tensors: dict[str, FloatArray] = {}
    for k in range(len(us)):
        tail = f"[{k}]" if many else ""
        found = _one_layer(ws[k], us[k], None if b is None else bs[k], tail, form)
        if k and found["weight_ih"].shape != found["weight_hh"].shape:
            _refuse(
                f"w{tail}", np.shape(ws[k]), found["weight_hh"].shape, form
            )  # the layer below's
        tensors |= {f"{key}_l{k}": tensor for key, tensor in found.items()}
    layer: RNN | LSTM | GRU | LiGRU
    layer = LAYERS[kind].from_state_dict(tensors, "", rename=None, **options)
    return layer


class _Form(NamedTuple):
    """How the arrays are written: where our gates stand in them, and the rest as `from_gates`."""

    gates: list[int]
    transpose: bool
    forget_bias: np.float32


def _one_layer(
    w: ArrayLike, u: FloatArray, b: ArrayLike | None, tail: str, form: _Form
) -> dict[str, FloatArray]:
    """A cell's parameters; `tail`: what stands behind the arguments' names in errors."""
    w_hh = _kernel(u, f"u{tail}", form)
    units = w_hh.shape[1]
    if len(w_hh) != len(form.gates) * units:
        _refuse(f"u{tail}", u.shape, (len(form.gates) * units, units), form)
    w_ih = _kernel(w, f"w{tail}", form)
    if len(w_ih) != len(w_hh):
        _refuse(f"w{tail}", np.shape(w), (len(w_hh), w_ih.shape[1]), form)
    weights = {"weight_ih": w_ih, "weight_hh": w_hh}
    if b is None and not form.forget_bias:
        return weights
    biases = np.zeros(len(w_hh)) if b is None else b
    b_ih, b_hh = _two_biases(biases, f"b{tail}", form.gates, units)
    if form.forget_bias:
        b_ih[units : 2 * units] += form.forget_bias  # f, the second of i f g o
    return {**weights, "bias_ih": b_ih, "bias_hh": b_hh}


def _places(kind: str, order: str | None) -> list[int]:
    """Where each gate of ours stands in `order`."""
    ours = LAYERS[kind]._gates
    if order is None and len(ours) == 1:
        return [0]
    known = {other: gate for gate in ours for other in _SYNONYMS.get(gate, "")}
    given = [known.get(letter, letter) for letter in order] if isinstance(order, str) else []
    if sorted(given) != sorted(ours):
        example = "None" if len(ours) == 1 else f"{ours!r}, in any order"
        raise ValueError(
            f"order is {order!r}, expected one letter for each gate of {_named(kind)}, as in "
            f"{example}"
        )
    return [given.index(gate) for gate in ours]


def _named(kind: str) -> str:
    return with_article(LAYERS[kind].__name__)


def _as_forget_bias(value: object, kind: str) -> np.float32:
    if not isinstance(value, Real) or isinstance(value, bool) or not isfinite(value):
        raise ValueError(f"forget_bias is {value!r}, expected a finite number")
    if value and "f" not in LAYERS[kind]._gates:
        raise ValueError(f"forget_bias is {value!r}, but {_named(kind)} has no forget gate")
    return np.float32(value)


def _are_gates(kernels: FloatArray, count: int) -> bool:
    """Whether u has three dimensions because each gate stands alone."""
    return len(kernels) == count and kernels.shape[1] == kernels.shape[2]


def _as_layers(value: ArrayLike, name: str, count: int, many: bool) -> Any:
    """One entry per layer."""
    if not many or value is None:
        return [value]
    if not hasattr(value, "__len__") or len(value) != count:
        given = f"has {len(value)} entries" if hasattr(value, "__len__") else "has no entries"
        raise ValueError(f"{name} {given}, but u has {count} layers, expected one for each")
    return value


def _kernel(value: ArrayLike, name: str, form: _Form) -> FloatArray:
    """(G * H, *) in our order of gates."""
    array, count = as_float32(value, name), len(form.gates)
    if array.ndim == 3 and len(array) == count:
        blocks = [block.T if form.transpose else block for block in array]
    else:
        whole = array.T if form.transpose else array
        if array.ndim != 2 or not array.size or len(whole) % count:
            _refuse(name, array.shape, (f"{count} * H", "*"), form)
        blocks = np.split(whole, count)
    return np.concatenate([blocks[place] for place in form.gates])


def _refuse(name: str, shape: tuple[int, ...], wanted: tuple[Any, ...], form: _Form) -> NoReturn:
    first, second = reversed(wanted) if form.transpose else wanted
    raise ValueError(
        f"{name} has shape {shape}, expected ({first}, {second}) with "
        f"transpose={form.transpose}, or a list of its gates"
    )


def _two_biases(
    value: ArrayLike, name: str, gates: list[int], units: int
) -> tuple[FloatArray, FloatArray]:
    """The input's and the state's, (G * H,) each, in our order; the latter zero if there is one."""
    array, count = as_float32(value, name), len(gates)
    rows = count * units
    one, two = ((rows,), (count, units)), ((2, rows), (2 * rows,), (2, count, units))
    if array.shape not in one + two:
        raise ValueError(
            f"{name} has shape {array.shape}, expected ({rows},) for one bias, (2, {rows}) for two"
        )
    ordered = array.reshape(-1, count, units)[:, gates].reshape(-1, rows)
    return ordered[0], ordered[1] if len(ordered) > 1 else np.zeros(rows, np.float32)
