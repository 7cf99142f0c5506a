"""Layers from arrays of any gate order, against references written out in float64."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import _core

I, H, T, N = 3, 4, 5, 2  # noqa: E741  # inputs, units, steps, rows
LETTERS = {"rnn": "n", "lstm": "ifgo", "gru": "rzn", "ligru": "zn"}
SYNONYMS = {"g": "gcj", "z": "zu", "n": "nhcg"}


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def run(kind: str, x: Any, w: dict[str, Any], u: dict[str, Any], b: Any, v: Any, reset: str) -> Any:
    """h of all steps; w, u, b, v by gate: kernels, the input's and the state's bias."""
    h, c, out = np.zeros((x.shape[1], H)), np.zeros((x.shape[1], H)), []
    for step in x:
        a = {gate: step @ w[gate].T + b[gate] for gate in w}
        r = {gate: h @ u[gate].T + v[gate] for gate in w}
        if kind == "rnn":
            h = np.tanh(a["n"] + r["n"])
        elif kind == "lstm":
            i, f, o = (sigmoid(a[gate] + r[gate]) for gate in "ifo")
            c = f * c + i * np.tanh(a["g"] + r["g"])
            h = o * np.tanh(c)
        elif kind == "ligru":
            z = sigmoid(a["z"] + r["z"])
            h = (1 - z) * np.maximum(a["n"] + r["n"], 0) + z * h
        else:
            z, s = sigmoid(a["z"] + r["z"]), sigmoid(a["r"] + r["r"])
            inner = s * r["n"] if reset == "after" else (s * h) @ u["n"].T + v["n"]
            h = (1 - z) * np.tanh(a["n"] + inner) + z * h
        out.append(h)
    return np.array(out)


def gates(rng: Any, letters: str, *shape: int) -> dict[str, Any]:
    return {gate: rng.normal(size=shape).astype(np.float32) for gate in letters}


def in_order(arrays: dict[str, Any], order: str) -> list[Any]:
    """The gates as `order` calls them."""
    ours = {name: gate for gate, names in SYNONYMS.items() if gate in arrays for name in names}
    return [arrays[ours.get(letter, letter)] for letter in order]


def orders(kind: str) -> list[str]:
    if kind == "rnn":
        return ["n"]
    if kind == "lstm":
        return ["".join(p) for c in "gcj" for p in itertools.permutations(f"ifo{c}")]
    r = "r" if kind == "gru" else ""
    return ["".join(p) for z in "zu" for n in "nhcg" for p in itertools.permutations(f"{r}{z}{n}")]


@pytest.mark.parametrize("reset", ["after", "before"])
@pytest.mark.parametrize("kind", sorted(LETTERS))
def test_every_order_of_gates_gives_the_layer_of_the_reference(kind, reset):
    rng = np.random.default_rng(0)
    letters = LETTERS[kind]
    w, u = gates(rng, letters, H, I), gates(rng, letters, H, H)
    b, v = gates(rng, letters, H), gates(rng, letters, H)
    x = rng.normal(size=(T, N, I)).astype(np.float32)
    wanted = run(kind, x.astype(np.float64), w, u, b, v, reset)
    options: dict[str, Any] = {"reset": reset} if kind == "gru" else {}
    for order in orders(kind):
        ww, uu, bb, vv = (in_order(arrays, order) for arrays in (w, u, b, v))
        whole_w, whole_u = np.concatenate(ww), np.concatenate(uu)
        whole_b, whole_v = np.concatenate(bb), np.concatenate(vv)
        forms = [
            (ww, uu, (bb, vv), False),
            (whole_w, whole_u, np.stack([whole_b, whole_v]), False),
            (whole_w.T, whole_u.T, np.concatenate([whole_b, whole_v]), True),
            ([a.T for a in ww], [a.T for a in uu], [whole_b, whole_v], True),
        ]
        for one_w, one_u, one_b, transpose in forms:
            layer = fastrnn.from_gates(
                kind, one_w, one_u, one_b, order=order, transpose=transpose, **options
            )
            np.testing.assert_allclose(layer(x)[0], wanted, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("kind", sorted(LETTERS))
def test_one_bias_is_that_of_the_input_and_none_makes_a_layer_without(kind):
    rng = np.random.default_rng(1)
    letters = LETTERS[kind]
    w, u, b = gates(rng, letters, H, I), gates(rng, letters, H, H), gates(rng, letters, H)
    x = rng.normal(size=(T, N, I)).astype(np.float32)
    none = gates(rng, letters, H)
    zero = {gate: np.zeros(H) for gate in none}
    order = letters[::-1]
    arrays = [np.concatenate(in_order(each, order)) for each in (w, u, b)]
    layer = fastrnn.from_gates(kind, *arrays, order=order)
    wanted = run(kind, x.astype(np.float64), w, u, b, zero, "after")
    np.testing.assert_allclose(layer(x)[0], wanted, rtol=2e-5, atol=2e-6)
    by_gate = fastrnn.from_gates(kind, *arrays[:2], in_order(b, order), order=order)
    assert by_gate.fingerprint() == layer.fingerprint()
    bare = fastrnn.from_gates(kind, *arrays[:2], order=order)
    assert not bare.bias
    wanted = run(kind, x.astype(np.float64), w, u, zero, zero, "after")
    np.testing.assert_allclose(bare(x)[0], wanted, rtol=2e-5, atol=2e-6)


def test_the_forget_bias_is_added_to_the_bias_of_f():
    """TensorFlow's BasicLSTMCell: one kernel (I + H, 4 * H), gates i j f o."""
    rng = np.random.default_rng(2)
    kernel = rng.normal(size=(I + H, 4 * H)).astype(np.float32)
    bias = rng.normal(size=4 * H).astype(np.float32)
    x = rng.normal(size=(T, N, I)).astype(np.float32)
    made: dict[str, Any] = {"order": "ijfo", "transpose": True, "forget_bias": 1.0}
    layer = fastrnn.from_gates("lstm", kernel[:I], kernel[I:], bias, **made)
    h, c = np.zeros((N, H)), np.zeros((N, H))
    for step, y in zip(x, layer(x)[0], strict=True):
        i, j, f, o = np.split(np.concatenate([step, h], axis=1) @ kernel + bias, 4, axis=1)
        c = c * sigmoid(f + 1.0) + sigmoid(i) * np.tanh(j)
        h = np.tanh(c) * sigmoid(o)
        np.testing.assert_allclose(y, h, rtol=2e-5, atol=2e-6)
    bare = fastrnn.from_gates("lstm", kernel[:I], kernel[I:], **made)
    assert bare.state_dict()["bias_ih_l0"].tolist() == [0.0] * H + [1.0] * H + [0.0] * 2 * H


def test_a_list_of_kernels_is_a_stack_of_layers():
    layer = fastrnn.GRU(I, H, 3)
    state = layer.state_dict()

    def turned(key: str, k: int) -> Any:
        r, z, n = np.split(state[f"{key}_l{k}"], 3)
        return np.concatenate([z, r, n])

    def each(key: str) -> list[Any]:
        return [turned(key, k) for k in range(3)]

    w, u = each("weight_ih"), each("weight_hh")
    b = list(zip(each("bias_ih"), each("bias_hh"), strict=True))
    found = fastrnn.from_gates("gru", w, u, b, order="zrh", batch_first=False, dropout=0.0)
    assert found.fingerprint() == layer.fingerprint()
    apart = [[np.split(a, 3) for a in kernels] for kernels in (w, u)]
    assert fastrnn.from_gates("gru", *apart, b, order="zrh").fingerprint() == layer.fingerprint()
    rnn = fastrnn.RNN(H, H, 2, "relu", bias=False)
    w, u = ([rnn.state_dict()[f"weight_{key}_l{k}"] for k in (0, 1)] for key in ("ih", "hh"))
    found = fastrnn.from_gates("rnn", w, u, nonlinearity="relu")
    assert found.fingerprint() == rnn.fingerprint()


def test_values_of_float64_and_lists_of_numbers_are_taken():
    w, u = np.arange(12.0).reshape(4, 3), [[0.5], [1.0], [1.5], [2.0]]
    layer = fastrnn.from_gates("lstm", w, u, order="ifgo")
    assert (layer.input_size, layer.hidden_size) == (3, 1)
    assert layer.state_dict()["weight_ih_l0"].tolist() == w.tolist()


def lstm(**changes: Any) -> Any:
    arguments = {"w": np.ones((16, 3)), "u": np.ones((16, 4)), "b": np.ones(16), "order": "ifgo"}
    return fastrnn.from_gates("lstm", **(arguments | changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"order": "ifg"}, "order is 'ifg', expected one letter for each gate of an LSTM"),
        ({"order": "ifcg"}, "order is 'ifcg'"),
        ({"order": None}, "order is None"),
        ({"order": 3}, "order is 3"),
        ({"u": np.ones((4, 16))}, r"u has shape \(4, 16\), expected \(64, 16\)"),
        ({"u": np.ones((15, 4))}, r"u has shape \(15, 4\), expected \(4 \* H, \*\)"),
        ({"u": np.ones(16)}, r"u has shape \(16,\)"),
        ({"u": []}, r"u has shape \(0,\)"),
        ({"w": np.ones((12, 3))}, r"w has shape \(12, 3\), expected \(16, 3\)"),
        ({"w": np.ones((3, 16)), "transpose": True}, r"u has shape \(16, 4\), expected \(16, 64\)"),
        ({"b": np.ones(8)}, r"b has shape \(8,\), expected \(16,\) for one bias"),
        ({"b": np.ones((3, 16))}, r"b has shape \(3, 16\)"),
        ({"forget_bias": float("nan")}, "forget_bias is nan"),
        ({"forget_bias": "1"}, "forget_bias is '1'"),
        ({"u": np.ones((2, 16, 4))}, "w has 16 entries, but u has 2 layers"),
        (
            {"u": np.ones((2, 16, 4)), "w": [np.ones((16, 3))] * 2, "b": None},
            r"w\[1\] has shape \(16, 3\), expected \(16, 4\)",
        ),
        ({"num_layers": 2}, "num_layers is 2, but the parameters have 1"),
    ],
)
def test_arrays_that_do_not_fit_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        lstm(**change)


def test_every_family_of_the_core_can_be_made_of_its_gates():
    assert LETTERS.keys() == {family.lower() for family in _core.families()}
    for family, count in _core.families().items():
        assert len(LETTERS[family.lower()]) == count
        with pytest.raises(ValueError, match=f"each gate of an? {family}, as in"):
            fastrnn.from_gates(family.lower(), np.ones((4, 3)), np.ones((4, 4)), order="xyxyx")


def test_options_that_do_not_fit_are_named():
    with pytest.raises(
        ValueError, match="kind is 'elman', expected one of 'lstm', 'gru', 'ligru', 'rnn'"
    ):
        fastrnn.from_gates("elman", np.ones((4, 3)), np.ones((4, 4)))
    with pytest.raises(ValueError, match="a GRU has no forget gate"):
        fastrnn.from_gates("gru", np.ones((3, 3)), np.ones((3, 1)), order="rzn", forget_bias=1.0)
    with pytest.raises(TypeError, match="transpose should be of type bool"):
        lstm(transpose=1)
