"""However a constrained text ends, it is one that the constraint describes, as long as promised."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from decoding import random_table
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastrnn import generate, stream_generate
from fastrnn.cli import main
from fastrnn.data import Vocabulary
from fastrnn.decode import Automaton, Trie, regex
from fastrnn.models import FeaturesToSequence, LanguageModel, Seq2Seq

V, EOS = 5, 4
MODES = {
    "greedy": {},
    "draws": {"do_sample": True, "temperature": 2.0, "num_return_sequences": 3},
    "beams": {"num_beams": 4},
    "groups": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.7},
    "early": {"num_beams": 3, "early_stopping": True, "patience": 2.0},
}
STOPS = [[0], [1, 2], [2]]


@st.composite
def automata(draw):
    """Up to five states, each with some of the tokens 0 to 3."""
    size = draw(st.integers(1, 5))
    state = st.integers(0, size - 1)
    arrows = [
        draw(st.dictionaries(st.integers(0, EOS - 1), state, max_size=4)) for _ in range(size)
    ]
    try:
        return Automaton(arrows, draw(st.sets(state, min_size=1)))
    except ValueError:
        assume(False)


def complete(automaton, least, most, eos):
    """Whether there is any text to write: accepted, of `least` tokens at least before its end."""
    for length in range(most + 1):
        if length >= least and (length or eos is not None) and length + (not length) <= most:
            texts = itertools.product(range(EOS), repeat=length)
            if any(automaton.accepts(text) for text in texts):
                return True
    return False


def check(found, automaton, least, most, eos, stops):
    """The promise, of one result."""
    body = found.tokens[:-1] if found.finish_reason == "eos" else found.tokens
    assert automaton.accepts(body), found
    assert least <= len(body), found
    assert len(found.tokens) <= most, found
    assert eos not in body
    if found.finish_reason == "stop":
        assert any(body[-len(stop) :] == stop for stop in stops)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=40, deadline=None)
@given(
    automata(),
    st.integers(0, 4),
    st.integers(1, 5),
    st.sampled_from([None, EOS]),
    st.sampled_from([None, STOPS]),
    st.integers(0, 99),
)
def test_every_text_ends_where_the_constraint_accepts_it(
    mode, automaton, least, most, eos, stops, seed
):
    least = min(least, most)
    options = {
        "max_new_tokens": most, "min_new_tokens": least, "eos_token_id": eos, "stop": stops,
        "constraint": automaton, **MODES[mode],
    }  # fmt: skip
    if options.get("do_sample"):
        options["seed"] = seed
    model = random_table(V, seed)
    if not complete(automaton, least, most, eos):
        with pytest.raises(ValueError, match=r"constraint (allows|has|needs)"):
            generate(model, [1], **options)
        return
    for found in generate(model, [[1], [3, 0]], **options):
        check(found, automaton, least, most, eos, stops or [])
    options.pop("num_return_sequences", None)
    first = generate(model, [1], **options)[0].tokens
    assert list(stream_generate(model, [1], **options)) == first


def test_a_stop_sequence_ends_a_text_in_accepting_states_only():
    dates = regex("[0-9]{2}-[0-9]{2}", "0123456789-")
    model = random_table(11, 3)
    options = {"constraint": dates, "max_new_tokens": 9}
    for mode in MODES.values():
        for stop in ([[7]], [[10]], [[i] for i in range(11)]):
            for one in generate(model, [1], stop=stop, **options, **mode):
                assert dates.accepts(one.tokens)
                assert len(one.tokens) == 5


def test_a_stop_sequence_still_ends_what_could_go_on():
    many = Automaton([{0: 1, 1: 1}, {0: 0, 1: 0}], [0])  # an even number of tokens
    found = generate(random_table(2, 1), [0], max_new_tokens=9, constraint=many, stop=[[0], [1]])[0]
    assert (len(found.tokens), found.finish_reason) == (2, "stop")
    found = generate(
        random_table(2, 1), [0], max_new_tokens=9, constraint=many, stop=[[0], [1]],
        min_new_tokens=5,
    )[0]  # fmt: skip
    assert (len(found.tokens), found.finish_reason) == (6, "stop")


@pytest.mark.parametrize("mode", MODES)
def test_a_short_word_is_not_begun_where_a_longer_text_is_asked_for(mode):
    words = Trie([[0], [0, 1], [1, 2, 3], [2, 0, 1, 1]])
    for seed in range(8):
        options = {**MODES[mode], **({"seed": seed} if mode == "draws" else {})}
        for eos in (None, EOS):
            found = generate(
                random_table(V, seed), [1], max_new_tokens=5, min_new_tokens=3, constraint=words,
                eos_token_id=eos, **options,
            )  # fmt: skip
            for one in found:
                body = one.tokens[:-1] if one.finish_reason == "eos" else one.tokens
                assert body in ([1, 2, 3], [2, 0, 1, 1])


@pytest.mark.parametrize("mode", MODES)
def test_an_end_token_within_the_constraint_waits_for_the_shortest_length(mode):
    words = Trie([[0, EOS], [1, 2, 3], [3, 2, EOS]])
    for seed in range(8):
        for one in generate(
            random_table(V, seed), [1], max_new_tokens=4, min_new_tokens=2, constraint=words,
            eos_token_id=EOS, **MODES[mode],
        ):  # fmt: skip
            assert one.tokens in ([1, 2, 3, EOS], [3, 2, EOS])


@pytest.mark.parametrize(
    ("least", "most", "wanted"), [(1, 3, 3), (4, 7, 6), (100, 102, 102), (10_000, 10_002, 10_002)]
)
def test_lengths_that_repeat_meet_both_limits(least, most, wanted):
    threes = Automaton([{0: 1, 1: 1}, {0: 2, 1: 2}, {0: 0, 1: 0}], [0])

    class Constant:
        vocab_size = 2

        def stream(self, batch_size):
            return self

        def step(self, tokens):
            return np.zeros((len(tokens), 2), np.float32)

        def reorder(self, indices):
            pass

    found = generate(
        Constant(), [0], max_new_tokens=most, min_new_tokens=least, constraint=threes, stop=[[0]]
    )[0]
    assert len(found.tokens) == wanted
    with pytest.raises(ValueError, match="constraint has no text of 4 to 5 tokens"):
        generate(Constant(), [0], max_new_tokens=5, min_new_tokens=4, constraint=threes)


def test_a_start_that_accepts_still_needs_a_text_within_the_limit():
    optional = regex("(abc)?", "abc")
    with pytest.raises(ValueError, match="constraint needs 3 tokens at least, max_new_tokens is 2"):
        generate(random_table(4), [0], max_new_tokens=2, constraint=optional)
    found = generate(random_table(4), [0], max_new_tokens=2, constraint=optional, eos_token_id=3)[0]
    assert (found.tokens, found.finish_reason) == ([3], "eos")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("eos", [None, EOS])
def test_a_text_that_could_only_go_on_beyond_the_limit_ends_where_it_is_whole(mode, eos):
    words = Trie([[0, 1], [0, 1, 2, 3, 0], [2, 3]])
    for seed in range(6):
        for one in generate(
            random_table(V, seed), [1], max_new_tokens=4, eos_token_id=eos, constraint=words,
            **MODES[mode],
        ):  # fmt: skip
            body = one.tokens[:-1] if one.finish_reason == "eos" else one.tokens
            assert body in ([0, 1], [2, 3])
            if eos is None:
                assert one.finish_reason == ("length" if body == [0, 1] else "constraint")


def test_one_constraint_serves_calls_with_different_end_tokens():
    words = Trie([[0, 1], [0, 2]])
    for eos in (1, 2, None, 3, 1):
        found = generate(
            random_table(V, 2), [1], max_new_tokens=3, constraint=words, eos_token_id=eos
        )[0]
        assert found.finish_reason == ("constraint" if eos is None else "eos")


def models():
    source = np.random.default_rng(2).integers(0, 9, (4, 2))
    features = np.random.default_rng(3).standard_normal((3, 2, 5)).astype(np.float32)
    prompts = [[1], [2]]
    yield LanguageModel(V, 6, 6), prompts
    yield Seq2Seq(9, V, 6, attention="additive", input_feeding=True).with_source(source), prompts
    yield Seq2Seq(9, V, 6).with_source(source, shortlist=[0, 1, 2, 3]), prompts
    yield FeaturesToSequence(5, V, 6, attention="multiplicative").with_source(features), prompts


@pytest.mark.parametrize("mode", MODES)
def test_models_keep_the_promise(mode):
    automaton = Automaton([{0: 1, 1: 2}, {1: 0, 2: 0}, {3: 1}], [0])
    for model, prompts in models():
        for one in generate(
            model, prompts, max_new_tokens=9, min_new_tokens=3, stop=STOPS, constraint=automaton,
            eos_token_id=EOS if not hasattr(model, "num_sources") else None, **MODES[mode],
        ):  # fmt: skip
            check(one, automaton, 3, 9, EOS, STOPS)


@pytest.mark.parametrize("more", [(), ("--seed", "3"), ("--beams", "3"), ("--json",)], ids=str)
def test_the_command_line_keeps_the_promise(more, tmp_path, capsys):
    vocabulary = Vocabulary("ab-", specials=("eos",))
    model = LanguageModel(len(vocabulary), 6, 6)
    model.vocabulary = vocabulary.to_dict()
    model.save(tmp_path / "model")
    command = ["generate", str(tmp_path / "model"), "--prompt", "b", *more]
    for shape in (("--regex", "a{2}-b{1,3}"), ("--words", str(tmp_path / "words"))):
        (tmp_path / "words").write_text("aa-b\naa-bb\naa-bbb\na-\n")
        options = ["--stop", "a", "--stop", "b", "--min-new-tokens", "4", "--max-new-tokens", "6"]
        assert main([*command, *shape, *options]) == 0
        printed = capsys.readouterr().out.strip()
        text = json.loads(printed)["text"] if "--json" in more else printed.removeprefix("b")
        assert text in ("aa-b", "aa-bb", "aa-bbb")
        assert main([*command, *shape, "--max-new-tokens", "9", "--min-new-tokens", "7"]) == 1
        wrong = capsys.readouterr().err
        assert "no text of 7 to 9 tokens, which are --min-new-tokens and --max-new-tokens" in wrong
