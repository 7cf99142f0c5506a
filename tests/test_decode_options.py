"""Every option of generate, one by one: what is no value of it is refused in one sentence."""

from __future__ import annotations

import decimal
import math
from dataclasses import fields
from fractions import Fraction
from inspect import Parameter, signature

import numpy as np
import pytest
from decoding import constant_table

from fastrnn import generate, stream_generate
from fastrnn.cli._decoding import _PLAIN, add_decoding_options
from fastrnn.cli._parser import Parser
from fastrnn.decode import regex
from fastrnn.decode._options import Options

MODEL = constant_table([0.1, 0.5, 0.2, 0.4, 0.3, 0.6])
NAMES = [field.name for field in fields(Options)]
HUGE = {
    "10**400": 10**400,
    "-10**400": -(10**400),
    "10**5000": 10**5000,
    "a fraction": Fraction(10**5000, 3),
    "a long double": np.longdouble("1e4000"),
    "2**63": 2**63,
    "-2**63 - 1": -(2**63) - 1,
}
STRANGE = {
    "nan": math.nan,
    "float32 nan": np.float32("nan"),
    "-inf": -math.inf,
    "1e308": 1e308,
    "a decimal": decimal.Decimal(1),
    "a text": "x",
    "bytes": b"x",
    "a complex number": 1j,
    "an array": np.array([0.5, 0.25]),
    "an array without dimensions": np.array(0.5),
    "an object": object(),
    "a numpy bool": np.bool_(True),
}
# With what an option is tried, so that it has an effect and nothing else is wrong.
BESIDE = {
    **{name: {"do_sample": True} for name in ("temperature", "top_k", "top_p", "min_p")},
    "typical_p": {"do_sample": True},
    **{name: {"num_beams": 4} for name in ("patience", "early_stopping", "coverage_penalty")},
    "diversity_penalty": {"num_beams": 4, "num_beam_groups": 2},
    "num_beam_groups": {"num_beams": 4, "diversity_penalty": 1.0},
}
# The least, the most and another good value of every option; two are out of it where it has an end.
GOOD = {
    "max_new_tokens": [1, 7, np.int32(3)],
    "min_new_tokens": [0, 4, np.int64(2)],
    "do_sample": [True, False],
    "temperature": [0, 0.0, -0.0, 0.7, Fraction(1, 3), np.float32(2), math.inf, 1e-320],
    "top_k": [None, 0, 1, 6, 2**63 - 1],
    "top_p": [0, -0.0, 1, 0.5, np.float64(0.3), 1e-320],
    "min_p": [0, 1, 0.5],
    "typical_p": [0, 1, 0.5],
    "num_beams": [1, 2, 6],
    "num_beam_groups": [2, 4],
    "diversity_penalty": [1e-320, 0.5, 1e6],
    "num_return_sequences": [1],
    "length_penalty": [0, -0.0, -2, 1.5, 400, -400],
    "length_penalty_form": ["power", "gnmt"],
    "early_stopping": [True, False, "never"],
    "patience": [0.5, 2, 1e-320],
    "repetition_penalty": [1, 1e-6, 1e6, 2],
    "no_repeat_ngram_size": [0, 9, 2**63 - 1],
    "eos_token_id": [None, 0, 5, [], [1, 2], np.int64(3), np.array([1, 2])],
    "bad_words_ids": [None, [], [[1]], [[2, 3], (4,)], [np.array([1, 2])]],
    "forced_tokens": [None, [], [1, 2], {0: 5, 3: 1}, np.array([3])],
    "forced_bos_token_id": [None, 0, 5],
    "forced_eos_token_id": [None, 0, 5],
    "suppress_tokens": [None, [], [1], {2, 3}, np.array([0])],
    "begin_suppress_tokens": [None, [], [1]],
    "logits_processor": [None, [], lambda tokens, logits: None, [lambda tokens, logits: logits]],
    "constraint": [None, regex("(ab)+", "abcdef")],
    "stop": [None, [], [[1]], [[2, 3], [4]]],
    "seed": [None, 0, 2**64 - 1, np.uint64(2**64 - 1)],
    "coverage_penalty": [0, -0.0],
}
# What is neither too large nor strange for an option.
TAKEN = {("seed", "2**63"), *(("temperature", k) for k in ("2**63", "1e308", "a long double"))}


def options(name, value):
    return {"max_new_tokens": 4, **BESIDE.get(name, {}), name: value}


def test_every_option_is_tried_and_has_one_name_everywhere():
    assert set(GOOD) == set(NAMES)
    keywords = {
        name
        for name, p in signature(generate).parameters.items()
        if p.kind is Parameter.KEYWORD_ONLY
    }
    assert keywords == set(NAMES)
    parser = Parser()
    add_decoding_options(parser)
    options = parser.parse_args([])
    flags = {name: parser.flag_of(options, name) for name in NAMES}
    assert {name for name, flag in flags.items() if flag is None} == {
        "begin_suppress_tokens", "coverage_penalty", "do_sample", "eos_token_id",
        "forced_bos_token_id", "forced_eos_token_id", "forced_tokens", "logits_processor",
    }  # fmt: skip
    assert (flags["num_beams"], flags["bad_words_ids"]) == ("--beams", "--bad-words")
    assert set(_PLAIN) <= set(NAMES)
    defaults = {f.name: f.default for f in fields(Options) if f.name != "max_new_tokens"}
    assert {n: signature(generate).parameters[n].default for n in defaults} == defaults


@pytest.mark.parametrize("name", NAMES)
def test_good_values_are_taken(name):
    for value in GOOD[name]:
        found = generate(MODEL, [1, 2], **options(name, value))[0]
        assert found.tokens
        assert math.isfinite(found.score)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_that_nothing_holds_are_refused_by_name(name):
    for kind, value in HUGE.items():
        if (name, kind) in TAKEN:
            continue
        for decode in (generate, stream_generate):
            with pytest.raises((ValueError, TypeError), match=name) as caught:
                decode(MODEL, [1], **options(name, value))
            assert len(str(caught.value)) < 200, kind


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_value_of_an_option_is_refused_by_name(name):
    for kind, value in STRANGE.items():
        if (name, kind) in TAKEN:
            continue
        with pytest.raises((ValueError, TypeError), match=name) as caught:
            generate(MODEL, [1], **options(name, value))
        assert len(str(caught.value)) < 250, kind


@pytest.mark.parametrize("name", NAMES)
def test_a_bool_is_no_number_and_a_number_no_bool(name):
    flags = {"do_sample", "early_stopping"}
    for value in (0, 1, 1.0) if name in flags else (True, False):
        with pytest.raises((ValueError, TypeError), match=name):
            generate(MODEL, [1], **options(name, value))


@pytest.mark.parametrize("name", ["bad_words_ids", "stop", "suppress_tokens", "eos_token_id"])
@pytest.mark.parametrize("value", [10**400, -(10**5000), 6, -1, 0.5, None, "x", True], ids=type)
def test_ids_within_lists_are_checked_too(name, value):
    nested = name in ("bad_words_ids", "stop")
    with pytest.raises((ValueError, TypeError), match=name) as caught:
        generate(MODEL, [1], **options(name, [[1, value]] if nested else [1, value]))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("forced", [{10**400: 1}, {0: 10**400}, {True: 1}, {"x": 1}, {0: None}])
def test_forced_tokens_are_checked_one_by_one(forced):
    with pytest.raises((ValueError, TypeError), match="forced_tokens") as caught:
        generate(MODEL, [1], **options("forced_tokens", forced))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("prompt", [[10**400], [[1], [-(10**5000)]], [True], 10**400, [1.5]])
def test_prompts_of_what_is_no_token_are_refused(prompt):
    with pytest.raises((ValueError, TypeError), match="prompt") as caught:
        generate(MODEL, prompt, max_new_tokens=2)
    assert len(str(caught.value)) < 200
