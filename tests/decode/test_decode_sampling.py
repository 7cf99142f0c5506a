"""Sampling: its definition, its frequencies, and that a seed means the same everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from decoding import (
    Still,
    by_definition,
    constant_table,
    draws,
    inverse_cdf,
    log_probabilities,
    random_table,
    uniform,
)
from kernels import FUSED, kernels, selected

import fastrnn
from fastrnn import _core, generate, stream_generate

FILTERS = [
    {},
    {"temperature": 0.6},
    {"temperature": math.inf},
    {"top_k": 5},
    {"top_p": 0.7},
    {"min_p": 0.2},
    {"typical_p": 0.5},
    {"temperature": 1.7, "top_k": 9, "top_p": 0.9, "min_p": 0.05, "typical_p": 0.8},
    {"top_p": 0.0},
    {"temperature": 1e-6},
    {"temperature": 1e-39, "top_k": 3, "top_p": 0.5},
]


@pytest.mark.parametrize("options", FILTERS)
@pytest.mark.parametrize("vocab_size", [3, 16, 37, 1000])
def test_every_draw_is_the_inverse_of_the_distribution_at_its_random_number(vocab_size, options):
    logits = 2 * np.random.default_rng(7).standard_normal(vocab_size)
    model, seed = Still(logits), 12345678901234567890
    p = by_definition(model.row, **options)
    found = generate(model, [0], max_new_tokens=300, do_sample=True, seed=seed, **options)[0]
    edges = np.cumsum(p)
    for position, token in enumerate(found.tokens):
        u = uniform(seed, position)
        assert p[token] > 0
        if abs(edges - u).min() > 1e-6:  # else float32 may round to the neighbour
            assert token == inverse_cdf(p, u)


def test_a_share_of_0_keeps_one_token_however_far_all_are_from_the_entropy():
    logits = np.log(np.full(501, 1e-3))
    logits[7] = np.log(0.5)
    logits[0] = -np.inf
    options = {"do_sample": True, "seed": 1, "typical_p": 0.0}
    assert generate(Still(logits), [0], max_new_tokens=3, **options)[0].tokens == [7] * 3


@pytest.mark.parametrize("options", FILTERS[:8])
def test_frequencies_pass_a_chi_square_test(options):
    logits = 1.5 * np.random.default_rng(3).standard_normal(20)
    p = by_definition(np.float32(logits), **options)
    draws = 6000
    found = generate(Still(logits), [0], max_new_tokens=draws, do_sample=True, seed=1, **options)
    counts = np.bincount(found[0].tokens, minlength=20)
    assert counts[p == 0].sum() == 0
    expected = draws * p[p > 0]
    chi_square = ((counts[p > 0] - expected) ** 2 / expected).sum()
    freedom = (p > 0).sum() - 1
    assert chi_square < freedom + 5 * math.sqrt(2 * max(freedom, 1))  # five standard deviations


def test_draws_of_different_sequences_and_positions_are_independent():
    found = generate(
        Still([0.0] * 2), [0], max_new_tokens=64, do_sample=True, seed=5, num_return_sequences=200
    )
    bits = np.array([g.tokens for g in found])
    assert len({tuple(row) for row in bits.tolist()}) == 200
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / math.sqrt(bits.size)
    correlation = np.corrcoef(bits, rowvar=False) - np.eye(64)
    assert abs(correlation).max() < 6 / math.sqrt(200)


def test_the_random_numbers_are_those_of_the_written_formula():
    for key, position in [(0, 0), (1, 0), (7, 123456), (2**63 - 1, 5)]:
        assert _core.uniform(key, position) == uniform(key, position)


def test_temperature_zero_is_the_first_largest_logit():
    model = constant_table([1.0, 3.0, 3.0, 2.0])
    greedy = generate(model, [0], max_new_tokens=5)
    cold = generate(model, [0], max_new_tokens=5, do_sample=True, temperature=0.0, seed=9)
    assert greedy[0].tokens == cold[0].tokens == [1] * 5
    assert greedy == cold
    assert generate(model, [0], max_new_tokens=5, temperature=0) == greedy


def test_infinite_temperature_is_uniform_over_what_is_allowed():
    model = Still([5.0, 0.0, -80.0, -np.inf, 100.0])
    found = generate(
        model,
        [0],
        max_new_tokens=9000,
        do_sample=True,
        temperature=math.inf,
        suppress_tokens=[4],
        seed=2,
    )
    counts = np.bincount(found[0].tokens, minlength=5)
    assert counts[3] == counts[4] == 0
    assert abs(counts[:3] - 3000).max() < 5 * math.sqrt(3000)


def test_top_k_keeps_exactly_k_and_the_lower_ids_of_equal_logits():
    found = generate(
        Still([0.0, 1.0, 1.0, 1.0]), [0], max_new_tokens=400, do_sample=True, top_k=2, seed=0
    )
    assert set(found[0].tokens) == {1, 2}


@pytest.mark.parametrize("option", ["top_p", "typical_p"])
@pytest.mark.parametrize(("share", "kept"), [(0.0, 1), (0.25, 1), (0.3, 2), (0.5, 2), (0.75, 3)])
def test_a_share_that_is_met_exactly_takes_no_token_more(option, share, kept):
    found = generate(
        Still([1.0] * 4), [0], max_new_tokens=300, do_sample=True, seed=1, **{option: share}
    )
    assert set(found[0].tokens) == set(range(kept))


def test_min_p_keeps_all_that_are_as_probable_as_the_best():
    found = generate(
        Still([1.0, 0.5, 1.0, 1.0]), [0], max_new_tokens=300, do_sample=True, seed=2, min_p=1.0
    )
    assert set(found[0].tokens) == {0, 2, 3}


@pytest.mark.parametrize("k", [1, 4, 5, 6, 7])
def test_top_k_may_leave_out_a_single_token(k):
    found = generate(
        Still([0.1, 0.5, 0.0, 0.3, 0.2, 0.4]), [0], max_new_tokens=400, do_sample=True, top_k=k,
        seed=0,
    )  # fmt: skip
    assert set(found[0].tokens) == {1, 5, 3, 4, 0, 2} - {*[2, 0, 4, 3, 5][: max(0, 6 - k)]}


def test_sequences_of_one_score_come_by_their_number():
    model = constant_table([0.0] * 8)
    options = {"max_new_tokens": 4, "do_sample": True, "seed": 3}
    found = generate(model, [1], num_return_sequences=6, **options)
    wanted = [draws(model, [1], 4, seed=3, sequence=number)[0] for number in range(6)]
    assert [one.tokens for one in found] == wanted


def test_logprobs_are_the_models_own():
    model = fastrnn.models.LanguageModel(40, 8, 16)
    options = {"temperature": 0.5, "top_k": 3, "repetition_penalty": 1.5, "do_sample": True}
    for g in generate(model, [1, 2], max_new_tokens=9, seed=1, **options):
        text = [1, 2, *g.tokens]
        wanted = [log_probabilities(model, text[:i])[text[i]] for i in range(2, len(text))]
        np.testing.assert_allclose(g.logprobs, wanted, atol=1e-5)
        assert g.score == pytest.approx(np.mean(g.logprobs))


def test_a_prompt_gives_the_same_alone_and_in_a_batch():
    model = fastrnn.models.LanguageModel(30, 8, 24, 2)
    prompts = [[1], [2, 3, 4, 5, 6, 7, 8], [9, 10], [1], [11] * 12]
    options = {
        "max_new_tokens": 9,
        "do_sample": True,
        "top_p": 0.9,
        "eos_token_id": [3, 4],
        "num_return_sequences": 3,
        "seed": 77,
    }
    together = generate(model, prompts, **options)
    alone = [g for prompt in prompts for g in generate(model, prompt, **options)]
    assert together == alone
    assert len({tuple(g.tokens) for g in together[:3]}) > 1
    scores = [g.score for g in together]
    assert all(
        scores[i : i + 3] == sorted(scores[i : i + 3], reverse=True) for i in range(0, 15, 3)
    )


def test_without_a_seed_every_prompt_gets_its_own():
    found = generate(Still([0.0] * 50), [[0]] * 6, max_new_tokens=20, do_sample=True)
    assert len({tuple(g.tokens) for g in found}) == 6


def test_a_padded_row_is_never_seen():
    seen = []

    def logits(text):
        seen.append(text)
        return np.zeros(5)

    model = constant_table([0.0] * 5)
    model.logits = logits
    generate(model, [[1], [2, 3, 4]], max_new_tokens=2)
    assert {text[:3] for text in seen if text[0] == 2} <= {(2,), (2, 3), (2, 3, 4)}
    assert all(text[0] in (1, 2) for text in seen)


def test_finished_rows_leave_the_stream():
    model = random_table(6, 1)
    found = generate(
        model, [[i] for i in range(6)], max_new_tokens=30, do_sample=True, eos_token_id=2, seed=3
    )
    assert model.rows_seen == sorted(model.rows_seen, reverse=True)
    assert sum(model.rows_seen) == sum(len(g.tokens) for g in found)


def every_way():
    """Greedy, drawn and searched, for 90 prompts: tokens, log-probabilities and scores."""
    model = fastrnn.models.LanguageModel(300, 16, 40, 2)
    rng = np.random.default_rng(0)
    for value in model.parameters.values():
        value[...] = rng.standard_normal(value.shape, np.float32) * 0.4
    model.repack()
    prompts = [[1, 2, 3], [4], [5, 6]] * 30
    drawn = {"do_sample": True, "seed": 5, "top_p": 0.9, "typical_p": 0.9, "top_k": 50}
    for options in ({}, drawn, {"num_beams": 3, "eos_token_id": 7}):
        for found in generate(model, prompts, max_new_tokens=12, **options):
            yield found.tokens, found.logprobs, found.score


def test_results_are_the_same_on_every_isa_and_number_of_threads():
    default = list(every_way())
    for threads in (2, 3):
        with fastrnn.num_threads(threads):
            assert list(every_way()) == default
    for name in kernels():
        with selected(name):
            found = list(every_way())
        if name in FUSED:
            assert found == default, name
            continue
        for one, other in zip(found, default, strict=True):  # base rounds differently, but close
            if one[0] == other[0]:
                np.testing.assert_allclose(one[1], other[1], atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_sample": True, "seed": 4},
        {"num_beams": 4},
        {"num_beams": 4, "early_stopping": "never", "length_penalty": 2.0},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
        {"num_beams": 3, "stop": [[1, 2], [5]]},
        {"do_sample": True, "seed": 1, "stop": [[4]]},
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_streamed_tokens_are_the_final_answer(seed, options):
    for model in (random_table(9, seed), fastrnn.models.LanguageModel(9, 4, 8)):
        arguments = {"max_new_tokens": 15, "eos_token_id": 3, **options}
        streamed = list(stream_generate(model, [1, 2], **arguments))
        assert streamed == generate(model, [1, 2], **arguments)[0].tokens


def test_beams_stream_what_is_certain_before_the_end():
    model = random_table(9, 2, 4.0)
    tokens = stream_generate(model, [1], max_new_tokens=40, num_beams=3)
    next(tokens)
    assert len(model.rows_seen) < 40


def test_sampled_tokens_come_at_once():
    model = random_table(9, 2)
    tokens = stream_generate(model, [1, 2, 3], max_new_tokens=40, do_sample=True)
    for count in range(3, 10):
        next(tokens)
        assert len(model.rows_seen) == count


def test_a_closed_generator_and_an_interrupt_end_cleanly():
    model = fastrnn.models.LanguageModel(9, 4, 8)
    tokens = stream_generate(model, [1], max_new_tokens=1000)
    next(tokens)
    tokens.close()
    with pytest.raises(StopIteration):
        next(tokens)

    def interrupt(tokens, logits):
        if len(tokens) > 4:
            raise KeyboardInterrupt

    for options in ({}, {"num_beams": 2}):
        with pytest.raises(KeyboardInterrupt):
            generate(model, [1], max_new_tokens=1000, logits_processor=interrupt, **options)
    assert generate(model, [1], max_new_tokens=3) == generate(model, [1], max_new_tokens=3)


def test_a_model_that_never_ends_stops_at_the_limit():
    model = Still([0.0, 1.0, -40.0])
    for options in ({}, {"do_sample": True, "top_k": 2}, {"num_beams": 2, "top_k": 0}):
        found = generate(model, [0], max_new_tokens=50, eos_token_id=2, **options)[0]
        assert len(found.tokens) == 50
        assert found.finish_reason == "length"
