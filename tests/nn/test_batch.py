"""One way through a call: what a batch refuses, whose it is, and what it leaves behind."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from families import FAMILIES, make, normal

import fastrnn
from fastrnn import _core, pack_padded_sequence
from fastrnn.models import LanguageModel


def outputs(result):
    """All arrays in a nest of tuples; of a packed batch the data."""
    if isinstance(result, fastrnn.PackedSequence):
        return [result.data]
    if isinstance(result, tuple):
        return [array for part in result for array in outputs(part)]
    return [] if result is None else [result]


def assert_same_bits(got, wanted):
    got, wanted = outputs(got), outputs(wanted)
    assert len(got) == len(wanted)
    for ours, theirs in zip(got, wanted, strict=True):
        assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))


LAYOUTS = {
    "padded": lambda x: (x, {}),
    "with lengths": lambda x: (x, {"lengths": [5, 2, 4]}),
    "one row": lambda x: (x[:, 0], {}),
    "packed": lambda x: (pack_padded_sequence(x, [5, 2, 4], enforce_sorted=False), {}),
    "no rows": lambda x: (x[:, :0], {}),
}


@pytest.mark.parametrize("learned_state", [False, True], ids=["zeros", "learned"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_vjp_gives_what_the_call_gives(family, layout, learned_state, rng):
    layer = make(family, 3, 6, 2, bidirectional=True, learned_state=learned_state)
    if learned_state:
        for part in layer._first_state:
            part[...] = normal(rng, *part.shape)
    x, options = LAYOUTS[layout](normal(rng, 5, 3, 3))
    called = layer(x, **options)
    recorded, pullback = layer.vjp(x, **options)
    assert_same_bits(recorded, called)
    dx, dstate = pullback(*recorded)
    assert [a.shape for a in outputs((dx, dstate))] == [a.shape for a in outputs((x, called[1]))]
    with pytest.raises(RuntimeError, match="called once"):
        pullback(*recorded)


@pytest.mark.parametrize("layout", ["padded", "one row", "packed"])
def test_a_given_state_starts_every_layout_as_zeros_and_the_learned_one_do(layout, rng):
    for family in ("gru", "lstm_projected"):
        layer = make(family, 3, 6, 2, learned_state=True)
        for part in layer._first_state:
            part[...] = normal(rng, *part.shape)
        x, options = LAYOUTS[layout](normal(rng, 5, 3, 3))
        rows = () if layout == "one row" else (3,)
        state = [
            np.broadcast_to(part.reshape(2, *(1 for _ in rows), -1), (2, *rows, part.shape[1]))
            for part in layer._first_state
        ]
        given = tuple(state) if layer.has_cell else state[0]
        assert_same_bits(layer(x, given, **options), layer(x, **options))
        assert_same_bits(layer.vjp(x, given, **options)[0], layer(x, **options))


@pytest.mark.parametrize("steps", [4, 40])
def test_lengths_of_one_row_of_tokens_are_refused_whether_or_not_tokens_are_folded(steps):
    model, tokens = LanguageModel(5, 3, 4), np.arange(steps) % 5
    with pytest.raises(ValueError, match="lengths needs a batch, but x has 2 dimensions"):
        model.vjp(tokens, lengths=[steps])
    with pytest.raises(ValueError, match="lengths needs a batch, but x has 2 dimensions"):
        model(tokens, lengths=[steps])


@pytest.mark.parametrize(
    "lengths", [[5, 2.5, 4], [5, "2", 4], [5, [2], 4], [5, 2**70, 4], [5, None, 4]]
)
def test_a_list_of_lengths_holds_ints(lengths, rng):
    with pytest.raises((TypeError, ValueError), match="lengths"):
        fastrnn.GRU(3, 4)(normal(rng, 5, 3, 3), lengths=lengths)


def test_lengths_and_batch_sizes_that_change_after_a_call_change_no_gradient(rng):
    layer, x = fastrnn.LSTM(3, 4, 2), normal(rng, 5, 3, 3)
    lengths = np.array([5, 2, 4])
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    for given, options in ((x, {"lengths": lengths}), (packed, {})):
        (y, _), pullback = layer.vjp(given, **options)
        wanted = pullback(y)
        (y, _), pullback = layer.vjp(given, **options)
        changed = options.get("lengths", packed.batch_sizes)
        before = changed.copy()
        changed[...] = 1
        dx, dstate = pullback(outputs(y)[0] if given is packed else y)
        changed[...] = before
        assert_same_bits((outputs(dx), dstate)[1], wanted[1])
        assert_same_bits(outputs(dx)[0], outputs(wanted[0])[0])


def test_calls_of_all_sizes_share_a_workspace_in_any_order(rng):
    layer = fastrnn.GRU(3, 20, 2, bidirectional=True)
    sizes = [(1, 1), (40, 9), (9, 40), (2, 1), (40, 9), (40, 9), (1, 300), (300, 1), (1, 1)]
    inputs = [normal(rng, *size, 3) for size in sizes]
    with fastrnn.num_threads(1):
        wanted = []
        for x in inputs:
            layer.trim()
            wanted.append(layer(x))
    for threads in (1, 3, 2):
        with fastrnn.num_threads(threads):
            for x, expected in zip(inputs, wanted, strict=True):
                assert_same_bits(layer(x), expected)
                layer.vjp(x)[1](None)


def test_gradients_find_the_layer_where_it_has_moved_to(rng):
    layer, x = fastrnn.LSTM(3, 4, learned_state=True), normal(rng, 5, 2, 3)
    (y, _), pullback = layer.vjp(x)
    pullback(y)
    wanted = layer.flat_grad.copy()
    layer.zero_grad()
    (y, _), pullback = layer.vjp(x)
    model = fastrnn.WeightDrop(layer)
    pullback(y)
    np.testing.assert_array_equal(model.flat_grad[: wanted.size], wanted)


def test_a_layer_that_keeps_its_pullback_is_collected(rng):
    layer = fastrnn.GRU(3, 4)
    _, layer.pullback = layer.vjp(normal(rng, 5, 2, 3))
    gone = weakref.ref(layer)
    del layer
    gc.collect()
    assert gone() is None


def recorded(layer, x):
    """A batch of the layer, its y, and the only tape."""
    weights = layer._current_backward_weights()
    batch = weights.stack.batch(layer, "state", x)
    return weights, batch, *weights.record(batch, 0, None, batch.steps)


def test_a_batch_belongs_to_one_stack(rng):
    one, other = fastrnn.GRU(3, 4), fastrnn.GRU(3, 4)
    weights, batch, y, _ = recorded(one, normal(rng, 5, 2, 3))
    with pytest.raises(ValueError, match="batch was made for another stack"):
        other._stack.run(batch)
    for wrong in ((batch, 1, y), (batch, -1, None), (batch, 0, y)):
        with pytest.raises(ValueError, match="must belong to this stack"):
            weights.record(*wrong, 5)
    with pytest.raises(ValueError, match="must belong to this stack"):
        other._current_backward_weights().record(batch, 0, None, 5)


def test_only_one_layer_in_one_direction_runs_a_single_step():
    for layers, directions in ((2, 1), (1, 2)):
        with pytest.raises(ValueError, match="one layer in one direction"):
            _core.Stack("gru", 3, 4, layers, directions, 0, True, False, single_step=True)


def test_a_tape_takes_the_gradients_of_its_batch_and_room_that_fits(rng):
    layer, x = fastrnn.GRU(3, 4), normal(rng, 5, 2, 3)
    (_, batch, y, tape), (_, stranger, _, _) = recorded(layer, x), recorded(layer, x)
    gradients, grad = _core.Gradients(batch, y, None), layer.flat_grad
    with pytest.raises(ValueError, match="must belong to this tape"):
        tape.backward(_core.Gradients(stranger, y, None), None, grad)
    with pytest.raises(ValueError, match="must belong to this tape"):
        tape.backward(gradients, y, grad)
    read_only = grad.copy()
    read_only.flags.writeable = False
    for wrong in (grad[:-1], grad.astype(float), read_only, np.repeat(grad, 2)[::2], None):
        with pytest.raises(ValueError, match=r"parameters must be a C-contiguous float32 array"):
            tape.backward(gradients, None, wrong)
    with pytest.raises(ValueError, match="flow must be"):
        tape.backward(gradients, None, grad, np.zeros((1, 4, 2), np.float32))
    assert not grad.any()
    assert tape.backward(gradients, None, grad).shape == x.shape
    with pytest.raises(RuntimeError, match="used up"):
        tape.backward(gradients, None, grad)
