"""The Python in README.md runs as it stands."""

from __future__ import annotations

import re

import pytest
from paths import ROOT

import fastrnn
from fastrnn.models import LanguageModel

README = ROOT / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("code", BLOCKS, ids=range(len(BLOCKS)))
def test_the_code_runs(code, tmp_path, monkeypatch):
    if "plot." in code:
        pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    fastrnn.save_pytorch(LanguageModel(5, 3, 4), "model.pt")
    exec(compile(code, str(README), "exec"), {})


def test_there_is_code():
    assert len(BLOCKS) >= 3
