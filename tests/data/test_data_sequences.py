"""Sequences of different lengths: examples, padding, the shift, buckets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data import (
    IGNORE_INDEX,
    Buckets,
    LabelledSequences,
    Pairs,
    Sequences,
    ShiftedSequences,
    Subset,
    TaggedSequences,
    encode_labels,
    hold_out,
    shift,
)

BOS, EOS = 1, 2
ids = st.lists(st.integers(3, 300), max_size=9)
filled_ids = st.lists(st.integers(3, 300), min_size=1, max_size=9)


def numbered(lengths) -> Sequences:
    """Sequences whose steps are all different."""
    return Sequences(np.arange(3, 3 + sum(lengths)), lengths)


def random_lengths(count: int, longest: int = 40) -> np.ndarray:
    return np.random.default_rng(count).integers(1, longest, count)


@given(st.lists(ids, min_size=1))
def test_sequences_are_held_end_to_end_and_come_back(lists):
    sequences = Sequences.of(lists)
    assert len(sequences) == len(lists)
    for i, expected in enumerate(lists):
        assert sequences[i].tolist() == expected
        assert sequences[i - len(lists)].tolist() == expected


def test_sequences_of_ids_take_the_smallest_type_and_are_views_of_one_array():
    sequences = Sequences.of([[1, 2], [255]])
    assert sequences.values.dtype == np.uint8
    assert np.shares_memory(sequences[1], sequences.values)
    with pytest.raises(IndexError):
        sequences[2]


def test_sequences_made_of_an_array_do_not_copy_it():
    values = np.arange(10, dtype=np.uint16)
    assert Sequences(values, [4, 6]).values is values
    assert LabelledSequences(Sequences(values, [4, 6]), [0, 1]).sequences.values is values


def test_an_example_of_features_is_padded_with_zeros():
    rows = [np.ones((2, 3)), np.full((4, 3), 2.0)]
    batch = LabelledSequences(rows, ["b", "a"]).gather(np.array([1, 0]))
    assert batch.inputs.shape == (4, 2, 3)
    assert batch.inputs.dtype == np.float32
    assert batch.inputs[:, 1, 0].tolist() == [1, 1, 0, 0]
    assert batch.targets.tolist() == [0, 1]


def test_labelled_sequences_give_padded_ids_their_classes_and_lengths():
    examples = LabelledSequences([[5], [6, 7, 8]], ["Czech", "Arabic"], pad=9)
    assert examples.classes == ("Arabic", "Czech")
    batch = examples.gather(np.array([0, 1]))
    assert batch.inputs.tolist() == [[5, 6], [9, 7], [9, 8]]
    assert batch.targets.tolist() == [1, 0]
    assert batch.lengths.tolist() == [1, 3]
    assert batch.inputs.dtype == batch.targets.dtype == batch.lengths.dtype == np.int64


def test_tagged_sequences_give_a_target_for_every_step_and_none_for_padding():
    examples = TaggedSequences([[5], [6, 7]], [["N"], ["V", "N"]], classes=["V", "N"])
    batch = examples.gather(np.array([1, 0]))
    assert batch.inputs.tolist() == [[6, 5], [7, 0]]
    assert batch.targets.tolist() == [[0, 1], [1, IGNORE_INDEX]]
    assert batch.lengths.tolist() == [2, 1]
    numbers = TaggedSequences([[5], [6, 7]], [[1], [0, 1]], ignore_index=-1)
    assert numbers.gather(np.array([1, 0])).targets.tolist() == [[0, 1], [1, -1]]


@given(ids)
def test_the_shift_takes_bos_off_the_targets_and_eos_off_the_inputs(target):
    inputs, targets = shift(target, BOS, EOS)
    whole = [BOS, *target, EOS]
    assert inputs.tolist() == whole[:-1]
    assert targets.tolist() == whole[1:]
    assert inputs[1:].tolist() == targets[:-1].tolist()


@given(st.lists(ids, min_size=1, max_size=7))
def test_shifted_batches_hold_what_the_shift_gives(lists):
    batch = ShiftedSequences(lists, bos=BOS, eos=EOS).gather(np.arange(len(lists)))
    for n, target in enumerate(lists):
        inputs, targets = shift(target, BOS, EOS)
        steps = batch.lengths[n]
        assert steps == len(target) + 1
        assert batch.inputs[:steps, n].tolist() == inputs.tolist()
        assert batch.targets[:steps, n].tolist() == targets.tolist()
        assert set(batch.inputs[steps:, n].tolist()) <= {0}
        assert set(batch.targets[steps:, n].tolist()) <= {IGNORE_INDEX}


def test_pairs_give_the_source_and_the_shifted_target():
    pairs = Pairs([[5, 6, 7], [8]], [[9], [10, 11]], bos=BOS, eos=EOS)
    (source, inputs), targets, (source_lengths, lengths), fresh = pairs.gather(np.array([0, 1]))
    assert source.tolist() == [[5, 8], [6, 0], [7, 0]]
    assert inputs.tolist() == [[1, 1], [9, 10], [0, 11]]
    assert targets.tolist() == [[9, 10], [2, 11], [IGNORE_INDEX, 2]]
    assert source_lengths.tolist() == [3, 1]
    assert lengths.tolist() == [2, 3]
    assert fresh


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=50),
    st.one_of(
        st.integers(1, 9).map(lambda n: {"batch_size": n}),
        st.integers(20, 90).map(lambda n: {"tokens": n}),
    ),
    st.booleans(),
    st.integers(1, 4),
)
def test_every_step_of_every_sequence_appears_exactly_once_per_epoch(lengths, size, shuffle, pool):
    examples = LabelledSequences(numbered(lengths), np.zeros(len(lengths), int))
    source = Buckets(examples, **size, shuffle=shuffle, pool=pool, seed=0)
    for _ in range(2):
        padding, found, positions = source.padding, [], 0
        for batch in source.batches():
            found += batch.inputs[batch.inputs > 0].tolist()
            positions += batch.inputs.size
            assert batch.inputs.size <= source.tokens if source.tokens else True
            assert len(batch.lengths) <= source.batch_size if source.batch_size else True
        assert sorted(found) == examples.sequences.values.tolist()
        assert padding == pytest.approx(1 - sum(lengths) / positions)


@pytest.mark.parametrize("size", [{"batch_size": 16}, {"tokens": 400}])
def test_buckets_pad_less_than_unsorted_batches_and_larger_pools_less_than_small_ones(size):
    examples = LabelledSequences(numbered(random_lengths(2000)), np.zeros(2000, int))
    waste = [Buckets(examples, **size, pool=pool, seed=0).padding for pool in (1, 4, 100)]
    assert waste[0] > 0.3
    assert waste[0] > 2 * waste[1] > 4 * waste[2]
    assert waste[2] < 0.05


def test_a_token_budget_is_used_as_far_as_the_next_example_allows():
    lengths = np.array([3, 3, 3, 4, 5, 5])
    examples = LabelledSequences(numbered(lengths), np.zeros(6, int))
    batches = Buckets(examples, tokens=12, shuffle=False).batches()
    assert [batch.inputs.shape for batch in batches] == [(3, 3), (5, 2), (5, 1)]


def test_a_token_budget_counts_both_parts_of_pairs():
    pairs = Pairs(numbered(random_lengths(200)), numbered(random_lengths(200)[::-1]), bos=1, eos=2)
    source = Buckets(pairs, tokens=300, seed=0)
    for batch in source.batches():
        assert batch.inputs[0].size + batch.inputs[1].size <= 300
    assert 0 < source.padding < 1


def test_batches_in_order_have_equal_examples_in_their_own_order():
    examples = LabelledSequences([[5], [6], [7], [8]], [0, 0, 0, 0])
    batches = Buckets(examples, 2, shuffle=False).batches()
    assert [batch.inputs.tolist() for batch in batches] == [[[5, 6]], [[7, 8]]]


def test_a_shuffled_epoch_mixes_examples_of_equal_length():
    examples = LabelledSequences(numbered([2] * 40), np.zeros(40, int))
    source = Buckets(examples, 8, seed=0)
    one, other = ([set(b.inputs[0].tolist()) for b in source.batches()] for _ in range(2))
    assert one != other


def test_a_shuffled_epoch_gives_long_and_short_batches_in_random_order():
    examples = LabelledSequences(numbered(random_lengths(400)), np.zeros(400, int))
    steps = [len(batch.inputs) for batch in Buckets(examples, 8, seed=0).batches()]
    assert 0.3 < np.mean(np.diff(steps) > 0) < 0.7


def test_held_out_examples_are_not_trained_on_and_nothing_is_copied():
    examples = LabelledSequences(numbered(random_lengths(50)), np.arange(50) % 3)
    train, held = hold_out(examples, 0.2, seed=4)
    assert (len(train.sizes), len(held.sizes)) == (40, 10)
    assert sorted([*train.rows, *held.rows]) == list(range(50))
    assert np.array_equal(hold_out(examples, 0.2, seed=4)[1].rows, held.rows)
    assert train.examples is held.examples is examples
    steps = sum(int(batch.lengths.sum()) for batch in Buckets(held, 3).batches())
    assert steps == held.sizes.sum()
    batch = held.gather(np.array([0]))
    assert batch.targets.tolist() == [examples.labels[held.rows[0]]]


def test_labels_outside_the_classes_are_named_with_their_position():
    assert encode_labels(["b", "a"], ["a", "b"]).tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"labels\[1\] is 'z', which is none of the 2 classes"):
        LabelledSequences([[1], [2]], ["a", "z"], classes=["a", "b"])
    with pytest.raises(ValueError, match=r"tags\[2\] is 'z'"):
        TaggedSequences([[1], [2, 3]], [["a"], ["a", "z"]], classes=["a"])


def one_each(sequences):
    return LabelledSequences(sequences, np.zeros(len(sequences), int))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Sequences.of([]), "sequences is empty"),
        (lambda: Sequences([1, 2], [1]), "lengths sum to 1, values has 2 steps"),
        (lambda: Sequences([1, 2], [3, -1]), "lengths holds -1"),
        (lambda: Sequences(3, [1]), "values has no dimension"),
        (lambda: Sequences.of([np.ones((2, 3)), np.ones((2, 4))]), r"sequences\[1\] has shape"),
        (lambda: one_each([[1], []]), r"sequences\[1\] has no steps"),
        (lambda: one_each([[1], [-3]]), "sequences holds -3"),
        (lambda: LabelledSequences([[1], [2]], [0]), r"labels has shape \(1,\), expected \(2,\)"),
        (lambda: LabelledSequences([[1]], [-1]), "labels holds -1"),
        (lambda: LabelledSequences([[1]], [2], classes=["a"]), "labels holds 2, there are 1"),
        (lambda: LabelledSequences([[1]], ["a"], classes=["a", "a"]), "names a class twice"),
        (lambda: LabelledSequences([[1]], [0], pad=-1), "pad is -1"),
        (lambda: TaggedSequences([[1, 2]], [[0]]), r"tags\[0\] has 1 steps, sequence 0 has 2"),
        (lambda: TaggedSequences([[1]], [[0], [1]]), "tags has 2 sequences, expected 1"),
        (lambda: TaggedSequences([[1]], Sequences([3], [1]), classes=["a"]), "tags holds 3"),
        (lambda: shift([3, BOS, 4], BOS, EOS), r"target_ids holds bos \(1\) at 1"),
        (lambda: shift([3, EOS], BOS, EOS), r"target_ids holds eos \(2\) at 1"),
        (lambda: shift([[3]], BOS, EOS), "target_ids has shape"),
        (lambda: shift([3], -1, EOS), "bos is -1"),
        (lambda: Pairs([[3]], [[3], [4]], bos=BOS, eos=EOS), "target has 2 sequences, source"),
        (lambda: Pairs([[]], [[3]], bos=BOS, eos=EOS), r"source\[0\] has no steps"),
        (lambda: Buckets(one_each([[3]])), "either batch_size or tokens"),
        (lambda: Buckets(one_each([[3]]), 2, tokens=3), "either batch_size or tokens"),
        (lambda: Buckets(one_each([[3]]), -2), "batch_size must be greater than zero"),
        (lambda: Buckets(one_each([[3]]), 2, pool=0), "pool must be greater than zero"),
        (lambda: Buckets(one_each([[3], [4, 5]]), tokens=1), "tokens is 1, example 1 alone has 2"),
        (lambda: Buckets(Subset(one_each([[3]]), np.zeros(0, int)), 1), "examples is empty"),
        (lambda: Subset(one_each([[3]]), [1]), "rows holds 1, expected indices from 0 to 0"),
        (lambda: hold_out(one_each([[3], [4]]), 1.0), "leaves none to train on"),
    ],
)
def test_examples_that_cannot_be_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


EXAMPLES = {
    "LabelledSequences(Sequences(2 with 3 steps in all), 2 classes)": lambda: LabelledSequences(
        [[3, 4], [5]], ["yes", "no"]
    ),
    "LabelledSequences(Sequences(2 with 3 steps in all))": lambda: LabelledSequences(
        [[3, 4], [5]], [1, 0]
    ),
    "TaggedSequences(Sequences(1 with 2 steps in all), 2 classes)": lambda: TaggedSequences(
        [[3, 4]], [["a", "b"]]
    ),
    "ShiftedSequences(Sequences(1 with 2 steps in all), bos=1, eos=2)": lambda: ShiftedSequences(
        [[3, 4]], bos=1, eos=2
    ),
    "Pairs(Sequences(1 with 1 steps in all), "
    "ShiftedSequences(Sequences(1 with 2 steps in all), bos=1, eos=2))": lambda: Pairs(
        [[5]], [[3, 4]], bos=1, eos=2
    ),
    "Subset(1 of LabelledSequences(Sequences(2 with 3 steps in all)))": lambda: Subset(
        LabelledSequences([[3, 4], [5]], [1, 0]), [1]
    ),
}


@pytest.mark.parametrize("shown", EXAMPLES)
def test_examples_show_how_many_they_are(shown):
    assert repr(EXAMPLES[shown]()) == shown
