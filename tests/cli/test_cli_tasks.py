"""Tasks of the command line: one registry, and errors that name the option."""

from __future__ import annotations

import argparse
import io
import shutil
import sys

import pytest
from test_cli_train import TASKS as NAMES
from test_cli_train import data, refused, run, words  # noqa: F401  (data is a fixture)

import fastrnn
from fastrnn._errors import ArgumentError
from fastrnn.cli import main
from fastrnn.cli._cells import GATES, LAYERS
from fastrnn.cli._parser import Parser
from fastrnn.cli.tasks import TASKS, load_model


def printed(arguments, capsys):
    """Output of a help."""
    with pytest.raises(SystemExit):
        main(arguments)
    return capsys.readouterr().out


def test_the_help_and_the_files_know_every_task_of_the_registry(capsys, tmp_path):
    assert list(TASKS) == ["lm", "classify", "tag", "seq2seq", "forecast"]
    assert {task.model.__name__ for task in TASKS.values()} == {
        "LanguageModel", "SequenceClassifier", "SequenceTagger", "Seq2Seq", "Forecaster",
    }  # fmt: skip
    train, predict = (printed([name, "--help"], capsys) for name in ("train", "predict"))
    for name, task in TASKS.items():
        assert name in train
        assert f"\n  {name:<9}  {task.prints}\n" in predict
    model = fastrnn.models.LanguageModel(5, 4, 4)
    model.save(tmp_path / "model")
    loaded, task = load_model(str(tmp_path / "model"))
    assert (type(loaded), task.name) == (type(model), "lm")


def test_cells_are_listed_once(capsys):
    assert GATES == {"lstm": 4, "gru": 3, "rnn": 1} | GATES
    assert set(LAYERS) == set(GATES)
    for command in (["train", "lm"], ["bench"]):
        out = printed([*command, "--help"], capsys)
        assert all(cell in out for cell in LAYERS)


@pytest.fixture
def trained(data, request, capsys):  # noqa: F811
    """The file of a model of the task, and input for it."""
    run(words(request.param, data, "--max-steps", "1"), capsys)
    source = data / "series.csv" if request.param == "forecast" else "the dog"
    return request.param, data, source


OWN = {
    "predict": {
        "--tokens": ("lm", []), "--top": ("classify", ["2"]), "--steps": ("forecast", ["2"]),
    },
    "eval": {"--text-column": ("classify", ["a"]), "--label-column": ("classify", ["b"])},
}  # fmt: skip


@pytest.mark.parametrize("trained", NAMES, indirect=True)
def test_an_option_of_another_task_is_refused(trained, capsys):
    name, folder, source = trained
    for command, options in OWN.items():
        for flag, (owner, value) in options.items():
            arguments = [command, str(folder / "model"), str(source), flag, *value]
            if owner != name:
                err = refused(arguments, capsys)
                assert f"argument {flag}: this model is one of train {name}, expected one" in err
            elif command == "predict":
                assert main(arguments) == 0
                assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "more", "start"),
    [
        ("lm", ["--hidden", "1048577"], "--hidden must be at most 1048576, got 1048577"),
        ("lm", ["--embedding", "1048577"], "--embedding must be at most 1048576, got 1048577"),
        ("lm", ["--encoding", "klingon"], "--encoding is 'klingon', which Python does not know"),
        ("tag", ["--memory-budget", "0.00001"], "--memory-budget is 10 bytes, but "),
    ],
)
def test_an_error_of_the_library_names_the_option(task, more, start, data, capsys):  # noqa: F811
    err = run(words(task, data, *more), capsys, 1).err
    assert err.startswith(f"fastrnn train: {start}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("trained", ["lm"], indirect=True)
@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["--beams", "99"], "--beams is 99, but the vocabulary has "),
        (["--regex", "a{9}", "--max-new-tokens", "3"],
         "--regex needs 9 tokens at least, --max-new-tokens is 3"),
        (["--regex", "a{9}", "--min-new-tokens", "12"],
         "--regex has no text of 12 to 200 tokens, which are --min-new-tokens and "
         "--max-new-tokens"),
        (["--length-penalty", "100", "--max-new-tokens", "9999"],
         "--length-penalty is 100.0, expected a number from -76"),
    ],
)  # fmt: skip
def test_an_error_of_the_search_names_the_options(trained, more, part, capsys):
    err = run(["generate", trained[1] / "model", "--prompt", "the", *more], capsys, 1).err
    assert err.startswith(f"fastrnn generate: {part}")
    assert err.count("\n") == 1


def test_one_option_of_several_answers_for_an_argument():
    parser = Parser()
    add = parser.group()
    add("--hidden", "", 4, argument="hidden_size embedding_dim", type=int)
    add("--embedding", "", argument="embedding_dim", type=int)
    error = ArgumentError("embedding_dim", 0, "an int above 0")
    for given, flag in [
        (["--hidden", "0"], "--hidden"), (["--embedding", "0"], "--embedding"),
        (["--hidden", "9", "--embedding", "0"], "--embedding"), ([], "--hidden"),
    ]:  # fmt: skip
        assert (
            parser.told(parser.parse_args(given), error) == f"{flag} is 0, expected an int above 0"
        )
    other = ArgumentError("depth", 3, "an even one", "depth must be even")
    assert parser.told(argparse.Namespace(hidden=4, embedding=None), other) == "depth must be even"


@pytest.mark.parametrize("trained", ["forecast"], indirect=True)
@pytest.mark.parametrize("copied", [False, True])
def test_an_error_of_a_series_names_the_file_that_was_given(trained, copied, capsys, monkeypatch):
    _, folder, source = trained
    broken = source.read_text().replace("10.19867", "ten", 1)
    source.write_text(broken)
    monkeypatch.setattr(sys, "stdin", io.StringIO(broken))
    given = [] if copied else [source]
    name = "standard input" if copied else source
    err = run(["predict", folder / "model", *given], capsys, 1).err
    assert err == (
        f"fastrnn predict: {name} has 'ten' in line 3, column 'load', expected a number\n"
    )
    base = ["train", "forecast", source, "--out", folder / "other"]
    err = run(base, capsys, 1).err
    assert err.endswith("expected a number; --columns can name the columns to read\n")


@pytest.mark.parametrize("task", NAMES)
def test_a_training_without_its_options_is_one_sentence(task, data, capsys):  # noqa: F811
    run(words(task, data, "--max-steps", "2", "--schedule", "constant"), capsys)
    options = data / "model.options.json"
    options.unlink()
    base = words(task, data, "--resume", "--max-steps", "3", "--schedule", "constant")
    place = base.index("--hidden")
    bare = base[:place] + base[place + 2 :]
    err = run(bare, capsys, 1).err
    assert err == (
        f"fastrnn train: {options}: no such file, and this training was begun with other options "
        f"than these: give them all again, or train anew with another --out\n"
    )
    assert not options.exists()
    run(base, capsys)  # all of them again
    assert options.exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--lr", "0.5"], "by --max-steps: no step was made, so --lr had no effect"),
        (["--lr", "0.5", "--warmup", "3"], "so --lr and --warmup had no effect; a larger --max-"),
        ([], "by --max-steps: no step was made; a larger --max-steps lets it go on"),
        (["--max-steps", "999", "--epochs", "1"], "by --epochs: no step was made, so "),
    ],
)
def test_a_training_that_had_ended_says_that_options_have_no_effect(more, told, data, capsys):  # noqa: F811
    steps = ["--max-steps", "1000"] if "--epochs" in more else ["--max-steps", "2"]
    run(words("tag", data, *steps), capsys)
    shutil.copy(data / "model", data / "before")
    err = run(["train", "tag", "--out", data / "model", "--resume", "--quiet", *more], capsys).err
    assert err.startswith("this training had ended before, ")
    assert told in err
    assert err.count("\n") == 1
    one, other = fastrnn.load(data / "before"), fastrnn.load(data / "model")
    assert one.flat.tobytes() == other.flat.tobytes()
    more = ["--max-steps", "20", "--epochs", "9"]
    run(["train", "tag", "--out", data / "model", "--resume", "--quiet", *more], capsys)
    assert fastrnn.load(data / "model").extra["training"]["steps"] > one.extra["training"]["steps"]


def test_a_table_of_one_column_is_said_in_the_singular(data, capsys):  # noqa: F811
    run(words("forecast", data, "--max-steps", "1", "--columns", "load"), capsys)
    capsys.readouterr()
    (data / "wide.csv").write_text("load,heat\n1,2\n3\n")
    err = run(["eval", data / "model", data / "wide.csv"], capsys, 1).err
    assert err.endswith("wide.csv has 1 column in line 3, expected 2\n")
