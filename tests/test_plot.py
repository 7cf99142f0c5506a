"""Pictures: made without a window, complete without a curve, explained without matplotlib."""

from __future__ import annotations

import sys
from importlib import import_module

import numpy as np
import pytest

from fastrnn.train import GradientFlow

PNG = b"\x89PNG"


@pytest.fixture
def plot():
    pytest.importorskip("matplotlib")
    return import_module("fastrnn.plot")


def flow(norm):
    norm = np.asarray(norm, np.float32)
    return GradientFlow(norm, np.clip(norm, 0, 1))


def records(steps=50):
    train = [
        {"kind": "train", "step": i, "loss": 3.0 / (1 + i), "lr": 0.1} for i in range(1, steps)
    ]
    return [*train, {"kind": "validation", "step": steps, "loss": 0.5}]


@pytest.mark.parametrize(
    "norm",
    [np.geomspace(1e-6, 1, 30) * np.ones((3, 1)), np.zeros((1, 4)), [[1.0]], [[np.nan, 1, np.inf]]],
    ids=["vanishing", "zeros", "one number", "not finite"],
)
def test_a_gradient_flow_becomes_a_picture(plot, tmp_path, norm):
    plot.gradient_flow(flow(norm), tmp_path / "flow.png")
    assert (tmp_path / "flow.png").read_bytes().startswith(PNG)


def test_a_picture_has_one_row_per_layer_and_one_column_per_step(plot, tmp_path):
    plot.gradient_flow(flow(np.ones((3, 9))), tmp_path / "flow.svg", title="A title of its own")
    text = (tmp_path / "flow.svg").read_text()
    for word in ("layer 1", "layer 2", "layer 3", "norm of dL/dh", "A title of its own"):
        assert f"<!-- {word} -->" in text


@pytest.mark.parametrize("kinds", ["train", "validation", "train validation"])
def test_a_history_becomes_a_loss_curve_with_what_it_has(plot, tmp_path, kinds):
    chosen = [record for record in records() if record["kind"] in kinds.split()]
    plot.loss_curve(chosen, tmp_path / "loss.svg")
    text = (tmp_path / "loss.svg").read_text()
    assert ("<!-- training -->" in text) == ("train" in kinds.split())
    assert ("<!-- validation -->" in text) == ("validation" in kinds)


def test_a_loss_curve_reads_the_history_of_a_training(plot, tmp_path):
    from train_fakes import kit

    k = kit()
    result = k.trainer.fit(
        k.source, validation=k.validation, epochs=9, out=tmp_path / "run", progress=False
    )
    plot.loss_curve(result.history, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(PNG)


def test_pictures_change_no_setting_of_matplotlib(plot, tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    plot.loss_curve(records(), tmp_path / "loss.png")
    assert dict(matplotlib.rcParams) == before


def test_a_history_without_a_loss_is_refused(plot, tmp_path):
    with pytest.raises(ValueError, match="history holds no loss"):
        plot.loss_curve([], tmp_path / "loss.png")


def test_without_matplotlib_an_error_says_what_to_install(monkeypatch, tmp_path):
    import fastrnn

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install fastrnn\[plot\]"):
        fastrnn.plot.gradient_flow(flow([[1.0]]), tmp_path / "flow.png")
