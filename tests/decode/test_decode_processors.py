"""Every processor against its definition, alone and together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from decoding import Still, constant_table, random_table

import fastrnn
from fastrnn import generate


class Recorder:
    """A hook that keeps what it was given."""

    def __init__(self):
        self.calls = []

    def __call__(self, tokens, logits):
        self.calls.append((tokens.tolist(), logits.copy()))


def processed(logits, prompt, **options):
    """The logits of the first new token after all processors."""
    record = Recorder()
    generate(Still(logits), prompt, max_new_tokens=4, logits_processor=record, **options)
    tokens, seen = record.calls[0]
    assert tokens == prompt
    return seen


LOGITS = np.float32([1.5, -2.0, 0.25, 3.0, -0.5, 0.0])


def test_repetition_penalty_divides_above_zero_and_multiplies_below():
    seen = processed(LOGITS, [0, 1, 1, 4], repetition_penalty=1.25)
    wanted = LOGITS.copy()
    wanted[0] /= 1.25
    wanted[[1, 4]] *= 1.25
    assert np.array_equal(seen, wanted)


def test_no_ngram_occurs_twice():
    seen = processed(LOGITS, [1, 2, 3, 1, 2, 5, 1, 2], no_repeat_ngram_size=3)
    assert np.flatnonzero(np.isneginf(seen)).tolist() == [3, 5]
    for size in (1, 2, 3):
        model = random_table(8, 1)
        prompt = [1, 2, 3]
        options = {"no_repeat_ngram_size": size, "max_new_tokens": 5}
        for more in ({}, {"num_beams": 3}, {"do_sample": True, "seed": 1}):
            text = prompt + generate(model, prompt, **options, **more)[0].tokens
            grams = [tuple(text[i : i + size]) for i in range(len(text) - size + 1)]
            assert len(set(grams)) == len(grams)


def test_bad_words_never_appear():
    seen = processed(LOGITS, [4, 2], bad_words_ids=[[3], [2, 5], [4, 2, 1], [4, 0], [1, 4, 2, 0]])
    assert np.flatnonzero(np.isneginf(seen)).tolist() == [1, 3, 5]


def test_a_bad_word_may_begin_in_the_prompt():
    model = constant_table([0.0, 1.0, 2.0, 3.0])
    bad = [[1, 2, 3], [3, 2]]
    found = generate(model, [1], max_new_tokens=3, forced_tokens=[2], bad_words_ids=bad)[0]
    assert found.tokens == [2, 2, 3]
    found = generate(model, [0, 3], max_new_tokens=2, bad_words_ids=[[3, 3], [3, 2], [0, 3, 1, 3]])[
        0
    ]
    assert found.tokens == [1, 2]
    found = generate(model, [0], max_new_tokens=2, bad_words_ids=[[3, 3], [3, 2], [0, 3, 1]])[0]
    assert found.tokens == [3, 0]


def test_suppressed_tokens_never_appear_and_some_not_at_the_beginning():
    seen = processed(LOGITS, [0], suppress_tokens=[3], begin_suppress_tokens=[0])
    assert np.flatnonzero(np.isneginf(seen)).tolist() == [0, 3]
    assert generate(
        constant_table(LOGITS),
        [0],
        max_new_tokens=2,
        suppress_tokens=[3],
        begin_suppress_tokens=[0],
    )[0].tokens == [2, 0]


@pytest.mark.parametrize("more", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 3}])
def test_the_end_comes_after_min_new_tokens(more):
    model = constant_table([0.0, 9.0, 0.1, 0.2])
    found = generate(model, [0], max_new_tokens=9, min_new_tokens=4, eos_token_id=[1], **more)
    assert len(found[0].tokens) >= 5
    assert 1 not in found[0].tokens[:4]


@pytest.mark.parametrize("more", [{}, {"num_beams": 2}, {"do_sample": True, "seed": 3}])
def test_forced_tokens_stand_where_they_must(more):
    model = random_table(9, 5)
    found = generate(
        model, [0], max_new_tokens=4, forced_bos_token_id=7, forced_eos_token_id=8, **more
    )[0]
    assert found.tokens[0] == 7
    assert found.tokens[3] == 8
    assert generate(model, [0], max_new_tokens=4, forced_tokens=[5, 6], **more)[0].tokens[:2] == [
        5,
        6,
    ]
    assert generate(model, [0], max_new_tokens=4, forced_tokens={2: 1}, **more)[0].tokens[2] == 1


@pytest.mark.parametrize("more", [{}, {"num_beams": 2}, {"do_sample": True, "seed": 3}])
def test_a_forced_token_stands_where_other_rules_forbid_it_and_counts_nothing_for_beams(more):
    model = random_table(9, 5)
    options = {"no_repeat_ngram_size": 1, "bad_words_ids": [[7], [7, 6]], "max_new_tokens": 4}
    found = generate(model, [7], forced_tokens={0: 7, 1: 6, 3: 7}, **options, **more)[0]
    assert [found.tokens[i] for i in (0, 1, 3)] == [7, 6, 7]
    if "num_beams" in more:
        assert [found.logprobs[i] for i in (0, 1, 3)] == [0.0] * 3
        assert found.score == pytest.approx(found.logprobs[2] / 4)


def test_the_beginning_is_the_first_token_that_is_not_forced():
    model = constant_table(LOGITS)
    options = {"max_new_tokens": 4, "begin_suppress_tokens": [3, 5]}
    assert generate(model, [0], forced_tokens=[3, 5], **options)[0].tokens == [3, 5, 0, 3]
    assert generate(model, [0], forced_bos_token_id=3, **options)[0].tokens == [3, 0, 3, 3]
    assert generate(model, [0], forced_tokens={1: 5}, **options)[0].tokens == [0, 5, 3, 3]
    assert generate(model, [0], forced_tokens=[3] * 4, **options)[0].tokens == [3] * 4


def test_the_end_can_be_a_bad_word():
    model = constant_table([0.0, 9.0, 0.1])
    found = generate(model, [0], max_new_tokens=5, eos_token_id=1, bad_words_ids=[[1]])[0]
    assert found.tokens == [2] * 5


@pytest.mark.parametrize("more", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 1}])
def test_any_of_several_end_tokens_ends(more):
    model = random_table(6, 3)
    for g in generate(model, [[1], [2], [3]], max_new_tokens=40, eos_token_id=[0, 5], **more):
        assert g.finish_reason == "eos"
        assert g.tokens[-1] in (0, 5)
        assert not {0, 5} & set(g.tokens[:-1])


@pytest.mark.parametrize("more", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 1}])
def test_stop_sequences_end_the_text_and_stay_in_it(more):
    model = fastrnn.models.LanguageModel(5, 4, 4)
    free = generate(model, [1], max_new_tokens=12, **more)[0].tokens
    stop = free[4:6]
    found = generate(model, [1], max_new_tokens=12, stop=[stop, [4] * 9], **more)[0]
    if not more.get("num_beams"):
        end = next(i for i in range(2, 13) if free[i - 2 : i] == stop)
        assert found.tokens == free[:end]
        assert found.finish_reason == "stop"
        later = generate(model, [1], max_new_tokens=12, min_new_tokens=7, stop=[stop], **more)
        assert len(later[0].tokens) >= 7
    for i in range(2, len(found.tokens)):
        assert found.tokens[i - 2 : i] != stop


def test_a_hook_sees_every_row_and_may_change_or_replace_the_logits():
    record = Recorder()

    def only_two(tokens, logits):
        replaced = np.full(6, -np.inf)
        replaced[2] = 0
        return replaced

    found = generate(
        Still(LOGITS), [[1], [3, 4]], max_new_tokens=2, logits_processor=[record, only_two]
    )
    assert [g.tokens for g in found] == [[2, 2], [2, 2]]
    assert [tokens for tokens, _ in record.calls] == [[1], [1, 2], [3, 4], [3, 4, 2]]
    assert np.array_equal(record.calls[0][1], LOGITS)


def test_the_order_is_that_of_hugging_face():
    """The hook comes behind penalties and masks, before temperature and top_k."""
    seen = processed(
        LOGITS,
        [3],
        repetition_penalty=2.0,
        suppress_tokens=[2],
        do_sample=True,
        temperature=0.1,
        top_k=1,
        seed=0,
    )
    wanted = LOGITS.copy()
    wanted[3] /= 2
    wanted[2] = -np.inf
    assert np.array_equal(seen, wanted)


def test_several_options_at_once_hold_together():
    model = random_table(30, 9)
    for more in ({"num_beams": 4}, {"do_sample": True, "seed": 2, "top_p": 0.95, "top_k": 20}):
        found = generate(
            model,
            [[1, 2], [3]],
            max_new_tokens=20,
            min_new_tokens=5,
            repetition_penalty=1.3,
            no_repeat_ngram_size=2,
            bad_words_ids=[[4], [5, 6]],
            suppress_tokens=[7],
            begin_suppress_tokens=[8],
            forced_tokens={1: 9},
            eos_token_id=10,
            stop=[[11, 12]],
            **more,
        )
        for g, prompt in zip(found, ([1, 2], [3]), strict=True):
            text = prompt + g.tokens
            grams = list(itertools.pairwise(text))
            assert len(set(grams)) == len(grams)
            assert not {4, 7} & set(g.tokens)
            assert (5, 6) not in grams
            assert g.tokens[0] != 8
            assert g.tokens[1] == 9
            assert 10 not in g.tokens[:5]
