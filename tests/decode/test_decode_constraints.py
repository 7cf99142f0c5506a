"""Constraints: automata, word lists, regular expressions, and that nothing else is ever written."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from decoding import Still, random_table
from hypothesis import given
from hypothesis import strategies as st

import fastrnn
from fastrnn import generate
from fastrnn.decode import Automaton, Trie, regex

ALPHABET = "ab1-"
MODES = [{}, {"num_beams": 3}, {"do_sample": True, "seed": 5}]


def matches(pattern, most=5):
    """All texts over the alphabet of at most so many characters that Python's re matches."""
    texts = ("".join(t) for n in range(most + 1) for t in itertools.product(ALPHABET, repeat=n))
    return {text for text in texts if re.fullmatch(pattern, text)}


def accepted(automaton, most=5):
    ids = (t for n in range(most + 1) for t in itertools.product(range(4), repeat=n))
    return {"".join(ALPHABET[i] for i in t) for t in ids if automaton.accepts(t)}


@pytest.mark.parametrize(
    "pattern",
    [
        "ab",
        "a*",
        "a+b?",
        "(a|b)*1",
        "[ab]{2,3}",
        "[^a]{2}",
        "a{2}",
        "a{2,}",
        "(ab){1,2}-?",
        ".",
        ".{3}",
        r"\d+",
        r"\w\D",
        r"\-[a-b]",
        "[-a]+",
        "[a-]",
        "a||b",
        "(?:a|)b",
        "(a*)*b",
        "((a|b)(1|-)){2}",
        "a{0}b",
        "[]a]",
        "a{,2}b",
        "(a+|b{2})+",
        r"[\d\-]*",
    ],
)
def test_patterns_mean_what_they_mean_in_python(pattern):
    assert accepted(regex(pattern, ALPHABET)) == matches(pattern)


PATTERNS = st.recursive(
    st.sampled_from(["a", "b", "1", "[ab]", "[^a]", ".", r"\d", "-"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=6,
)


@given(PATTERNS)
def test_random_patterns_mean_what_they_mean_in_python(pattern):
    assert accepted(regex(pattern, ALPHABET), 4) == matches(pattern, 4)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a(b", r"a \( that is never closed at position 1"),
        ("a)", r"an unmatched \) at position 1"),
        ("[ab", r"a \[ that is never closed at position 0"),
        ("*a", "'\\*' with nothing to repeat at position 0"),
        ("a|+", "'\\+' with nothing to repeat at position 2"),
        ("a*?", "'\\?' after a repetition"),
        ("a{2}{3}", "'{' after a repetition"),
        ("^a", r"'\^', which is not supported"),
        ("a$", r"'\$', which is not supported"),
        ("(?=a)", r"a \(\?...\) group"),
        (r"\b", r"the escape \\b, which is not supported"),
        (r"(a)\1", r"the escape \\1"),
        ("[b-a]", "a range that does not rise"),
        ("a{3,2}", "whose counts fall"),
        ("a{", "'{' that starts no"),
        ("a{5000}", "a count above 1000"),
        ("((a{900}){900}){900}", "more than 50000 states"),
        ("z", "allows nothing"),
        ("a\\", "the escape"),
    ],
)
def test_what_is_not_supported_is_refused_with_its_place(pattern, message):
    with pytest.raises(ValueError, match=message):
        regex(pattern, ALPHABET)


def test_tokens_longer_than_a_character_write_the_same_texts():
    tokens = ["a", "b", "ab", "ba", "aab", "", "c"]
    automaton = regex("(ab)+", tokens)
    assert automaton.accepts([0, 1])
    assert automaton.accepts([2, 2])
    assert automaton.accepts([0, 3, 1])
    assert not automaton.accepts([4])
    assert Trie(["aab", "ba"], tokens).accepts([4])
    assert Trie(["aab", "ba"], {text: i for i, text in enumerate(tokens)}).accepts([0, 2])


def test_the_vocabulary_may_be_that_of_the_data():
    vocabulary = fastrnn.data.Vocabulary("abc", specials=["pad", "eos"])
    automaton = regex("b+", vocabulary)
    assert automaton.accepts(vocabulary.encode("bb"))
    assert not automaton.accepts(vocabulary.encode("ab"))
    words = fastrnn.data.Vocabulary(["one", "two"], level="words")
    with pytest.raises(ValueError, match="vocabulary is over words"):
        regex("b", words)


@pytest.mark.parametrize("more", MODES)
@pytest.mark.parametrize("eos", [None, 3])
def test_only_words_of_the_list_are_written(more, eos):
    words = [[0], [0, 1, 1], [2, 1], [2, 2, 2, 2]]
    for seed in range(5):
        options = {"constraint": Trie(words), "eos_token_id": eos, **more}
        for g in generate(random_table(6, seed), [[1], [4, 5]], max_new_tokens=6, **options):
            body = g.tokens[:-1] if g.finish_reason == "eos" else g.tokens
            assert body in words


@pytest.mark.parametrize("more", MODES)
@pytest.mark.parametrize("most", [2, 3, 7, 8])
def test_texts_are_complete_within_the_limit(more, most):
    automaton = regex("a(b1)*-", ALPHABET)
    for seed in range(5):
        found = generate(
            random_table(4, seed), [0], max_new_tokens=most, constraint=automaton, **more
        )
        text = "".join(ALPHABET[i] for i in found[0].tokens)
        assert re.fullmatch("a(b1)*-", text)


def test_constrained_choices_are_those_of_the_masked_logits():
    logits = np.float32([0.0, 1.0, 2.0, 3.0])
    found = generate(Still(logits), [0], max_new_tokens=3, constraint=Trie([[0, 2, 1], [1, 0]]))
    assert found[0].tokens == [1, 0]
    assert found[0].logprobs[0] == pytest.approx(1 - np.log(np.exp(logits).sum()), abs=1e-6)


def test_an_automaton_of_ones_own():
    even = Automaton([{0: 1, 1: 0}, {0: 0, 1: 1}], accepting=[0])  # an even number of zeros
    for seed in range(6):
        found = generate(
            random_table(3, seed), [2], max_new_tokens=7, eos_token_id=2, constraint=even
        )[0]
        assert found.tokens.count(0) % 2 == 0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Trie([]), ValueError, "allows nothing"),
        (lambda: Automaton([], []), ValueError, "allows nothing"),
        (lambda: Automaton([{0: 0}], []), ValueError, "allows nothing"),
        (lambda: Automaton([{0: 1}], [0]), ValueError, "transitions holds state 1"),
        (lambda: Automaton([{-1: 0}], [0]), ValueError, "transitions holds token -1"),
        (lambda: Automaton([[0]], [0]), TypeError, "transitions holds a list"),
        (lambda: Automaton([{}], [3]), ValueError, "accepting holds state 3"),
        (lambda: Trie(["ab"]), TypeError, "words are texts"),
        (lambda: Trie(["ab", [1]], "ab"), TypeError, "words are texts"),
        (lambda: Trie(["xyz"], "ab"), ValueError, "allows nothing"),
        (lambda: regex(3, "ab"), TypeError, "pattern is an int"),
        (lambda: regex("a", 3), TypeError, "vocabulary is an int"),
        (lambda: regex("a", [1, 2]), TypeError, "vocabulary holds an int"),
        (lambda: regex("a", {"a": -1}), ValueError, "vocabulary holds id -1"),
        (lambda: regex("a", {"a": 1, "b": 1}), ValueError, "several texts for one id"),
        (lambda: Trie([[1, -2]]), ValueError, "words holds token -2, expected ids of 0 or more"),
        (lambda: Trie([[[1]]]), ValueError, r"words has a part of shape \(1, 1\)"),
    ],
)
def test_wrong_constraints_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("more", MODES)
@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        ([[9]], {}, "constraint holds token 9, the vocabulary is 0 to 4"),
        ([[1, 2, 3, 4, 1, 2]], {}, "constraint needs 6 tokens at least, max_new_tokens is 5"),
        ([[]], {}, "constraint allows nothing but the empty sequence"),
        ([[1, 2]], {"suppress_tokens": [2]}, "no token is allowed of prompt 0 at new token 1"),
        (
            [[1]],
            {"eos_token_id": 0, "min_new_tokens": 3},
            "constraint has no text of 3 to 5 tokens",
        ),
    ],
)
def test_constraints_that_leave_nothing_are_refused(words, options, message, more):
    with pytest.raises(ValueError, match=message):
        generate(random_table(5), [1], max_new_tokens=5, constraint=Trie(words), **options, **more)


def test_more_sequences_than_a_constraint_allows_are_refused():
    with pytest.raises(ValueError, match="num_return_sequences is 3, but the search found only 2"):
        generate(
            random_table(5),
            [1],
            max_new_tokens=5,
            constraint=Trie([[1], [2]]),
            num_beams=3,
            num_return_sequences=3,
        )


@pytest.mark.parametrize("mode", MODES)
def test_an_end_token_within_a_word_is_none_of_its_letters(mode):
    words = [[3, 0, 4], [3, 5, 0], [3, 5, 1], [6, 7]]
    found = set()
    for seed in range(20):
        for g in generate(
            random_table(8, seed),
            [2],
            max_new_tokens=4,
            eos_token_id=0,
            constraint=Trie(words),
            **mode,
        ):
            found.add((*g.tokens, g.finish_reason))
    assert found == {(3, 5, 0, "eos"), (3, 5, 1, 0, "eos"), (6, 7, 0, "eos")}
    with pytest.raises(ValueError, match="the constraint allows nothing"):
        generate(random_table(8), [2], max_new_tokens=4, eos_token_id=0, constraint=Trie(words[:1]))
