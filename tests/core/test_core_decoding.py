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


def token_network(vocabulary=V):
    embedding = np.ones((vocabulary, 4), np.float32)
    operations = [
        ("tokens", (), {"vocabulary": vocabulary}),
        ("embed", (0,), {"embedding": embedding}),
        ("recurrent", (1,), {"weights": stack()}),
    ]
    return _core.Network("LSTM", operations, [2])


def token_stream(rows=1, vocabulary=V):
    return _core.Stream(token_network(vocabulary), rows)


def sampler(rows=1, position=0, **options):
    made = _core.Sampler(V, rows, np.zeros(V, np.uint8), 3, **options)
    made.positions[:] = position
    return made


def chooser(k=3):
    return _core.Chooser(V, 4, 2, k, np.zeros(V, np.uint8), 5, 2)


def test_a_failed_network_leaves_nothing_behind():
    network = _core.Network.__new__(_core.Network)
    with pytest.raises(ValueError, match="a stack reads another number of floats"):
        network.__init__(
            "LSTM", [("input", (), {"channels": 5}), ("recurrent", (0,), {"weights": stack()})], [1]
        )
    with pytest.raises(ValueError, match="was not initialised"):
        _core.Stream(network, 1)
    network.__init__(
        "LSTM", [("input", (), {"channels": 4}), ("recurrent", (0,), {"weights": stack()})], [1]
    )
    stream = _core.Stream(network, 1)
    assert stream.vocabulary == 0
    with pytest.raises(ValueError, match="x has shape"):
        stream.step(3)
    assert stream.step(np.zeros(4, np.float32)).shape == (V,)


def test_a_failed_stream_is_of_no_use():
    stream = _core.Stream.__new__(_core.Stream)
    with pytest.raises(ValueError, match="at least 1 row"):
        stream.__init__(token_network(), 0)
    with pytest.raises(RuntimeError, match="not initialised"):
        stream.step(3)
    stream.__init__(token_network(), 1)
    assert stream.step(3).shape == (V,)


def test_a_failed_sampler_is_of_no_use():
    made = _core.Sampler.__new__(_core.Sampler)
    with pytest.raises(TypeError):
        made.__init__(V, 1, None, 3)
    for arguments in ((1,), (1, token_stream(), 2)):
        with pytest.raises(ValueError, match="rows is 1"):
            made.run(*arguments)


def test_an_object_of_the_core_is_initialised_once():
    made = sampler()
    with pytest.raises(RuntimeError, match="initialised once"):
        made.__init__(V, 9, np.zeros(V, np.uint8), 3)
    for one, arguments in ((token_network(), ("LSTM", [], [])), (chooser(), ())):
        with pytest.raises((RuntimeError, TypeError)):
            one.__init__(*arguments)


def test_what_is_fed_is_the_core_s_own():
    made, found = sampler(), chooser()
    for array in (made.tokens, found.tokens, found.parents, found.best_rows):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 99


@pytest.mark.parametrize("rows", [-1, 0, 1, 3])
@pytest.mark.parametrize("steps", [0, 2, 4])
def test_draws_fit_the_stream_and_the_record(rows, steps):
    made = sampler(2)
    with pytest.raises(ValueError, match=r"the stream has 2 rows|rows is .* and steps"):
        made.run(rows, token_stream(2), steps)


def test_several_draws_need_a_stream_of_the_same_tokens_and_logits_that_nobody_changes():
    with pytest.raises(ValueError, match="rows is 1 and steps 2"):
        sampler().run(1, None, 2)
    with pytest.raises(ValueError, match="rows is 1 and steps 2"):
        sampler(processors=True).run(1, token_stream(), 2)
    with pytest.raises(ValueError, match="takes 5 tokens and gives 8 outputs, expected 8 of both"):
        sampler().run(1, token_stream(vocabulary=5), 2)


@pytest.mark.parametrize(
    ("first", "last"), [([0, 4], [2, 4]), ([0, 2], [2, 5]), ([-1, 2], [2, 4]), ([0, 2], [-1, 4])]
)
def test_the_rows_of_a_group_are_rows_of_the_search(first, last):
    made = chooser()
    made.logits[...] = 0
    made.first[:], made.last[:] = first, last
    with pytest.raises(ValueError, match="first and last must lie in the 4 rows"):
        made.run(2)


def test_a_state_is_one_of_the_automaton():
    """Two states: the first allows token 1 and goes on, the other one nothing."""
    logits, states = np.zeros((3, V), np.float32), np.array([0, -1, 0])
    offsets, tokens, needed = np.array([0, 1, 1]), np.array([1]), np.array([0])
    grammar = _core.Grammar(offsets, tokens, needed, logits, states, np.full(3, 5))
    grammar.apply(3)
    assert np.isneginf(logits[:, 0]).tolist() == [True, False, True]
    assert logits[:, 1].tolist() == [0, 0, 0]
    for state in (2, 2**40):
        states[2] = state
        with pytest.raises(ValueError, match=f"states holds {state}, the states are 0 to 1"):
            grammar.apply(3)
    grammar.apply(2)  # the row is not looked at


def test_the_beams_of_all_groups_fit_the_stream():
    made = chooser()
    made.logits[...] = 0
    made.first[:], made.last[:] = [0, 2], [2, 4]
    assert made.run(2, token_stream(4), 5) == (4, -1)
    assert made.run(2) == (0, -1)
    for groups, steps in ((3, 1), (-1, 1), (0, 2), (2, 0), (2, 6)):
        with pytest.raises(ValueError, match=f"groups is {groups} and steps {steps}"):
            made.run(groups, token_stream(4), steps)
    with pytest.raises(ValueError, match="groups is 2 and steps 2"):
        made.run(2, None, 2)
    with pytest.raises(ValueError, match="the stream has 3 rows, 2 groups take 4"):
        made.run(2, token_stream(3), 2)
    stream = token_stream(4)
    stream.reorder(np.arange(3))
    for last in ([2, 4], [4, 2]):  # of any group
        made.last[:] = last
        with pytest.raises(ValueError, match="the stream has 3 rows, expected 4"):
            made.run(2, stream, 5)


@pytest.mark.parametrize("k", [1, 3, 5, 8, 12])
def test_equal_sums_go_to_the_lower_row_and_then_to_the_lower_token(k):
    """Of different rows, too, whichever way the sums came about."""
    logprobs = np.zeros((3, 4), np.float32) - np.float32([[1], [2], [0.5]])
    logprobs[:, 2] -= 1
    made = _core.Chooser(4, 3, 1, k, np.zeros(4, np.uint8), 1, 1)
    made.logits[...], made.last[0], made.scores[0] = logprobs, 3, [-1, 0, -1.5]
    made.run(1)
    best = [(r, t) for r in range(3) for t in (0, 1, 3)] + [(r, 2) for r in range(3)]
    found = zip(made.best_rows[0].tolist(), made.best_tokens[0].tolist(), strict=True)
    assert list(found) == best[:k]
    assert made.best[0].tolist() == ([-2.0] * 9 + [-3.0] * 3)[:k]


@pytest.mark.parametrize("parent", [0.0, -1.0, -1000.0])
@pytest.mark.parametrize("bits", [16, 20, 23])
def test_a_candidate_that_is_better_by_a_hair_is_chosen(bits, parent):
    made = _core.Chooser(4, 3, 1, 1, np.zeros(4, np.uint8), 1, 1)
    made.logits[...], made.last[0], made.scores[0] = -2, 2, parent
    made.logits[0, 1], made.logits[0, 2] = -1, -1 + 0.5**bits
    made.run(1)
    assert made.best_tokens[0, 0] == 2
    made.logits[1, 3] = -1 + 2 * 0.5**bits
    made.run(1)
    assert (made.best_rows[0, 0], made.best_tokens[0, 0]) == (1, 3)


@pytest.mark.parametrize("temperature", [-1.0, float("nan")])
def test_a_temperature_is_no_less_than_0(temperature):
    with pytest.raises(ValueError, match="and temperature"):
        sampler(temperature=temperature)


def test_a_skipped_row_ends_a_run():
    assert sampler(position=-1).run(1, token_stream(), 3) == 1


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
            return Always(token_network(), batch_size)

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
