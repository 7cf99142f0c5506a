"""One long text as windows that follow each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data import TextStream

kinds = st.sampled_from(["fixed", "random"])


@given(st.integers(1, 9), st.integers(1, 20), st.integers(0, 200), kinds, st.integers(0, 9))
def test_every_token_is_once_an_input_and_once_a_target(rows, steps, more, lengths, seed):
    tokens = np.arange(rows + 1 + more)
    stream = TextStream(tokens, rows, steps, lengths=lengths, seed=seed)
    for _ in range(2):
        batches = list(stream.batches())
        inputs = np.sort(np.concatenate([batch.inputs.ravel() for batch in batches]))
        targets = np.sort(np.concatenate([batch.targets.ravel() for batch in batches]))
        used = len(tokens) - 1 - stream.dropped
        assert inputs.tolist() == list(range(used))
        assert targets.tolist() == list(range(1, used + 1))
        assert stream.dropped < rows


@pytest.mark.parametrize("lengths", ["fixed", "random"])
def test_each_row_reads_on_where_it_stopped_and_rows_follow_each_other(lengths):
    stream = TextStream(np.arange(101), 4, 6, lengths=lengths, seed=1)
    batches = list(stream.batches())
    text = np.concatenate([batch.inputs for batch in batches])
    assert np.array_equal(text.T.ravel(), np.arange(100))
    for batch in batches:
        assert np.array_equal(batch.targets, batch.inputs + 1)
        assert batch.inputs.dtype == batch.targets.dtype == np.int64
        assert batch.inputs.flags.c_contiguous


def test_only_the_first_batch_of_an_epoch_starts_fresh():
    stream = TextStream(np.arange(50), 2, 5)
    for _ in range(2):
        assert [batch.fresh for batch in stream.batches()] == [True, False, False, False, False]


def test_fixed_windows_are_equally_long_but_for_the_last():
    stream = TextStream(np.arange(48), 2, 5)
    assert [len(batch.inputs) for batch in stream.batches()] == [5, 5, 5, 5, 3]


def test_random_windows_have_the_mean_and_the_spread_of_a_geometric_distribution():
    steps = 10
    stream = TextStream(np.zeros(200_001, np.uint8), 1, steps, lengths="random", seed=0)
    found = np.array([len(batch.inputs) for batch in stream.batches()])
    expected_std = np.sqrt(1 - 1 / steps) * steps
    # Four standard errors of the mean of 20,000 windows, and about as much for their spread.
    assert abs(found.mean() - steps) < 4 * expected_std / np.sqrt(len(found))
    assert abs(found.std() - expected_std) < 0.05 * expected_std


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
def test_the_tokens_are_not_copied(dtype):
    tokens = np.arange(200).astype(dtype)
    stream = TextStream(tokens, 4, 5)
    assert stream.tokens is tokens
    assert np.shares_memory(stream._inputs, tokens)
    assert np.shares_memory(stream._targets, tokens)


def test_a_list_of_tokens_is_held_in_the_smallest_type():
    assert TextStream([1, 2, 3, 255], 1, 2).tokens.dtype == np.uint8
    assert TextStream([1, 2, 3, 256], 1, 2).tokens.dtype == np.uint16


def test_text_that_is_too_short_is_refused_with_the_number_that_is_needed():
    with pytest.raises(ValueError, match="tokens has 8 tokens, 8 rows need at least 9"):
        TextStream(np.arange(8), 8, 5)
    assert TextStream(np.arange(9), 8, 5).num_batches == 1


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: TextStream([], 2, 5), ValueError, "tokens is empty"),
        (lambda: TextStream([[1, 2]], 2, 5), ValueError, r"tokens has shape \(1, 2\)"),
        (lambda: TextStream([0.5, 1.0], 1, 1), TypeError, "tokens has dtype float64"),
        (lambda: TextStream([1, -1, 2], 1, 1), ValueError, "tokens holds -1"),
        (lambda: TextStream([1, 2, 3], -1, 1), ValueError, "batch_size must be greater"),
        (lambda: TextStream([1, 2, 3], 1, 0), ValueError, "steps must be greater"),
        (lambda: TextStream([1, 2], 1, 1, lengths="any"), ValueError, "lengths is 'any'"),
        (lambda: TextStream([1, 2], 1, 1, seed=-1), ValueError, "seed is -1"),
    ],
)
def test_streams_that_cannot_be_are_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
