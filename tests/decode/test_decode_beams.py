"""Beam search against enumeration, a plain float64 search, and its written rules."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from decoding import (
    Still,
    TableModel,
    beam_search,
    constant_table,
    every_sequence,
    log_probabilities,
    random_table,
)

import fastrnn
from fastrnn import generate
from fastrnn.decode import Automaton, Trie


def assert_same(generations, wanted):
    """The same sequences in the same order, and scores but for float32's rounding."""
    assert [g.tokens for g in generations] == [tokens for _, tokens in wanted]
    np.testing.assert_allclose([g.score for g in generations], [s for s, _ in wanted], rtol=1e-5)


def tiny(seed, vocab_size=5, cell="lstm"):
    model = fastrnn.models.LanguageModel(vocab_size, 4, 6, cell=cell)
    model.reset_parameters(seed)
    model.parameters["head.weight"][...] *= 8
    model.repack()
    return model


@pytest.mark.parametrize("length_penalty", [0.0, 0.5, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("make", [random_table, lambda V, seed: tiny(seed, V)])
@pytest.mark.parametrize("seed", range(4))
def test_as_many_beams_as_tokens_find_the_best_of_all_sequences_of_two(make, seed, length_penalty):
    model = make(5, seed)
    options = {"num_beams": 5, "num_return_sequences": 5, "eos_token_id": 2, "patience": 50}
    found = generate(model, [1], max_new_tokens=2, length_penalty=length_penalty, **options)
    wanted = every_sequence(model, [1], 2, {2}, length_penalty)
    assert_same(found, wanted[:5])


@pytest.mark.parametrize("seed", range(3))
def test_beams_that_hold_every_word_of_a_trie_find_the_best_word(seed):
    rng = np.random.default_rng(seed)
    words = sorted({tuple(rng.integers(0, 12, 4).tolist()) for _ in range(9)})
    model = tiny(seed, 12, "gru")
    found = generate(
        model, [3, 4], max_new_tokens=4, num_beams=9, num_return_sequences=9, constraint=Trie(words)
    )
    wanted = []
    for word in words:
        text = [3, 4, *word]
        values = [log_probabilities(model, text[:i])[text[i]] for i in range(2, 6)]
        wanted.append((sum(values) / 4, list(word)))
    wanted.sort(key=lambda pair: -pair[0])
    assert_same(found, wanted)
    assert {g.finish_reason for g in found} == {"constraint"}


@pytest.mark.parametrize("early", [False, True, "never"])
@pytest.mark.parametrize(("alpha", "form"), [(1.0, "power"), (0.6, "gnmt"), (-0.5, "power")])
@pytest.mark.parametrize("seed", range(3))
def test_larger_searches_equal_a_plain_float64_search(seed, alpha, form, early):
    for model, eos in ((random_table(30, seed), {7}), (tiny(seed, 40), {0, 3, 11})):
        found = generate(
            model,
            [1, 2],
            max_new_tokens=9,
            num_beams=4,
            num_return_sequences=4,
            eos_token_id=sorted(eos),
            length_penalty=alpha,
            length_penalty_form=form,
            early_stopping=early,
        )
        wanted = beam_search(model, [1, 2], 4, 9, eos, alpha=alpha, early=early, form=form)
        assert_same(found, wanted)


@pytest.mark.parametrize("branches", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("seed", range(3))
def test_a_beam_branches_into_its_most_probable_tokens_only(seed, branches):
    for model, eos in ((random_table(30, seed), set()), (tiny(seed, 40), {0, 3})):
        options = {"num_beams": 4, "top_k": branches, "eos_token_id": sorted(eos)}
        found = generate(model, [1, 2], max_new_tokens=7, **options)
        assert_same(found, beam_search(model, [1, 2], 4, 7, eos, branches=branches)[:1])
    ties = generate(constant_table([0.0] * 6), [0], max_new_tokens=1, num_beams=3, top_k=2)
    assert ties[0].tokens == [0]


ENDS = {
    "end tokens": {"eos_token_id": [0, 1, 2, 3]},
    "stop sequences": {"stop": [[0], [1], [2], [3]]},
    "a constraint": {
        "constraint": Automaton([{i: int(i < 4) for i in range(16)}, {}], accepting=[0, 1])
    },
    "all three": {
        "eos_token_id": [0, 3],
        "stop": [[1], [2]],
        "constraint": Automaton([{i: 0 for i in range(16) if i not in (0, 3)}], accepting=[0]),
    },
}


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("early", [False, True, "never"])
def test_a_text_ends_alike_whatever_ends_it(early, ends):
    """Enough candidates are looked at that some may end and as many beams are left."""
    for seed in range(12):
        model = random_table(16, seed, 1.0)
        found = generate(
            model, [1], max_new_tokens=6, num_beams=4, num_return_sequences=4,
            early_stopping=early, **ENDS[ends],
        )  # fmt: skip
        assert_same(found, beam_search(model, [1], 4, 6, range(4), early=early))


@pytest.mark.parametrize("early", [False, True, "never"])
def test_searches_with_many_ends_equal_a_plain_float64_search(early):
    """The best of the unfinished decides when to stop; the last step finishes all that are left."""
    for seed, most, alpha in itertools.product(range(16), [3, 8], [-1.0, 0.6, 1.0]):
        model = random_table(16, seed, 1.0)
        found = generate(
            model,
            [1],
            max_new_tokens=most,
            num_beams=4,
            num_return_sequences=4,
            eos_token_id=[0, 1, 2, 3],
            length_penalty=alpha,
            early_stopping=early,
        )
        assert_same(found, beam_search(model, [1], 4, most, range(4), alpha=alpha, early=early))


@pytest.mark.parametrize(("seed", "alpha"), [(36, -0.3), (50, -1.0), (54, -1.0)])
def test_longer_texts_are_no_hope_where_length_costs(seed, alpha):
    """With early_stopping "never" and a negative length_penalty the length now is the best one."""
    model, options = random_table(8, seed, 2.5), {"alpha": alpha, "early": "never"}
    found = generate(
        model, [1], max_new_tokens=12, num_beams=3, num_return_sequences=3, eos_token_id=[0, 1, 2],
        length_penalty=alpha, early_stopping="never",
    )  # fmt: skip
    assert_same(found, beam_search(model, [1], 3, 12, range(3), **options))


def test_what_is_only_as_good_is_not_waited_for():
    model = constant_table([0.0] * 4)
    found = generate(model, [1], max_new_tokens=50, num_beams=2, eos_token_id=0)
    assert found[0].tokens == [0]
    assert len(model.rows_seen) == 2


def test_a_vocabulary_wider_than_the_lanes_is_searched_whole():
    model = random_table(1037, 3, 1.0)
    found = generate(model, [1], max_new_tokens=4, num_beams=7, num_return_sequences=7)
    assert_same(found, beam_search(model, [1], 7, 4, set()))


def test_logprobs_and_score_belong_to_the_tokens():
    model = tiny(2, 20)
    for g in generate(model, [4], max_new_tokens=6, num_beams=3, num_return_sequences=3):
        text = [4, *g.tokens]
        wanted = [log_probabilities(model, text[:i])[text[i]] for i in range(1, len(text))]
        np.testing.assert_allclose(g.logprobs, wanted, atol=1e-5)
        assert g.score == pytest.approx(sum(g.logprobs) / len(g.tokens))


def test_ties_go_to_the_lower_parent_and_then_to_the_lower_token():
    model = constant_table([0.0] * 6)
    found = generate(model, [0], max_new_tokens=2, num_beams=3, num_return_sequences=3)
    assert [g.tokens for g in found] == [[0, 0], [0, 1], [0, 2]]


def test_prompts_of_any_lengths_give_what_each_gives_alone():
    model = tiny(5, 25, "gru")
    prompts = [[1], [2, 3, 4, 5, 6, 7], [8, 9], [1], [10] * 11]
    options = {"max_new_tokens": 7, "num_beams": 3, "num_return_sequences": 2, "eos_token_id": 4}
    together = generate(model, prompts, **options)
    alone = [g for prompt in prompts for g in generate(model, prompt, **options)]
    assert together == alone


@pytest.mark.parametrize(
    "more", [{}, {"num_beams": 2}, {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5}]
)
def test_prompts_that_are_read_together_give_what_each_gives_alone(more):
    model = tiny(6, 25)
    prompts = [[1, 2, 3], [4, 5, 6, 7], [8] * 40]
    together = generate(model, prompts, max_new_tokens=5, **more)
    for prompt, found in zip(prompts, together, strict=True):
        assert generate(model, prompt, max_new_tokens=5, **more) == [found]


def test_one_beam_is_greedy_search():
    model = tiny(1, 30)
    greedy = generate(model, [1], max_new_tokens=10)[0]
    text = [1]
    for token in greedy.tokens:
        assert token == log_probabilities(model, text).argmax()
        text.append(token)
    assert greedy.finish_reason == "length"


def test_patience_collects_more_or_fewer_finished_sequences():
    model = random_table(12, 1)
    options = {"max_new_tokens": 20, "num_beams": 4, "eos_token_id": 3, "early_stopping": True}
    steps = []
    for patience in (0.25, 1.0, 2.0):
        model.rows_seen.clear()
        found = generate(model, [1], patience=patience, num_return_sequences=1, **options)
        assert found[0].tokens[-1] == 3
        steps.append(len(model.rows_seen))
    assert steps[0] < steps[1] < steps[2]
    assert len(generate(model, [1], patience=2.0, num_return_sequences=8, **options)) == 8
    with pytest.raises(ValueError, match="num_return_sequences is 2, but 4 beams gives at most 1"):
        generate(model, [1], patience=0.25, num_return_sequences=2, **options)


def diverse_reference(model, prompt, groups, size, most, penalty):
    """Vijayakumar et al. 2018 without end tokens: groups one after the other in every step."""
    live = [[(0.0, [])] for _ in range(groups)]
    for _ in range(most):
        chosen = []
        for g in range(groups):
            candidates = []
            for parent, (total, tokens) in enumerate(live[g]):
                values = log_probabilities(model, [*prompt, *tokens]).copy()
                for token in chosen:
                    values[token] -= penalty
                candidates += [(total + v, parent, t) for t, v in enumerate(values)]
            candidates.sort(key=lambda c: (-c[0], c[1], c[2]))
            live[g] = [(c[0], [*live[g][c[1]][1], c[2]]) for c in candidates[:size]]
            chosen += [tokens[-1] for _, tokens in live[g]]
    found = [(total / most, tokens) for group in live for total, tokens in group]
    return sorted(found, key=lambda pair: -pair[0])


@pytest.mark.parametrize("seed", range(6))
def test_results_of_all_groups_come_by_falling_score(seed):
    options = {"num_beams": 6, "num_beam_groups": 3, "num_return_sequences": 6}
    found = generate(
        random_table(15, seed), [1], max_new_tokens=4, diversity_penalty=0.1, **options
    )
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)


def test_patience_counts_halves_as_whole():
    options = {"num_beams": 2, "patience": 0.75, "num_return_sequences": 2}
    assert len(generate(random_table(9), [1], max_new_tokens=3, **options)) == 2


@pytest.mark.parametrize(("groups", "beams"), [(2, 4), (3, 3), (3, 6)])
def test_diverse_groups_equal_their_definition(groups, beams):
    model = random_table(15, 8)
    found = generate(
        model,
        [1, 2],
        max_new_tokens=5,
        num_beams=beams,
        num_beam_groups=groups,
        diversity_penalty=0.7,
        num_return_sequences=beams,
    )
    wanted = diverse_reference(model, [1, 2], groups, beams // groups, 5, 0.7)
    assert_same(sorted(found, key=lambda g: g.tokens), sorted(wanted, key=lambda pair: pair[1]))
    alone = generate(model, [9], max_new_tokens=5, num_beams=beams)
    assert alone == generate(model, [[9], [1, 2]], max_new_tokens=5, num_beams=beams)[:1]


def test_the_beams_of_all_prompts_go_through_one_stream():
    model = random_table(9, 4)
    generate(model, [[1], [2], [3]], max_new_tokens=5, num_beams=4)
    assert model.rows_seen == [3, 12, 12, 12, 12]


def test_finished_prompts_leave_the_stream():
    def logits(text):
        sure = np.full(6, -30.0)
        sure[5 if text[0] == 1 else (len(text) * 3) % 5] = 0.0  # prompt 1 ends at once
        return sure

    model = TableModel(6, logits)
    found = generate(
        model, [[1], [2]], max_new_tokens=6, num_beams=2, eos_token_id=5, early_stopping=True
    )
    assert found[0].tokens[-1] == 5
    assert max(model.rows_seen[:3]) > model.rows_seen[-1]


def test_logits_that_are_no_numbers_are_refused():
    model = constant_table([0.0, np.nan, 1.0])
    for options in ({}, {"do_sample": True}, {"num_beams": 2}):
        with pytest.raises(ValueError, match="logits of prompt 0 at new token 0 hold NaN"):
            generate(model, [0], max_new_tokens=2, **options)
    with pytest.raises(ValueError, match="hold NaN or infinity"):
        generate(constant_table([0.0, np.inf, 1.0]), [0], max_new_tokens=2)


@pytest.mark.parametrize("more", [{}, {"do_sample": True}, {"num_beams": 2}])
def test_what_follows_a_part_of_a_prompt_is_not_used(more):
    model = TableModel(4, lambda text: np.full(4, np.nan if len(text) == 2 else 0.0))
    assert len(generate(model, [[1, 2, 3], [1, 2, 3]], max_new_tokens=2, **more)) == 2
    with pytest.raises(ValueError, match="logits of prompt 1 at new token 0 hold NaN"):
        generate(model, [[1, 2, 3], [1, 2]], max_new_tokens=2, **more)


def test_long_sequences_end_without_deep_recursion():
    found = generate(Still([0.0, 0.1]), [0], max_new_tokens=6000, num_beams=2)
    assert len(found[0].tokens) == 6000
