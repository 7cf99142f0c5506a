"""Errors of arguments: fields for programs, a sentence for people."""

from __future__ import annotations

import pickle

import pytest

import fastrnn
from fastrnn._errors import ArgumentError, ArgumentTypeError

REFUSED = {
    "hidden_size": (lambda: fastrnn.LSTM(2, 0), ArgumentError, 0, "an int from 1 to 1048576"),
    "num_layers": (lambda: fastrnn.LSTM(2, 3, 2.0), ArgumentTypeError, 2.0, "an int"),
    "dropout": (
        lambda: fastrnn.LSTM(2, 3, 2, dropout=2), ArgumentError, 2, "a number in the range [0, 1]"
    ),
    "merge": (
        lambda: fastrnn.GRU(2, 3, merge="mean"), ArgumentError, "mean", "one of 'concat', 'sum'"
    ),
    "bias": (lambda: fastrnn.Linear(2, 3, 1), ArgumentTypeError, 1, "True or False"),
    "seed": (lambda: fastrnn.GRU(2, 3).seed(-1), ArgumentError, -1, "an int of 0 or more"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_an_error_says_which_argument_what_came_and_what_may_come(name):
    call, kind, value, expected = REFUSED[name]
    with pytest.raises(kind) as caught:
        call()
    error = caught.value
    assert isinstance(error, ValueError if kind is ArgumentError else TypeError)
    assert (error.argument, error.value, error.expected) == (name, value, expected)
    assert str(error).startswith(f"{name} ")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.argument) == (kind, str(error), name)


def test_the_usual_sentence_is_made_of_the_fields():
    assert str(ArgumentError("p", 3, "a share")) == "p is 3, expected a share"
    assert str(ArgumentError("p", 10**400, "a share")).startswith("p is 1")
    assert str(ArgumentError("p", 3, "a share", "p must be small")) == "p must be small"
