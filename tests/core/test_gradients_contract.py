"""The numeric contract of gradients: same bits, whatever the shape of the work.

A weight's gradient is one chain of fused multiply-adds: what stands there already, then the steps
t, last first (in the reverse direction its own steps, whose last is t = 0), and in every step the
rows n, first to last. So a gradient may be gathered in pieces that follow this order.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from families import (
    FAMILIES,
    SIZES,
    has_dead_units,
    make,
    normal,
    outer,
    rows_of,
    same_bits,
    states,
    vjp,
)
from kernels import assert_fused_kernels_agree, layers

import fastrnn


def problem(rng, layer, steps, rows):
    """x, h_0, c_0 and dy, dh_n, dc_n."""
    given = (normal(rng, steps, rows, layer.input_size), *states(rng, layer, rows))
    return given, outer(rng, layer, steps, rows)


def gradients(layer, given, outside, lengths=None):
    """dx, dh_0, dc_0 and a copy of all parameters' gradients, from zero on."""
    layer.zero_grad()
    return (*vjp(layer, *given, lengths)[1](*outside), layer.flat_grad.copy())


def differing(layer, flat, other):
    """The names of the parameters whose gradients differ: what a failure should say."""
    ours, theirs = layer._views(flat), layer._views(other)
    return [name for name in ours if not same_bits([ours[name]], [theirs[name]])]


def assert_same_gradients(layer, got, wanted):
    for name, ours, theirs in zip(("dx", "dh_0", "dc_0"), got, wanted, strict=False):
        assert same_bits([ours], [theirs]), name
    assert not differing(layer, got[3], wanted[3])


def test_a_row_s_gradient_does_not_depend_on_its_neighbours(layer, rng):
    given, outside = problem(rng, layer, 4, 33)
    together = gradients(layer, given, outside)[:3]
    for part in (slice(0, 1), slice(32, 33), slice(3, 5), slice(10, 16), slice(20, 27)):
        alone = gradients(layer, rows_of(given, part), rows_of(outside, part))[:3]
        assert same_bits(alone, rows_of(together, part))


def test_gradients_do_not_depend_on_the_number_of_threads(layer, rng):
    for rows in (9, 1):
        given, outside = problem(rng, layer, 5, rows)
        with fastrnn.num_threads(1):
            wanted = gradients(layer, given, outside)
        for threads in (2, 3):
            with fastrnn.num_threads(threads):
                assert_same_gradients(layer, gradients(layer, given, outside), wanted)


@pytest.mark.parametrize(
    "family", ["rnn_tanh", "lstm", "lstm_projected", "gru", "gru_reset_before"]
)
def test_gradients_of_large_layers_do_not_depend_on_the_number_of_threads_either(family, rng):
    layer = make(family, 96, 320, bidirectional=True)
    for rows in (1, 40):
        given, outside = problem(rng, layer, 6, rows)
        with fastrnn.num_threads(1):
            wanted = gradients(layer, given, outside)
        for threads in (2, 3):
            with fastrnn.num_threads(threads):
                assert_same_gradients(layer, gradients(layer, given, outside), wanted)


def test_gradients_of_rows_of_different_lengths_do_not_depend_on_threads(both_ways, rng):
    given, outside = problem(rng, both_ways, 6, 9)
    lengths = [3, 6, 0, 1, 6, 5, 0, 2, 6]
    with fastrnn.num_threads(1):
        wanted = gradients(both_ways, given, outside, lengths)
    for threads in (2, 3):
        with fastrnn.num_threads(threads):
            assert_same_gradients(both_ways, gradients(both_ways, given, outside, lengths), wanted)


@pytest.mark.parametrize("lengths", [None, [13, 2, 0, 7, 13]], ids=["whole", "lengths"])
def test_gradients_do_not_depend_on_the_memory_budget(both_ways, lengths, rng):
    """A small budget computes parts of the forward pass again; the smallest keeps one step."""
    given, outside = problem(rng, both_ways, 13, 5)
    wanted = gradients(both_ways, given, outside, lengths)
    for threads in (1, 2):
        with fastrnn.num_threads(threads):
            with pytest.raises(ValueError, match="need at least") as refused:
                with_budget(both_ways, 1, given, outside, lengths)
            least = int(re.search(r"at least (\d+)", str(refused.value))[1])
            for budget in (least, least + least // 8, least + least // 4, 2 * least, 100 * least):
                got = with_budget(both_ways, budget, given, outside, lengths)
                assert_same_gradients(both_ways, got, wanted)


def with_budget(layer, budget, *problem):
    layer.memory_budget = budget
    try:
        return gradients(layer, *problem)
    finally:
        layer.memory_budget = None


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_do_not_depend_on_what_memory_held_before(family, rng):
    """Kernels run whole vectors; what lies beside the last unit must be made zero, not found so."""
    for hidden in (3, 17, 33):
        layer = make(family, 5, hidden, 2, bidirectional=True)
        given, outside = problem(rng, layer, 4, 3)
        wanted = gradients(layer, given, outside, [4, 2, 3])
        for kibibytes in (1, 4, 16, 64):
            litter = [np.full(kibibytes * 256, np.nan, np.float32) for _ in range(64)]
            del litter
            got = gradients(layer, given, outside, [4, 2, 3])
            assert_same_gradients(layer, got, wanted)
            assert np.isfinite(got[3]).all()


def test_gradients_repeated_have_the_same_bits(both_ways, rng):
    given, outside = problem(rng, both_ways, 5, 4)
    first = gradients(both_ways, given, outside, [5, 1, 0, 3])
    assert_same_gradients(both_ways, gradients(both_ways, given, outside, [5, 1, 0, 3]), first)


def test_gradients_of_a_cut_sequence_equal_those_of_a_whole_one(layer, rng):
    """Pieces forward first to last, back last to first: the order of the one chain."""
    given, outside = problem(rng, layer, 7, 3)
    wanted = gradients(layer, given, outside)
    for cuts in ([3], [1, 2, 6], [1, 2, 3, 4, 5, 6]):
        layer.zero_grad()
        state, pullbacks = given[1:], []
        for piece in np.split(given[0], cuts):
            (_, *state), pullback = vjp(layer, piece, *state)
            pullbacks.append(pullback)
        dstate, dx = outside[1:], []
        for pullback, dy in zip(pullbacks[::-1], np.split(outside[0], cuts)[::-1], strict=True):
            piece, *dstate = pullback(dy, *dstate)
            dx.insert(0, piece)
        got = (np.concatenate(dx), *dstate, layer.flat_grad)
        assert_same_gradients(layer, got, wanted)


def test_gradients_of_one_step_may_be_gathered_row_by_row(layer, rng):
    given, outside = problem(rng, layer, 1, 9)
    wanted = gradients(layer, given, outside)[3]
    for cuts in ([4], [1, 7], range(1, 9)):
        layer.zero_grad()
        for part in np.split(np.arange(9), cuts):
            vjp(layer, *rows_of(given, part))[1](*rows_of(outside, part))
        assert not differing(layer, layer.flat_grad, wanted)


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_weight_gradient_is_the_chain_of_its_products(family, rows, rng):
    """The biases' products have no second factor, so their chain is a plain float32 sum.

    From a start of our own: the lowest layer's db_ih = start + da(T-1, 0) + da(T-1, 1) + ..., and
    a pullback of one step and one row from zero gives the bits of each da.
    """
    layer = make(family, 5, 17)
    (x, h, c), outside = problem(rng, layer, 4, rows)
    start = normal(rng, layer.flat_grad.size)
    layer.flat_grad[...] = start
    pullbacks, state = [], (h, c)
    vjp(layer, x, h, c)[1](*outside)
    wanted, total = layer.grads["bias_ih_l0"].copy(), layer._views(start)["bias_ih_l0"]
    for step in x:
        (_, *after), _ = vjp(layer, step[None], *state)
        pullbacks.append([one_row(layer, step, state, n) for n in range(rows)])
        state = after
    dstate = list(outside[1:])
    for dy, back in zip(outside[0][::-1], pullbacks[::-1], strict=True):
        for n, pullback in enumerate(back):
            row = slice(n, n + 1)
            layer.zero_grad()
            _, *before = pullback(*rows_of((dy[None], *dstate), row))
            total = total + layer.grads["bias_ih_l0"]
            for kept, new in zip(dstate, before, strict=True):
                if new is not None:
                    kept[:, row] = new
    assert same_bits([total], [wanted])


def one_row(layer, step, state, n):
    """The pullback of row n of one step x (N, I)."""
    return vjp(layer, *rows_of((step[None], *state), slice(n, n + 1)))[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reverse_direction_s_gradients_are_a_forward_one_s_of_the_reversed_sequence(family, rng):
    both = make(family, 7, 17, bidirectional=True)
    one = type(both)(**both.config | {"bidirectional": False})
    own = {k: v for k, v in both.state_dict().items() if k.endswith("_reverse")}
    one.load_state_dict({k.removesuffix("_reverse"): v for k, v in own.items()})
    (x, h, c), (dy, dh, dc) = problem(rng, both, 6, 5)
    dy[..., : one.output_size], dh[0] = 0, 0  # the forward direction has no part in dx
    if dc is not None:
        dc[0] = 0
    dx, *dstate, _ = gradients(both, (x, h, c), (dy, dh, dc))
    turned = np.ascontiguousarray(x[::-1]), h[1:], None if c is None else c[1:]
    own_dy = np.ascontiguousarray(dy[::-1, :, one.output_size :])
    wanted, *wanted_state, _ = gradients(
        one, turned, (own_dy, dh[1:], dc if dc is None else dc[1:])
    )
    assert np.array_equal(dx, wanted[::-1])
    assert same_bits([None if d is None else d[1:] for d in dstate], wanted_state)
    for name in own:
        assert same_bits([both.grads[name]], [one.grads[name.removesuffix("_reverse")]]), name


@pytest.mark.parametrize("family", FAMILIES)
def test_both_halves_of_a_sum_have_the_whole_gradient(family, rng):
    layer = make(family, 7, 17, bidirectional=True)
    summed = type(layer)(**layer.config | {"merge": "sum"})
    summed.load_state_dict(layer.state_dict())
    given, (dy, *last) = problem(rng, summed, 6, 5)
    wanted = gradients(layer, given, (np.concatenate([dy, dy], axis=2), *last), [6, 2, 0, 5, 6])
    got = gradients(summed, given, (dy, *last), [6, 2, 0, 5, 6])
    assert_same_gradients(layer, got, wanted)


def test_a_short_row_s_gradient_equals_that_of_the_same_row_by_itself(both_ways, rng):
    lengths = [3, 6, 0, 1, 6, 5]
    given, outside = problem(rng, both_ways, 6, 6)
    dx, *dstate, _ = gradients(both_ways, given, outside, lengths)
    for n, length in enumerate(lengths):
        assert not dx[length:, n].any()
        if length:
            own = rows_of((given[0][:length], *given[1:]), slice(n, n + 1))
            own_outside = rows_of((outside[0][:length], *outside[1:]), slice(n, n + 1))
            alone = gradients(both_ways, own, own_outside)[:3]
            assert same_bits(alone, rows_of((dx[:length], *dstate), slice(n, n + 1)))


def test_skipped_steps_and_rows_without_steps_add_nothing(both_ways, rng):
    """One short row among empty ones: the gradients of the row by itself."""
    given, outside = problem(rng, both_ways, 6, 5)
    flat = gradients(both_ways, given, outside, [0, 0, 4, 0, 0])[3]
    own = rows_of((given[0][:4], *given[1:]), slice(2, 3))
    wanted = gradients(both_ways, own, rows_of((outside[0][:4], *outside[1:]), slice(2, 3)))[3]
    assert not differing(both_ways, flat, wanted)


def test_what_stands_past_a_row_s_end_is_never_read_by_a_gradient(both_ways, rng):
    lengths = np.array([3, 6, 0, 1])
    given, outside = problem(rng, both_ways, 6, 4)
    wanted = gradients(both_ways, given, outside, lengths)
    past = np.arange(6)[:, None] >= lengths
    given[0][past] = np.nan
    outside[0][past] = np.nan
    assert_same_gradients(both_ways, gradients(both_ways, given, outside, lengths), wanted)


def test_full_lengths_are_as_good_as_none(both_ways, rng):
    given, outside = problem(rng, both_ways, 5, 3)
    wanted = gradients(both_ways, given, outside)
    assert_same_gradients(both_ways, gradients(both_ways, given, outside, [5, 5, 5]), wanted)


@pytest.mark.parametrize("is_sorted", [True, False])
def test_gradients_of_a_packed_batch_equal_those_of_a_padded_one(both_ways, is_sorted, rng):
    """A packed batch's rows are those of the sorted one, in whose order weight gradients add up."""
    lengths = np.array([3, 6, 2, 1, 6, 5])
    falling = np.argsort(-lengths, kind="stable")
    given, outside = problem(rng, both_ways, 6, 6)
    sorted_ones = rows_of(given, falling), rows_of(outside, falling)
    wanted = gradients(both_ways, *sorted_ones, lengths[falling])
    order = falling if is_sorted else np.arange(6)
    (x, *start), (dy, *last) = rows_of(given, order), rows_of(outside, order)
    x, dy = (
        fastrnn.pack_padded_sequence(part, lengths[order], enforce_sorted=is_sorted)
        for part in (x, dy)
    )
    dx, *rest = gradients(both_ways, (x, *start), (dy, *last))
    results = [fastrnn.pad_packed_sequence(dx)[0], *rest[:2]]
    as_packed = wanted[:3] if is_sorted else rows_of(wanted[:3], np.argsort(falling))
    assert_same_gradients(both_ways, (*results, rest[2]), (*as_packed, wanted[3]))


def test_batch_first_changes_the_layout_and_no_bit_of_a_gradient(both_ways, rng):
    other = type(both_ways)(**both_ways.config | {"batch_first": True})
    other.load_state_dict(both_ways.state_dict())
    (x, *start), (dy, *last) = problem(rng, both_ways, 5, 4)
    for lengths in (None, [2, 0, 5, 4]):
        wanted = gradients(both_ways, (x, *start), (dy, *last), lengths)
        x1, dy1 = x.swapaxes(0, 1), dy.swapaxes(0, 1)
        dx, *rest = gradients(other, (x1, *start), (dy1, *last), lengths)
        got = (np.ascontiguousarray(dx.swapaxes(0, 1)), *rest)
        assert_same_gradients(both_ways, got, wanted)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gradient_that_is_not_finite_stays_in_its_row(family, bad, rng):
    for hidden in (5, 17, 64):
        layer = make(family, 3, hidden, 2)
        given, outside = problem(rng, layer, 5, 8)
        wanted = gradients(layer, given, outside)[:3]
        outside[0][2, 3, 1] = bad
        got = gradients(layer, given, outside)[:3]
        others = np.arange(8) != 3
        assert same_bits(rows_of(got, others), rows_of(wanted, others))
        assert same_bits([got[0][3:]], [wanted[0][3:]])


@pytest.mark.parametrize("family", FAMILIES)
def test_nan_in_a_gradient_gives_nan_in_all_that_it_reaches(family, rng):
    if has_dead_units(family):
        return assert_nan_passes_where_anything_does(family, rng)
    for hidden in (1, 5, 17, 64):
        layer = make(family, 3, hidden)
        given, outside = problem(rng, layer, 4, 2)
        outside[0][2, 0] = np.nan
        dx, dh, dc, _ = gradients(layer, given, outside)
        assert np.isnan(dx[:3, 0]).all()
        assert np.isnan(dh[:, 0]).all()
        assert dc is None or np.isnan(dc[:, 0]).all()
        assert np.isfinite(dx[3]).all()
        assert np.isnan(layer.grads["weight_hh_l0"]).all()
    return None


def assert_nan_passes_where_anything_does(family, rng):
    """A unit that is 0 has no slope, not even for NaN, as in PyTorch."""
    found = []
    given, outside = problem(rng, make(family, 3, 17), 1, 1)
    for value in (np.nan, 1.0):
        layer = make(family, 3, 17)
        for part in outside:
            if part is not None:
                part[...] = value
        gradients(layer, given, outside)
        found.append(layer.grads["bias_ih_l0"])
    assert np.array_equal(np.isnan(found[0]), found[1] != 0)
    assert 0 < np.isnan(found[0]).sum() < found[0].size


def test_gradients_of_linear_do_not_depend_on_neighbours_threads_or_cuts(rng):
    for inputs, outputs in SIZES:
        linear = fastrnn.Linear(inputs, outputs)
        x, dy = normal(rng, 33, inputs), normal(rng, 33, outputs)
        dx = linear.vjp(x)[1](dy)
        wanted = linear.flat_grad.copy()
        assert same_bits(
            [np.stack([linear.vjp(a)[1](b) for a, b in zip(x, dy, strict=True)])], [dx]
        )
        for threads in (1, 2, 3):
            with fastrnn.num_threads(threads):
                linear.zero_grad()
                assert same_bits([linear.vjp(x)[1](dy)], [dx])
                assert same_bits([linear.flat_grad], [wanted])


def test_all_fused_kernels_give_the_same_gradients():
    def gradients():
        rng = np.random.default_rng(3)
        for layer in layers():
            given = normal(rng, 9, 5, layer.input_size), *states(rng, layer, 5)
            pullback = vjp(layer, *given, [9, 2, 0, 5, 9])[1]
            yield from (*pullback(*outer(rng, layer, 9, 5)), *layer.grads.values())

    assert_fused_kernels_agree(gradients)


def test_gradients_of_linear_over_steps_may_be_gathered_in_pieces_the_last_first(rng):
    linear = fastrnn.Linear(9, 21)
    x, dy = normal(rng, 7, 3, 9), normal(rng, 7, 3, 21)
    linear.vjp(x)[1](dy)
    wanted = linear.flat_grad.copy()
    linear.zero_grad()
    for piece in (slice(5, 7), slice(4, 5), slice(0, 4)):
        linear.vjp(x[piece])[1](dy[piece])
    assert same_bits([linear.flat_grad], [wanted])
