"""Every gradient of every layer against the float64 reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
from families import FAMILIES, LSTMS, call, make, normal, of_one, outer, same_bits, states, vjp
from reference_backward import layer_tolerance_backward, run_layer_backward

AWKWARD = [1, 17, 65]  # tests/c/test_backward.c has more


def turned(layer, array):
    """Between (T, N, *) and the layer's own layout, both ways."""
    return array.swapaxes(0, 1) if layer.batch_first and array is not None else array


def largest(*arrays: Any) -> float:
    return max(float(np.abs(part).max(initial=0)) for part in arrays if part is not None)


def assert_close(name, ours, theirs, limit):
    assert ours.dtype == np.float32, name
    assert ours.shape == theirs.shape, name
    assert np.abs(ours - theirs).max(initial=0) <= limit, name


def assert_follows_reference(layer, given, lengths, outside):
    """dx, dh_0, dc_0 and all of layer.grads; given: x, h_0, c_0; outside: dy, dh_n, dc_n.

    x and dy are (T, N, *). The results of the forward pass are those of a call, bit for bit.
    """
    x, h, c = given
    *wanted, grads = run_layer_backward(layer, *given, lengths, *outside)
    own_x = turned(layer, x)
    results, pullback = vjp(layer, own_x, h, c, lengths)
    assert same_bits(results, call(layer, own_x, h, c, lengths))
    layer.zero_grad()
    dx, *dstate = pullback(turned(layer, outside[0]), *outside[1:])
    scale = largest(*given, *outside, *results, *wanted, *grads.values())
    limit = layer_tolerance_backward(layer, *x.shape[:2], scale)
    assert_close("dx", turned(layer, dx), wanted[0], limit)
    for name, ours, theirs in zip(("dh_0", "dc_0"), dstate, wanted[1:], strict=True):
        if ours is not None:
            assert_close(name, ours, theirs, limit)
    assert list(layer.grads) == list(grads)
    for name, theirs in grads.items():
        assert_close(name, layer.grads[name], theirs, limit)


@pytest.mark.parametrize("hidden", AWKWARD)
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_a_layer_of_any_size_follow_the_reference(family, hidden, rng):
    layer = make(family, AWKWARD[-AWKWARD.index(hidden) - 1], hidden)
    for steps, rows in ((1, 1), (2, 3), (5, 7)):
        x = normal(rng, steps, rows, layer.input_size)
        given = (x, *states(rng, layer, rows))
        assert_follows_reference(layer, given, None, outer(rng, layer, steps, rows))
        assert_follows_reference(
            layer, (x, None, None), None, (normal(rng, steps, rows, layer.output_size), None, None)
        )


@pytest.mark.parametrize("rows", [2, 7, 33])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_a_batch_of_any_size_follow_the_reference(family, rows, rng):
    layer = make(family, 5, 17)
    given = (normal(rng, 3, rows, 5), *states(rng, layer, rows))
    assert_follows_reference(layer, given, None, outer(rng, layer, 3, rows))


@pytest.mark.parametrize(("bias", "batch_first"), [(True, False), (False, True)])
@pytest.mark.parametrize("merge", [None, "concat", "sum"])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_with_all_options_follow_the_reference(
    family, num_layers, merge, bias, batch_first, rng
):
    directions = {} if merge is None else {"bidirectional": True, "merge": merge}
    layer = make(family, 4, 9, num_layers, bias=bias, batch_first=batch_first, **directions)
    x, start = normal(rng, 6, 5, 4), states(rng, layer, 5)
    outside = outer(rng, layer, 6, 5)
    assert_follows_reference(layer, (x, None, None), None, outside)
    assert_follows_reference(layer, (x, *start), [6, 0, 3, 1, 6], outside)
    assert_follows_reference(layer, (x, *start), [2, 0, 3, 1, 2], outside)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_through_a_long_sequence_follow_the_reference(family, rng):
    layer = make(family, 8, 130, 2)
    given = (normal(rng, 70, 2, 8), *states(rng, layer, 2))
    assert_follows_reference(layer, given, None, outer(rng, layer, 70, 2))


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"rnn_relu", "rnn_identity"}))
def test_gradients_of_saturated_activations_follow_the_reference(family, rng):
    layer = make(family, 3, 17)
    given = (60 * normal(rng, 4, 3, 3), *states(rng, layer, 3))
    assert_follows_reference(layer, given, None, outer(rng, layer, 4, 3))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_loss_of_the_last_state_alone_reaches_everything(family, rng):
    layer = make(family, 4, 9, 2, bidirectional=True)
    given = (normal(rng, 5, 3, 4), *states(rng, layer, 3))
    _, dh, dc = outer(rng, layer, 5, 3)
    assert_follows_reference(layer, given, [5, 2, 0], (None, dh, dc))
    assert all(gradient.any() for gradient in layer.grads.values())


def test_relu_has_no_slope_at_zero():
    layer = make("rnn_relu", 3, 5, bias=False)
    _, pullback = vjp(layer, np.zeros((2, 1, 3), np.float32))
    dx, dh, _ = pullback(np.ones((2, 1, 5), np.float32))
    assert not dx.any()
    assert not dh.any()
    assert not layer.flat_grad.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_gradient_of_the_results_everything_is_zero(family, rng):
    layer = make(family, 3, 5, 2, bidirectional=True)
    _, pullback = vjp(layer, normal(rng, 4, 2, 3), *states(rng, layer, 2))
    for gradient in pullback(None):
        assert gradient is None or not gradient.any()
    assert not layer.flat_grad.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_without_steps_hand_their_gradient_straight_back(family, rng):
    layer = make(family, 3, 5, 2, bidirectional=True)
    _, pullback = vjp(layer, normal(rng, 4, 3, 3), *states(rng, layer, 3), [0, 0, 0])
    dy, dh, dc = outer(rng, layer, 4, 3)
    dx, *dstate = pullback(dy, dh, dc)
    assert not dx.any()
    assert same_bits(dstate, (dh, dc))
    assert not layer.flat_grad.any()


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_an_unbatched_sequence_equal_those_of_a_batch_of_one(family, batch_first, rng):
    layer = make(family, 3, 5, 2, batch_first=batch_first, bidirectional=True)
    x, (h, c), (dy, dh, dc) = normal(rng, 4, 3), states(rng, layer, 1), outer(rng, layer, 4, 1)
    results, pullback = vjp(layer, x, *without_rows(h, c))
    assert same_bits(results, call(layer, x, *without_rows(h, c)))
    dx, *dstate = pullback(dy[:, 0], *without_rows(dh, dc))
    alone = layer.flat_grad.copy()
    layer.zero_grad()
    axis = 0 if batch_first else 1
    _, pullback = vjp(layer, np.expand_dims(x, axis), h, c)
    wanted, *wanted_state = pullback(np.expand_dims(dy[:, 0], axis), dh, dc)
    assert same_bits([dx], [wanted.squeeze(axis)])
    assert same_bits(dstate, without_rows(*wanted_state))
    assert same_bits([alone], [layer.flat_grad])


def without_rows(h, c):
    """The states of one row; c may be missing."""
    return h[:, 0], None if c is None else c[:, 0]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_empty_batch_has_empty_gradients(family):
    layer = make(family, 3, 4, 2)
    _, pullback = vjp(layer, np.zeros((5, 0, 3), np.float32), lengths=[])
    dx, dh, _ = pullback(np.zeros((5, 0, layer.output_size), np.float32))
    assert dx.shape == (5, 0, 3)
    assert dh.shape == (2, 0, layer.state_size)
    assert not layer.flat_grad.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pullback_adds_to_the_gradients_there_are(family, rng):
    layer = make(family, 5, 17, 2, bidirectional=True)
    wanted = {name: np.float64(g) for name, g in layer.grads.items()}
    for rows in (3, 2):
        given, outside = (normal(rng, 4, rows, 5), None, None), outer(rng, layer, 4, rows)
        vjp(layer, *given)[1](*outside)
        for name, gradient in run_layer_backward(layer, *given, None, *outside)[-1].items():
            wanted[name] += gradient
    scale = largest(*wanted.values())
    limit = layer_tolerance_backward(layer, 4, 5, scale)
    for name, theirs in wanted.items():
        assert_close(name, layer.grads[name], theirs, limit)
    layer.zero_grad()
    assert not layer.flat_grad.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_pullbacks_of_several_calls_do_not_disturb_each_other(family, rng):
    layer = make(family, 3, 9, 2)
    problems = [(normal(rng, 4, 2, 3), outer(rng, layer, 4, 2)) for _ in range(3)]
    alone = [vjp(layer, x)[1](*outside) for x, outside in problems]
    pullbacks = [vjp(layer, x)[1] for x, _ in problems]
    for i in (2, 0, 1):
        assert same_bits(pullbacks[i](*problems[i][1]), alone[i])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_vjp_changes_no_argument_and_no_parameter(family, rng):
    layer = make(family, 3, 5, 2, bidirectional=True)
    arrays = [normal(rng, 4, 2, 3), *states(rng, layer, 2), *outer(rng, layer, 4, 2), layer.flat]
    kept = [None if part is None else part.copy() for part in arrays]
    vjp(layer, *arrays[:3], [4, 2])[1](*arrays[3:6])
    assert same_bits(arrays, kept)


# ---- flow ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [name for name in FAMILIES if "projected" not in name])
def test_flow_holds_the_norms_of_the_states_gradients(family, rng):
    """dh of a step: what the rest of the sequence hands to it, plus its own dy."""
    layer = make(family, 4, 17)
    x, (dy, dh, dc) = normal(rng, 5, 3, 4), outer(rng, layer, 5, 3)
    _, pullback = layer.vjp(x, flow=True)
    pullback(dy, of_one(layer, dh, dc))
    limit = layer_tolerance_backward(layer, 5, 3, largest(x, dy, dh)) * 3 * 17
    for t in range(5):
        _, *state = call(layer, x[: t + 1])
        rest = [d[t + 1 :] for d in (x, dy)]
        from_rest = dh if t == 4 else gradient_of_state(layer, rest, state, dh, dc)
        wanted = np.linalg.norm(from_rest[0] + dy[t])
        assert layer.last_flow.norm[0, t] == pytest.approx(wanted, abs=limit)


def gradient_of_state(layer, rest, state, dh, dc):
    x, dy = rest
    return run_layer_backward(layer, x, *state, None, dy, dh, dc)[1]


SATURATED = {
    "rnn_tanh": lambda h: np.abs(h) > 0.9,
    "rnn_relu": lambda h: h == 0,
    "rnn_sigmoid": lambda h: outside_the_middle(h),
    "rnn_identity": lambda h: np.zeros_like(h),
}


def outside_the_middle(gate):
    return (gate < 0.1) | (gate > 0.9)


def saturated_share(name, x, h, c, w):
    """Of one step: sigmoid gates outside 0.1 to 0.9."""
    if name.startswith("rnn"):
        return SATURATED[name](reference.STEPS[name](x, h, c, w)[0]).mean()
    return outside_the_middle(np.stack(reference.GATES[name](x, h, c, w))).mean()


@pytest.mark.parametrize("family", FAMILIES)
def test_flow_holds_the_share_of_saturated_gates(family, rng):
    layer = make(family, 4, 17)
    x, name = 8 * normal(rng, 5, 3, 4), reference.cell_name(layer)
    _, pullback = layer.vjp(x, flow=True)
    pullback(normal(rng, 5, 3, layer.output_size))
    assert layer.last_flow.saturated.shape == (1, 5)
    w, units = reference.weights(layer.state_dict(), "_l0"), layer.hidden_size
    h, c = np.zeros((3, layer.state_size)), np.zeros((3, units))
    for t, step in enumerate(np.float64(x)):
        wanted = saturated_share(name, step, h, c, w)
        assert layer.last_flow.saturated[0, t] == pytest.approx(wanted, abs=1e-6)
        h, c = reference.STEPS[name](step, h, c, w)


# ---- dropout: with the generator started anew, the same units are dropped ------------------------


def test_gradients_pass_dropout_where_values_did(rng):
    """An identity RNN is linear in x and in a layer's W_ih, so slopes are exact differences."""
    layer = make("rnn_identity", 6, 20, 3, dropout=0.4, bidirectional=True)
    x, dy = normal(rng, 4, 3, 6), normal(rng, 4, 3, 40)

    def forward(at=x):
        layer.seed(5)
        (y, _), pullback = layer.vjp(at)
        return float((np.float64(dy) * y).sum()), pullback

    before, pullback = forward()
    dx, _ = pullback(dy)
    grads = {name: gradient.copy() for name, gradient in layer.grads.items()}
    limit = layer_tolerance_backward(layer, 4, 3, largest(*grads.values(), dx)) * 4 * 3 * 40
    v = normal(rng, *x.shape)
    assert forward(x + v)[0] - before == pytest.approx(float((dx * v).sum()), abs=limit)
    for name in (name for name in grads if "weight_ih" in name):
        v = normal(rng, *grads[name].shape)
        layer.parameters[name][...] += v
        layer.repack()
        slope = float((grads[name] * v).sum())
        assert forward()[0] - before == pytest.approx(slope, rel=1e-3, abs=limit)
        layer.parameters[name][...] -= v


def test_dropout_drops_in_a_vjp_and_never_in_a_call(rng):
    layer = make("gru", 4, 30, 2, dropout=0.5)
    x = normal(rng, 5, 3, 4)
    layer.seed(1)
    first, second = layer.vjp(x)[0][0], layer.vjp(x)[0][0]
    layer.seed(1)
    assert same_bits([layer.vjp(x)[0][0]], [first])
    assert not np.array_equal(first, second)
    assert same_bits([layer(x)[0]], [layer(x)[0]])


# ---- what is refused -----------------------------------------------------------------------------


@pytest.fixture(params=["gru", "lstm_projected"])
def layer(request):
    return make(request.param, 3, 6, 2)


def test_a_pullback_may_be_called_once(layer, rng):
    _, pullback = vjp(layer, normal(rng, 4, 2, 3))
    pullback(normal(rng, 4, 2, layer.output_size))
    once = layer.flat_grad.copy()
    with pytest.raises(RuntimeError, match="called"):
        pullback(normal(rng, 4, 2, layer.output_size))
    assert same_bits([layer.flat_grad], [once])


@pytest.mark.parametrize("shape", [(4, 2, 9), (4, 3), (2, 4), (4, 2), (), (3, 2), (4, 2, 1)])
def test_a_gradient_of_another_shape_than_y_is_refused(layer, shape, rng):
    shape = (*shape, layer.output_size) if len(shape) < 3 else shape
    if shape == (4, 2, layer.output_size):
        shape = (4, 2, layer.output_size + 1)
    _, pullback = vjp(layer, normal(rng, 4, 2, 3))
    with pytest.raises(ValueError, match="dy has"):
        pullback(normal(rng, *shape))
    assert not layer.flat_grad.any()


def test_a_gradient_that_is_no_numbers_is_refused(layer, rng):
    for dy in (np.zeros((4, 2, layer.output_size), complex), "dy", np.array(["a"])):
        _, pullback = vjp(layer, normal(rng, 4, 2, 3))
        with pytest.raises(TypeError, match="dy"):
            pullback(dy)


def test_a_gradient_of_another_shape_than_the_state_is_refused(layer, rng):
    h, c = states(rng, layer, 2)
    wrong = [(h[:1], c), (h[:, :1], c), (h[..., :2], c), (h[0], c)]
    if layer.has_cell:
        wrong += [(h, c[:1]), (h, c[:, :1]), (h, h), (h, c[0])]
    for dh, dc in wrong:
        _, pullback = vjp(layer, normal(rng, 4, 2, 3))
        with pytest.raises(ValueError, match=r"dh_n|dc_n|dstate"):
            pullback(None, dh, dc)
        assert not layer.flat_grad.any()


@pytest.mark.parametrize("family", LSTMS)
def test_the_gradient_of_an_lstm_s_state_is_a_pair(family, rng):
    layer = make(family, 3, 6, 2)
    h, c = states(rng, layer, 2)
    for bad in (h, (h,), (h, c, c), "hc", (h, None)):
        _, pullback = layer.vjp(normal(rng, 4, 2, 3))
        with pytest.raises((TypeError, ValueError), match="dstate"):
            pullback(None, bad)
    layer = make("gru", 3, 6, 2)
    _, pullback = layer.vjp(normal(rng, 4, 2, 3))
    with pytest.raises(TypeError, match="dstate"):
        pullback(None, (h, c))


def test_a_vjp_refuses_what_a_call_refuses(layer, rng):
    h, c = states(rng, layer, 2)
    good = normal(rng, 4, 2, 3)
    for x, start, lengths in (
        (normal(rng, 4, 2, 5), (None, None), None),
        (normal(rng, 3), (None, None), None),
        (normal(rng, 0, 2, 3), (None, None), None),
        (good, (h[:1], c), None),
        (good, (None, None), [5, 1]),
        (good, (None, None), [1]),
        (good[0], (None, None), [4, 4]),
    ):
        with pytest.raises(ValueError) as ours:  # noqa: PT011 - compared below
            vjp(layer, x, *start, lengths)
        with pytest.raises(ValueError) as theirs:  # noqa: PT011
            call(layer, x, *start, lengths)
        assert str(ours.value) == str(theirs.value)


def test_a_refused_gradient_can_be_corrected(layer, rng):
    x, dy = normal(rng, 4, 2, 3), normal(rng, 4, 2, layer.output_size)
    wanted = vjp(layer, x)[1](dy)
    _, pullback = vjp(layer, x)
    with pytest.raises(ValueError, match="dy"):
        pullback(dy[:2])
    assert same_bits(pullback(dy), wanted)


def test_a_state_argument_is_made_from_its_parts():
    """What `of_one` gives, since all tests above rest on it."""
    gru, lstm = make("gru", 1, 1), make("lstm", 1, 1)
    assert of_one(gru, 1, None) == 1
    assert of_one(lstm, 1, 2) == (1, 2)
    assert of_one(lstm, None, None) is None
