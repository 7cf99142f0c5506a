"""Every example runs with small sizes and shows what it promises."""

from __future__ import annotations

import contextlib
import io
import json
import runpy
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
from paths import EXAMPLES
from processes import run_python

import fastrnn

TINY_TEXT = ["--hidden", "16", "--layers", "1", "--batch", "8", "--bptt", "16", "--sample", "20"]
END = "---- end of a help ----"
# In a Python without PyTorch.
HELPS = f"""
    import runpy, sys
    sys.modules["torch"] = None
    for name in {{names!r}}:
        sys.argv = [{{at!r}} + "/" + name, "--help"]
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            assert not end.code, name
        print({END!r})
"""


def start(name, *arguments, folder, without=()):
    """Run an example in `folder`, as if the packages `without` were not installed."""
    argv, code = [str(EXAMPLES / name), *map(str, arguments)], None
    out, error = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        fastrnn.num_threads(1),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(error),
    ):
        patch.chdir(folder)
        patch.setattr(sys, "argv", argv)
        for package in without:
            patch.setitem(sys.modules, package, None)
        try:
            runpy.run_path(argv[0], run_name="__main__")
        except SystemExit as end:
            code = end.code
    texts = {"stdout": out.getvalue(), "stderr": f"{error.getvalue()}{code}"}
    return SimpleNamespace(returncode=code if isinstance(code, int) else int(bool(code)), **texts)


@pytest.fixture
def run(tmp_path):
    """Runs an example that must succeed, and gives what it printed."""

    def run(name, *arguments, without=()):
        result = start(name, *arguments, folder=tmp_path, without=without)
        assert result.returncode == 0, result.stderr
        return result.stdout

    return run


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("The quick brown fox jumps over the lazy dog.\n" * 200)
    return path


@pytest.fixture
def names(tmp_path):
    folder = tmp_path / "names"
    folder.mkdir()
    (folder / "Abc.txt").write_text("\n".join(f"ab{'c' * n}" for n in range(1, 40)))
    (folder / "Xyz.txt").write_text("\n".join(f"xy{'z' * n}" for n in range(1, 40)))
    return folder


def test_every_example_tells_how_to_use_it():
    scripts = sorted(path.name for path in EXAMPLES.glob("*.py"))
    alone = [n for n in scripts if "\nimport torch\n" not in (EXAMPLES / n).read_text()]
    assert len(alone) >= 4
    result = run_python(HELPS.format(names=alone, at=str(EXAMPLES)))
    assert result.returncode == 0, result.stderr
    texts = result.stdout.split(END)
    for name, text in zip(alone, texts, strict=False):
        assert f"python examples/{name}" in text


def test_the_language_model_learns_saves_and_writes(run, text, tmp_path):
    out = run("character_lm.py", text, *TINY_TEXT, "--max-steps", 40, "--out", f"{tmp_path}/lm/")
    assert "40 steps" in out
    assert "validation perplexity" in out
    model = fastrnn.load(tmp_path / "lm" / "best.safetensors")
    assert model.rnn.hidden_size == 16
    written = out.splitlines()[-1]
    assert set(written) <= set(text.read_text())


def test_the_language_model_goes_on_where_it_stopped(run, text, tmp_path):
    arguments = ["character_lm.py", text, *TINY_TEXT, "--out", f"{tmp_path}/lm/"]
    run(*arguments, "--max-steps", 10)
    out = run(*arguments, "--max-steps", 25, "--resume")
    history = fastrnn.train.read_history(tmp_path / "lm" / "history.jsonl")
    assert "25 steps" in out
    assert [r["step"] for r in history if r["kind"] == "train"] == [10, 20]


def test_the_language_model_reads_python_s_documentation_when_no_text_is_given(run):
    out = run("character_lm.py", *TINY_TEXT, "--max-steps", 2)
    assert "validation perplexity" in out


def test_resuming_without_a_folder_is_refused(tmp_path):
    result = start("character_lm.py", "--resume", folder=tmp_path)
    assert result.returncode == 2
    assert "--resume needs --out" in result.stderr


def test_names_are_told_apart(run, names):
    out = run("names_by_language.py", names, "--hidden", 16, "--epochs", 8)
    assert "accuracy 100.0 % of 8 held-out names" in out
    table = out.splitlines()[-2:]
    assert [row.split()[0] for row in table] == ["Abc", "Xyz"]
    assert sum(int(row.split()[-1]) for row in table) == 8


def test_names_of_the_built_in_lists_are_told_apart_better_than_by_chance(run):
    out = run("names_by_language.py", "--hidden", 32, "--epochs", 10)
    accuracy = float(out.split("accuracy ")[1].split(" %")[0])
    assert accuracy > 25


def test_the_forecaster_beats_the_linear_baseline(run):
    sizes = ["--length", 4000, "--steps", 30, "--horizon", 12, "--hidden", 32]
    out = run("time_series.py", *sizes, "--epochs", 5, "--lr", 0.01)
    rows = {line[:9].strip(): line[9:].split() for line in out.splitlines()}
    for row in ("direct", "fed back"):
        lstm, linear = map(float, rows[row])
        assert 0.1 < lstm < linear


def test_a_series_comes_from_a_csv_file_and_its_forecast_is_drawn(run, tmp_path):
    lines = [f"{t},{t % 24}" for t in range(600)]
    (tmp_path / "series.csv").write_text("\n".join(["hour,value", *lines]))
    options = ["--steps", 24, "--horizon", 6, "--hidden", 8, "--max-steps", 5]
    out = run("time_series.py", "series.csv", "--column", "value", *options)
    assert "AR(24)" in out
    picture = tmp_path / "forecast.png"
    if find_spec("matplotlib") is None:
        assert "no picture" in out
    else:
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_series_is_forecast_without_matplotlib(run):
    options = ["--length", 600, "--hidden", 8, "--max-steps", 3]
    out = run("time_series.py", *options, without=["matplotlib", "matplotlib.figure"])
    assert "fed back" in out
    assert "no picture" in out


def test_a_csv_file_of_several_columns_needs_a_choice(tmp_path):
    (tmp_path / "series.csv").write_text("a,b\n" + "1,2\n" * 50)
    result = start("time_series.py", "series.csv", folder=tmp_path)
    assert result.returncode == 2
    assert "choose one by --column" in result.stderr


def test_a_checkpoint_is_tuned_and_written_without_pytorch(run, tmp_path):
    out = run("fine_tune_pytorch.py", "--max-steps", 3, without=["torch"])
    assert "PyTorch is not installed" in out
    written = fastrnn.read_checkpoint(tmp_path / "tuned.pt")
    assert written["rnn.weight_hh_l0"].shape == (672, 224)


def test_a_checkpoint_goes_from_pytorch_to_fastrnn_and_back(run, tmp_path):
    pytest.importorskip("torch")
    out = run("fine_tune_pytorch.py", "--max-steps", 5, "--hidden", 16)
    before, after = out.split("held-out text: ")[1].split(" before, ")
    assert float(after.split(" after")[0]) < float(before)
    assert float(out.split("difference of logits ")[1]) < 1e-4
    untrained = fastrnn.read_checkpoint(tmp_path / "tuned.untrained.pt")
    assert list(fastrnn.read_checkpoint(tmp_path / "tuned.pt")) == list(untrained)


def test_tied_weights_that_are_in_a_checkpoint_once_come_back(run, tmp_path):
    pytest.importorskip("torch")
    model = fastrnn.models.LanguageModel(96, 16, 16, cell="gru", tie_weights=True)
    state = model.state_dict()
    del state["head.weight"]
    fastrnn.save_pytorch(state, tmp_path / "tied.pt")
    out = run("fine_tune_pytorch.py", "tied.pt", "--max-steps", 3)
    assert float(out.split("difference of logits ")[1]) < 1e-4


def test_learning_curves_are_compared_and_written(run, text, tmp_path):
    pytest.importorskip("torch")
    sizes = ["--hidden", 16, "--batch", 8, "--bptt", 16, "--steps", 12, "--every", 6]
    out = run("learning_curves.py", text, *sizes, "--json", "curves.json")
    assert "times as fast" in out
    figures = json.loads((tmp_path / "curves.json").read_text())
    assert len(figures["losses"]["fastrnn"]) == len(figures["losses"]["pytorch"]) == 12
    assert figures["largest_difference"] < 5e-3


def test_learning_curves_that_part_are_an_error(text, tmp_path):
    pytest.importorskip("torch")
    sizes = ["--hidden", 16, "--batch", 8, "--bptt", 16, "--steps", 2, "--every", 1]
    result = start("learning_curves.py", text, *sizes, "--bound", -1, folder=tmp_path)
    assert result.returncode == 1
    assert "part by more than" in result.stderr


def test_names_are_made_up_in_the_letters_of_their_language(run, names):
    sizes = ["--hidden", 32, "--steps", 150, "--lr", 0.01, "--count", 4, "--temperature", 0.5]
    out = run("names_generated.py", names, *sizes)
    assert "150 steps" in out
    for line, letters in zip(out.splitlines()[-2:], ("abc", "xyz"), strict=True):
        language, *found = line.split()
        assert language.lower() == letters
        assert found
        assert set("".join(found)) <= {*letters, "*"}


def test_names_of_the_built_in_lists_are_the_same_for_the_same_seed(run):
    arguments = ["names_generated.py", "--hidden", 16, "--steps", 20]
    one, other = run(*arguments), run(*arguments)
    assert one.splitlines()[2:] == other.splitlines()[2:]
    assert [line.split()[0] for line in one.splitlines()[-4:]] == [
        "Finnish", "Italian", "Japanese", "Welsh",
    ]  # fmt: skip


def test_a_text_goes_on_in_several_ways_and_beams_find_a_likelier_one(run):
    out = run("text_continuation.py", "The ", "--length", 20, "--beams", 8)
    rows = {line[:20].strip(): float(line[20:26]) for line in out.splitlines()[1:-1]}
    assert len(rows) == 7
    assert rows["8 beams"] >= rows["greedy"] > rows["drawn, T = 1"]


def test_a_trained_model_goes_on_with_a_text(run, tmp_path):
    model = fastrnn.models.LanguageModel(4, 8, 8)
    model.vocabulary = fastrnn.data.Vocabulary("abc ").to_dict()
    model.save(tmp_path / "model")
    out = run("text_continuation.py", "ab", "--model", "model", "--length", 6, "--beams", 2)
    assert len(out.splitlines()) == 8
