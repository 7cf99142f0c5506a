"""Vocabularies: text to ids and back."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.data import Vocabulary

TEXT = "to be, or not to be\n"
specials = st.sets(st.sampled_from(["pad", "bos", "eos", "unk"]))


@given(st.text(st.characters(), min_size=1), specials)
def test_characters_survive_encoding_and_decoding(text, chosen):
    vocabulary = Vocabulary.build(text, specials=chosen)
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert len(vocabulary) == len(set(text)) + len(chosen)


@given(st.lists(st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1), min_size=1))
def test_words_survive_encoding_and_decoding(words):
    text = " ".join(words)
    vocabulary = Vocabulary.build(text, level="words")
    assert vocabulary.decode(vocabulary.encode(text)) == " ".join(text.split())


@given(st.text(min_size=1), specials, st.sampled_from(["characters", "words"]))
def test_a_vocabulary_survives_json(text, chosen, level):
    vocabulary = Vocabulary.build(f"{text} a", level=level, specials=chosen)
    again = Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict())))
    assert again == vocabulary
    assert hash(again) == hash(vocabulary)
    assert again.encode(text).tolist() == vocabulary.encode(text).tolist()


def test_reserved_ids_come_first_in_a_fixed_order():
    vocabulary = Vocabulary("ab", specials=["unk", "eos", "pad"])
    assert (vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.unk) == (0, None, 1, 2)
    assert vocabulary.encode("ab").tolist() == [3, 4]
    assert len(vocabulary) == 5
    assert repr(vocabulary) == "Vocabulary(5 ids, characters, specials pad eos unk)"


def test_the_most_frequent_tokens_come_first_and_ties_by_code_point():
    assert "".join(Vocabulary.build("cabbaddd").tokens) == "dabc"
    assert Vocabulary.build("z a b a", level="words").tokens == ("a", "b", "z")


def test_rare_tokens_and_those_beyond_the_largest_size_are_left_out():
    assert Vocabulary.build("aaabbc", min_count=2).tokens == ("a", "b")
    vocabulary = Vocabulary.build("aaabbc", max_size=3, specials=["unk"])
    assert vocabulary.tokens == ("a", "b")
    assert len(vocabulary) == 3
    assert vocabulary.encode("cab").tolist() == [0, 1, 2]


def test_several_texts_build_one_vocabulary():
    assert Vocabulary.build(["ab", "", "bc"]) == Vocabulary.build("abbc")
    assert Vocabulary.build(["a b", "b"], level="words").tokens == ("b", "a")


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(1, np.uint8), (256, np.uint8), (257, np.uint16), (65536, np.uint16), (65537, np.uint32)],
)
def test_ids_have_the_smallest_type_that_holds_them(size, dtype):
    characters = [chr(0x10000 + i) for i in range(size)]
    vocabulary = Vocabulary(characters)
    ids = vocabulary.encode("".join(characters))
    assert ids.dtype == dtype
    assert ids.tolist() == list(range(size))
    words = Vocabulary(map(str, range(size)), level="words")
    assert words.encode([str(size - 1)]).dtype == dtype


def test_text_longer_than_a_block_is_encoded_whole(monkeypatch):
    monkeypatch.setattr("fastrnn.data.vocabulary._BLOCK", 7)
    vocabulary = Vocabulary.build(TEXT)
    assert vocabulary.decode(vocabulary.encode(TEXT)) == TEXT
    with pytest.raises(ValueError, match=r"text has 'X' at 20"):
        vocabulary.encode(TEXT + "X")


def test_encoding_holds_little_besides_the_ids(monkeypatch):
    monkeypatch.setattr("fastrnn.data.vocabulary._BLOCK", 1 << 14)
    vocabulary, text = Vocabulary.build(TEXT), TEXT * 50_000
    tracemalloc.start()
    ids = vocabulary.encode(text)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ids.nbytes == len(text)
    assert most < 1.5 * len(text)


@pytest.mark.parametrize("text", ["abX", "aX\U0001f600", "\x00"])
def test_unknown_characters_become_unk_where_there_is_one(text):
    vocabulary = Vocabulary("ab", specials=["unk"])
    ids = vocabulary.encode(text)
    assert [i == vocabulary.unk for i in ids] == [c not in "ab" for c in text]
    assert vocabulary.decode(ids) == "".join(c if c in "ab" else "\ufffd" for c in text)


@pytest.mark.parametrize("size", [2, 256])
def test_unknown_characters_are_an_error_that_names_them_where_there_is_no_unk(size):
    vocabulary = Vocabulary(map(chr, range(0x100, 0x100 + size)))
    with pytest.raises(ValueError, match=f"text has 'ü' at 1, which is none of the {size}"):
        vocabulary.encode("\u0100ü")
    with pytest.raises(ValueError, match="text has '\U0001f600' at 0"):
        vocabulary.encode("\U0001f600")


def test_unknown_words_become_unk_or_an_error_that_names_them():
    assert Vocabulary(["a"], level="words", specials=["unk"]).encode("b a").tolist() == [0, 1]
    with pytest.raises(ValueError, match="text has 'b' as word 1, which is none of the 1 known"):
        Vocabulary(["a"], level="words").encode("a b a")


def test_a_word_that_spells_a_special_is_this_special():
    vocabulary = Vocabulary.build("a <unk> <eos>", level="words", specials=["unk", "eos"])
    assert vocabulary.tokens == ("a",)
    assert vocabulary.encode("<unk> a <eos> b").tolist() == [1, 2, 0, 1]
    assert vocabulary.decode([1, 2, 0]) == "<unk> a"


def test_decoding_leaves_out_pad_and_marks():
    vocabulary = Vocabulary("ab", specials=["pad", "bos", "eos"])
    assert vocabulary.decode([1, 3, 4, 2, 0, 0]) == "ab"
    assert vocabulary.decode([]) == ""


def test_many_texts_become_one_array_and_its_lengths():
    vocabulary = Vocabulary.build("abc")
    many = vocabulary.encode_many(["ab", "", "cab"])
    assert many.values.tolist() == vocabulary.encode("abcab").tolist()
    assert many.lengths.tolist() == [2, 0, 3]
    words = Vocabulary(["a", "b"], level="words")
    assert words.encode_many(["a b a", ["b"]]).lengths.tolist() == [3, 1]


def test_ids_that_do_not_exist_cannot_be_decoded():
    with pytest.raises(ValueError, match="ids holds 2, expected indices from 0 to 1"):
        Vocabulary("ab").decode([0, 2])
    with pytest.raises(TypeError, match="ids has dtype float64"):
        Vocabulary("ab").decode([0.5])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Vocabulary("aba"), "tokens has 'a' twice"),
        (lambda: Vocabulary(["ab"]), "tokens has 'ab', expected single characters"),
        (lambda: Vocabulary(["a b"], level="words"), "tokens has 'a b', expected single words"),
        (lambda: Vocabulary([""], level="words"), "tokens has '', expected single words"),
        (lambda: Vocabulary(""), "tokens is empty"),
        (lambda: Vocabulary("a", level="syllables"), "level is 'syllables', expected one of"),
        (lambda: Vocabulary("a", specials=["mask"]), "specials is 'mask', expected one of"),
        (lambda: Vocabulary(["<pad>"], level="words", specials=["pad"]), "tokens has <pad>"),
        (lambda: Vocabulary.build(""), "text is empty"),
        (lambda: Vocabulary.build(" \n", level="words"), "text is empty"),
        (lambda: Vocabulary.build("ab", min_count=2), "no characters that occur 2 times"),
        (lambda: Vocabulary.build("ab", min_count=0), "min_count must be greater than zero"),
        (lambda: Vocabulary.build("a", max_size=1, specials=["unk"]), "specials alone are 1"),
        (lambda: Vocabulary.from_dict({"tokens": "a"}), "a vocabulary has level, specials"),
    ],
)
def test_vocabularies_that_cannot_be_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_tokens_are_text():
    with pytest.raises(TypeError, match="tokens has an int, expected str"):
        Vocabulary([3])
