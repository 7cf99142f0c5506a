"""Patterns and word lists over any tokens: what they mean, and that none of them costs too much."""

from __future__ import annotations

import itertools
import re
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from decoding import random_table
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrnn import generate
from fastrnn.decode import Automaton, Trie, _pattern, regex
from fastrnn.decode import _texts as texts

BYTES = [bytes([i]) for i in range(256)]


def in_bytes(tokens):
    return [t if isinstance(t, bytes) else t.encode() for t in tokens]


def is_text(data):
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def made(kind, *arguments):
    """The automaton, None if nothing is accepted."""
    try:
        return kind(*arguments)
    except ValueError as error:
        if "allows nothing" not in str(error):
            raise
        return None


def check(automaton, tokens, belongs, most=4):
    """Exactly the token sequences whose text belongs are accepted."""
    parts = in_bytes(tokens)
    for length in range(most + 1):
        for ids in itertools.product(range(len(tokens)), repeat=length):
            text = is_text(b"".join([parts[i] for i in ids]))
            accepted = automaton is not None and automaton.accepts(ids)
            assert accepted == (text is not None and belongs(text)), (ids, text)


PATTERNS = st.recursive(
    st.sampled_from(["a", "b", "é", "€", "[^a]", ".", r"\w", "[a-é]", r"\W", "[€-😀]", r"[^\w😀]"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=5,
)


@given(PATTERNS)
def test_patterns_over_longer_tokens_mean_what_they_mean_in_python(pattern):
    tokens = ["a", "b", "é", "ab", "aé€", "€", "", "😀a"]
    check_pattern(pattern, tokens, 3)


@given(PATTERNS)
def test_patterns_over_parts_of_characters_mean_what_they_mean_in_python(pattern):
    euro, face = "€".encode(), "😀".encode()
    tokens = [b"a", euro[:1], euro[1:], b"b" + face[:2], face[2:], "é", face[:3], face[3:] + b"a"]
    check_pattern(pattern, tokens, 3)


def check_pattern(pattern, tokens, most):
    wanted, automaton = re.compile(pattern), made(regex, pattern, tokens)
    kept = [t if t else b"\xff" for t in tokens]  # an empty token is none that can be written
    check(automaton, kept, lambda text: wanted.fullmatch(text) is not None, most)


def test_words_are_written_by_parts_of_characters():
    words = ["né", "n€", "naïve", "😀"]
    tokens = [b"n", *sorted({bytes([b]) for w in words for b in w.encode()} - {b"n"}), "aï"]
    automaton = Trie(words, tokens)
    assert automaton.accepts([tokens.index(bytes([b])) for b in "naïve".encode()])
    assert automaton.accepts([0, len(tokens) - 1, tokens.index(b"v"), tokens.index(b"e")])
    check(automaton, tokens[:4], lambda text: text in words, 3)


@pytest.mark.parametrize("mode", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 3}])
def test_a_text_of_bytes_never_ends_within_a_character(mode):
    """Neither at the limit nor at a stop sequence of one byte."""
    pattern = re.compile("[é€😀]{2,}")
    automaton = regex("[é€😀]{2,}", BYTES)
    for seed, most in itertools.product(range(4), (4, 5, 6, 9, 11)):
        for stop in (None, [[i] for i in range(256)]):
            for one in generate(
                random_table(256, seed), [1], max_new_tokens=most, constraint=automaton,
                stop=stop, **mode,
            ):  # fmt: skip
                assert pattern.fullmatch(bytes(one.tokens).decode())


def test_no_surrogate_and_no_long_form_is_written_in_bytes():
    automaton = regex(".", BYTES)
    lead = {first for first in range(256) if automaton.follow(automaton.start, first) >= 0}
    assert lead == {*range(128), *range(0xC2, 0xF5)} - {10}
    for code in (0x80, 0x7FF, 0x800, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF):
        assert automaton.accepts(chr(code).encode())
    for data in (b"\xed\xa0\x80", b"\xc0\x80", b"\xe0\x80\x80", b"\xf4\x90\x80\x80", b"\x80"):
        assert not automaton.accepts(data)


@settings(max_examples=30)
@given(st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=6), st.integers(0, 9))
def test_word_lists_over_longer_tokens_hold_their_words_and_no_others(words, seed):
    drawn = np.random.default_rng(seed)
    tokens = ["".join(drawn.choice(["a", "b"], drawn.integers(1, 4))) for _ in range(4)]
    check(made(Trie, words, tokens), tokens, set(words).__contains__)


WORK = "more than 5000000 steps"
LIMITS = {
    "counts one after another": ("[a-z]{1,1000}" * 10, WORK),
    "two counts": ("[a-z]{1,1000}[a-z]{1,1000}", WORK),
    "counts within counts": ("((a{900}){900}){900}", "more than 50000 states"),
    "empty counts within counts": ("(((()*){1000})*){1000}", "more than 50000 states"),
    "optional parts": ("a?" * 2000 + "a" * 2000, WORK),
    "two to the twentieth": ("(a|b)*a(a|b){20}", WORK),
    "alternatives": ("|".join(["abcdefgh"] * 10_000), "more than 50000 states"),
    "groups": ("(" * 100_000 + "a" + ")" * 100_000, "more than 50000 states"),
    "open groups": ("(" * 15_000, r"a \( that is never closed at position 14999: \.\.\.'\(\("),
    "named classes": ("[" + r"\w" * 100_000 + "]", WORK),
    "different classes": ("".join(f"[^{chr(i)}]" for i in range(256, 9000)), WORK),
    "a long class that is open": ("[" + "a" * 100_000, r"a \[ that is never closed at position 0"),
    "counts that are none": ("a{" * 100_000, "'{' that starts no"),
    "a long count": ("a{" + "9" * 100_000 + "}", "a count above 1000"),
    "a long falling count": ("a{5," + "0" * 100_000 + "1}", "whose counts fall"),
    "nothing over a long vocabulary": ("z" * 20_000, "allows nothing"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_pattern_that_costs_too_much_is_refused_by_the_limit_it_breaks(name, monkeypatch):
    pattern, message = LIMITS[name]
    if message == WORK and name != "two counts":  # the limit itself once
        monkeypatch.setattr(_pattern, "MAX_WORK", _pattern.MAX_WORK // 50)
        message = "more than 100000 steps"
    with pytest.raises(ValueError, match=message) as caught:
        regex(pattern, "abcdefgh")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "pattern", ["(" * 9000 + "a" + ")" * 9000, "a|" * 9000 + "b", "(a*)*" * 999]
)
def test_depth_and_length_need_no_stack(pattern):
    """Not even in a thread that has hardly any."""
    found = []
    size = threading.stack_size(1 << 18)
    limit = sys.getrecursionlimit()
    try:
        thread = threading.Thread(target=lambda: found.append(regex(pattern, "ab")))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
    assert found[0].accepts([0])
    assert sys.getrecursionlimit() == limit


def test_a_large_vocabulary_costs_what_can_be_written_with_it():
    """20,000 tokens, and an automaton whose arrows would be too many."""
    drawn = np.random.default_rng(0).integers(97, 123, (20_000, 9), np.uint8)
    ends = np.random.default_rng(1).integers(1, 10, 20_000)
    tokens = [bytes(row[:end]).decode() for row, end in zip(drawn, ends, strict=True)]
    counted = regex("[a-z]{1,20}", tokens)
    assert counted.accepts([0, 1])
    dates = regex("(mon|tues|wednes)day", tokens)
    assert dates.arrows.symbols.size < 10_000
    assert regex(".*", tokens).arrows.symbols.size == 20_000
    with pytest.raises(ValueError, match="needs more than 5000000 arrows over this vocabulary"):
        regex("[a-z]{1,1000}", tokens)
    words = Trie(["monday", "tuesday", tokens[0] + tokens[1]], tokens)
    assert words.accepts([0, 1])


def test_the_walk_of_tokens_through_states_is_bounded(monkeypatch):
    monkeypatch.setattr(texts, "_MAX_WORK", 1000)
    with pytest.raises(ValueError, match="takes more than 1000 steps to be written over this"):
        regex("[a-c]{1,300}d", ["a", "aaa", "abc", "d"])


def test_the_walk_in_small_parts_finds_the_same(monkeypatch):
    tokens = ["a", "b", "ab", "ba", "aab", "bbbb"]
    whole = regex("(ab|b{1,3}a?){1,9}", tokens).arrows
    monkeypatch.setattr(texts, "_AT_ONCE", 3)
    parts = regex("(ab|b{1,3}a?){1,9}", tokens).arrows
    for name in ("offsets", "symbols", "targets"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_word_lists_cost_time_and_memory_by_their_letters():
    """At most 400 bytes for each of them, however long the words are."""
    drawn = np.random.default_rng(0)
    many = drawn.integers(0, 1000, (3000, 6)).tolist()
    for words in (many, [[1, 2] * 9000]):
        tracemalloc.start()
        automaton = Trie(words)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 400 * sum(map(len, words))
        assert all(automaton.accepts(word) for word in words[:50])
        assert not automaton.accepts([1001])


def test_a_long_chain_of_states_is_searched_without_recursion():
    chain = Automaton([{0: i + 1} for i in range(30_000)] + [{}], [30_000])
    assert chain.needed[0] == 30_000
    with pytest.raises(ValueError, match="constraint needs 30000 tokens at least"):
        generate(random_table(3), [1], max_new_tokens=9, constraint=chain)


@pytest.mark.parametrize("vocabulary", [b"abc", bytearray(b"abc")])
def test_bytes_alone_are_no_vocabulary(vocabulary):
    with pytest.raises(TypeError, match=r"vocabulary is a byte(s|array), expected the texts"):
        regex("a", vocabulary)
