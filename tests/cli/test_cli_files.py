"""Files that tell commands what to do: options, vocabularies, names of columns, from strangers."""

from __future__ import annotations

import json
import sys

import pytest

import fastrnn
from fastrnn.cli import main
from fastrnn.cli._values import names
from fastrnn.data import Vocabulary
from fastrnn.data._csv import csv_line
from fastrnn.models import LanguageModel

DIGITS = "1" * (sys.get_int_max_str_digits() + 1)
DEEP = "[" * 100_000
NO_TOML = sys.version_info < (3, 11)


def refused(words, capsys):
    """What a wrong usage prints."""
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.json", f'{{"hidden": {DIGITS}}}', "a.json holds an int of too many digits"),
        (
            "a.json",
            f'{{"data": {DEEP}',
            "a.json is no JSON that can be read: it is nested too deeply",
        ),
        ("a.json", '{"hidden": 3, "hidden": 4}', "a.json is no JSON: the key 'hidden' comes twice"),
        ("a.json", '{"tie_weights": true, "tie-weights": false}', "a.json has a key twice"),
        (
            "a.json",
            f'{{"hidden": {"1" * 400}}}',
            "--hidden: must be a whole number of 1 or more, at",
        ),
        ("a.json", '{"lr": 1e400}', "--lr: must be a number above 0, at most 1.8e+308, got inf"),
        ("a.json", '{"lr": NaN}', "--lr: must be a number above 0, got nan"),
        ("a.json", '{"data": 5}', "a.json: data is 5, expected names of files"),
        ("a.json", '{"data": [["a"]]}', "a.json: data is [['a']], expected names of files"),
        ("a.json", b'{"level": "\xff"}', "a.json is not utf-8: 0xff at byte 11 in line 1"),
        ("a.json", "", "a.json is no JSON"),
        ("a.toml", f"hidden = {DIGITS}", "a.toml holds an int of too many digits"),
        ("a.toml", f"data = {DEEP}", "a.toml is no TOML that can be read: it is nested too deeply"),
        ("a.toml", "hidden = 3\nhidden = 4\n", "a.toml is no TOML: "),
        ("a.toml", "lr = inf\n", "--lr: must be a number above 0, at most 1.8e+308, got inf"),
    ],
)
def test_a_file_of_options_that_cannot_be_is_said_in_a_sentence(
    name, text, reason, tmp_path, capsys
):
    if name == "a.toml" and NO_TOML:
        pytest.importorskip("tomli")
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    error = refused(["train", "lm", "--out", str(tmp_path / "m"), "--config", str(path)], capsys)
    assert reason in error
    assert len(error) < 1000


@pytest.mark.parametrize("name", ["a.json", "a.toml"])
def test_files_of_options_are_read_with_marks_and_any_line_ends(name, tmp_path, capsys):
    if name == "a.toml" and NO_TOML:
        pytest.importorskip("tomli")
    (tmp_path / "a.txt").write_text("abcab" * 50)
    text = (
        '{\r\n"hidden": 3,\r\n"epochs": 1}' if name == "a.json" else "hidden = 3\r\nepochs = 1\r\n"
    )
    (tmp_path / name).write_bytes(f"\ufeff{text}".encode())
    words = ["train", "lm", str(tmp_path / "a.txt"), "--out", str(tmp_path / "m"), "--quiet"]
    assert main([*words, "--batch-size", "2", "--config", str(tmp_path / name)]) == 0
    assert fastrnn.load(tmp_path / "m").rnn.hidden_size == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f'["a", {DEEP}', "is nested too deeply; expected JSON or a token in each line"),
        (f'{{"a": {DIGITS}}}', "holds an int of too many digits; expected JSON or a token"),
        ('{"a": 0, "b": 1, "a": 2}', "the key 'a' comes twice; expected JSON or a token"),
        ('{"a": 0, "b": %s}' % ("1" * 400), "the ids of a vocabulary are 0, 1, 2"),
        ("a\n\nb\n", "line 2 is empty, expected a token"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_said_in_a_sentence(text, reason, tmp_path, capsys):
    LanguageModel(2, 3, 4).save(tmp_path / "model")
    (tmp_path / "v").write_text(text)
    words = ["generate", str(tmp_path / "model"), "--prompt", "a", "--vocab", str(tmp_path / "v")]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert reason in error
    assert str(tmp_path / "v") in error
    assert len(error) < 500


@pytest.mark.parametrize("token", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\x00"])
def test_only_a_line_end_divides_the_tokens_of_a_vocabulary(token, tmp_path, capsys):
    model = LanguageModel(3, 3, 4)
    model.reset_parameters(0)
    model.vocabulary = Vocabulary(f"a{token}b").to_dict()
    model.save(tmp_path / "model")
    words = ["generate", str(tmp_path / "model"), "--prompt", f"a{token}", "--json"]
    assert main(words) == 0
    wanted = json.loads(capsys.readouterr().out)
    (tmp_path / "v").write_bytes(f"a\r\n{token}\r\nb\r\n".encode())
    assert main([*words, "--vocab", str(tmp_path / "v")]) == 0
    assert json.loads(capsys.readouterr().out) == wanted


@pytest.mark.parametrize(
    "columns", [["a"], ["a", "b c"], ["oil, hot", "load"], ['so "called"', ",", "x"], ["é", "-"]]
)
def test_names_with_commas_go_through_options_and_their_files(columns):
    assert names(csv_line(columns)) == columns


def test_columns_with_commas_in_their_names_can_be_chosen(tmp_path, capsys):
    rows = "\n".join(f"{i},{i % 5},{-i}" for i in range(60))
    (tmp_path / "a.csv").write_text(f'"oil, hot",load,heat\n{rows}\n')
    words = [
        "train",
        "forecast",
        str(tmp_path / "a.csv"),
        "--steps",
        "4",
        "--epochs",
        "1",
        "--quiet",
    ]
    assert main([*words, "--out", str(tmp_path / "m"), "--columns", '"oil, hot",load']) == 0
    assert fastrnn.load(tmp_path / "m").extra["columns"] == ["oil, hot", "load"]
    config = ["--config", str(tmp_path / "m.options.json"), "--out", str(tmp_path / "again")]
    assert main(["train", "forecast", *config]) == 0
    assert fastrnn.load(tmp_path / "again").extra["columns"] == ["oil, hot", "load"]
    for wrong in ["a,,b", "", '"a', '"a"b']:
        assert "must be names with commas" in refused(
            [*words, "--out", "m", "--columns", wrong], capsys
        )
