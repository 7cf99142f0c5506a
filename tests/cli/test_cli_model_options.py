"""Options of a training that are arguments of a model: all of them, made from its constructor."""

from __future__ import annotations

from inspect import signature
from typing import Literal

import pytest
from test_cli_train import data, refused, run, words  # noqa: F401  (data is a fixture)

import fastrnn
from fastrnn.cli._config import ConfigParser
from fastrnn.cli._model import declared_arguments, model_arguments, said_of
from fastrnn.cli.tasks import TASKS
from fastrnn.models import LanguageModel


def parsed(task, *words):
    parser = ConfigParser()
    parser.add_argument("data", nargs="*", default=[])
    task.add_options(parser)
    return parser.parse_args(["--out", "x", *words])


@pytest.mark.parametrize("name", TASKS)
def test_every_plain_argument_of_a_model_is_an_option_or_decided_by_the_data(name):
    task = TASKS[name]
    given = model_arguments(task.model, parsed(task))
    declared = declared_arguments(task.model)
    assert set(given) | set(task.decided) == set(declared)
    assert not set(given) & set(task.decided)
    assert set(task.network) <= set(declared)
    rest = set(signature(task.model).parameters) - set(declared)
    assert rest <= {*task.model._modules, "targets", "scaler"}  # made from the data, or of modules


@pytest.mark.parametrize("name", TASKS)
def test_defaults_are_the_constructor_s_unless_the_task_has_its_own(name):
    task = TASKS[name]
    own = {"hidden_size", "num_layers", "cell", "dropout", "bidirectional", "attention"}
    for key, value in model_arguments(task.model, parsed(task)).items():
        assert key in own or value == declared_arguments(task.model)[key].default, key


def test_an_argument_of_several_numbers_or_of_several_types_is_no_option():
    class Kind:
        def __init__(
            self, sizes: list[int], either: int | str, one: int | None = 3, of: Literal[1, 2] = 1
        ) -> None: ...

    assert {name: a.kind for name, a in declared_arguments(Kind).items()} == {"one": int, "of": int}


class Wider(LanguageModel):
    """A language model that wants to know more.

    `zoneout`: share of states that stay as they were, 50 % at most; its `warm` start is optional.
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int | None = None,
        num_layers: int | None = None,
        *,
        cell: str | None = None,
        dropout: float = 0.0,
        zoneout: float = 0.25,
        warm: bool | None = None,
        lazy: bool = False,
        kind: Literal["a", "b"] = "a",
        offset: int = -3,
        label: str | None = None,
    ) -> None:
        self.said = zoneout, warm, lazy, kind, offset, label
        super().__init__(vocab_size, None, hidden_size, num_layers, cell=cell, dropout=dropout)


@pytest.fixture
def wider(monkeypatch):
    task = type(TASKS["lm"])()
    monkeypatch.setattr(type(task), "model", Wider)
    monkeypatch.setattr(type(task), "network", {})
    return task


def test_a_new_argument_of_a_model_is_an_option_without_a_line_here(wider):
    given = model_arguments(Wider, parsed(wider))
    assert given["zoneout"] == 0.25
    assert (given["warm"], given["lazy"], given["kind"]) == (None, False, "a")
    more = "--zoneout=-1.5 --no-warm --lazy --kind b --offset -7 --label x"
    given = model_arguments(Wider, parsed(wider, *more.split()))
    assert Wider(9, **given).said == (-1.5, False, True, "b", -7, "x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--zoneout", "much"], "argument --zoneout: must be a number, got much"),
        (["--zoneout", "inf"], "argument --zoneout: must be a number, at most 1.8e+308, got inf"),
        (["--offset", "1.5"], "argument --offset: must be a whole number, got 1.5"),
        (["--kind", "c"], "argument --kind: invalid choice: 'c' (choose from "),
    ],
)
def test_a_word_of_another_type_is_refused_by_the_option_s_name(wider, words, message, capsys):
    with pytest.raises(SystemExit):
        parsed(wider, *words)
    assert message in capsys.readouterr().err


def test_help_without_words_of_its_own_is_what_the_docstring_says(wider, capsys):
    assert said_of(Wider, "warm") == "its warm start is optional"
    assert said_of(Wider, "zoneout") == (
        "zoneout: share of states that stay as they were, 50 %% at most"
    )
    assert said_of(Wider, "kind") == "kind of fastrnn.models.Wider"
    with pytest.raises(SystemExit):
        parsed(wider, "--help")
    out = " ".join(capsys.readouterr().out.split())
    assert "--zoneout X zoneout: share of states that stay as they were, 50 % at most" in out


def test_the_options_of_an_encoder_and_its_bridge_make_the_model(data, capsys):  # noqa: F811
    more = ["--encoder-layers", "2", "--bridge", "--sampling-temperature", "0"]
    run(words("seq2seq", data, "--max-steps", "1", *more), capsys)
    model = fastrnn.load(data / "model")
    assert (model.encoder.rnn.num_layers, model.decoder.rnn.num_layers) == (2, 1)
    assert (model.bridge, model.sampling_temperature) == (True, 0.0)
    err = refused(words("seq2seq", data, "--encoder-layers", "0"), capsys)
    assert "argument --encoder-layers: must be a whole number of 1 or more, got 0" in err
    err = run(words("seq2seq", data, "--encoder-layers", "2", "--no-bridge"), capsys, 1).err
    assert err.startswith("fastrnn train: ")
    assert err.count("\n") == 1
