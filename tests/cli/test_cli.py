"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from paths import INSTALLED

import fastrnn
from fastrnn.cli import main
from fastrnn.models import LanguageModel

COMMANDS = ["demo", "inspect", "bench", "config"]
QUICK = ["demo", "--characters", "5", "--steps", "10"]


def refused(arguments, capsys):
    """What a wrong usage prints to stderr; it exits with 2 and prints nothing else."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


@pytest.fixture
def file(tmp_path):
    """A language model as a checkpoint."""
    path = tmp_path / "model.npz"
    np.savez(path, **LanguageModel(11, 5, 6).state_dict())
    return str(path)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_text(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert f"usage: fastrnn {command}" in out
    with pytest.raises(SystemExit):
        main(["--help"])
    assert command in capsys.readouterr().out


def test_the_version_is_the_package_s(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"fastrnn {fastrnn.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["dance"], ["inspect"], ["config", "--loud"]])
def test_a_wrong_usage_is_explained(arguments, capsys):
    assert "usage: fastrnn" in refused(arguments, capsys)


def test_config_shows_what_is_in_use(capsys):
    assert main(["config"]) == 0
    assert fastrnn.show_config()["isa"] in capsys.readouterr().out
    assert main(["config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == fastrnn.show_config()


def test_inspect_prints_text(file, capsys):
    assert main(["inspect", file]) == 0
    out = capsys.readouterr().out
    for words in ("fastrnn.LSTM(5, 6)", "batch_first", "fastrnn.models.LanguageModel.from_state"):
        assert words in out
    assert out.endswith("\n")
    assert not out.endswith("\n\n")


def test_inspect_prints_json(file, capsys):
    assert main(["inspect", file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recurrent"][0]["cell"] == "LSTM"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("absent.pt", "no such file"), ("text.pt", "neither"), (".", "no regular file")],
)
def test_inspect_says_in_one_line_what_is_wrong_with_a_file(name, reason, tmp_path, capsys):
    (tmp_path / "text.pt").write_text("text")
    path = str(tmp_path / name)
    assert main(["inspect", path]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"fastrnn inspect: {Path(path)}: {reason}")
    assert err.count("\n") == 1


def test_the_demo_writes_text_and_times_its_steps(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main([*QUICK, "--prompt", "To be"]) == 0
    first = capsys.readouterr().out
    assert "pydoc_data.topics" in first
    written = next(line for line in first.split("\n\n")[1].splitlines() if line)
    assert written.startswith("To be")
    for words in ("p50", "p99.9", "maximum", "tokens per second", "PyTorch is not installed"):
        assert words in first
    assert main([*QUICK, "--prompt", "To be", "--seed", "0"]) == 0
    assert written in capsys.readouterr().out
    assert main([*QUICK, "--temperature", "0"]) == 0


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--temperature", "-1", "must be a number of 0 or more, got -1"),
        ("--temperature", "nan", "must be a number of 0 or more, got nan"),
        ("--temperature", "inf", "must be a number of 0 or more, at most 1.8e+308, got inf"),
        ("--temperature", "warm", "must be a number of 0 or more, got warm"),
        ("--characters", "0", "must be a whole number of 1 or more, got 0"),
        ("--characters", "many", "must be a whole number of 1 or more, got many"),
        ("--steps", "0", "must be a whole number of 1 or more, got 0"),
        ("--steps", "1" * 30, "must be a whole number of 1 or more, at most 10000000"),
        ("--seed", "-1", "must be a whole number of 0 or more, got -1"),
        ("--prompt", "", "must be made of these characters"),
        ("--prompt", "naïve", "must be made of these characters"),
    ],
)
def test_the_demo_refuses_bad_values(option, value, reason, capsys):
    err = refused([*QUICK, option, value], capsys)
    assert f"argument {option}: " in err
    assert reason in err


def test_a_reader_may_close_the_pipe(file):
    command = [sys.executable, "-m", "fastrnn", "inspect", file]
    process = subprocess.Popen(
        command,
        cwd=INSTALLED,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 0


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "fastrnn", "inspect", "/absent.pt"],
        cwd=INSTALLED,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "fastrnn inspect: /absent.pt: no such file\n"
