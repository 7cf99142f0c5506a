"""The numeric contract at Python level: same bits, whatever the shape of the work."""

from __future__ import annotations

import numpy as np
import pytest
from families import FAMILIES, SIZES, call, is_bounded, make, normal, rows_of, states
from kernels import assert_fused_kernels_agree, layers

import fastrnn


def assert_same_bits(got, wanted):
    """All arrays have the same bits; None stands for a state the family does not have."""
    for ours, theirs in zip(got, wanted, strict=True):
        if theirs is not None:
            assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))


def test_a_row_does_not_depend_on_its_neighbours(layer, rng):
    x, (h, c) = normal(rng, 4, 33, layer.input_size), states(rng, layer, 33)
    together = call(layer, x, h, c)
    for part in (slice(0, 1), slice(32, 33), slice(3, 5), slice(10, 16), slice(20, 27)):
        alone = call(layer, *rows_of((x, h, c), part))
        assert_same_bits(alone, rows_of(together, part))


@pytest.mark.parametrize(
    ("family", "inputs", "units"),
    [
        ("lstm", 8, 820),
        ("lstm", 1, 820),
        ("gru", 20, 940),
        ("gru_reset_before", 9, 940),
        ("rnn_tanh", 1200, 1200),
    ],
)
def test_a_row_does_not_depend_on_its_neighbours_where_no_cache_holds_the_weights(
    family, inputs, units, rng
):
    layer = make(family, inputs, units)  # more than 10 MiB
    x, (h, c) = normal(rng, 2, 8, inputs), states(rng, layer, 8)
    together = call(layer, x, h, c)
    for part in (slice(0, 1), slice(1, 3), slice(2, 5), slice(4, 8), slice(1, 8)):
        assert_same_bits(call(layer, *rows_of((x, h, c), part)), rows_of(together, part))


@pytest.mark.parametrize(("inputs", "outputs"), [(1000, 2700), (48_000, 60), (300, 9000)])
def test_rows_of_a_large_linear_do_not_depend_on_their_neighbours(inputs, outputs, rng):
    layer = fastrnn.Linear(inputs, outputs)
    layer.reset_parameters(seed=0)
    x = normal(rng, 8, inputs)
    together = layer(x)
    for part in (slice(0, 1), slice(1, 3), slice(2, 5), slice(4, 8), slice(1, 8)):
        assert_same_bits([layer(x[part])], [together[part]])


def test_results_do_not_depend_on_the_number_of_threads(layer, rng):
    x, (h, c) = normal(rng, 5, 9, layer.input_size), states(rng, layer, 9)
    with fastrnn.num_threads(1):
        wanted = call(layer, x, h, c)
        alone = call(layer, x[:, :1])
    for threads in (2, 3):
        with fastrnn.num_threads(threads):
            assert_same_bits(call(layer, x, h, c), wanted)
            assert_same_bits(call(layer, x[:, :1]), alone)


@pytest.mark.parametrize(
    "family", ["rnn_tanh", "lstm", "lstm_projected", "gru", "gru_reset_before"]
)
def test_large_layers_do_not_depend_on_the_number_of_threads_either(family, rng):
    layer = make(family, 96, 320, 2, bidirectional=True)
    for rows in (1, 40):
        x = normal(rng, 12, rows, 96)
        with fastrnn.num_threads(1):
            wanted = call(layer, x)
        for threads in (2, 3):
            with fastrnn.num_threads(threads):
                assert_same_bits(call(layer, x), wanted)


def test_a_cut_sequence_equals_a_whole_one(layer, rng):
    x, (h, c) = normal(rng, 7, 3, layer.input_size), states(rng, layer, 3)
    y, *last = call(layer, x, h, c)
    for cuts in ([3], [1, 2, 6], [1, 2, 3, 4, 5, 6]):
        parts, state = [], (h, c)
        for piece in np.split(x, cuts):
            part, *state = call(layer, piece, *state)
            parts.append(part)
        assert_same_bits([np.concatenate(parts), *state], [y, *last])


def test_one_step_at_a_time_equals_a_sequence(layer, rng):
    x = normal(rng, 5, 3, layer.input_size)
    stream = layer.stream(3)
    assert_same_bits([np.stack([stream.step(step) for step in x])], [call(layer, x)[0]])


def cell_of(family):
    """The class of its single-step cell, if there is one; torch's have no projection either."""
    kind, options = FAMILIES[family]
    return None if "proj_size" in options else getattr(fastrnn, kind.__name__ + "Cell", None)


@pytest.mark.parametrize("family", list(filter(cell_of, FAMILIES)))
def test_a_cell_equals_a_layer_of_one_step(family, rng):
    layer, kind = make(family, 7, 17), cell_of(family)
    options = {
        k: layer.config[k] for k in ("nonlinearity", "peephole", "reset") if k in layer.config
    }
    cell = kind(7, 17, **options)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    x, (h, c) = normal(rng, 3, 7), states(rng, layer, 3)
    _, *wanted = call(layer, x[None], h, c)
    got = cell(x, (h[0], c[0])) if c is not None else (cell(x, h[0]), None)
    assert_same_bits([None if part is None else part[None] for part in got], wanted)


def test_a_short_row_equals_the_same_row_run_by_itself(both_ways, rng):
    lengths = [3, 6, 0, 1, 6, 5]
    x, (h, c) = normal(rng, 6, 6, 7), states(rng, both_ways, 6)
    y, *last = call(both_ways, x, h, c, lengths)
    for n, length in enumerate(lengths):
        assert not y[length:, n].any()
        if length:
            row = slice(n, n + 1)
            alone = call(both_ways, *rows_of((x[:length], h, c), row))
            assert_same_bits(alone, rows_of((y[:length], *last), row))


def test_what_stands_past_a_row_s_end_is_never_read(both_ways, rng):
    lengths = np.array([3, 6, 0, 1])
    x = normal(rng, 6, 4, 7)
    wanted = call(both_ways, x, lengths=lengths)
    x[np.arange(6)[:, None] >= lengths] = np.nan
    assert_same_bits(call(both_ways, x, lengths=lengths), wanted)


def test_a_packed_batch_equals_a_padded_one(both_ways, rng):
    lengths = np.array([3, 6, 2, 1, 6, 5])
    x, (h, c) = normal(rng, 6, 6, 7), states(rng, both_ways, 6)
    wanted = call(both_ways, x, h, c, lengths)
    for order in (np.arange(6), np.argsort(-lengths, kind="stable")):
        packed = fastrnn.pack_padded_sequence(
            x[:, order], lengths[order], enforce_sorted=bool(order[0])
        )
        own_c = None if c is None else c[:, order]
        y, *last = call(both_ways, packed, h[:, order], own_c)
        assert_same_bits([fastrnn.pad_packed_sequence(y)[0], *last], rows_of(wanted, order))


def test_batch_first_changes_the_layout_and_no_bit(both_ways, rng):
    other = type(both_ways)(**both_ways.config | {"batch_first": True})
    other.load_state_dict(both_ways.state_dict())
    x, (h, c) = normal(rng, 5, 4, 7), states(rng, both_ways, 4)
    for lengths in (None, [2, 0, 5, 4]):
        y, *last = call(both_ways, x, h, c, lengths)
        turned, *other_last = call(other, x.swapaxes(0, 1), h, c, lengths)
        assert_same_bits([np.ascontiguousarray(turned.swapaxes(0, 1)), *other_last], [y, *last])


def test_a_call_repeated_gives_the_same_bits_and_changes_no_argument(both_ways, rng):
    x, (h, c) = normal(rng, 5, 4, 7), states(rng, both_ways, 4)
    kept = [None if part is None else part.copy() for part in (x, h, c)]
    first = call(both_ways, x, h, c, [5, 1, 0, 3])
    assert_same_bits(call(both_ways, x, h, c, [5, 1, 0, 3]), first)
    assert_same_bits([x, h, c], kept)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_not_finite_stays_in_its_row(family, bad, rng):
    for hidden in (5, 17, 64):
        layer = make(family, 3, hidden, 2)
        x = normal(rng, 5, 8, 3)
        wanted = call(layer, x)
        x[2, 3, 1] = bad
        got = call(layer, x)
        others = np.arange(8) != 3
        assert_same_bits(rows_of(got, others), rows_of(wanted, others))
        assert_same_bits([got[0][:2]], [wanted[0][:2]])


@pytest.mark.parametrize("family", FAMILIES)
def test_nan_in_gives_nan_out_from_that_step_on(family, rng):
    for hidden in (1, 5, 17, 64):
        layer = make(family, 3, hidden, 2)
        x = normal(rng, 5, 2, 3)
        x[2, 0, 1] = np.nan
        y, h_n, _ = call(layer, x)
        assert np.isnan(y[2:, 0]).all()
        assert np.isnan(h_n[:, 0]).all()
        h, c = states(rng, layer, 2)
        h[0, 1, 0] = np.nan
        assert np.isnan(call(layer, normal(rng, 2, 2, 3), h, c)[0][:, 1]).all()


@pytest.mark.parametrize("family", list(filter(is_bounded, FAMILIES)))
def test_infinity_saturates_where_the_equations_say_so(family):
    layer = make(family, 1, 5)
    y, h_n, _ = call(layer, np.full((1, 1, 1), np.inf, np.float32))
    assert np.isfinite(y).all()
    assert (np.abs(y) <= 5).all()
    assert np.array_equal(y, h_n)


def test_linear_rows_do_not_depend_on_their_neighbours(rng):
    for inputs, outputs in SIZES:
        linear = fastrnn.Linear(inputs, outputs)
        x = normal(rng, 33, inputs)
        together = linear(x)
        assert_same_bits([np.stack([linear(row) for row in x])], [together])
        for threads in (1, 3):
            with fastrnn.num_threads(threads):
                assert_same_bits([linear(x)], [together])


def test_decaying_inputs_are_as_good_as_zero():
    layer = make("lstm", 4, 33)
    tiny = call(layer, np.full((3, 2, 4), 1e-42, np.float32))[0]
    assert_same_bits([tiny], [call(layer, np.zeros((3, 2, 4), np.float32))[0]])


def test_two_directions_by_units_end_with_the_state_of_every_row(rng):
    """So many threads, rows and weights that units are divided, and c is written in turns."""
    layer, lengths = make("lstm", 96, 330, bidirectional=True), [12, 5, 8, 1, 11]
    given = normal(rng, 12, 5, 96), *states(rng, layer, 5)
    with fastrnn.num_threads(1):
        wanted = call(layer, *given, lengths)
    for threads in (4, 5):
        with fastrnn.num_threads(threads):
            assert_same_bits(call(layer, *given, lengths), wanted)


def test_all_fused_kernels_give_the_same_bits():
    def results():
        rng = np.random.default_rng(3)
        for layer in layers():
            yield from call(layer, normal(rng, 9, 5, layer.input_size), lengths=[9, 2, 0, 5, 9])

    assert_fused_kernels_agree(results)
