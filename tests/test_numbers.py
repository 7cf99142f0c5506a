"""Numbers that no float or no machine word holds: as arguments and on the command line."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import fastrnn
from fastrnn import init, losses, models, optim, schedules, train
from fastrnn._arrays import as_float32, as_int, as_number, as_seed, as_size, shown
from fastrnn.cli import main
from fastrnn.data import Buckets, LabelledSequences, TextStream, Vocabulary, Windows, split

HUGE = [10**400, 10**5000, -(10**400), -(10**5000)]  # Python prints no int of 5000 digits
IDS = ["400", "5000", "-400", "-5000"]
X = np.zeros((4, 2), np.float32)
GRU = fastrnn.GRU(2, 3)
LM = models.LanguageModel(5, 3, 4)


def classifier(**options):
    return models.SequenceClassifier(2, 4, vocab_size=5, **options)


WHOLE = {
    "size": lambda n: as_size(n, "n"),
    "int": lambda n: as_int(n, "n"),
    "hidden_size": lambda n: fastrnn.LSTM(3, n),
    "num_layers": lambda n: fastrnn.LSTM(3, 4, n),
    "threads": fastrnn.set_num_threads,
    "max_size": lambda n: Vocabulary.build("abc", max_size=n),
    "steps": lambda n: TextStream(np.arange(9), 2, n),
    "batch_size": lambda n: Windows(np.arange(9.0), 2, n),
    "targets": lambda n: Windows(np.arange(9.0), 2, 1, targets=[n]),
    "context": lambda n: split(np.arange(9.0), context=n),
    "pad": lambda n: LabelledSequences([[1]], [0], pad=n),
    "tokens": lambda n: Buckets(LabelledSequences([[1]], [0]), tokens=n),
    "schedule's step": lambda n: schedules.Exponential(1.0, 0.5).lr(n),
    "beams": lambda n: fastrnn.generate(LM, [1], max_new_tokens=2, num_beams=n),
    "seed of draws": lambda n: fastrnn.generate(LM, [1], max_new_tokens=2, do_sample=True, seed=n),
}
REAL = {
    "number": lambda x: as_number(x, "x"),
    "dropout": lambda x: fastrnn.LSTM(3, 4, 2, dropout=x),
    "share": lambda x: split(np.arange(9.0), x),
    "lr": lambda x: optim.Adam(GRU, lr=x),
    "weight_decay": lambda x: optim.AdamW(GRU, weight_decay=x),
    "clip": lambda x: optim.clip_grad_norm(GRU, x),
    "trainer's limit": lambda x: train.Trainer(classifier(), optim.Adam(GRU), clip_norm=x),
    "rate": schedules.Constant,
    "delta": lambda x: losses.huber(X, X, delta=x),
    "forget bias": lambda x: init.forget_bias(fastrnn.LSTM(2, 3), x),
    "eps": lambda x: fastrnn.LayerNorm(3, x),
    "label_smoothing": lambda x: classifier(label_smoothing=x),
    "sampling_temperature": lambda x: setattr(models.Seq2Seq(5, 5, 4), "sampling_temperature", x),
    "temperature": lambda x: fastrnn.generate(
        LM, [1], max_new_tokens=2, do_sample=True, temperature=x
    ),
}


@pytest.mark.parametrize("number", HUGE, ids=IDS)
@pytest.mark.parametrize("call", WHOLE.values(), ids=WHOLE)
def test_ints_beyond_a_machine_word_are_refused_with_a_short_sentence(call, number):
    with pytest.raises(ValueError, match=r"1e5000|1e400|must be") as caught:
        call(number)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("number", [*HUGE, Fraction(10**5000, 3)], ids=[*IDS, "fraction"])
@pytest.mark.parametrize("call", REAL.values(), ids=REAL)
def test_numbers_beyond_all_floats_are_refused_with_a_short_sentence(call, number):
    with pytest.raises(ValueError, match=r"expected|above") as caught:
        call(number)
    assert len(str(caught.value)) < 200


def test_ints_of_64_bits_and_exact_fractions_are_taken():
    assert as_int(np.int64(-(2**63)), "n") == -(2**63)
    assert as_int(2**63 - 1, "n") == 2**63 - 1
    with pytest.raises(ValueError, match=r"n is 9223372036854775808, .* int below 2\*\*63"):
        as_int(2**63, "n")
    with pytest.raises(ValueError, match=r"expected an int of -2\*\*63 or more"):
        as_int(-(2**63) - 1, "n")
    assert as_int(2**64 - 1, "n", 64) == 2**64 - 1
    assert as_number(Fraction(1, 4), "x") == 0.25
    assert as_number(Fraction(1, 10**5000), "x") == 0.0
    assert math.isnan(as_number(math.nan, "x"))
    assert as_number(math.inf, "x") == math.inf


def test_a_seed_may_be_an_int_of_any_size_but_none_below_zero():
    assert as_seed(10**5000) == 10**5000
    with pytest.raises(ValueError, match=r"seed is -1000.* \(about 1e5000\), expected an int of 0"):
        as_seed(-(10**5000))


def test_errors_name_values_in_a_few_words():
    assert shown(10**38) == str(10**38)
    assert shown(-(10**400)) == "-100000000... (about 1e400)"
    assert shown("x" * 10**6) == "'" + "x" * 96 + "..."
    assert shown(Fraction(10**5000, 3)) == "a Fraction"
    assert shown(True) == "True"


@pytest.mark.parametrize("value", [1e39, -1e300, np.float64(3.5e38)])
def test_numbers_beyond_float32_are_refused_and_infinite_ones_are_kept(value):
    array = np.array([1.0, np.inf, value])
    with pytest.raises(ValueError, match=r"x holds .* beyond float32's largest number"):
        as_float32(array, "x")
    assert as_float32(np.array([np.inf, -np.inf, 3e38]), "x").tolist()[:2] == [np.inf, -np.inf]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lr", "1e400"], "--lr: must be a number above 0, at most 1.8e+308, got 1e400"),
        (["--lr", "1" * 400], "--lr: must be a number above 0, at most 1.8e+308, got '111"),
        (["--lr", "nan"], "--lr: must be a number above 0, got nan"),
        (["--hidden", "1" * 5000], "--hidden: must be a whole number of 1 or more, at most 2147"),
        (["--hidden", "1e400"], "--hidden: must be a whole number of 1 or more, got 1e400"),
        (["--seed", "-" + "1" * 5000], "--seed: must be a whole number of 0 or more, got '-111"),
        (
            ["--memory-budget", "1e308"],
            "--memory-budget: must be a number above 0, at most 4.4",
        ),
        (["--weight-decay", "1e400"], "--weight-decay: must be a number of 0 or more, at"),
    ],
)
def test_options_beyond_what_a_number_can_be_are_a_wrong_usage(words, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "lm", "--out", str(tmp_path / "model"), *words])
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert f"argument {message}" in error
    assert len(error) < 600


@pytest.mark.parametrize(
    "words",
    [
        ["demo", "--temperature", "1e400"],
        ["demo", "--temperature", "nan"],
        ["demo", "--characters", "1" * 5000],
        ["bench", "--hidden", "1" * 5000],
        ["generate", "model", "--temperature", "1e400"],
        ["generate", "model", "--seed", "1" * 5000],
        ["predict", "model", "--top", "1" * 5000],
    ],
)
def test_every_command_refuses_such_numbers_alike(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert f"argument {words[-2]}: must be a " in capsys.readouterr().err


@pytest.mark.parametrize(
    "call",
    [
        lambda x: optim.Adam(GRU, betas=x),
        lambda x: models.SequenceTagger(2, 3, vocab_size=5, input_size=x),
        lambda x: fastrnn.generate(LM, [1], max_new_tokens=2, num_beams=2, early_stopping=x),
        lambda x: Windows(np.arange(9.0), 2, 1, scaler=x),
        lambda x: Vocabulary(["x" * 10**6, x]),
        lambda x: LabelledSequences([[1]], ["x" * 10**6], classes=["a", "b"]),
    ],
)
def test_an_error_never_prints_all_of_a_value(call):
    with pytest.raises((TypeError, ValueError), match=r"expected|classes") as caught:
        call(10**5000)
    assert len(str(caught.value)) < 250
