"""Files of fastrnn under `fastrnn inspect`: what they are, without a guess."""

from __future__ import annotations

import json

import numpy as np
import pytest
from processes import run_python

import fastrnn
from fastrnn import data, models, optim, train
from fastrnn.formats import format_inspection, inspect_checkpoint
from fastrnn.formats.own import DAMAGE

pytest.importorskip("safetensors")


def inspected(path):
    info = inspect_checkpoint(path)
    assert json.loads(json.dumps(info)) == info
    return info, format_inspection(info)


OWN = {
    "LanguageModel": lambda: models.LanguageModel(11, 5, 5, tie_weights=True),
    "Seq2Seq": lambda: models.Seq2Seq(11, 12, 5, attention="additive", bidirectional=True),
    "BidirectionalLanguageModel": lambda: models.BidirectionalLanguageModel(11, 5, 6),
    "Sequential": lambda: fastrnn.Sequential(fastrnn.LSTM(3, 4), fastrnn.Linear(4, 2)),
    "Linear": lambda: fastrnn.Linear(3, 4),
}


@pytest.mark.parametrize("kind", OWN)
def test_nothing_is_guessed_about_a_model_of_ours(kind, tmp_path):
    fastrnn.save(OWN[kind](), tmp_path / "own.safetensors")
    info, text = inspected(tmp_path / "own.safetensors")
    assert info["model"]["kind"] == kind
    assert info["remarks"] == []
    assert "looks like" not in text


def test_parts_that_the_architecture_does_not_name_are_shown(tmp_path):
    model = OWN["Seq2Seq"]()
    model.save(tmp_path / "own.safetensors")
    info, text = inspected(tmp_path / "own.safetensors")
    for name, part in [
        ("encoder.embedding", model.encoder.embedding), ("encoder.rnn", model.encoder.rnn),
        ("decoder.head", model.decoder.head), ("bridge.h", model._parts["bridge"]._parts["h"]),
    ]:  # fmt: skip
        assert f"{name}: {part!r}" in info["model"]["parts"]
        assert f"\n  {name}: {part!r}\n" in text
    OWN["LanguageModel"]().save(tmp_path / "other.safetensors")
    assert inspected(tmp_path / "other.safetensors")[0]["model"]["parts"] == []


def test_lists_and_dictionaries_of_modules_are_shown_part_by_part(tmp_path):
    fastrnn.save(OWN["Sequential"](), tmp_path / "own.safetensors")
    info, _ = inspected(tmp_path / "own.safetensors")
    lstm, linear = "0: LSTM(3, 4)", "1: Linear(in_features=4, out_features=2, bias=True)"
    assert info["model"]["parts"] == [lstm, linear]
    assert not any("modules" in line for line in info["model"]["architecture"])


def test_the_command_knows_the_classes_of_models(tmp_path):
    OWN["Seq2Seq"]().save(tmp_path / "own.safetensors")
    words = ["inspect", str(tmp_path / "own.safetensors")]
    done = run_python(f"from fastrnn.cli import main; main({words!r})")
    assert "\n  encoder.embedding: Embedding(11, 5)\n" in done.stdout, done.stderr


def test_weights_of_other_libraries_are_still_guessed_at(tmp_path):
    fastrnn.save_pytorch(OWN["LanguageModel"](), tmp_path / "model.pt")
    info, _ = inspected(tmp_path / "model.pt")
    assert "embedding.weight looks like Embedding(11, 5)" in info["remarks"]


@pytest.mark.parametrize(
    ("kind", "config", "part"),
    [
        ("Linear", {"in_features": 3, "out_features": -4}, "out_features"),
        ("LSTM", {"input_size": 3, "hidden_size": 1 << 19}, "do not fit a file that holds 12"),
        ("LSTM", {"input_size": 3}, "hidden_size"),
    ],
)
def test_a_description_that_cannot_be_loaded_is_an_error_with_the_reason(
    kind, config, part, tmp_path
):
    from fastrnn.formats.safetensors import write_safetensors

    path = tmp_path / "own.safetensors"
    described = json.dumps({"format": 1, "kind": kind, "config": config})
    write_safetensors({"weight": np.ones((4, 3), np.float32)}, {"fastrnn": described}, path)
    info, text = inspected(path)
    assert set(info["model"]) == {"error"}
    assert "A model of fastrnn, but fastrnn.load cannot make it (" in text
    assert part in info["model"]["error"]
    with pytest.raises(DAMAGE) as caught:
        fastrnn.load(path)
    assert part in str(caught.value)


def test_the_checkpoint_of_a_training_is_called_one(tmp_path):
    model = models.LanguageModel(9, 4, 6)
    trainer = train.Trainer(model, optim.Adam(model))
    source = data.TextStream(np.arange(400) % 9, 2, 20)
    trainer.fit(source, max_steps=3, out=tmp_path / "run", progress=False)
    info, text = inspected(tmp_path / "run.last.safetensors")
    assert (info["training"]["kind"], info["training"]["steps"]) == ("LanguageModel", 3)
    assert info["remarks"] == []
    assert "A training of fastrnn: LanguageModel after 3 steps; resume=True" in text
    assert "  embedding: Embedding(num=9, dim=4)\n" in text
    assert "fastrnn_training" not in text
    assert 'fastrnn.read_checkpoint("' in text  # its weights can be taken without the training


@pytest.mark.parametrize("about", ["{", "3", '{"steps": 1}', '{"steps": "x", "belongs": {}}'])
def test_a_damaged_training_is_shown_as_any_file(about, tmp_path):
    from fastrnn.formats.safetensors import write_safetensors

    tensors = OWN["LanguageModel"]().state_dict()
    write_safetensors(tensors, {"fastrnn_training": about}, tmp_path / "a.safetensors")
    info, text = inspected(tmp_path / "a.safetensors")
    assert info["training"] is None
    assert f"fastrnn_training: {about}" in text
