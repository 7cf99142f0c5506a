"""The examples run; what they reach is for their default settings to show."""

from __future__ import annotations

import runpy
import sys

import pytest
from paths import EXAMPLES

import fastrnn

SMALL = {
    "dates": (["--examples", "200", "--epochs", "1"], "unseen dates are exactly right"),
    "spelled_numbers": (["--examples", "200", "--epochs", "2"], "unseen numbers are exactly right"),
    "captioning": (["--steps", "4"], "vectors are read correctly"),
    "contextual_embeddings": (["--sentences", "100"], "tagger over states"),
}


@pytest.mark.parametrize("name", SMALL)
def test_an_example_runs_to_its_end(name, monkeypatch, tmp_path, capsys):
    arguments, last = SMALL[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with fastrnn.num_threads(1):
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert last in capsys.readouterr().out
