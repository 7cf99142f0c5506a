"""First values on request: orthogonal recurrent weights, open forget gates."""

from __future__ import annotations

import numpy as np
import pytest
from families import FAMILIES, LSTMS, make, normal

import fastrnn
from fastrnn import _core, init
from fastrnn.models import LanguageModel


def recurrent_weights(layer):
    """Name and gates (G, H, R) of every recurrent weight."""
    for name, tensor in layer.parameters.items():
        if "weight_hh" in name:
            yield name, tensor.reshape(-1, layer.hidden_size, tensor.shape[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_gate_s_recurrent_weights_are_orthogonal(family):
    layer = make(family, 3, 20, 2, bidirectional=True)
    before = layer.state_dict()
    init.orthogonal(layer, seed=3)
    seen = 0
    for _, gates in recurrent_weights(layer):
        for gate in np.float64(gates):
            assert np.abs(gate.T @ gate - np.eye(gate.shape[1])).max() <= 1e-6
            seen += 1
    assert seen == 4 * _core.families()[type(layer).__name__]
    for name, tensor in layer.parameters.items():
        assert ("weight_hh" in name) != np.array_equal(tensor, before[name])


def test_orthogonal_weights_are_the_same_for_the_same_seed_and_seen_by_the_kernels(rng):
    layers = [fastrnn.GRU(3, 8) for _ in range(3)]
    for layer, seed in zip(layers, (1, 1, 2), strict=True):
        layer.load_state_dict(layers[0].state_dict())
        init.orthogonal(layer, seed)
    x = normal(rng, 4, 2, 3)
    one, same, other = (layer(x)[0] for layer in layers)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    fresh = fastrnn.GRU(3, 8)
    fresh.load_state_dict(layers[0].state_dict())
    assert np.array_equal(fresh(x)[0], one)


@pytest.mark.parametrize("family", LSTMS)
def test_the_biases_of_a_forget_gate_add_up(family):
    for value in (1.0, -2):
        layer = make(family, 3, 8, 2, bidirectional=True)
        before = layer.state_dict()
        init.forget_bias(layer, value)
        for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
            both = layer.parameters[f"bias_ih_{suffix}"] + layer.parameters[f"bias_hh_{suffix}"]
            assert (both[8:16] == value).all()
            old = before[f"bias_ih_{suffix}"] + before[f"bias_hh_{suffix}"]
            assert np.array_equal(np.delete(both, range(8, 16)), np.delete(old, range(8, 16)))


def test_a_whole_model_and_a_cell_can_be_initialised():
    model = LanguageModel(7, 5, 6, 2, dropout=0.5)
    init.orthogonal(model, 1)
    init.forget_bias(model)
    weight = model.parameters["rnn.weight_hh_l1"][:6]
    assert np.allclose(weight @ weight.T, np.eye(6), atol=1e-6)
    assert (model.rnn.parameters["bias_ih_l1"][6:12] == 1).all()
    cell = fastrnn.LSTMCell(3, 4)
    init.orthogonal(cell)
    init.forget_bias(cell)
    assert (cell.parameters["bias_ih"][4:8] == 1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init.orthogonal(fastrnn.Linear(3, 4)), "a Linear without recurrent weights"),
        (lambda: init.forget_bias(fastrnn.GRU(3, 4)), "layer is no LSTM"),
        (lambda: init.forget_bias(fastrnn.LSTM(3, 4, bias=False)), "layer has no biases"),
        (lambda: init.forget_bias(fastrnn.LSTM(3, 4), float("nan")), "value is nan"),
        (lambda: init.orthogonal(fastrnn.GRU(3, 4), -1), "seed is -1"),
    ],
)
def test_what_cannot_be_initialised_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
