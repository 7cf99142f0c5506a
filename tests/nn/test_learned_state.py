"""Learned initial states: where a layer starts if it is given none."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from families import FAMILIES, call, make, normal, of_one

import fastrnn
from fastrnn.models import LanguageModel


def learned(family: str, **options: Any) -> Any:
    """A layer (7 -> 10, 2 layers) whose initial state is not zero."""
    layer = make(family, 7, 10, 2, learned_state=True, **options)
    rng = np.random.default_rng(3)
    for name in ("h_0", "c_0"):
        if name in layer.parameters:
            layer.parameters[name][...] = normal(rng, *layer.parameters[name].shape)
    layer.repack()
    return layer


def plain(layer: Any) -> Any:
    """The same layer without its initial state."""
    options = {k: v for k, v in layer.config.items() if k != "learned_state"}
    twin = type(layer)(**options)
    twin.load_state_dict({k: v for k, v in layer.parameters.items() if k not in ("h_0", "c_0")})
    return twin


def start(layer: Any, rows: int) -> tuple[Any, Any]:
    """The initial state for that many rows."""
    every = (layer.parameters.get(name) for name in ("h_0", "c_0"))
    h, c = (None if s is None else np.stack([s] * rows, axis=1) for s in every)
    return h, c


def assert_same(one: Any, other: Any) -> None:
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        assert a is None or np.array_equal(a, b)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_call_starts_from_the_learned_state(family, bidirectional, rng):
    layer = learned(family, bidirectional=bidirectional)
    twin, x = plain(layer), normal(rng, 5, 4, 7)
    h, c = start(layer, 4)
    for lengths in (None, [2, 0, 5, 4]):
        assert_same(call(layer, x, lengths=lengths), call(twin, x, h, c, lengths))
    zeros = [None if s is None else np.zeros_like(s) for s in (h, c)]
    assert_same(call(layer, x, *zeros), call(twin, x))  # a given state is the state
    one = call(layer, x[:, 1])
    assert_same([one[0], one[1]], [part[:, 1] for part in call(layer, x)[:2]])
    packed = fastrnn.pack_padded_sequence(x, [2, 5, 1, 4], enforce_sorted=False)
    got, wanted = call(layer, packed), call(twin, packed, h, c)
    assert_same([got[0].data, *got[1:]], [wanted[0].data, *wanted[1:]])


@pytest.mark.parametrize("family", FAMILIES)
def test_streams_start_from_the_learned_state_and_return_to_it(family, rng):
    layer = learned(family)
    x = normal(rng, 5, 3, 7)
    wanted = call(layer, x)[0]
    stream = layer.stream(3)
    layer.parameters["h_0"][...] = 0  # a stream keeps what the layer had
    for _ in range(2):
        assert np.array_equal([stream.step(step) for step in x], wanted)
        stream.reorder([1, 1])
        stream.reset()
        assert stream.rows == 3
    states = stream.state if layer.has_cell else (stream.state,)
    layer.parameters["h_0"][...] = 1
    assert not np.array_equal(states[0], start(layer, 3)[0])
    assert_same(states[1:], [c for c in start(layer, 3)[1:] if c is not None])


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_learned_state_gets_the_sum_of_the_rows_gradients(family, bidirectional, rng):
    layer = learned(family, bidirectional=bidirectional)
    twin, x = plain(layer), normal(rng, 5, 4, 7)
    h, c = start(layer, 4)
    dy = normal(rng, 5, 4, layer.output_size)
    packed = fastrnn.pack_padded_sequence(x, [2, 5, 1, 4], enforce_sorted=False)
    dpacked = normal(rng, 12, layer.output_size)
    cases = (x, None, dy), (x, [2, 0, 5, 4], dy), (packed, None, dpacked)
    for given, lengths, gradient in cases:
        layer.zero_grad()
        twin.zero_grad()
        (y, _), pullback = layer.vjp(given, None, lengths)
        (y_twin, _), pullback_twin = twin.vjp(given, of_one(layer, h, c), lengths)
        assert np.array_equal(getattr(y, "data", y), getattr(y_twin, "data", y_twin))
        dx, dstate = pullback(gradient)
        dx_twin, dstate_twin = pullback_twin(gradient)
        assert np.array_equal(getattr(dx, "data", dx), getattr(dx_twin, "data", dx_twin))
        for name in twin.grads:
            assert np.array_equal(layer.grads[name], twin.grads[name]), name
        parts = dstate_twin if layer.has_cell else (dstate_twin,)
        for name, part in zip(("h_0", "c_0"), parts, strict=False):
            np.testing.assert_allclose(
                layer.grads[name], part.sum(axis=1, dtype=np.float64), rtol=1e-4, atol=1e-5
            )
        own = dstate if layer.has_cell else (dstate,)
        assert_same(own, parts)


def test_a_given_state_leaves_the_learned_one_without_gradient(rng):
    layer = learned("lstm")
    _, pullback = layer.vjp(normal(rng, 5, 4, 7), of_one(layer, *start(layer, 4)))
    pullback(normal(rng, 5, 4, 10))
    assert not layer.grads["h_0"].any()
    assert not layer.grads["c_0"].any()
    assert layer.grads["weight_hh_l1"].any()


def test_the_gradient_of_a_learned_state_is_the_slope(rng):
    layer = learned("gru")
    x, dy = normal(rng, 4, 3, 7), normal(rng, 4, 3, 10)
    _, pullback = layer.vjp(x)
    pullback(dy)
    place, step = (1, 2), np.float32(1e-2)
    sums = []
    for sign in (1, -1):
        state = layer.state_dict()
        state["h_0"][place] += sign * step
        twin = learned("gru")
        twin.load_state_dict(state)
        sums.append(float((twin(x)[0].astype(np.float64) * dy).sum()))
    slope = (sums[0] - sums[1]) / (2 * float(step))
    assert abs(slope - layer.grads["h_0"][place]) < 1e-3 * max(1.0, abs(slope))


@pytest.mark.parametrize("family", ["rnn_tanh", "lstm_projected", "gru"])
def test_a_learned_state_is_kept_by_every_way_to_keep_a_layer(family, rng, tmp_path):
    layer = learned(family, bidirectional=True)
    assert "learned_state=True" in repr(layer)
    fastrnn.save(layer, tmp_path / "layer.safetensors")
    twins = [
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        type(layer).from_state_dict({f"a.{k}": v for k, v in layer.state_dict().items()}, "a."),
        type(layer).from_state_dict(
            {f"a.{k}": v for k, v in layer.state_dict().items()}, "a.", learned_state=True
        ),
    ]
    pytest.importorskip("safetensors")
    twins.append(fastrnn.load(tmp_path / "layer.safetensors"))
    for twin in twins:
        assert twin.fingerprint() == layer.fingerprint()
        assert np.array_equal(twin.state_dict()["h_0"], layer.parameters["h_0"])


def test_a_layer_without_a_learned_state_is_as_it_was():
    """Its configuration is in files and snapshots that are older than learned states."""
    assert "learned_state" not in fastrnn.GRU(3, 4).config
    assert "learned_state" not in repr(fastrnn.GRU(3, 4))
    zero = fastrnn.LSTM(3, 4, learned_state=True)
    assert not zero.parameters["h_0"].any()
    assert not zero.parameters["c_0"].any()
    assert list(zero.state_dict())[-2:] == ["h_0", "c_0"]
    assert zero.num_parameters == fastrnn.LSTM(3, 4).num_parameters + 8
    with pytest.raises(TypeError, match="learned_state should be of type bool"):
        fastrnn.RNN(3, 4, learned_state=1)


def test_an_optimiser_and_weight_drop_train_a_learned_state(rng):
    layer = fastrnn.WeightDrop(fastrnn.LSTM(3, 4, learned_state=True), 0.5)
    optimizer = fastrnn.optim.SGD(layer, lr=0.1)
    _, pullback = layer.vjp(normal(rng, 5, 2, 3))
    pullback(normal(rng, 5, 2, 4))
    optimizer.step()
    assert layer.parameters["h_0"].any()
    assert layer.parameters["c_0"].any()


def test_a_language_model_starts_from_a_learned_state(rng, tmp_path):
    model = LanguageModel(11, 5, 6, 2)
    state = model.state_dict()
    h, c = normal(rng, 2, 6), normal(rng, 2, 6)
    tokens = rng.integers(0, 11, (4, 3))
    given = (np.stack([h] * 3, axis=1), np.stack([c] * 3, axis=1))
    wanted = model(tokens, given)[0]
    for names in (("h_0", "c_0"), ("rnn.h0", "rnn.c0")):
        for shape in ((2, 6), (2, 1, 6)):
            mapping = state | {names[0]: h.reshape(shape), names[1]: c.reshape(shape)}
            found = LanguageModel.from_state_dict(mapping)
            assert np.array_equal(found(tokens)[0], wanted)
            stream = found.stream(3)
            assert np.array_equal([stream.step(step) for step in tokens], wanted)
            assert np.array_equal(found.state_dict()["rnn.h_0"], h)
    pytest.importorskip("safetensors")
    found.save(tmp_path / "model.safetensors")
    again = fastrnn.load(tmp_path / "model.safetensors")
    assert np.array_equal(again(tokens)[0], wanted)
    _, backward = again.loss_vjp(tokens, tokens)
    backward()
    assert again.grads["rnn.h_0"].any()
    (generation,) = fastrnn.generate(found, [1], max_new_tokens=3)
    fresh = LanguageModel.from_state_dict(state)
    logits, _ = fresh(np.array([[1]]), (given[0][:, :1], given[1][:, :1]))
    assert generation.tokens[0] == int(logits[-1, 0].argmax())
