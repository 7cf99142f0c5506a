"""What comes into commands and goes out: marks, line ends, encodings, streams that are gone."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn
from fastrnn.cli import main
from fastrnn.data import Scaler, Vocabulary
from fastrnn.models import Forecaster, LanguageModel, Seq2Seq, SequenceClassifier
from fastrnn.train.progress import Lines

LETTERS = "abc\xe9\u20ac\u0416\u4e2d\U0001f600"
LABELS = ["\u4e2d\u6587", "fran\xe7ais"]
BARE = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
ENCODINGS = ["ascii", "cp1252", "cp437", "cp1251", "utf-8"]


@pytest.fixture
def models(tmp_path):
    """A model of each kind in a file, untrained."""
    made = {
        "lm": LanguageModel(len(LETTERS), 4, 5),
        "classify": SequenceClassifier(2, 4, vocab_size=len(LETTERS) + 2),
        "seq2seq": Seq2Seq(len(LETTERS) + 2, len(LETTERS) + 3, 4),
        "forecast": Forecaster(2, 4, scaler=Scaler([0, 0], [1, 1])),
    }
    source = Vocabulary(LETTERS, specials=("pad", "unk"))
    target = Vocabulary(LETTERS, specials=("pad", "bos", "eos"))
    made["lm"].vocabulary = Vocabulary(LETTERS).to_dict()
    made["classify"].vocabulary, made["classify"].extra = source.to_dict(), {"classes": LABELS}
    made["seq2seq"].vocabulary = {"source": source.to_dict(), "target": target.to_dict()}
    made["forecast"].extra = {"columns": ["a", "b"], "steps": 2}
    for name, model in made.items():
        model.reset_parameters(1)
        model.save(tmp_path / name)
    return {name: str(tmp_path / name) for name in made}


def asked(name, models):
    """A command that reads texts from standard input, and prints them or what it makes of them."""
    limit = ["--max-new-tokens", "4"]
    return {
        "classify": ["predict", models["classify"]],
        "lm": ["predict", models["lm"]],
        "generate": ["generate", models["lm"], *limit],
        "translate": ["translate", models["seq2seq"], *limit],
    }[name]


ASKED = ["classify", "lm", "generate", "translate"]


def given(monkeypatch, raw: bytes, encoding: str = "utf-8"):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw), encoding))


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_marks_and_line_ends_of_standard_input_are_those_of_files(
    name, encoding, models, monkeypatch, capsys
):
    words = asked(name, models)
    given(monkeypatch, "ab\xe9\ncab\n".encode())
    assert main(words) == 0
    wanted = capsys.readouterr().out
    for end in ("\r\n", "\n", "\r"):
        given(monkeypatch, f"\ufeffab\xe9{end}{end}cab{end}".encode(), encoding)
        assert main(words) == 0
        assert capsys.readouterr().out == wanted


@pytest.mark.parametrize("name", ASKED)
def test_bytes_of_standard_input_that_are_no_text_are_named(name, models, monkeypatch, capsys):
    words = asked(name, models)
    for raw, message in [
        (b"ab\r\nc\xff\n", "standard input is not utf-8: 0xff at byte 5 in line 2 "),
        (
            "ab\n".encode("utf-16"),
            "0xff at byte 0 in line 1 (invalid start byte); it begins as utf-16",
        ),
        (
            "ab\n".encode("utf-32"),
            "0xff at byte 0 in line 1 (invalid start byte); it begins as utf-32",
        ),
        (b" \r\n", "there is no text in the input"),
    ]:
        given(monkeypatch, raw)
        assert main(words) == 1
        assert message in capsys.readouterr().err
    for closed in (None, io.TextIOWrapper(io.BytesIO())):
        if closed is not None:
            closed.close()
        monkeypatch.setattr(sys, "stdin", closed)
        assert main(words) == 1
        assert "standard input is closed, expected text" in capsys.readouterr().err


def test_standard_input_is_read_in_the_encoding_that_python_or_the_user_names(
    models, monkeypatch, capsys
):
    words = ["predict", models["lm"], "--json"]
    for raw, stream, more in [
        ("\xe9a".encode("cp1252"), "cp1252", []),
        ("\xe9a".encode("utf-16"), "utf-8", ["--encoding", "utf-16"]),
        ("\xe9a".encode(), "ascii", []),
    ]:
        given(monkeypatch, raw, stream)
        assert main([*words, *more]) == 0
        assert json.loads(capsys.readouterr().out)[0]["text"] == "\xe9a"


@pytest.mark.parametrize("sign", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_only_line_ends_divide_the_lines_of_standard_input(sign, models, monkeypatch, capsys):
    given(monkeypatch, f"a{sign}b\nc\n".encode())
    assert main(["predict", models["classify"], "--json"]) == 0
    texts = [one["text"] for one in json.loads(capsys.readouterr().out)]
    assert texts == [f"a{sign}b", "c"]


def test_a_series_comes_from_standard_input_or_a_pipe_as_from_a_file(
    models, monkeypatch, capsys, tmp_path
):
    words = ["predict", models["forecast"]]
    text = "\ufeffa,b\r\n1,2\r\n3,4\r\n5,6\r\n"
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert main([*words, str(tmp_path / "a.csv")]) == 0
    wanted = capsys.readouterr().out
    given(monkeypatch, text.encode())
    assert main(words) == 0
    assert capsys.readouterr().out == wanted
    array = io.BytesIO()
    np.save(array, np.array([[1.0, 2], [3, 4], [5, 6]]))
    models_columns = fastrnn.load(models["forecast"])
    models_columns.extra = {"columns": ["0", "1"], "steps": 2}
    models_columns.save(tmp_path / "numbered")
    given(monkeypatch, array.getvalue())
    assert main(["predict", str(tmp_path / "numbered")]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == wanted.splitlines()[1:]
    for pipe in (None, tmp_path / "pipe"):
        broken = text.replace("4", "x").encode()
        if pipe is None:
            given(monkeypatch, broken)
            assert main(words) == 1
        else:
            os.mkfifo(pipe)
            (tmp_path / "b.csv").write_bytes(broken)
            with subprocess.Popen(["bash", "-c", f"cat {tmp_path / 'b.csv'} > {pipe}"]):
                assert main([*words, str(pipe)]) == 1
        error = capsys.readouterr().err
        named = "standard input" if pipe is None else str(pipe)
        assert f"predict: {named} has 'x' in line 3, column 'b', expected a number" in error


class Stream(io.TextIOWrapper):
    """A stream of a terminal that knows one encoding only, and raises for everything else."""

    def __init__(self, encoding: str, failure: OSError | None = None) -> None:
        self.raw_bytes, self.failure = io.BytesIO(), failure
        super().__init__(self.raw_bytes, encoding, errors="strict", write_through=True)

    def write(self, text: str) -> int:
        if self.failure:
            raise self.failure
        return super().write(text)

    def flush(self) -> None:
        if self.failure:
            raise self.failure
        super().flush()

    def text(self) -> str:
        return self.raw_bytes.getvalue().decode(self.encoding)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", ASKED)
def test_what_a_terminal_cannot_show_is_escaped(name, encoding, models, monkeypatch):
    out = Stream(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    given(monkeypatch, f"{LETTERS}\n".encode())
    assert main(asked(name, models)) == 0
    assert sys.stdout is out
    shown = LETTERS.encode(encoding, "backslashreplace").decode(encoding)
    assert name == "translate" or shown in out.text()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_argument_that_is_no_unicode_is_escaped(encoding, models, monkeypatch):
    out, error = Stream(encoding), Stream(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", error)
    assert main(["predict", models["classify"], "a\udcff\u4e2d"]) == 0
    assert "a\\udcff" in out.text()
    assert main(["predict", "no\udcff\u4e2d"]) == 1
    assert "no\\udcff" in error.text()
    with pytest.raises(SystemExit):
        main(["predict", "--\udcff\u4e2d", "m"])
    assert "--\\udcff" in error.text()


def trained(folder, **more):
    """A small training with names of classes beyond ASCII, and its words."""
    (folder / "names").mkdir(exist_ok=True)
    for label in LABELS:
        (folder / "names" / f"{label}.txt").write_text(f"{LETTERS}\nab\nba\n" * 5, encoding="utf-8")
    small = ["--hidden", "4", "--epochs", "1", "--flow"]
    return ["train", "classify", str(folder / "names"), "--out", str(folder / "model"), *small]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_training_ends_on_a_terminal_of_any_encoding(encoding, tmp_path, monkeypatch):
    out = Stream(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", Stream(encoding))
    assert main(trained(tmp_path)) == 0
    assert f"model: {tmp_path / 'model'}" in out.text()
    assert LABELS[0].encode(encoding, "backslashreplace").decode(encoding) in out.text()
    assert fastrnn.load(tmp_path / "model").extra["classes"] == sorted(LABELS)


@pytest.mark.parametrize(
    "failure", [BrokenPipeError(), OSError(errno.ENOSPC, "disk full"), OSError(errno.EIO, "gone")]
)
@pytest.mark.parametrize("which", ["stdout", "stderr"])
def test_a_training_ends_when_nobody_can_read_it(which, failure, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, which, Stream("utf-8", failure))
    assert main(trained(tmp_path)) == 0
    assert fastrnn.load(tmp_path / "model").extra["training"]["epochs"] == 1


@pytest.mark.parametrize("which", ["stdout", "stderr"])
def test_a_missing_or_closed_stream_makes_no_command_fail(
    which, models, tmp_path, monkeypatch, capsys
):
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    for i, stream in enumerate((None, closed)):
        (tmp_path / str(i)).mkdir()
        monkeypatch.setattr(sys, which, stream)
        assert main(trained(tmp_path / str(i))) == 0
        assert main(["predict", models["classify"], "ab"]) == 0
        assert main(["generate", models["lm"], "--prompt", "ab", "--max-new-tokens", "3"]) == 0
        assert main(["predict", "nothing"]) == 1
        assert getattr(sys, which) is stream


def test_results_that_cannot_be_written_are_an_error_and_a_reader_who_leaves_is_none(
    models, monkeypatch, capsys
):
    words = ["predict", models["classify"], "ab"]
    monkeypatch.setattr(sys, "stdout", Stream("utf-8", BrokenPipeError()))
    assert main(words) == 0
    monkeypatch.setattr(sys, "stdout", Stream("utf-8", OSError(errno.ENOSPC, "no space left")))
    assert main(words) == 1
    assert capsys.readouterr().err == "fastrnn predict: no space left\n"


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A command line in an environment of its own, in which FASTRNN stands for the command."""
    full = command.replace("FASTRNN", f"{sys.executable} -m fastrnn")
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {full}"],
        cwd=Path(__file__).parent,  # at the top the source folder would hide an installed package
        env=BARE | environment,
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ("FASTRNN TRAIN", {"PYTHONIOENCODING": "ascii"}),
        ("FASTRNN TRAIN", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        ("FASTRNN TRAIN | head -1", {}),
        ("FASTRNN TRAIN 2>&1 | head -1", {}),
        ("FASTRNN TRAIN > /dev/full", {}),
        ("FASTRNN TRAIN <&- >&- 2>&-", {}),
    ],
)
def test_a_training_ends_whatever_becomes_of_its_streams(command, environment, tmp_path):
    words = " ".join(trained(tmp_path))
    found = shell(command.replace("TRAIN", words), **environment)
    assert found.returncode == 0, found.stderr
    assert b"Traceback" not in found.stderr
    assert b"Exception" not in found.stderr
    assert fastrnn.load(tmp_path / "model").extra["classes"] == sorted(LABELS)


@pytest.mark.parametrize("end", ["| head -1", ">&-", "> /dev/full"])
def test_other_commands_end_quietly_or_say_that_the_disk_is_full(end, models):
    found = shell(f"FASTRNN predict {models['classify']} {'ab ' * 500} {end}")
    assert found.returncode == (1 if "full" in end else 0)
    said = b"fastrnn predict: no space left on device\n" if "full" in end else b""
    assert found.stderr == said


def test_a_picture_needs_no_display_and_no_unicode(tmp_path):
    pytest.importorskip("matplotlib")
    words = " ".join([*trained(tmp_path), "--plot", str(tmp_path / "loss.png")])
    found = shell(f"FASTRNN {words} | cat", PYTHONIOENCODING="ascii", HOME=str(tmp_path))
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "loss.png").stat().st_size > 1000
    assert (tmp_path / "loss-flow.png").stat().st_size > 1000


def test_lines_of_progress_never_end_a_training_from_python(monkeypatch):
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    for stream in (closed, Stream("utf-8", BrokenPipeError()), Stream("ascii")):
        monkeypatch.setattr(sys, "stderr", stream)
        Lines().say("step 1  loss 0.5 \u2713")
