"""`fastrnn train --resume`: every option is used and saved, or refused by its name."""

from __future__ import annotations

import argparse
import json
import shutil

import pytest
from test_cli_train import TASKS, data, refused, run, words  # noqa: F401  (data is a fixture)

import fastrnn
from fastrnn.cli import tasks
from fastrnn.cli._config import _NOT_SAVED, ConfigParser

USED_ON_RESUME = {
    "data", "encoding", "order",
    "epochs", "max_steps", "validate_every", "patience",
    "lr", "momentum", "weight_decay", "schedule", "warmup", "clip_norm",
    "threads", "memory_budget", "flow", "plot", "quiet",
}  # fmt: skip


def actions(task):
    """Every option of a task that a training keeps."""
    parser = ConfigParser()
    tasks.TASKS[task].add_options(parser)
    found = {a.dest: a for a in parser._actions if a.dest not in _NOT_SAVED}
    assert parser.may_change == USED_ON_RESUME & (set(found) | {"data"})
    return found


OPTIONS = [(task, name) for task in TASKS for name in actions(task)]
OTHER = {  # what a word means that is no number and no choice
    "encoding": "latin-1", "columns": "load", "targets": "heat", "text_column": "text",
    "label_column": "label", "plot": "loss.png", "validation": "0.3", "dropout": "0.5",
    "random_truncation": "0.25", "weight_drop": "0.25", "sampling": "0.25", "order": "3",
    "label_smoothing": "0.25", "momentum": "0.5", "memory_budget": "64", "threads": "1",
    "max_vocabulary": "50", "max_steps": "4", "embedding": "5", "epochs": "3", "lr": "0.0125",
}  # fmt: skip


def changed(task, name):
    """The words that give an option another value."""
    action = actions(task)[name]
    flag = action.option_strings[0]
    if isinstance(action, argparse.BooleanOptionalAction):
        return [flag.replace("--", "--no-", 1) if action.default else flag]
    if action.nargs == 0:
        return [flag]
    if action.choices:
        return [flag, next(c for c in action.choices if c != action.default)]
    return [flag, OTHER.get(name) or str((action.default or 1) + 1)]


@pytest.fixture
def begun(data, request, capsys, tmp_path_factory):  # noqa: F811
    """A folder with a training of two steps of the task."""
    task = request.param
    run(words(task, data, "--max-steps", "2", "--schedule", "constant"), capsys)
    return task, data


def saved(folder):
    return json.loads((folder / "model.options.json").read_text())


def resume(task, folder, *more):
    arguments = ["train", task, "--out", folder / "model", "--resume", "--quiet", *more]
    return [str(word) for word in arguments]


@pytest.mark.parametrize("begun", TASKS, indirect=True)
def test_every_other_option_is_refused_by_its_name(begun, capsys):
    task, folder = begun
    before = {path.name: path.read_bytes() for path in folder.glob("model*")}
    for name in set(actions(task)) - USED_ON_RESUME:
        asked = changed(task, name)
        more = {"input_feeding": ["--attention", "additive"]}.get(name, [])
        if name == "tie_weights":
            more = ["--embedding", str(saved(folder)["hidden"])]
        err = run(resume(task, folder, *asked, *more), capsys, 1).err
        flag = asked[0].replace("--no-", "--")
        assert "is of another training" in err
        assert f"{flag} is " in err, (name, err)
        assert err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.glob("model*")} == before


@pytest.mark.parametrize("begun", ["lm"], indirect=True)
def test_every_option_that_may_change_is_used_and_saved(begun, capsys, tmp_path):
    task, folder = begun
    for name in sorted((set(actions(task)) & USED_ON_RESUME) - {"plot", "momentum"}):
        for path in folder.glob("model*"):
            shutil.copy(path, tmp_path / f"copy-{path.name}")
        asked = changed(task, name)
        more = [] if name in ("max_steps", "epochs") else ["--max-steps", "4"]
        out = ["--out", str(tmp_path / "copy-model")]
        run([*resume(task, folder, *asked, *more), *out], capsys)
        now = json.loads((tmp_path / "copy-model.options.json").read_text())
        assert now[name] != saved(folder)[name] or name == "quiet", name
        model = fastrnn.load(tmp_path / "copy-model")
        assert model.extra["training"]["steps"] >= 3 or name == "epochs"
        if name == "lr":
            records = fastrnn.train.read_history(tmp_path / "copy-model.history.jsonl")
            assert records  # validations
        for path in tmp_path.glob("copy-*"):
            path.unlink()


@pytest.mark.parametrize("begun", ["lm"], indirect=True)
def test_what_a_resumed_training_was_given_is_kept_however_it_ends(begun, capsys, monkeypatch):
    task, folder = begun
    from fastrnn.train.fit import Fit

    def dies(*_):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "_step", dies)
        with pytest.raises(ZeroDivisionError):
            run(resume(task, folder, "--lr", "0.0125", "--max-steps", "9"), capsys)
    assert saved(folder)["lr"] == 0.0125
    run(resume(task, folder), capsys)
    from safetensors import safe_open

    with safe_open(folder / "model.last.safetensors", "np") as file:
        about = json.loads(file.metadata()["fastrnn_training"])
    assert about["lr"] == about["schedule"]["rate"] == 0.0125
    assert about["steps"] == 9


@pytest.mark.parametrize("begun", ["lm", "forecast"], indirect=True)
def test_other_data_is_refused_and_other_places_of_the_same_are_not(begun, capsys):
    task, folder = begun
    name = "text.txt" if task == "lm" else "series.csv"
    shutil.copy(folder / name, folder / f"moved-{name}")
    moved = resume(task, folder, "--max-steps", "3")
    run([*moved[:2], str(folder / f"moved-{name}"), *moved[2:]], capsys)
    assert saved(folder)["data"] == [str(folder / f"moved-{name}")]
    whole = (folder / f"moved-{name}").read_text()
    if task == "lm":  # a letter in the middle for another one of the same text
        middle = len(whole) // 2
        other = whole[:middle] + ("q" if whole[middle] != "q" else "z") + whole[middle + 1 :]
    else:
        lines = whole.split("\n")
        lines[100] = "day,10.5,110.25"
        other = "\n".join(lines)
    (folder / f"moved-{name}").write_text(other)
    err = run(resume(task, folder, "--max-steps", "4"), capsys, 1).err
    assert "its source gave other batches" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("begun", ["lm"], indirect=True)
@pytest.mark.parametrize("text", ["{", "[" * 100_000, '{"hidden": 8, "hidden": 9}', "[1]"])
def test_damaged_options_are_a_sentence(begun, text, capsys):
    task, folder = begun
    (folder / "model.options.json").write_text(text)
    err = refused(resume(task, folder), capsys)
    assert "argument --resume: " in err
    assert "model.options.json" in err
    assert len(err) < 8000


@pytest.mark.parametrize("begun", ["lm"], indirect=True)
def test_a_second_resume_at_once_is_one_line_and_changes_nothing(begun, capsys):
    from fastrnn.train.lock import RunLock

    task, folder = begun
    before = saved(folder)
    with RunLock(folder / "model.last.safetensors"):
        err = run(resume(task, folder, "--lr", "0.5", "--max-steps", "9"), capsys, 1).err
    assert "is being written by another training" in err
    assert saved(folder) == before


@pytest.mark.parametrize("begun", ["lm"], indirect=True)
def test_a_momentum_is_refused_where_there_is_none(begun, capsys):
    task, folder = begun
    err = refused(resume(task, folder, "--momentum", "0.9"), capsys)
    assert "argument --momentum: adam has none, expected --optimizer sgd or rmsprop" in err


DAMAGE = [
    (
        "lm",
        "vocabulary",
        {"level": "characters", "specials": [], "tokens": 3},
        "a vocabulary's tokens are",
    ),
    ("lm", "vocabulary", 3, "no vocabulary"),
    ("classify", "vocabulary", {"level": [], "specials": [], "tokens": "ab"}, "level is"),
    ("classify", "extra", 3, "does not name its classes"),
    ("tag", "extra", {"classes": {"a": 1}}, "does not name its classes"),
    ("seq2seq", "vocabulary", {"source": 1, "target": 2}, "a vocabulary has level"),
    ("forecast", "extra", {"columns": 3, "steps": 12}, "the model's columns are"),
    ("forecast", "extra", {"columns": ["load", "heat"], "steps": "many"}, "the model's steps"),
    (
        "forecast",
        "extra",
        {"columns": ["load", "heat"], "steps": 12, "baseline": {"parameters": [1]}},
        "baseline is damaged",
    ),
    (
        "forecast",
        "extra",
        {"columns": ["load", "heat"], "steps": 12, "baseline": {"order": 2, "parameters": [1]}},
        "baseline is damaged",
    ),
]


@pytest.mark.parametrize(("begun", "field", "value", "message"), DAMAGE, indirect=["begun"])
def test_a_model_whose_extra_fields_are_damaged_is_a_sentence(begun, field, value, message, capsys):
    task, folder = begun
    model = fastrnn.load(folder / "model")
    setattr(model, field, value)
    model.save(folder / "model")
    source = {"forecast": "series.csv", "classify": "names", "tag": "tags.tsv"}.get(task, "x")
    source = {"lm": "text.txt", "seq2seq": "pairs.tsv"}.get(task, source)
    err = run(["eval", folder / "model", folder / source], capsys, 1).err
    assert message in err
    assert err.count("\n") == 1
