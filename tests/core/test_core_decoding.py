"""The classes below generate refuse what does not fit, and keep nothing of a call that failed."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn import _core, generate
from fastrnn.models import SequenceTagger

V = 8


def stack():
    blank = _core.Stack("lstm", 4, V, 1, 1, 0, True, False)
    return blank.renewed(np.zeros(blank.num_parameters, np.float32))


def token_stream(rows=1, vocabulary=V):
    return _core.Stream(stack(), rows, embedding=np.ones((vocabulary, 4), np.float32))


def sampler_arguments(rows=1, position=0):
    """logits, raw, keys, positions, ends, steps."""
    logits, keys = np.zeros((rows, V), np.float32), np.zeros(rows, np.int64)
    return logits, logits, keys, np.full(rows, position), np.zeros(V, np.uint8), 3


def test_a_failed_stream_leaves_no_tokens_behind():
    stream = _core.Stream.__new__(_core.Stream)
    with pytest.raises(ValueError, match="embedding has shape"):
        stream.__init__(stack(), 1, embedding=np.ones((5, 3), np.float32))
    stream.__init__(stack(), 1)
    assert stream.vocabulary == 0
    with pytest.raises(ValueError, match="x has shape"):
        stream.step(3)
    assert stream.step(np.zeros(4, np.float32)).shape == (V,)


def test_a_failed_sampler_is_of_no_use():
    sampler = _core.Sampler(*sampler_arguments())
    with pytest.raises(TypeError):
        sampler.__init__(np.zeros((99, V), np.float32), *[None] * 3, np.zeros(V, np.uint8), 3)
    with pytest.raises(ValueError, match="rows is 1"):
        sampler.draw(1)
    with pytest.raises(ValueError, match="feed has 1 rows"):
        sampler.run(token_stream(), [1], 1)


def test_what_is_fed_is_the_core_s_own():
    sampler = _core.Sampler(*sampler_arguments())
    chooser = _core.Chooser(np.zeros((4, V), np.float32), 2, 3, np.zeros(V, np.uint8), 5, 2)
    for array in (sampler.tokens, chooser.tokens, chooser.parents, chooser.best_rows):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 99


@pytest.mark.parametrize("feed", [[1, 2], [V], [-1], [1 << 40], [None], []], ids=str)
def test_a_feed_fits_the_stream(feed):
    sampler = _core.Sampler(*sampler_arguments())
    with pytest.raises((ValueError, TypeError)):
        sampler.run(token_stream(), feed, 1)


def test_the_beams_of_all_groups_fit_the_stream():
    chooser = _core.Chooser(np.zeros((4, V), np.float32), 2, 3, np.zeros(V, np.uint8), 5, 2)
    assert chooser.run(token_stream(4), [1, 2, 3, 4], 2, 5) == (5, -1)
    for feed, groups in (([1, 2, 3], 2), ([1, 2, 3, 4], 1), ([1, 2, 3], 3)):
        with pytest.raises(ValueError, match=f"feed has {len(feed)} rows for {groups} groups"):
            chooser.run(token_stream(4), feed, groups, 5)
    stream = token_stream(4)
    stream.reorder(np.arange(3))
    with pytest.raises(ValueError, match="the stream has 3 rows, expected 4"):
        chooser.run(stream, [1, 2, 3, 4], 2, 5)


@pytest.mark.parametrize("k", [1, 3, 5, 8, 12])
def test_equal_sums_go_to_the_lower_row_and_then_to_the_lower_token(k):
    """Of different rows, too, whichever way the sums came about."""
    logprobs = np.zeros((3, 4), np.float32) - np.float32([[1], [2], [0.5]])
    logprobs[:, 2] -= 1
    chooser = _core.Chooser(logprobs, 1, k, np.zeros(4, np.uint8), 1, 1)
    chooser.last[0], chooser.scores[0] = 3, [-1, 0, -1.5]
    chooser.choose(1)
    best = [(r, t) for r in range(3) for t in (0, 1, 3)] + [(r, 2) for r in range(3)]
    found = zip(chooser.best_rows[0].tolist(), chooser.best_tokens[0].tolist(), strict=True)
    assert list(found) == best[:k]
    assert chooser.best[0].tolist() == ([-2.0] * 9 + [-3.0] * 3)[:k]


@pytest.mark.parametrize("temperature", [-1.0, float("nan")])
def test_a_temperature_is_no_less_than_0(temperature):
    with pytest.raises(ValueError, match="and temperature"):
        _core.Sampler(*sampler_arguments(), temperature=temperature)


def test_a_skipped_row_ends_a_run():
    assert _core.Sampler(*sampler_arguments(position=-1)).run(token_stream(), [1], 3) == 0


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}], ids=["row", "beams"])
def test_a_run_never_feeds_what_the_stream_does_not_know(options):
    tagger = SequenceTagger(1000, 16, vocab_size=5)
    tagger.parameters["head.bias"][999] = 50
    tagger.repack()

    class Tags:  # its tokens are not those that its stream takes
        vocab_size, stream = 1000, tagger.stream

    with pytest.raises(ValueError, match=r"5 tokens|holds token 999"):
        generate(Tags(), [1], max_new_tokens=8, **options)


def test_a_stream_with_a_step_of_its_own_keeps_it():
    class Model:
        vocab_size = V

        def stream(self, batch_size):
            return Always(stack(), batch_size, embedding=np.ones((V, 4), np.float32))

    class Always(_core.Stream):
        def step(self, x, out=None):
            y = super().step(x, out)
            y[..., 3] = 100
            return y

    assert generate(Model(), [1, 2], max_new_tokens=6)[0].tokens == [3] * 6


def test_reading_takes_integers_only():
    with pytest.raises(TypeError, match="tokens has dtype float64, expected integers"):
        token_stream().read(np.array([[0.9]]))


def test_gradients_of_keys_that_are_no_values_stand_apart():
    queries, memory = np.ones((1, 1, 2), np.float32), np.ones((3, 1, 4), np.float32)
    keys = np.ones((3, 1, 2), np.float32)
    attended = _core.Attended(queries, keys, memory, None, None, None)
    context, weights = attended.context, attended.weights
    dvalues = np.zeros_like(memory)
    dkeys = dvalues.reshape(-1)[:6].reshape(3, 1, 2)
    with pytest.raises(ValueError, match="dkeys is dvalues"):
        attended.backward(context, queries.copy(), dkeys, dvalues, None, weights.copy())
