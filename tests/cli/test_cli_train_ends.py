"""Ends of trainings on the command line: interrupted, unread, refused, without room."""
# ruff: noqa: F811 - fixtures

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from paths import INSTALLED
from test_cli_train import data, refused, run, words  # noqa: F401

import fastrnn


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_saves_exits_with_130_and_can_be_resumed(data, capsys):
    arguments = words("lm", data, "--schedule", "constant", "--epochs", "100000")
    process = subprocess.Popen(
        [sys.executable, "-m", "fastrnn", *arguments],
        cwd=INSTALLED,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    history, end = data / "model.history.jsonl", time.monotonic() + 60
    while not (history.exists() and history.stat().st_size > 2000):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted and saved" in err
    assert "Traceback" not in err
    assert f"model: {data / 'model'}" in out
    steps = fastrnn.load(data / "model").extra["training"]["steps"]
    base = ["train", "lm", "--out", data / "model", "--resume", "--max-steps", steps + 5]
    run(base, capsys)
    assert fastrnn.load(data / "model").extra["training"]["steps"] == steps + 5


def test_without_data_the_standard_library_s_text_is_learnt(tmp_path, capsys):
    more = ["--max-steps", "1", "--hidden", "4", "--layers", "1", "--quiet"]
    out = run(["train", "lm", "--out", tmp_path / "model", *more], capsys).out
    assert "the standard library's documentation" in out


def test_columns_of_text_are_left_out_of_a_series(data, capsys):
    arguments = [word for word in words("forecast", data) if word not in ("--columns", "load,heat")]
    out = run(arguments, capsys).out
    assert "2 features, forecast: load, heat" in out
    assert [line.split()[0] for line in out.splitlines() if line.startswith("    ")][1:4] == [
        "load",
        "heat",
        "load",
    ]
    err = run([*words("forecast", data), "--columns", "day", "--out", data / "x"], capsys, 1).err
    assert "--columns can name the columns to read" in err


def test_texts_may_stand_behind_options_but_unknown_options_are_refused(data, capsys):
    run(words("classify", data), capsys)
    one = run(["predict", data / "model", "--top", "1", "Mac", "--json"], capsys).out
    assert json.loads(one)[0]["text"] == "Mac"
    assert "usage: fastrnn predict" in refused(["predict", "m", "--bogus"], capsys)


def test_a_training_goes_on_when_nobody_reads_what_it_prints(data):
    process = subprocess.Popen(
        [sys.executable, "-m", "fastrnn", *words("lm", data)],
        cwd=INSTALLED,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 0
    assert fastrnn.load(data / "model").extra["validation"]


@pytest.mark.parametrize("command", ["eval", "predict", "translate"])
def test_only_what_is_required_is_said_to_be(command, capsys):
    err = refused([command], capsys)
    assert err.endswith("the following arguments are required: MODEL\n")


def test_text_that_is_too_short_is_explained(data, capsys):
    (data / "short.txt").write_text("ab")
    arguments = words("lm", data)
    arguments[2] = str(data / "short.txt")
    assert "too few to train and to validate" in run(arguments, capsys, 1).err
    assert (
        "too few for --batch-size" in run(words("lm", data, "--batch-size", "9999"), capsys, 1).err
    )


@pytest.mark.skipif(sys.platform != "linux", reason="limits of file size")
def test_a_full_disk_is_one_line_and_the_earlier_model_stays(data, capsys):
    import resource

    run(words("lm", data, "--max-steps", "1"), capsys)
    before = (data / "model").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        err = run(words("lm", data, "--resume", "--max-steps", "3"), capsys, 1).err
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "file too large, an earlier file is untouched" in err
    assert err.count("\n") == 1
    assert (data / "model").read_bytes() == before
