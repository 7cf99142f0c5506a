"""Pairs of texts on the command line: learnt, measured and translated."""
# ruff: noqa: F811 - fixtures

from __future__ import annotations

import json
from io import StringIO

import pytest
from test_cli_generate import fails, model  # noqa: F401

import fastrnn
from fastrnn.cli import main

SMALL = ["--hidden", "12", "--epochs", "2", "--batch-size", "8", "--quiet"]
PAIRS = "abc\tcba\nbad\tdab\nfed\tdef\nbee\teeb\n\n" * 10


@pytest.fixture
def pairs(tmp_path):
    """A file of pairs."""
    path = tmp_path / "pairs.tsv"
    path.write_text(PAIRS)
    return path


def trained(pairs, capsys, *more, code=0):
    """A small training, and its file."""
    out = pairs.with_name("reverser")
    arguments = ["train", "seq2seq", str(pairs), "--out", str(out), *SMALL, *more]
    assert main(arguments) == code
    return str(out), capsys.readouterr()


def printed(arguments, capsys):
    assert main([str(word) for word in arguments]) == 0
    return capsys.readouterr().out


def test_pairs_are_learnt_measured_and_translated(pairs, capsys):
    more = ["--epochs", "40", "--lr", "0.02", "--cell", "gru", "--dropout", "0"]
    path, shown = trained(pairs, capsys, *more)
    assert f"try:   fastrnn translate {path} " in shown.out
    figures = json.loads(printed(["eval", path, pairs, "--json"], capsys))
    assert figures["exact"] == 1
    assert figures["pairs"] == 40
    for beams in (1, 3):
        out = printed(["translate", path, "abc", "fed", "--beams", beams], capsys)
        assert out == "cba\ndef\n"
    assert printed(["predict", path, "bad", "bee"], capsys) == "dab\neeb\n"
    assert main(["translate", path, "abc", "--beams", "99"]) == 1
    assert "--beams is 99, but the vocabulary has 9 tokens" in capsys.readouterr().err
    assert main(["translate", path, ""]) == 1
    assert "text 1 is empty" in capsys.readouterr().err


def test_several_translations_come_with_their_scores(pairs, capsys):
    path, _ = trained(pairs, capsys, "--max-steps", "3")
    more = ["abc", "fed", "--beams", 3, "--num-return-sequences", 2, "--max-new-tokens", 5]
    shown = printed(["translate", path, *more], capsys).split("\n")
    found = [json.loads(line) for line in
             printed(["translate", path, *more, "--json"], capsys).splitlines()]  # fmt: skip
    assert [one["source"] for one in found] == ["abc", "abc", "fed", "fed"]
    assert found[0]["score"] > found[1]["score"]
    lines = [f"{one['score']:.4f}\t{one['text']}" for one in found]
    assert shown == [*lines[:2], "", *lines[2:], ""]


def test_translations_are_drawn_and_shaped_as_texts_are(pairs, capsys):
    path, _ = trained(pairs, capsys, "--max-steps", "3")
    base = ["translate", path, "abc", "--max-new-tokens", 6]

    def lines(*more):
        return printed([*base, *more], capsys).splitlines()

    draws = ["--temperature", 2, "--num-return-sequences", 5]
    assert lines(*draws, "--seed", 1) == lines(*draws, "--seed", 1) != lines(*draws, "--seed", 2)
    assert not set("abc") & set(lines("--top-k", 5, "--seed", 3, "--suppress", "abc")[0])
    assert lines("--regex", "(da|fe)b") in (["dab"], ["feb"])
    (one,) = lines("--stop", "a", "--suppress", "bcdef", "--min-new-tokens", 3)
    assert one == "aaa"
    assert main([*map(str, base), "--stop", "Q"]) == 1
    assert "--stop has 'Q'" in capsys.readouterr().err


def test_an_interrupt_ends_a_translation_with_130(pairs, capsys, monkeypatch):
    path, _ = trained(pairs, capsys, "--max-steps", "1")

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(fastrnn.decode, "generate", interrupted)
    assert main(["translate", path, "abc"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    "more",
    [
        ["--attention", "none", "--no-bidirectional"],
        ["--attention", "multiplicative", "--level", "words", "--min-count", "1"],
        ["--attention", "scaled_dot", "--layers", "2", "--tie-weights", "--sampling", "0.5"],
    ],
    ids=lambda more: more[1],
)
def test_translations_are_the_same_alone_and_beside_others(more, pairs, capsys):
    path, _ = trained(pairs, capsys, *more)
    base = ["translate", path, "--beams", 2, "--max-new-tokens", 9, "--json"]
    together = [json.loads(line) for line in printed([*base, "bad", "fed"], capsys).splitlines()]
    alone = json.loads(printed([*base, "fed"], capsys))
    assert alone["source"] == "fed"
    assert together[1]["text"] == alone["text"]
    assert together[1]["tokens"] == alone["tokens"]
    assert together[1]["logprobs"] == pytest.approx(alone["logprobs"], abs=1e-5)


def test_sources_come_from_standard_input(pairs, capsys, monkeypatch):
    path, _ = trained(pairs, capsys, "--max-steps", "1")
    monkeypatch.setattr("sys.stdin", StringIO("abc\n\nfed\n"))
    assert printed(["translate", path, "--max-new-tokens", 4], capsys).count("\n") == 2


def test_the_attention_is_drawn(pairs, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path, _ = trained(pairs, capsys, "--max-steps", "1")
    base = ["translate", path, "--max-new-tokens", 5, "--attention"]
    printed([*base, tmp_path / "map.png", "abc"], capsys)
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert main([*map(str, base), "map.txt", "abc"]) == 1
    assert "expected a name that ends with .png" in capsys.readouterr().err
    assert main([*map(str, base), str(tmp_path / "absent" / "map.png"), "abc"]) == 1
    out, err = capsys.readouterr()
    assert (out, f"there is no folder {tmp_path / 'absent'}\n" in err) == ("", True)
    with pytest.raises(SystemExit):
        main([*map(str, base), "map.png", "abc", "bad"])
    assert "argument --attention: expected one text, got 2" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*map(str, base), "map.png", "abc", "--seed", "1", "--num-return-sequences", "2"])
    assert "argument --attention: not together with" in capsys.readouterr().err
    path, _ = trained(pairs, capsys, "--attention", "none", "--out", str(tmp_path / "blind"))
    for more in (["--attention", "map.png"], ["--beams", "2", "--coverage-penalty", "1"]):
        assert main(["translate", str(tmp_path / "blind"), "abc", *more]) == 1
        assert f"{more[-2]}: this model has no attention" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("ab\tc\nabc\n", "pairs.tsv has 'abc' in line 2, expected source<TAB>target"),
        ("a\tb\tc\n", "expected source<TAB>target"),
        ("a\tb\n", "the data has 1 pair, too few"),
    ],
)
def test_pairs_that_are_none_are_said_in_one_line(text, part, pairs, capsys):
    pairs.write_text(text)
    _, shown = trained(pairs, capsys, code=1)
    assert part in shown.err
    assert shown.err.count("\n") == 1


def test_only_models_of_pairs_translate_and_only_language_models_generate(pairs, model, capsys):
    path, _ = trained(pairs, capsys, "--max-steps", "1")
    assert main(["translate", model, "abc"]) == 1
    assert "holds a LanguageModel, expected one of fastrnn train seq2seq" in capsys.readouterr().err
    fails([path, "--prompt", "abc"], capsys, "holds a Seq2Seq, expected a language model")
