"""Packed sequences: packing, padding, and layers that read them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from families import FAMILIES, call, make, normal, states
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn import pack_padded_sequence, pack_sequence, pad_packed_sequence, pad_sequence


def test_packing_puts_steps_after_each_other_and_rows_beside_each_other():
    packed = pack_sequence([[1, 2, 3], [4, 5], [6]])
    assert packed.data.tolist() == [1, 4, 6, 2, 5, 3]
    assert packed.batch_sizes.tolist() == [3, 2, 1]
    assert packed.sorted_indices is None
    assert packed.unsorted_indices is None


def test_packing_unsorted_rows_remembers_their_order():
    packed = pack_sequence([[1], [2, 3, 4], [5, 6]], enforce_sorted=False)
    assert packed.data.tolist() == [2, 5, 1, 3, 6, 4]
    assert packed.sorted_indices.tolist() == [1, 2, 0]
    assert packed.unsorted_indices.tolist() == [2, 0, 1]
    padded, lengths = pad_packed_sequence(packed, batch_first=True)
    assert padded.tolist() == [[1, 0, 0], [2, 3, 4], [5, 6, 0]]
    assert lengths.tolist() == [1, 3, 2]


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=8),
    st.booleans(),
    st.booleans(),
    st.sampled_from([(), (1,), (3,), (2, 3)]),
    st.integers(0, 3),
)
def test_padding_undoes_packing(lengths, batch_first, sort_before, rest, longer):
    lengths = np.array(sorted(lengths, reverse=True) if sort_before else lengths)
    rng = np.random.default_rng(len(lengths))
    steps = int(lengths.max()) + longer
    inside = np.arange(steps) < lengths[:, None]
    batch = rng.standard_normal((len(lengths), steps, *rest)).astype(np.float32)
    batch[~inside] = -1
    given_batch = batch if batch_first else batch.swapaxes(0, 1)
    packed = pack_padded_sequence(given_batch, lengths, batch_first, enforce_sorted=sort_before)
    assert len(packed.data) == lengths.sum()
    padded, again = pad_packed_sequence(packed, batch_first, -1, total_length=steps)
    assert np.array_equal(padded, given_batch)
    assert np.array_equal(again, lengths)


def test_padding_can_be_on_either_side_and_of_any_value():
    rows = [[1.0], [2.0, 3.0, 4.0]]
    assert pad_sequence(rows, batch_first=True).tolist() == [[1, 0, 0], [2, 3, 4]]
    assert pad_sequence(rows, padding_value=9.0).tolist() == [[1, 2], [9, 3], [9, 4]]
    left = pad_sequence(rows, batch_first=True, padding_side="left")
    assert left.tolist() == [[0, 0, 1], [2, 3, 4]]


def test_packing_keeps_the_type_of_the_data():
    for dtype in (np.int64, np.float16, np.bool_):
        packed = pack_sequence([np.ones(3, dtype), np.ones(1, dtype)])
        assert packed.data.dtype == dtype
        assert pad_packed_sequence(packed)[0].dtype == dtype


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_batch_equals_a_padded_one_with_lengths(family, bidirectional, rng):
    layer = make(family, 3, 9, 2, bidirectional=bidirectional)
    x, lengths = normal(rng, 6, 5, 3), np.array([2, 6, 1, 3, 3])
    h, c = states(rng, layer, 5)
    y, h_n, c_n = call(layer, x, h, c, lengths)
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    packed_y, packed_h, packed_c = call(layer, packed, h, c)
    assert isinstance(packed_y, fastrnn.PackedSequence)
    assert np.array_equal(pad_packed_sequence(packed_y)[0], y)
    assert np.array_equal(packed_h, h_n)
    assert c is None or np.array_equal(packed_c, c_n)


def test_batch_first_does_not_touch_a_packed_batch(rng):
    first, second = fastrnn.GRU(3, 4), fastrnn.GRU(3, 4, batch_first=True)
    second.load_state_dict(first.state_dict())
    packed = pack_padded_sequence(normal(rng, 4, 2, 3), [4, 2])
    assert np.array_equal(first(packed)[0].data, second(packed)[0].data)


def test_another_library_s_packed_sequence_is_told_by_its_fields(rng):
    class Foreign(NamedTuple):
        data: object
        batch_sizes: object
        sorted_indices: object
        unsorted_indices: object

    layer = fastrnn.GRU(3, 4)
    packed = pack_padded_sequence(normal(rng, 4, 2, 3), [2, 4], enforce_sorted=False)
    ours, theirs = layer(packed), layer(Foreign(*packed))
    assert np.array_equal(ours[0].data, theirs[0].data)
    assert np.array_equal(ours[1], theirs[1])


@pytest.mark.parametrize(
    "reader",
    [
        fastrnn.Linear(3, 2),
        fastrnn.Tanh(),
        fastrnn.LayerNorm(3),
        fastrnn.GRUCell(3, 2),
        fastrnn.models.SequenceTagger(2, 4, input_size=3),
        fastrnn.models.LanguageModel(9, 3, 4),
    ],
    ids=lambda reader: type(reader).__name__,
)
def test_what_reads_arrays_alone_says_how_to_get_one(reader, rng):
    name = {"SequenceTagger": "inputs", "LanguageModel": "tokens"}.get(type(reader).__name__, "x")
    for rows in ([normal(rng, 4, 3), normal(rng, 2, 3)], [normal(rng, 1, 1)]):
        with pytest.raises(TypeError, match=f"{name} is a PackedSequence, expected an array: pad_"):
            reader(pack_sequence(rows))


@pytest.mark.parametrize(
    ("lengths", "options", "message"),
    [
        ([2, 4], {}, "lengths must fall"),
        ([4, 0], {}, "lengths holds 0"),
        ([4, -1], {"enforce_sorted": False}, "lengths holds -1"),
        ([5, 2], {}, "lengths holds 5, the input has 4 steps"),
        ([4, 2, 1], {}, r"lengths has shape \(3,\)"),
        ([[4, 2]], {}, r"lengths has shape \(1, 2\)"),
    ],
)
def test_packing_refuses_lengths_that_do_not_fit(lengths, options, message):
    with pytest.raises(ValueError, match=message):
        pack_padded_sequence(np.zeros((4, 2, 3)), lengths, **options)


def test_packing_and_padding_refuse_what_is_no_batch():
    with pytest.raises(TypeError, match="lengths has dtype float64"):
        pack_padded_sequence(np.zeros((4, 2)), [3.5, 2.0])
    with pytest.raises(ValueError, match="input has 1 dimensions"):
        pack_padded_sequence(np.zeros(4), [4])
    with pytest.raises(ValueError, match="input has 0 rows"):
        pack_padded_sequence(np.zeros((4, 0, 3)), [])
    for function in (pack_sequence, pad_sequence):
        with pytest.raises(ValueError, match="sequences is empty"):
            function([])
        with pytest.raises(ValueError, match=r"sequences\[1\] has shape \(2, 3\)"):
            function([np.zeros((2, 2)), np.zeros((2, 3))])
        with pytest.raises(ValueError, match=r"sequences\[0\] has shape \(\)"):
            function([np.float32(1)])
        with pytest.raises(TypeError, match="sequences must be a list"):
            function(3)
    with pytest.raises(ValueError, match="padding_side is 'up'"):
        pad_sequence([[1]], padding_side="up")
    with pytest.raises(ValueError, match="total_length is 2, the longest row has 3 steps"):
        pad_packed_sequence(pack_sequence([[1, 2, 3]]), total_length=2)
    with pytest.raises(TypeError, match="sequence is an ndarray"):
        pad_packed_sequence(np.zeros(3))


def ragged():
    return pack_sequence([[1.0, 2.0], [3.0]])


@pytest.mark.parametrize(
    ("call_it", "error", "message"),
    [
        (lambda: pack_padded_sequence(np.ones((2, 1)), [2], np.ones(2)), TypeError, "batch_first"),
        (lambda: pack_padded_sequence([[1]], [1], False, None), TypeError, "enforce_sorted"),
        (lambda: pack_sequence([[1]], 1), TypeError, "enforce_sorted should be of type bool"),
        (lambda: pad_sequence([[1]], np.ones(2)), TypeError, "batch_first should be of type bool"),
        (lambda: pad_packed_sequence(ragged(), 1), TypeError, "batch_first should be of type bool"),
        (lambda: pad_sequence([[1]], padding_value=None), TypeError, "padding_value is a NoneType"),
        (
            lambda: pad_sequence([[1]], padding_value=np.ones(2)),
            TypeError,
            "padding_value is an nd",
        ),
        (
            lambda: pad_sequence([[1.0]], padding_value=10**400),
            ValueError,
            "padding_value does not",
        ),
        (lambda: pad_sequence([[1]], padding_value=np.nan), ValueError, "padding_value does not"),
        (lambda: pad_packed_sequence(ragged(), total_length="9"), TypeError, "total_length should"),
        (lambda: pad_packed_sequence(ragged(), total_length=2.0), TypeError, "total_length should"),
        (lambda: pad_packed_sequence(ragged(), total_length=0), ValueError, "total_length is 0"),
        (
            lambda: pad_packed_sequence(ragged(), total_length=2**61),
            ValueError,
            "total_length asks",
        ),
        (
            lambda: pad_packed_sequence(ragged(), total_length=2**90),
            ValueError,
            "total_length is .* int below",
        ),
        (lambda: pad_packed_sequence(ragged(), total_length=2**55), MemoryError, "total_length as"),
        (lambda: pad_sequence(["ab", "cd"]), TypeError, "sequences.0. has dtype <U2"),
        (lambda: pad_sequence([np.array(["ab"])]), TypeError, "sequences.0. has dtype <U2"),
        (lambda: pack_padded_sequence([["a"]], [1]), TypeError, "input has dtype <U1"),
        (lambda: pad_sequence(np.ma.ones((2, 2))), TypeError, "sequences is a masked array"),
        (lambda: pad_sequence([np.ma.ones(2)]), TypeError, "sequences.0. is a masked array"),
        (lambda: pack_padded_sequence(np.ma.ones((2, 1)), [2]), TypeError, "input is a masked"),
    ],
)
def test_packing_and_padding_refuse_bad_options(call_it, error, message):
    with pytest.raises(error, match=message):
        call_it()


def test_packing_refuses_more_rows_than_can_be_counted():
    rows = np.broadcast_to(np.float32(0), (2**40, 3))
    for function in (pack_sequence, pad_sequence):
        with pytest.raises(ValueError, match="sequences has 1099511627776 rows, expected at most"):
            function(rows)


def test_packing_refuses_sequences_that_fail_when_they_are_read():
    class Broken:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            raise RuntimeError("no rows")

    for function in (pack_sequence, pad_sequence):
        with pytest.raises(TypeError, match="sequences must be a list of arrays: no rows"):
            function(Broken())


def test_padding_may_be_any_number_that_the_data_can_hold():
    assert pad_sequence([[1.0], [2.0, 3.0]], padding_value=np.nan).shape == (2, 2)
    assert pad_sequence([[1.0], [2.0, 3.0]], True, float("-inf"))[0, 1] == -np.inf
    assert pad_sequence([[1], [2, 3]], True, np.int8(-1))[0, 1] == -1
    assert pad_packed_sequence(ragged(), total_length=np.int64(3))[0].shape == (3, 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((np.zeros((4, 3)), [1, 2, 1]), "batch_sizes of a packed sequence must be a falling list"),
        ((np.zeros((0, 3)), np.zeros(0, np.int64)), "batch_sizes of a packed sequence"),
        ((np.zeros((2, 3)), [2, 0]), "batch_sizes of a packed sequence"),
        ((np.zeros((4, 3)), [2, 1]), r"data of a packed sequence has shape \(4, 3\)"),
        ((np.zeros((3, 3)), [2, 1], [0, 0]), "sorted_indices of a packed sequence must order"),
        ((np.zeros((3, 3)), [2, 1], [0, 1], [0, 7]), "unsorted_indices of a packed sequence"),
        ((np.zeros((3, 2)), [2, 1]), "x has 2 features, this GRU expects 3"),
        ((np.zeros((3, 1, 3)), [2, 1]), "x.data has 3 dimensions, this GRU expects 2"),
    ],
)
def test_a_layer_refuses_a_packed_batch_that_contradicts_itself(fields, message):
    with pytest.raises(ValueError, match=message):
        fastrnn.GRU(3, 4)(fastrnn.PackedSequence(*fields))
