"""Bad input: errors that name the argument, before anything runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from decoding import Still, constant_table

import fastrnn
from fastrnn import generate, stream_generate

MODEL = constant_table([0.0] * 6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0, expected an int of 1 or more"),
        ({"min_new_tokens": 9}, "min_new_tokens is 9, more than max_new_tokens 5"),
        ({"min_new_tokens": -1}, "min_new_tokens is -1"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"temperature": 0.7}, "temperature is 0.7, but do_sample is False"),
        ({"top_k": 3}, "top_k is 3, but do_sample is False"),
        ({"top_p": 0.5, "num_beams": 2}, "top_p is 0.5, but do_sample is False"),
        ({"top_p": 1.5, "do_sample": True}, "top_p is 1.5, expected a number from 0 to 1"),
        ({"min_p": -0.1, "do_sample": True}, "min_p is -0.1"),
        ({"typical_p": 2, "do_sample": True}, "typical_p is 2.0"),
        ({"top_k": -1, "do_sample": True}, "top_k is -1"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"num_beams": 7}, "num_beams is 7, but the vocabulary has 6 tokens"),
        ({"num_beams": 2, "do_sample": True}, "do_sample is True and num_beams is 2"),
        ({"num_beams": 4, "num_beam_groups": 3}, "num_beam_groups is 3, which does not divide"),
        ({"num_beams": 4, "num_beam_groups": 2}, "diversity_penalty is 0.0 with num_beam_groups"),
        ({"num_beams": 2, "diversity_penalty": 1.0}, "diversity_penalty is 1.0"),
        ({"num_return_sequences": 2}, "num_return_sequences is 2, but a greedy search gives"),
        ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences is 3, but 2 beams"),
        ({"num_return_sequences": 0}, "num_return_sequences is 0"),
        ({"early_stopping": "maybe"}, "early_stopping is 'maybe'"),
        ({"patience": 0}, "patience is 0.0"),
        ({"length_penalty": math.inf}, "length_penalty is inf"),
        ({"length_penalty_form": "sum"}, "length_penalty_form is 'sum'"),
        ({"length_penalty": -900}, "length_penalty is -900.0, expected a number from -434.9"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0.0, expected a number from 1e-06 to"),
        ({"repetition_penalty": 1e39}, "repetition_penalty is 1e[+]39"),
        ({"max_new_tokens": 10**30}, "expected an int below 2[*][*]63"),
        ({"do_sample": True, "top_k": 10**30}, "expected an int below 2[*][*]63"),
        ({"no_repeat_ngram_size": -2}, "no_repeat_ngram_size is -2"),
        ({"eos_token_id": 6}, "eos_token_id holds 6, expected ids from 0 to 5"),
        ({"eos_token_id": [1, -1]}, "eos_token_id holds -1"),
        ({"suppress_tokens": [8]}, "suppress_tokens holds 8"),
        ({"suppress_tokens": range(6)}, "leave no token of the vocabulary"),
        ({"bad_words_ids": [[]]}, "bad_words_ids holds an empty sequence"),
        ({"bad_words_ids": [[1, 9]]}, r"bad_words_ids\[0\] holds 9"),
        ({"stop": [[7]]}, r"stop\[0\] holds 7"),
        ({"forced_tokens": {9: 1}}, "forced_tokens holds position 9, max_new_tokens is 5"),
        ({"forced_tokens": [1], "forced_bos_token_id": 2}, "differ at position 0"),
        ({"forced_tokens": [1], "suppress_tokens": [1]}, "which suppress_tokens forbids"),
        (
            {"forced_tokens": [1], "eos_token_id": 1, "min_new_tokens": 2},
            "forced_tokens ends at position 0",
        ),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1 << 64}, "seed is 18446744073709551616"),
        ({"coverage_penalty": 0.5}, "coverage_penalty is 0.5, which needs num_beams above 1"),
        ({"coverage_penalty": -1.0, "num_beams": 2}, "coverage_penalty is -1.0, expected a number"),
        ({"coverage_penalty": 0.5, "num_beams": 2}, "coverage_penalty is 0.5, but .* no attention"),
        ({"begin_suppress_tokens": range(6)}, "no token is allowed of prompt 0 at new token 0"),
    ],
)
def test_wrong_values_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        generate(MODEL, [1], **{"max_new_tokens": 5, **options})
    with pytest.raises(ValueError, match=message):
        list(stream_generate(MODEL, [1], **{"max_new_tokens": 5, **options}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 2.5}, "max_new_tokens should be of type int"),
        ({"do_sample": 1}, "do_sample should be of type bool"),
        ({"temperature": "hot"}, "temperature is a str"),
        ({"seed": 0.5}, "seed should be of type int"),
        ({"eos_token_id": "x"}, "eos_token_id is a str"),
        ({"suppress_tokens": 3}, "suppress_tokens is an int"),
        ({"bad_words_ids": [1]}, r"bad_words_ids\[0\] is an int"),
        ({"stop": "ab"}, "stop is a str"),
        ({"logits_processor": 3}, "logits_processor is an int"),
        ({"constraint": "a*"}, "constraint is a str, expected a fastrnn.decode.Automaton"),
    ],
)
def test_wrong_types_are_refused(options, message):
    with pytest.raises(TypeError, match=message):
        generate(MODEL, [1], **{"max_new_tokens": 5, **options})


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        ([], ValueError, "prompt is empty"),
        ([[1], []], ValueError, r"prompt\[1\] is empty"),
        (np.zeros((0, 3), int), ValueError, "prompt is empty"),
        ([6], ValueError, "prompt holds 6, expected ids from 0 to 5"),
        ([[1], [2, -3]], ValueError, r"prompt\[1\] holds -3"),
        ("text", TypeError, "prompt is a str"),
        ([0.5], TypeError, "prompt has dtype float64"),
        ([[[1]]], ValueError, "has shape"),
    ],
)
def test_wrong_prompts_are_refused(prompt, error, message):
    with pytest.raises(error, match=message):
        generate(MODEL, prompt, max_new_tokens=5)


@pytest.mark.parametrize("prompt", [[1, 2], (1, 2), np.array([1, 2]), np.array([[1, 2]], np.int8)])
def test_a_prompt_comes_in_many_forms(prompt):
    assert len(generate(MODEL, prompt, max_new_tokens=2)) == 1


def test_two_dimensions_are_several_prompts():
    assert len(generate(MODEL, np.array([[1, 2], [3, 4]]), max_new_tokens=2)) == 2
    assert len(generate(MODEL, [np.array([1, 2]), (3,)], max_new_tokens=2)) == 2


def test_something_that_is_no_model_is_refused():
    for thing in (3, fastrnn.LSTM(2, 3)):
        with pytest.raises(TypeError, match="expected an object with vocab_size and stream"):
            generate(thing, [1], max_new_tokens=5)


def test_unknown_and_missing_options_are_refused():
    with pytest.raises(TypeError, match="beams is not an option"):
        stream_generate(MODEL, [1], max_new_tokens=5, beams=3)
    with pytest.raises(TypeError, match="max_new_tokens is missing"):
        stream_generate(MODEL, [1])
    with pytest.raises(TypeError, match="beams"):
        generate(MODEL, [1], max_new_tokens=5, beams=3)


def test_streaming_takes_one_prompt_and_returns_one_sequence():
    with pytest.raises(ValueError, match="prompt holds several prompts"):
        stream_generate(MODEL, [[1], [2]], max_new_tokens=5)
    with pytest.raises(ValueError, match="num_return_sequences must be 1"):
        stream_generate(MODEL, [1], max_new_tokens=5, num_beams=2, num_return_sequences=2)


def test_a_model_that_gives_the_wrong_shape_is_refused():
    model = constant_table([0.0] * 6)
    model.vocab_size = 7
    with pytest.raises(ValueError, match=r"logits of shape \(1, 6\), expected \(1, 7\)"):
        generate(model, [1], max_new_tokens=5)


def test_a_hook_that_gives_nonsense_is_refused():
    for bad, message in (
        (lambda tokens, logits: logits[:3], r"logits_processor gave shape \(3,\)"),
        (lambda tokens, logits: logits * np.nan, "logits_processor gave NaN or infinity"),
        (lambda tokens, logits: logits + np.inf, "logits_processor gave NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            generate(MODEL, [1], max_new_tokens=5, logits_processor=bad)


@pytest.mark.parametrize("ids", [3, np.int64(3), [3], (3,), {3}, np.array([3]), iter([3])])
def test_end_tokens_come_in_many_forms(ids):
    model = Still([0.0, 0.0, 0.0, 9.0])
    assert generate(model, [0], max_new_tokens=2, eos_token_id=ids)[0].finish_reason == "eos"
