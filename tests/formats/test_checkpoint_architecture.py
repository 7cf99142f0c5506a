"""The architecture of a recurrent layer is told from the shapes of its tensors."""

from __future__ import annotations

import pytest
from paths import GOLDEN
from test_checkpoint import shapes

from fastrnn.formats import (
    find_recurrent,
    infer_recurrent,
    read_checkpoint,
)


@pytest.mark.parametrize(
    ("file", "prefix", "call"),
    [
        ("lstm.pt", "rnn.", "fastrnn.LSTM(5, 6, num_layers=2, bidirectional=True)"),
        ("gru_legacy.pt", "", "fastrnn.GRU(3, 4)"),
        ("lstm_projected.pt", "", "fastrnn.LSTM(3, 5, proj_size=2)"),
        ("rnn.pt", "", "fastrnn.RNN(3, 4, bias=False)"),
        ("gru_cell.pt", "", "fastrnn.GRUCell(3, 4)"),
        ("fastai.pt", "rnns.0.", "fastrnn.LSTM(3, 4)"),
    ],
)
def test_the_layer_is_told_from_its_tensors(file: str, prefix: str, call: str) -> None:
    tensors = read_checkpoint(GOLDEN / file)
    assert find_recurrent(tensors) == [prefix]
    assert infer_recurrent(tensors, prefix).constructor() == call


def test_summed_directions_are_told_by_the_second_layer() -> None:
    layer = {
        f"{kind}_l{k}{side}": (16, 4)
        for k in range(2)
        for side in ("", "_reverse")
        for kind in ("weight_ih", "weight_hh")
    }
    assert infer_recurrent(shapes(**layer)).merge == "sum"
    wide = {name: (16, 8) if "ih_l1" in name else shape for name, shape in layer.items()}
    assert infer_recurrent(shapes(**wide)).merge == "concat"


def test_peepholes_are_told_by_their_key() -> None:
    found = infer_recurrent(
        shapes(weight_ih_l0=(16, 3), weight_hh_l0=(16, 4), weight_ch_l0=(12,)), ""
    )
    assert found.peephole
    assert found.constructor() == "fastrnn.LSTM(3, 4, bias=False, peephole=True)"


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({}, "no recurrent weights"),
        ({"weight_hh_l0": (16, 4)}, "weight_ih_l0 is missing"),
        ({"weight_ih_l0": (16, 3), "weight_hh_l0": (20, 4)}, "expected 1, .*3 or 4 times"),
        ({"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 0)}, "expected 1, .*3 or 4 times"),
        ({"weight_ih_l0": (12, 3), "weight_hh_l0": (16, 4)}, r"weight_ih_l0 has shape \(12, 3\)"),
        ({"weight_ih_l0": (16,), "weight_hh_l0": (16, 4)}, "two dimensions"),
        (
            {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "bias_ih_l0": (12,)},
            r"bias_ih_l0 has shape \(12,\), expected \(16,\)",
        ),
        (
            {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "weight_hh_l1": (16, 4)},
            "missing: weight_ih_l1",
        ),
        (
            {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "weight_hh_l99999999": (16, 4)},
            "no layers below",
        ),
        (
            {"weight_ih_l0": (12, 3), "weight_hh_l0": (12, 4), "weight_ch_l0": (12,)},
            "only an LSTM",
        ),
        (
            {"weight_ih_l0": (16, 3), "weight_hh_l0": (16, 4), "weight_hh": (16, 4)},
            "a cell and of a layer",
        ),
    ],
)
def test_contradicting_tensors_are_named(sizes: dict[str, tuple[int, ...]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        infer_recurrent(shapes(**sizes))
