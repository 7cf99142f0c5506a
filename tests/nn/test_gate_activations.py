"""Hard sigmoid gates: every cell and option against the float64 reference, files and refusals."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
import reference
import reference_backward
from families import FAMILIES, call, make, normal, outer, same_bits, states, vjp

import fastrnn
from fastrnn import _core

HARD = ("hard_sigmoid", 0.2, 0.5)
NAMED = [c.name for c in _core.cells() if c.gate_activations]
CHOICES = [name for name in FAMILIES if name.replace("_projected", "") in NAMED]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2, "bidirectional": True, "merge": "sum"},
    {"num_layers": 2, "bidirectional": True, "bias": False},
]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def hard(name: str, input_size: int, hidden_size: int, **options: Any) -> Any:
    """A layer whose gates are often 0, often 1 and often between."""
    layer = make(name, input_size, hidden_size, recurrent_activation=HARD, **options)
    layer.flat *= 3.0
    layer.repack()
    return layer


def close(got: Any, wanted: Any, limit: float) -> bool:
    return all(np.abs(a - b).max(initial=0) <= limit for a, b in zip(got, wanted, strict=True))


@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "sum", "bias"])
@pytest.mark.parametrize("name", CHOICES)
def test_outputs_and_gradients_are_those_of_the_reference(name, options, rng):
    layer = hard(name, 7, 20, **options)
    x, (h, c) = 2 * normal(rng, 6, 4, 7), states(rng, layer, 4)
    lengths = np.array([6, 0, 3, 5])
    dy, dh, dc = outer(rng, layer, 6, 4)
    got, pullback = vjp(layer, x, h, c, lengths)
    wanted = reference.run_layer(layer, x, h, c, lengths)
    with_c = slice(None) if layer.has_cell else slice(2)
    growth = 3.0 ** (2 * layer.num_layers)  # weights of 3 times the usual size
    limit = growth * reference.layer_tolerance(layer, 6, 4.0)
    assert close(got[with_c], wanted[with_c], limit)
    assert same_bits(got, call(layer, x, h, c, lengths))

    gradients = pullback(dy, dh, dc)
    dx, dh0, dc0, dw = reference_backward.run_layer_backward(
        layer, x, h, c, lengths, dy, dh, dc if layer.has_cell else None
    )
    scale = max(np.abs(part).max() for part in (dx, dh0, *dw.values()))
    limit = growth * reference_backward.layer_tolerance_backward(layer, 6, 4, scale)
    assert limit < scale / 10
    assert close(gradients[: 2 + layer.has_cell], (dx, dh0, dc0)[: 2 + layer.has_cell], limit)
    assert close(layer.grads.values(), dw.values(), limit)


@pytest.mark.parametrize("name", CHOICES)
def test_no_gradient_passes_a_gate_at_0_or_1(name, rng):
    """With every pre-activation far out, weights of gates get no gradient at all."""
    layer = hard(name, 3, 5)
    for key, tensor in layer.parameters.items():
        if key.startswith("bias"):
            tensor[:] = 40.0
    layer.repack()
    _, pullback = vjp(layer, normal(rng, 2, 3, 3))
    pullback(*outer(rng, layer, 2, 3))
    gates = {"rnn_sigmoid": [0]}.get(name, [0, 1, 3] if layer.has_cell else [0, 1])
    grads = layer.grads["weight_ih_l0"].reshape(-1, 5, 3)
    assert not grads[gates].any()


@pytest.mark.parametrize("name", CHOICES)
def test_streams_and_cells_have_the_bits_of_the_layer(name, rng):
    layer = hard(name, 6, 18)
    x = normal(rng, 5, 2, 6)
    y, *_ = call(layer, x)
    stream = layer.stream(2)
    assert all(np.array_equal(stream.step(x[t]), y[t]) for t in range(5))
    kind = getattr(fastrnn, f"{type(layer).__name__}Cell", None)
    if "projected" not in name and kind is not None:
        own = {k: v for k, v in FAMILIES[name][1].items() if k != "proj_size"}
        cell = kind.from_state_dict(layer.state_dict(), recurrent_activation=HARD, **own)
        state = cell(x[0])
        assert np.array_equal(state[0] if layer.has_cell else state, y[0])


def test_a_snapshot_fits_only_gates_of_the_same_activation(rng):
    soft = make("lstm", 4, 6)
    layers = [soft] + [
        fastrnn.LSTM.from_state_dict(soft.state_dict(), recurrent_activation=chosen)
        for chosen in ("hard_sigmoid", HARD)
    ]
    for layer in layers:
        snapshot = layer.stream(1).snapshot()
        for other in layers:
            if other is layer:
                other.stream(1).restore(snapshot)
                continue
            with pytest.raises(ValueError, match="snapshot"):
                other.stream(1).restore(snapshot)


@pytest.mark.parametrize("name", ["rnn_sigmoid", "lstm_peephole", "gru_reset_before"])
def test_the_activation_is_in_config_repr_files_and_copies(name, tmp_path, rng):
    layer = make(name, 4, 6, recurrent_activation=HARD)
    assert tuple(layer.config["recurrent_activation"]) == HARD
    assert "recurrent_activation=('hard_sigmoid', 0.2, 0.5)" in repr(layer)
    fastrnn.save(layer, tmp_path / "layer.fastrnn")
    x = normal(rng, 3, 2, 4)
    others = [
        fastrnn.load(tmp_path / "layer.fastrnn"),
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        type(layer)(**json.loads(json.dumps(layer.config))),
    ]
    others[-1].load_state_dict(layer.state_dict())
    for other in others:
        assert other.config == layer.config
        assert other.recurrent_activation == HARD
        assert same_bits(call(other, x), call(layer, x))


def test_what_is_usual_is_not_in_config_so_that_older_files_are_the_same(rng):
    layer = make("lstm", 4, 6, recurrent_activation="sigmoid")
    assert "recurrent_activation" not in layer.config
    assert layer.fingerprint() == make("lstm", 4, 6).fingerprint()


def test_the_plain_name_is_that_of_keras_3_and_pytorch():
    layer = fastrnn.GRU(2, 3, recurrent_activation="hard_sigmoid")
    assert layer.recurrent_activation == ("hard_sigmoid", 1 / 6, 0.5)


@pytest.mark.parametrize("name", ["lstm", "gru", "gru_reset_before", "rnn_sigmoid"])
def test_saturated_gates_are_those_at_0_and_1(name, rng):
    layer = make(name, 3, 5, recurrent_activation=HARD)
    x, shares = normal(rng, 4, 2, 3), []
    for bias in (0.0, 2.3, 40.0):  # 0.96 is no sigmoid's middle, but the slope is still alpha
        for key, tensor in layer.parameters.items():
            tensor[:] = bias / 2 if key.startswith("bias") else 0.0
        layer.repack()
        (y, _), pullback = layer.vjp(x, flow=True)
        pullback(np.ones_like(y))
        shares.append(float(np.mean(layer.last_flow.saturated)))
    assert shares == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("tanh", 'recurrent_activation is \'tanh\', expected "sigmoid", "hard_sigmoid" or'),
        (None, "recurrent_activation is None"),
        (("hard_sigmoid", 0.2), "recurrent_activation is"),
        (("sigmoid", 0.2, 0.5), "recurrent_activation is"),
        (("hard_sigmoid", 0.0, 0.5), "alpha of recurrent_activation is 0.0, expected a positive"),
        (("hard_sigmoid", -0.2, 0.5), "alpha of recurrent_activation is -0.2"),
        (("hard_sigmoid", 1e-50, 0.5), "alpha of recurrent_activation is 1e-50"),
        (("hard_sigmoid", float("nan"), 0.5), "alpha of recurrent_activation is nan"),
        (("hard_sigmoid", 1e39, 0.5), "alpha of recurrent_activation is 1e"),
        (("hard_sigmoid", 0.2, float("inf")), "beta of recurrent_activation is inf"),
    ],
)
def test_other_activations_are_refused(value, message):
    for kind in (fastrnn.LSTM, fastrnn.GRU, fastrnn.LSTMCell, fastrnn.GRUCell):
        with pytest.raises(ValueError, match=f"^{message.replace('(', '[(]')}"):
            kind(2, 3, recurrent_activation=value)


def test_alpha_and_beta_are_numbers():
    with pytest.raises(TypeError, match="alpha of recurrent_activation is a str"):
        fastrnn.LSTM(2, 3, recurrent_activation=("hard_sigmoid", "0.2", 0.5))
    with pytest.raises(TypeError, match="beta of recurrent_activation is a bool"):
        fastrnn.GRU(2, 3, recurrent_activation=("hard_sigmoid", 0.2, True))


@pytest.mark.parametrize("kind", [fastrnn.RNN, fastrnn.RNNCell])
def test_an_rnn_has_only_a_sigmoid_that_can_be_hard(kind):
    with pytest.raises(ValueError, match=r"only with nonlinearity=.sigmoid., got .*'tanh'"):
        kind(2, 3, recurrent_activation="hard_sigmoid")
    assert (
        kind(2, 3, nonlinearity="sigmoid", recurrent_activation=HARD).recurrent_activation == HARD
    )
