"""What `fastrnn inspect` says of our own models, of cells and lists, and of what is skipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import models
from fastrnn.formats import format_inspection, inspect_checkpoint
from fastrnn.formats.safetensors import write_safetensors
from fastrnn.formats.torch.describe import kind_of

GOLDEN = Path(__file__).parent / "golden"


def saved(path: Path, state: dict[str, Any], prefix: str = "") -> Path:
    np.savez(path, **{prefix + name: tensor for name, tensor in state.items()})
    return path


def inspected(path: Path) -> tuple[dict[str, Any], str]:
    info = inspect_checkpoint(path)
    assert json.loads(json.dumps(info)) == info
    return info, format_inspection(info)


OWN: dict[str, Any] = {
    "LanguageModel": lambda: models.LanguageModel(11, 5, 6, 2, cell="gru"),
    "Seq2Seq": lambda: models.Seq2Seq(11, 12, 5),
    "LSTM": lambda: fastrnn.LSTM(3, 4, bidirectional=True, learned_state=True),
    "GRUCell": lambda: fastrnn.GRUCell(3, 4, reset="before"),
    "Linear": lambda: fastrnn.Linear(3, 4),
}


@pytest.mark.parametrize("kind", OWN)
def test_a_model_of_ours_is_named_with_the_line_that_loads_it(kind, tmp_path):
    pytest.importorskip("safetensors")
    model = OWN[kind]()
    path = tmp_path / "own.safetensors"
    fastrnn.save(model, path)
    info, text = inspected(path)
    assert info["model"]["kind"] == kind
    assert f"A model of fastrnn: {kind}, {model.num_parameters:,} parameters" in text
    assert info["model"]["load"] == f'fastrnn.load("{path}")'
    assert info["model"]["load"] in text
    assert "from_state_dict" not in text
    found = eval(info["model"]["load"], {"fastrnn": fastrnn})
    assert found.fingerprint() == model.fingerprint()


def test_the_architecture_of_a_model_of_ours_is_shown(tmp_path):
    pytest.importorskip("safetensors")
    models.LanguageModel(11, 5, 6, cell="gru", dropout=0.25).save(tmp_path / "a.safetensors")
    _, text = inspected(tmp_path / "a.safetensors")
    assert "  embedding: Embedding(num=11, dim=5)\n" in text
    assert "  rnn: GRU(input_size=5, hidden_size=6, num_layers=1, " in text
    assert "reset='after'" in text
    assert "  dropout=0.25\n" in text


@pytest.mark.parametrize(
    "description",
    ["", "{", "[]", "3", '{"kind": "LSTM"}', '{"config": {}}', '{"kind": 1, "config": 3}',
     "[" * 5000, '{"kind": "a", "config": [[]]}', '{"kind": "a", "kind": "b", "config": {}}',
     '{"kind": "a", "config": {"size": ' + "1" * 5000 + "}}"],
)  # fmt: skip
def test_a_damaged_description_is_named_and_the_tensors_are_shown(description, tmp_path):
    pytest.importorskip("safetensors")
    state = fastrnn.LSTM(3, 4).state_dict()
    write_safetensors(state, {"fastrnn": description}, tmp_path / "a.safetensors")
    info, text = inspected(tmp_path / "a.safetensors")
    assert set(info["model"]) == {"error"}
    assert "A model of fastrnn, but its description is damaged" in text
    assert "fastrnn.LSTM(3, 4)" in text


def test_a_hostile_description_is_shown_without_control_characters(tmp_path):
    pytest.importorskip("safetensors")
    evil = {"kind": "\x1b[2J" * 1000, "config": {"\x1b": ["\x1b[2J", {"a\n": "\x1b" * 10000}]}}
    write_safetensors(
        {"w": np.ones(3, np.float32)}, {"fastrnn": json.dumps(evil)}, tmp_path / "a.safetensors"
    )
    _, text = inspected(tmp_path / "a.safetensors")
    assert "\x1b" not in text
    assert len(text) < 3000


@pytest.mark.parametrize("prefix", ["", "cell."])
def test_a_peephole_cell_is_called_one(prefix, tmp_path):
    cell = fastrnn.LSTMCell(3, 4, peephole=True)
    info, text = inspected(saved(tmp_path / "a.npz", cell.state_dict(), prefix))
    assert "fastrnn.LSTMCell(3, 4, peephole=True)" in text
    (layer,) = info["recurrent"]
    found = eval(layer["load"], {"fastrnn": fastrnn})
    assert found.fingerprint() == cell.fingerprint()


def test_a_list_of_cells_is_also_shown_as_a_stack(tmp_path):
    stack = fastrnn.LSTM(3, 4, 2, learned_state=True)
    state = {}
    for name, tensor in stack.state_dict().items():
        kind, _, k = name.rpartition("_l")
        state[f"cells.{k}.{kind}" if kind else name] = tensor
    info, text = inspected(saved(tmp_path / "a.npz", state, "net."))
    assert [layer["prefix"] for layer in info["recurrent"]] == [
        "net.cells.0.", "net.cells.1.", "net.cells.",
    ]  # fmt: skip
    assert "as a stack, if each layer feeds the next" in text
    found = eval(info["recurrent"][-1]["load"], {"fastrnn": fastrnn})
    assert found.fingerprint() == stack.fingerprint()


def test_one_bias_and_a_learned_state_are_said(tmp_path):
    state = fastrnn.GRU(3, 4).state_dict()
    del state["bias_hh_l0"]
    _, text = inspected(saved(tmp_path / "a.npz", state | {"h0": np.ones((1, 4))}))
    assert "fastrnn.GRU(3, 4, learned_state=True)" in text
    assert "it has one bias, bias_hh is zero" in text


@pytest.mark.parametrize("dtype", [np.complex64, np.bool_])
def test_weights_that_no_layer_takes_are_said_instead_of_a_line_that_fails(dtype, tmp_path):
    state = models.LanguageModel(11, 5, 6).state_dict()
    state["rnn.weight_hh_l0"] = state["rnn.weight_hh_l0"].astype(dtype)
    info, text = inspected(saved(tmp_path / "a.npz", state))
    fault = f"rnn.weight_hh_l0 has dtype {np.dtype(dtype)}, expected real numbers"
    assert info["recurrent"] == [{"prefix": "rnn.", "error": fault}]
    assert "from_state_dict" not in text


def test_layers_are_offered_without_a_model_whose_head_is_no_number(tmp_path):
    state = models.LanguageModel(11, 5, 6).state_dict()
    state["head.bias"] = state["head.bias"].astype(np.complex64)
    info, _ = inspected(saved(tmp_path / "a.npz", state))
    assert info["recurrent"][0]["cell"] == "LSTM"
    assert info["language_model"] == ""


def test_text_that_was_skipped_is_escaped_once():
    assert kind_of("a\n'\\\ud800") == "str " + repr("a\n'\\\ud800")


def test_what_was_skipped_is_listed():
    _, text = inspected(GOLDEN / "nested.pt")
    assert "Skipped:\n" in text
    assert "  epoch: int 7\n" in text
