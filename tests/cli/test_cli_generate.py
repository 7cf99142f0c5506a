"""Text from a model on the command line: streamed, searched, constrained, as JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from paths import INSTALLED

import fastrnn
from fastrnn.cli import main
from fastrnn.data import Vocabulary
from fastrnn.formats import inspect_checkpoint
from fastrnn.models import LanguageModel, SequenceClassifier

LETTERS = "abcdefgh \n"
WORDS = ("the", "dog", "cat", "barks", "sleeps")
SHORT = ["--max-new-tokens", "12"]
DEMO = str(Path(fastrnn.__file__).parent / "data" / "demo.pt")


def language_model(vocabulary):
    model = LanguageModel(len(vocabulary), 8, 16)
    model.reset_parameters(3)
    model.vocabulary = vocabulary.to_dict()
    return model


@pytest.fixture
def model(tmp_path):
    """The file of a model of characters that has learnt nothing."""
    path = tmp_path / "model"
    language_model(Vocabulary(LETTERS)).save(path)
    return str(path)


@pytest.fixture
def words(tmp_path):
    """The file of a model of words."""
    path = tmp_path / "words"
    specials = ("bos", "eos", "unk")
    language_model(Vocabulary(WORDS, level="words", specials=specials)).save(path)
    return str(path)


def run(arguments, capsys, code=0):
    """What a command prints to the two streams."""
    assert main(["generate", *map(str, arguments)]) == code
    return capsys.readouterr()


def fails(arguments, capsys, part):
    """The one line of a failure has this part."""
    printed = run(arguments, capsys, 1)
    assert printed.err.startswith("fastrnn generate: ")
    assert part in printed.err
    assert printed.err.count("\n") == 1


def objects(arguments, capsys):
    """The JSON objects that a command prints."""
    return [json.loads(line) for line in run([*arguments, "--json"], capsys).out.splitlines()]


OPTIONS = [
    [],
    ["--temperature", "0.8", "--seed", "4"],
    ["--top-k", "3", "--top-p", "0.9", "--min-p", "0.05", "--seed", "1"],
    ["--beams", "4", "--top-k", "2"],
    ["--beams", "3", "--length-penalty", "0.5"],
    ["--no-repeat-ngram-size", "2", "--repetition-penalty", "1.3"],
    ["--stop", "\\n", "--stop", "a", "--seed", "2"],
    ["--typical-p", "0.7", "--suppress", "dog", "--bad-words", "cat", "--seed", "3"],
    ["--beams", "4", "--groups", "2", "--diversity-penalty", "0.5"],
    ["--beams", "3", "--length-penalty-form", "gnmt", "--length-penalty", "0.6"],
    ["--beams", "2", "--early-stopping", "never", "--patience", "2", "--min-new-tokens", "3"],
    ["--regex", "[abc]{3}( [de]+)?", "--seed", "2"],
]


CASES = [("model", options) for options in OPTIONS] + [
    ("words", o) for o in OPTIONS[:6] + OPTIONS[7:11]
]


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_the_streamed_text_is_that_of_the_json_and_of_generate(kind, options, capsys, request):
    prompt = "bad" if kind == "model" else "the dog"
    base = [request.getfixturevalue(kind), "--prompt", prompt, *SHORT, *options]
    streamed = run(base, capsys).out
    (one,) = objects(base, capsys)
    space = " " if kind == "words" and one["text"] else ""
    assert streamed == f"{prompt}{space}{one['text']}\n"
    assert len(one["tokens"]) == len(one["logprobs"]) <= 12
    assert one["prompt"] == prompt
    assert one["finish_reason"] in ("eos", "stop", "length", "constraint")


def test_the_command_says_what_the_library_does(model, capsys):
    found = objects([model, "--prompt", "bad", *SHORT, "--beams", 3,
                     "--num-return-sequences", 3], capsys)  # fmt: skip
    loaded, vocabulary = fastrnn.load(model), Vocabulary(LETTERS)
    ids = vocabulary.encode("bad").tolist()
    wanted = fastrnn.generate(loaded, ids, max_new_tokens=12, num_beams=3, num_return_sequences=3)
    assert [one["tokens"] for one in found] == [one.tokens for one in wanted]
    assert [one["score"] for one in found] == [one.score for one in wanted]
    assert [one["text"] for one in found] == [vocabulary.decode(one.tokens) for one in wanted]


@pytest.mark.parametrize(
    ("options", "given"),
    [
        (
            ["--beams", 6, "--groups", 3, "--diversity-penalty", 0.5, "--num-return-sequences", 6],
            {"num_beams": 6, "num_beam_groups": 3, "diversity_penalty": 0.5,
             "num_return_sequences": 6},
        ),
        (
            ["--beams", 2, "--patience", 2, "--num-return-sequences", 3,
             "--length-penalty-form", "gnmt", "--early-stopping", "yes",
             "--stop", "a", "--stop", "e"],
            {"num_beams": 2, "patience": 2.0, "num_return_sequences": 3,
             "length_penalty_form": "gnmt", "early_stopping": True, "stop": [[0], [4]]},
        ),
        (
            ["--typical-p", 0.6, "--seed", 7],
            {"do_sample": True, "typical_p": 0.6, "seed": 7},
        ),
        (
            ["--bad-words", "a", "--bad-words", "bad ", "--suppress", "ef"],
            {"bad_words_ids": [[0], [1, 0, 3, 8]], "suppress_tokens": [4, 5]},
        ),
        (["--stop", "\\n", "--min-new-tokens", 4], {"stop": [[9]], "min_new_tokens": 4}),
        (["--beams", 3, "--top-k", 2], {"num_beams": 3, "top_k": 2}),
    ],
    ids=str,
)  # fmt: skip
def test_every_option_is_an_argument_of_the_library(options, given, model, capsys):
    found = objects([model, "--prompt", "bad", *SHORT, *options], capsys)
    wanted = fastrnn.generate(fastrnn.load(model), [1, 0, 3], max_new_tokens=12, **given)
    assert [one["tokens"] for one in found] == [one.tokens for one in wanted]
    assert [one["score"] for one in found] == [one.score for one in wanted]


def test_bad_words_and_suppressed_tokens_are_never_written(model, words, capsys):
    draws = ["--temperature", 5, "--seed", 1, "--num-return-sequences", 40]
    forbidden = ["--bad-words", "ab", "--suppress", "cdX"]
    forbidden += ["--bad-words", "aXb"]  # which the model cannot write
    found = objects([model, "--prompt", "h", *draws, *forbidden], capsys)
    text = "|".join(one["text"] for one in found)
    assert set(text) == set(LETTERS + "|") - set("cd")
    assert "ab" not in text
    forbidden = ["--bad-words", "dog barks", "--bad-words", "cat", "--bad-words", "a zebra"]
    found = objects([words, "--prompt", "the", *SHORT, *draws, *forbidden], capsys)
    text = " | ".join(one["text"] for one in found)
    assert "dog" in text
    assert "dog barks" not in text
    assert "cat" not in text
    fails([words, "--prompt", "the", "--bad-words", " "], capsys, "--bad-words is empty, expected")


def test_the_same_seed_gives_the_same_text_and_another_one_another(model, capsys):
    def text(seed):
        return run([model, "--prompt", "a", "--seed", seed], capsys).out

    assert text(1) == text(1)
    assert text(1) != text(2)


def test_a_prompt_gives_the_same_alone_and_beside_others(model, capsys):
    base = [model, *SHORT, "--temperature", 0.9, "--seed", 5]
    both = objects([*base, "--prompt", "a", "--prompt", "bad cab"], capsys)
    alone = objects([*base, "--prompt", "bad cab"], capsys)
    assert both[1:] == alone


def test_prompts_come_from_standard_input_a_line_each(model, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", StringIO("abc\n\nbad\r\n"))
    found = objects([model, *SHORT], capsys)
    assert [one["prompt"] for one in found] == ["abc", "bad"]
    monkeypatch.setattr("sys.stdin", StringIO("\n \n"))
    fails([model], capsys, "there is no text in the input")


def test_a_word_list_is_all_that_is_written(model, words, tmp_path, capsys):
    (tmp_path / "list").write_text("abba\ncafe\nbee\n")
    base = ["--words", tmp_path / "list", "--seed", 1, "--num-return-sequences", 8]
    found = objects([model, "--prompt", "a", *base], capsys)
    assert {one["text"] for one in found} <= {"abba", "cafe", "bee"}
    (tmp_path / "list").write_text("dog barks\ncat sleeps\n")
    found = objects([words, "--prompt", "the", *base], capsys)
    assert {one["text"] for one in found} == {"dog barks", "cat sleeps"}


def test_text_to_be_written_holds_known_tokens_only(words, model, tmp_path, capsys):
    (tmp_path / "list").write_text("dog barks\nzebra\n")
    for option, value in (("--stop", "the zebra"), ("--words", tmp_path / "list")):
        fails([words, "--prompt", "the", option, value], capsys, f"{option} has 'zebra', which is")
    (tmp_path / "list").write_text("cab\nzebra\n")
    fails([model, "--prompt", "a", "--words", tmp_path / "list"], capsys, "--words has 'z', which")


def test_errors_count_prompts_from_1_and_begin_a_line(model, capsys, monkeypatch):
    base = [model, "--no-repeat-ngram-size", 1, "--max-new-tokens", 20]
    printed = run([*base, "--prompt", "a"], capsys, 1)
    assert printed.out.endswith("\n")
    assert "no token is allowed of prompt 1 at new token" in printed.err
    monkeypatch.setattr("sys.stdin", StringIO("a\n" * 64 + LETTERS))
    base[-1] = 5
    assert "of prompt 65 at new token 1:" in run(base, capsys, 1).err


def test_words_end_with_the_end_token_and_reserved_ones_are_never_written(words, capsys):
    found = objects(
        [words, "--prompt", "the zebra", "--seed", 3, "--num-return-sequences", 30], capsys
    )
    assert "eos" in {one["finish_reason"] for one in found}
    assert not set("<>\ufffd") & set("".join(one["text"] for one in found))
    start = objects([words, "--prompt", "", *SHORT], capsys)  # from the start token alone
    assert len(start) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.json", json.dumps(list(LETTERS))),
        ("ids.json", json.dumps({letter: i for i, letter in enumerate(LETTERS)})),
        ("described.json", json.dumps(Vocabulary(LETTERS).to_dict())),
        ("lines.txt", "\n".join(LETTERS[:-1]) + "\n\\n\n"),
    ],
)
def test_a_checkpoint_of_pytorch_is_taken_with_its_vocabulary(name, text, model, tmp_path, capsys):
    weights = fastrnn.load(model).state_dict()
    renamed = {
        key.replace("head", "linear").replace("rnn", "lstm"): value
        for key, value in weights.items()
    }
    fastrnn.save_pytorch(renamed, tmp_path / "weights.pt")
    (tmp_path / name).write_text(text)
    more = ["--prompt", "bad", *SHORT]
    given = run([tmp_path / "weights.pt", "--vocab", tmp_path / name, *more], capsys).out
    assert given == run([model, *more], capsys).out
    fails([tmp_path / "weights.pt", *more], capsys, "has no vocabulary: give one by --vocab FILE")


def test_the_model_that_comes_with_fastrnn_knows_its_vocabulary(capsys):
    out = run([DEMO, "--prompt", "The ", "--max-new-tokens", 40], capsys).out
    assert out.startswith("The ")
    assert len(out) == 45


def test_threads_do_not_change_the_text(model, capsys):
    base = [model, "--prompt", "a", "--seed", 3]
    assert run([*base, "--threads", 1], capsys).out == run([*base, "--threads", 2], capsys).out


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--prompt", "xyz"], "prompt 1 has 'x', which is none of the 10 characters"),
        (["--prompt", ""], "prompt 1 is empty, expected some characters"),
        (["--prompt", "a", "--beams", "50"], "--beams is 50, but the vocabulary has 10 tokens"),
        (["--prompt", "a", "--regex", "[0-9]+"], "allows nothing"),
        (["--prompt", "a", "--regex", "a{30}", *SHORT], "--max-new-tokens is 12"),
        (["--prompt", "a", "--stop", "Q"], "--stop has 'Q'"),
        (["--prompt", "a", "--suppress", LETTERS], "--suppress and --bad-words leave no token"),
        (["--prompt", "a", "--words", "/absent"], "/absent: no such file"),
        (["--prompt", "a", "--vocab", "/absent"], "/absent: no such file"),
    ],
)
def test_what_does_not_fit_the_model_is_said_in_one_line(options, part, model, capsys):
    fails([model, *options], capsys, part)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('["a", "b"]', "the model has 10 tokens, its vocabulary 2"),
        ('{"a": 0, "b": 2}', "the ids of a vocabulary are 0, 1, 2"),
        ('["a", "a"]', "has a token twice"),
        ('["a", ""]', "has an empty token"),
        ('["a", 3]', "a vocabulary is a list of texts"),
        ('["a", ', "expected JSON or a token in each line"),
        ("a\n\nb\n", "line 2 is empty"),
    ],
)
def test_a_vocabulary_that_is_none_is_said_in_one_line(text, part, model, tmp_path, capsys):
    (tmp_path / "vocabulary").write_text(text)
    fails([model, "--prompt", "a", "--vocab", tmp_path / "vocabulary"], capsys, part)


def test_files_without_a_language_model_are_refused(tmp_path, capsys):
    fails(["/absent.pt", "--prompt", "a"], capsys, "/absent.pt: no such file")
    SequenceClassifier(2, 4, vocab_size=5, embedding_dim=3).save(tmp_path / "other")
    fails([tmp_path / "other", "--prompt", "a"], capsys, "holds a SequenceClassifier")
    fastrnn.save_pytorch(fastrnn.LSTM(3, 4), tmp_path / "layers.pt")
    fails([tmp_path / "layers.pt", "--prompt", "a"], capsys, "layers.pt is no language model: ")


@pytest.mark.parametrize("prefix", ["model.", "net.module."])
def test_a_model_is_found_where_inspection_finds_it(prefix, tmp_path, capsys):
    state = fastrnn.models.LanguageModel(5, 3, 4).state_dict()
    named = {prefix + name: tensor for name, tensor in state.items()}
    fastrnn.save_pytorch(named | {"n_averaged": np.array(3)}, tmp_path / "a.pt")
    assert inspect_checkpoint(tmp_path / "a.pt")["language_model"]
    (tmp_path / "vocabulary").write_text("a\nb\nc\nd\ne\n")
    words = ["--prompt", "a", "--vocab", tmp_path / "vocabulary", "--max-new-tokens", "3"]
    assert main([str(word) for word in ["generate", tmp_path / "a.pt", *words]]) == 0
    assert len(capsys.readouterr().out.strip()) == 4


@pytest.mark.parametrize("name", ["embedding.weight", "rnn.weight_hh_l0", "head.bias"])
@pytest.mark.parametrize("dtype", ["bool", "complex64"])
def test_weights_that_are_no_real_numbers_are_refused(name, dtype, tmp_path, capsys):
    state = fastrnn.models.LanguageModel(5, 3, 4).state_dict()
    fastrnn.save_pytorch(state | {name: state[name].astype(dtype)}, tmp_path / "a.pt")
    fails([tmp_path / "a.pt", "--prompt", "a"], capsys, f"has dtype {dtype}, expected real numbers")


WRONG = [
    (["--temperature", "-1"], "argument --temperature: must be a number of 0 or more"),
    (["--max-new-tokens", "0"], "argument --max-new-tokens: must be a whole number of 1"),
    (["--max-new-tokens", "1" * 20], "of 1 or more, at most 2147483648, got 1111111"),
    (["--threads", "257"], "argument --threads: must be a whole number of 1 or more, at most 256"),
    (["--top-p", "2"], "argument --top-p: "),
    (["--typical-p", "-1"], "argument --typical-p: "),
    (["--beams", "2", "--seed", "1"], "argument --beams: not together with --seed"),
    (["--beams", "2", "--typical-p", "1"], "argument --beams: not together with --typical-p"),
    (["--patience", "2"], "argument --patience: needs --beams of 2 or more"),
    (
        ["--early-stopping", "yes", "--stop", "a", "--stop", "e"],
        "argument --early-stopping: needs --beams",
    ),
    (["--early-stopping", "soon"], "argument --early-stopping: invalid choice"),
    (["--groups", "2", "--seed", "1"], "argument --groups: needs --beams"),
    (["--beams", "3", "--groups", "2"], "argument --groups: 2 do not divide the 3 --beams"),
    (["--beams", "4", "--groups", "2"], "argument --groups: needs a --diversity-penalty"),
    (["--beams", "4", "--diversity-penalty", "1"], "argument --diversity-penalty: needs --groups"),
    (["--num-return-sequences", "2"], "argument --num-return-sequences: 2 different ones"),
    (["--beams", "2", "--num-return-sequences", "3"], "argument --num-return-sequences: 3 diff"),
    (["--max-new-tokens", "3", "--min-new-tokens", "4"], "argument --min-new-tokens: 4 is more"),
    (["--bad-words", ""], "argument --bad-words: expected some text"),
    (["--stop", ""], "argument --stop: expected some text"),
    (["--regex", "a", "--words", "b"], "not allowed with argument --regex"),
    (["--unknown"], "unrecognized arguments: --unknown"),
]


@pytest.mark.parametrize("command", ["generate", "translate"])
@pytest.mark.parametrize(("options", "part"), WRONG)
def test_wrong_usage_ends_with_2_before_a_model_is_read(command, options, part, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "/absent", *options])
    assert caught.value.code == 2
    usage, error = capsys.readouterr().err.splitlines()
    assert usage.startswith(f"usage: fastrnn {command} MODEL ")
    assert part in error


@pytest.mark.parametrize(
    ("command", "option"),
    [("generate", "--regex"), ("translate", "--attention"), ("train seq2seq", "--sampling")],
)
def test_the_help_has_examples_and_exit_codes(command, option, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    for part in (f"usage: fastrnn {command}", option, "examples:", "130"):
        assert part in out


def started(*arguments, **more):
    """A process that writes for a long time."""
    command = [sys.executable, "-m", "fastrnn", *arguments, "--seed", "1"]
    return subprocess.Popen(
        [*command, "--max-new-tokens", "100000000"],
        cwd=INSTALLED,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **more,
    )


def interruptible():
    """A shell's background jobs ignore interrupts, and so would what they start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_a_reader_may_close_the_pipe(model):
    with started("generate", model, "--prompt", "a") as process:
        assert process.stdout.read(20)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupt_ends_the_text_with_130(model):
    arguments = ["generate", model, "--prompt", "a", "--suppress", "\\n"]
    with started(*arguments, preexec_fn=interruptible) as process:
        assert process.stdout.read(20)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (130, b"")
        assert out.endswith(b"\n")
