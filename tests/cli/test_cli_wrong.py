"""What a new user does wrong on the command line: one sentence that names it, and no traceback."""

from __future__ import annotations

import pytest
from test_cli_train import data, refused, run, words  # noqa: F401  (data is a fixture)


@pytest.mark.parametrize("option", ["--out", "--plot"])
def test_a_place_that_cannot_be_written_is_refused_before_the_training(option, data, capsys):  # noqa: F811
    if option == "--plot":
        pytest.importorskip("matplotlib")
    (data / "file").touch()
    for place in (data / "file" / "new" / "x.png", "/proc/x.png"):
        found = run(words("lm", data, option, place), capsys, 1)
        assert found.err.startswith(f"fastrnn train: {option} {place}: ")
        assert found.err.endswith(", expected a folder that can be written\n")
        assert "parameters" not in found.out


def test_a_folder_for_a_model_is_made_only_when_the_training_begins(data, capsys):  # noqa: F811
    out = data / "new" / "folders" / "model"
    run(["train", "tag", data / "missing", "--out", out], capsys, 1)
    assert not (data / "new").exists()
    run(words("tag", data, "--max-steps", "1", "--out", out), capsys)
    assert out.is_file()


def test_a_folder_in_place_of_a_file_is_told_what_was_expected(data, capsys):  # noqa: F811
    err = run(["train", "tag", data / "names", "--out", data / "x"], capsys, 1).err
    assert err == f"fastrnn train: {data / 'names'}: is a directory, expected a file\n"


def test_a_wrong_pattern_names_its_option(data, capsys):  # noqa: F811
    run(words("lm", data, "--max-steps", "1"), capsys)
    err = run(["generate", data / "model", "--prompt", "the", "--regex", "("], capsys, 1).err
    assert err.startswith("fastrnn generate: --regex: pattern has a ( that is never closed")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["bench", "--threads", "999"],
         "argument --threads: must be a whole number of 1 or more, at most 256, got 999"),
        (["demo", "--prompt", ""], "{|}~', got ''\n"),
        (["demo", "--prompt", "a\u00e9"], "{|}~', got 'a\u00e9'\n"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_named_with_what_was_expected(command, message, capsys):
    assert message in refused(command, capsys)
