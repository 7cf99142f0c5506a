"""From data to a model and its predictions on the command line, for every task."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import fastrnn
from fastrnn.cli import main

TEXT = "the quick brown fox jumps over the lazy dog. " * 60
NAMES = {"Greek": ["Alexopoulos", "Papadakis", "Nikolaidis"], "Scots": ["McLeod", "McDuff", "Mac"]}
SENTENCE = "the\tD\ndog\tN\nbarks\tV\n\nsome\tD\ncats\tN\nsleep\tV\n\n"
TASKS = ["lm", "classify", "tag", "seq2seq", "forecast"]
SMALL = ["--hidden", "8", "--layers", "1", "--epochs", "2", "--batch-size", "8", "--quiet"]


@pytest.fixture
def data(tmp_path):
    """A file or folder for each task."""
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "names").mkdir()
    for name, items in NAMES.items():
        (tmp_path / "names" / f"{name}.txt").write_text("\n".join(items * 10))
    (tmp_path / "tags.tsv").write_text(SENTENCE * 20)
    (tmp_path / "pairs.tsv").write_text("abc\tcba\nbad\tdab\nfed\tdef\nbee\teeb\n\n" * 10)
    steps = np.arange(200)
    rows = np.stack([10 + np.sin(steps / 5), 100 + 20 * np.cos(steps / 5)], axis=1)
    lines = [f"day{i},{a:.5f},{b:.5f}" for i, (a, b) in enumerate(rows)]
    (tmp_path / "series.csv").write_text("\n".join(["day,load,heat", *lines]) + "\n")
    np.save(tmp_path / "series.npy", rows)
    return tmp_path


def words(task, data, *more):
    """A small training of a task."""
    own = {
        "lm": [str(data / "text.txt"), "--steps", "16"],
        "classify": [str(data / "names")],
        "tag": [str(data / "tags.tsv")],
        "seq2seq": [str(data / "pairs.tsv")],
        "forecast": [str(data / "series.csv"), "--columns", "load,heat", "--steps", "12"],
    }
    return ["train", task, *own[task], "--out", str(data / "model"), *SMALL, *more]


def run(arguments, capsys, code=0):
    """What a command prints to the two streams."""
    assert main([str(word) for word in arguments]) == code
    return capsys.readouterr()


def refused(arguments, capsys):
    """What a wrong usage prints."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err


def figures(model, data, capsys):
    return json.loads(run(["eval", model, data, "--json"], capsys).out)


@pytest.mark.parametrize("task", TASKS)
def test_a_training_ends_with_a_model_its_figures_and_what_to_try(task, data, capsys):
    out = run(words(task, data), capsys).out
    assert "on the validation data, the best model" in out
    command = {"lm": "generate", "seq2seq": "translate"}.get(task, "predict")
    assert f"model: {data / 'model'}\ntry:   fastrnn {command} {data / 'model'}" in out
    model = fastrnn.load(data / "model")
    assert model.extra["training"]["epochs"] == 2
    assert model.extra["validation"]
    endings = {"last.safetensors", "best.safetensors", "history.jsonl", "options.json"}
    assert {path.name for path in data.glob("model.*")} == {f"model.{end}" for end in endings}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_help_with_examples_and_exit_codes(task, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", task, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for part in (f"usage: fastrnn train {task}", "--hidden", "default: ", "examples:", "130"):
        assert part in out


@pytest.mark.parametrize("command", ["train", "eval", "predict"])
def test_every_command_has_a_help_with_exit_codes(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert "exit codes" in capsys.readouterr().out


@pytest.mark.parametrize("task", TASKS)
def test_a_resumed_training_ends_with_the_bits_of_one_that_was_not_interrupted(task, data, capsys):
    whole = words(task, data)
    run([*whole, "--schedule", "constant", "--out", data / "whole"], capsys)
    run([*whole, "--schedule", "constant", "--max-steps", "3"], capsys)
    run([*whole, "--resume", "--max-steps", "1000"], capsys)
    one, other = fastrnn.load(data / "whole"), fastrnn.load(data / "model")
    np.testing.assert_array_equal(one.flat, other.flat)


def test_a_resumed_training_keeps_its_options_and_its_data(data, capsys):
    run(words("lm", data, "--max-steps", "3", "--cell", "gru"), capsys)
    base = ["train", "lm", "--out", data / "model", "--resume", "--quiet"]
    run([*base, "--max-steps", "5"], capsys)
    model = fastrnn.load(data / "model")
    assert (model.rnn.hidden_size, type(model.rnn).__name__) == (8, "GRU")
    assert model.extra["training"]["steps"] == 5
    err = run([*base, "--hidden", "9"], capsys, 1).err
    assert err.startswith("fastrnn train: ")
    assert "is of another training" in err
    assert err.count("\n") == 1
    run([*base, "--max-steps", "6"], capsys)
    assert fastrnn.load(data / "model").extra["training"]["steps"] == 6


def test_language_models_are_measured_and_asked(data, capsys):
    run(words("lm", data), capsys)
    found = figures(data / "model", data / "text.txt", capsys)
    assert found["perplexity"] == pytest.approx(np.exp(found["loss"]))
    assert found["tokens"] == len(TEXT)
    lines = run(["predict", data / "model", "--tokens", "the dog"], capsys).out.split("\n")
    assert [line.split("\t")[0] for line in lines[:6]] == list("he dog")
    one = json.loads(run(["predict", data / "model", "the dog", "--json"], capsys).out)[0]
    assert -np.mean(one["logprobs"]) == pytest.approx(one["loss"])
    err = run(["eval", data / "model", data / "names"], capsys, 1).err
    assert "none of the" in err
    assert "known characters" in err


def test_words_that_are_not_known_are_counted(data, capsys):
    run(words("lm", data, "--level", "words", "--tie-weights"), capsys)
    (data / "other.txt").write_text("the quick zebra jumps over")
    assert figures(data / "model", data / "other.txt", capsys)["unknown"] == 1


def test_classifiers_are_measured_and_asked(data, capsys):
    run(words("classify", data, "--epochs", "12", "--lr", "0.02"), capsys)
    found = figures(data / "model", data / "names", capsys)
    assert found["accuracy"] > 0.9
    assert found["classes"]["Greek"]["count"] == 30
    assert "precision" in run(["eval", data / "model", data / "names"], capsys).out
    asked = ["predict", data / "model", "--top", "2", "McLeod", "Papadakis"]
    rows = [line.split("\t") for line in run(asked, capsys).out.splitlines()]
    assert [(row[0], row[2]) for row in rows[::2]] == [("Scots", "McLeod"), ("Greek", "Papadakis")]
    assert float(rows[0][1]) + float(rows[1][1]) == pytest.approx(1, abs=2e-4)


def test_classes_that_the_model_does_not_know_are_an_error(data, capsys):
    run(words("classify", data), capsys)
    (data / "other.csv").write_text("label,text\nNorse,Olaf\n")
    err = run(["eval", data / "model", data / "other.csv"], capsys, 1).err
    assert "does not fit the model" in err
    assert "'Norse'" in err


def test_taggers_are_measured_and_asked(data, capsys):
    run(words("tag", data, "--epochs", "20", "--lr", "0.02"), capsys)
    assert figures(data / "model", data / "tags.tsv", capsys)["accuracy"] > 0.9
    out = run(["predict", data / "model", "the cats sleep", "some dog barks"], capsys).out
    assert out == "the\tD\ncats\tN\nsleep\tV\n\nsome\tD\ndog\tN\nbarks\tV\n\n"


def test_forecasters_are_measured_beside_the_linear_baseline(data, capsys):
    out = run(words("forecast", data, "--targets", "load", "--horizon", "3"), capsys).out
    assert "linear baseline of order 12" in out
    found = figures(data / "model", data / "series.csv", capsys)
    assert found["baseline"]["mse"] < 1e-4 < found["model"]["mse"]
    out = run(["predict", data / "model", data / "series.csv"], capsys).out.splitlines()
    assert out[0] == "load"
    assert len(out) == 4
    err = run(["predict", data / "model", data / "series.csv", "--steps", "9"], capsys, 1).err
    assert "only forecasts of all features" in err


def test_forecasts_are_fed_back_and_arrays_are_read(data, capsys):
    arguments = words("forecast", data)
    arguments[2:5] = [str(data / "series.npy")]
    run(arguments, capsys)
    ahead = ["predict", data / "model", data / "series.npy", "--steps", "7", "--json"]
    found = json.loads(run(ahead, capsys).out)[0]
    assert np.shape(found["forecast"]) == (7, 2)
    series = np.load(data / "series.npy")[-12:]
    expected = fastrnn.load(data / "model").predict(series, 7)
    np.testing.assert_allclose(found["forecast"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros(200, bool), "series.npy has dtype bool, expected real numbers"),
        (np.zeros(200, complex), "series.npy has dtype complex128, expected real numbers"),
        (np.array(["a"]), "series.npy has dtype <U1, expected real numbers"),
        (np.arange(200) * 1e200, "in feature 0, expected at most 1e+100: float64 could not hold"),
    ],
)  # fmt: skip
def test_an_array_that_is_no_series_is_one_line_before_the_training(array, reason, data, capsys):
    np.save(data / "series.npy", array)
    arguments = words("forecast", data)
    arguments[2:5] = [str(data / "series.npy")]
    assert reason in run(arguments, capsys, 1).err
    assert not list(data.glob("model*"))


def test_a_series_of_large_numbers_is_learnt_as_one_of_small_ones(data, capsys):
    np.save(data / "series.npy", np.sin(np.arange(200) / 5) * 1e99)
    arguments = words("forecast", data)
    arguments[2:5] = [str(data / "series.npy")]
    run(arguments, capsys)
    found = figures(data / "model", data / "series.npy", capsys)
    assert 1e150 < found["baseline"]["mse"] < found["model"]["mse"] < 1e200


def test_a_file_and_standard_input_are_read(data, capsys, monkeypatch):
    import io

    run(words("classify", data), capsys)
    (data / "in.txt").write_text("McDuff\n\nMac\n")
    expected = run(["predict", data / "model", "McDuff", "Mac"], capsys).out
    assert run(["predict", data / "model", "--file", data / "in.txt"], capsys).out == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO("McDuff\n\nMac\n"))
    assert run(["predict", data / "model"], capsys).out == expected


def test_options_come_from_a_file_and_the_command_line_wins(data, capsys):
    config = data / "config.json"
    config.write_text(
        json.dumps({"hidden": 5, "tie-weights": True, "data": str(data / "text.txt")})
    )
    base = ["train", "lm", "--config", config, "--max-steps", "1", "--quiet", "--layers", "1"]
    run([*base, "--out", data / "one"], capsys)
    run([*base, "--out", data / "two", "--hidden", "6"], capsys)
    one, two = fastrnn.load(data / "one"), fastrnn.load(data / "two")
    assert (one.rnn.hidden_size, two.rnn.hidden_size) == (5, 6)
    assert one.tie_weights
    run(
        ["train", "lm", "--config", f"{data / 'one'}.options.json", "--out", data / "three"], capsys
    )
    np.testing.assert_array_equal(fastrnn.load(data / "three").flat, one.flat)


def test_options_come_from_toml(data, capsys):
    pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    (data / "config.toml").write_text("max_steps = 1\nbidirectional = false\ncell = 'gru'\n")
    run(words("classify", data, "--config", str(data / "config.toml")), capsys)
    model = fastrnn.load(data / "model")
    assert type(model.rnn).__name__ == "GRU"
    assert not model.rnn.bidirectional


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"hiden": 3}', "unknown key 'hiden', did you mean hidden"),
        ('{"resume": true}', "unknown key 'resume'"),
        ('{"hidden": 0}', "argument --hidden: must be a whole number of 1 or more, got 0"),
        ('{"cell": "cnn"}', "argument --cell: invalid choice"),
        ('{"tie_weights": 3}', "expected true or false"),
        ('{"hidden": true}', "is a truth value"),
        ("[1]", "expected an object of options"),
        ("{", "argument --config: "),
    ],
)
def test_a_wrong_file_of_options_is_explained(text, reason, data, capsys):
    (data / "config.json").write_text(text)
    assert reason in refused(words("lm", data, "--config", str(data / "config.json")), capsys)


def test_without_a_reader_of_toml_the_message_says_what_helps(data, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setitem(sys.modules, "tomli", None)
    (data / "config.toml").write_text("hidden = 3\n")
    err = refused(words("lm", data, "--config", str(data / "config.toml")), capsys)
    assert "pip install tomli" in err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--hidden", "0"), ("--lr", "0"), ("--lr", "nan"), ("--dropout", "1"), ("--seed", "-1"),
     ("--epochs", "many"), ("--validation", "0"), ("--clip-norm", "-1"), ("--cell", "cnn"),
     ("--out", "/"), ("--config", "/absent.toml"), ("--threads", "257")],
)  # fmt: skip
def test_impossible_options_are_refused(option, value, data, capsys):
    assert f"argument {option}: " in refused(words("lm", data, option, value), capsys)


@pytest.mark.parametrize("task", TASKS[1:])
def test_tasks_other_than_lm_need_data(task, capsys):
    assert "required: DATA" in refused(["train", task, "--out", "m"], capsys)


@pytest.mark.parametrize("task", TASKS)
def test_missing_data_is_one_line_and_exit_code_1(task, data, capsys):
    arguments = words(task, data)
    arguments[2] = str(data / "absent")
    err = run(arguments, capsys, 1).err
    assert err == f"fastrnn train: {data / 'absent'}: no such file\n"
    assert not list(data.glob("model*"))


def test_an_earlier_training_is_not_overwritten(data, capsys):
    run(words("lm", data, "--max-steps", "1"), capsys)
    before = (data / "model").read_bytes()
    err = run(words("lm", data), capsys, 1).err
    assert "go on with it by --resume, remove it, or choose another --out" in err
    assert (data / "model").read_bytes() == before
    err = run(words("lm", data, "--resume", "--out", str(data / "new")), capsys, 1).err
    assert "no training to resume" in err


def test_a_training_that_diverges_is_one_line_and_exit_code_1(data, capsys):
    out = words("lm", data, "--optimizer", "sgd", "--lr", "1e9", "--clip-norm", "0")
    err = run(out, capsys, 1).err
    assert err.startswith("fastrnn train: training diverged at step")
    assert "Try --clip-norm 1.0" in err
    assert "model.last.safetensors" in err
    assert err.count("\n") == 1
    err = run([*words("lm", data, "--lr", "1e30"), "--out", data / "other"], capsys, 1).err
    assert "Try --clip-norm below 1" in err


@pytest.mark.parametrize("task", ["lm", "seq2seq"])
def test_tied_weights_of_two_sizes_are_refused(task, data, capsys):
    err = refused(words(task, data, "--tie-weights", "--embedding", "7"), capsys)
    assert "argument --tie-weights: needs an --embedding as large as --hidden" in err


def test_a_file_of_another_kind_is_refused(data, capsys):
    fastrnn.save(fastrnn.LSTM(2, 3), data / "layer")
    np.savez(data / "arrays.npz", a=np.zeros(3))
    for command in ("eval", "predict"):
        err = run([command, data / "layer", data / "text.txt"], capsys, 1).err
        assert "holds a LSTM, expected a model that fastrnn train wrote" in err
        err = run([command, data / "arrays.npz", data / "text.txt"], capsys, 1).err
        assert "without a fastrnn model" in err
        assert "no such file" in run([command, data / "absent", "x"], capsys, 1).err


def test_a_model_without_vocabulary_or_with_another_s_is_refused(data, capsys):
    run(words("lm", data, "--max-steps", "1"), capsys)
    model = fastrnn.load(data / "model")
    model.vocabulary["tokens"] += "ß"
    model.save(data / "model")
    assert "do not belong together" in run(["predict", data / "model", "the"], capsys, 1).err
    model.vocabulary = None
    model.save(data / "model")
    assert "has no vocabulary" in run(["predict", data / "model", "the"], capsys, 1).err


@pytest.mark.parametrize("task", TASKS)
def test_the_flow_of_the_gradient_is_shown_for_every_recurrent_part(task, data, capsys):
    out = run(words(task, data, "--flow"), capsys).out
    titles = [line for line in out.splitlines() if line.startswith("how the gradient flowed")]
    parts = [" through the encoder", " through the decoder"] if task == "seq2seq" else [""]
    assert titles == [
        f"how the gradient flowed back{part} in a batch of the validation data" for part in parts
    ]
    assert out.count("norm of dL/dh") == out.count("\nsaturated gates") == len(parts)


def test_pictures_are_drawn(data, capsys):
    pytest.importorskip("matplotlib")
    plots = words("classify", data, "--flow", "--plot", str(data / "loss.png"))
    run([*plots, "--out", data / "other"], capsys)
    assert (data / "loss.png").stat().st_size > 1000
    assert (data / "loss-flow.png").stat().st_size > 1000
    plots = words("seq2seq", data, "--flow", "--plot", str(data / "new" / "loss.png"))
    run([*plots, "--out", data / "third"], capsys)
    for part in ("encoder", "decoder"):
        assert (data / "new" / f"loss-flow-{part}.png").stat().st_size > 1000


def test_a_picture_without_matplotlib_is_refused_before_the_training(data, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    err = run(words("lm", data, "--plot", "loss.png"), capsys, 1).err
    assert "pip install fastrnn[plot]" in err
    assert not list(data.glob("model*"))


@pytest.mark.parametrize("task", TASKS)
def test_a_memory_budget_changes_no_bit(task, data, capsys):
    run(words(task, data), capsys)
    run([*words(task, data, "--memory-budget", "1"), "--out", data / "small"], capsys)
    one, other = fastrnn.load(data / "model"), fastrnn.load(data / "small")
    np.testing.assert_array_equal(one.flat, other.flat)
    base = words(task, data, "--memory-budget", "0.00001")
    err = run([*base, "--out", data / "none"], capsys, 1).err
    assert "fastrnn train: --memory-budget is " in err
    assert err.count("\n") == 1


def test_input_feeding_is_trained_resumed_and_refused_where_it_cannot_be(data, capsys):
    whole = words("seq2seq", data, "--input-feeding", "--schedule", "constant", "--sampling", "0.3")
    run([*whole, "--out", data / "whole", "--flow"], capsys)
    run([*whole, "--max-steps", "3"], capsys)
    run([*whole, "--resume", "--max-steps", "1000"], capsys)
    one, other = fastrnn.load(data / "whole"), fastrnn.load(data / "model")
    assert one.input_feeding
    np.testing.assert_array_equal(one.flat, other.flat)
    run(["translate", data / "model", "abc", "--beams", "3", "--max-new-tokens", "5"], capsys)
    err = refused([*whole, "--attention", "none"], capsys)
    assert "argument --input-feeding: needs an --attention" in err
    assert "argument --memory-budget: not with" in refused([*whole, "--memory-budget", "9"], capsys)


def test_threads_memory_budget_and_random_truncation_are_taken(data, capsys):
    more = ["--threads", "2", "--memory-budget", "8", "--random-truncation", "0.5"]
    run(words("lm", data, *more, "--warmup", "3", "--schedule", "plateau"), capsys)
    assert fastrnn.load(data / "model").extra["training"]["steps"] > 3
