"""What errors say about names that do not fit, and what names from strangers cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn.formats.inspection import _language_model, _recurrent, _stacks
from fastrnn.formats.names import clean_names, fold_weight_norm, take_raw_weights
from fastrnn.models import LanguageModel
from fastrnn.nn.layer_names import NameIndex


def prefixed(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in state.items()}


# ---- what errors say --------------------------------------------------------------------------


def test_errors_list_what_is_there_and_suggest_a_prefix():
    state = prefixed("net.rnn.", fastrnn.LSTM(3, 4).state_dict())
    with pytest.raises(ValueError, match=r"under prefix '', did you mean prefix='net.rnn.'\?"):
        fastrnn.LSTM.from_state_dict(state)
    with pytest.raises(ValueError, match=r"under prefix 'rnn.', did you mean prefix='net.rnn.'\?"):
        fastrnn.LSTM.from_state_dict(state, "rnn.")
    with pytest.raises(ValueError, match=r"did you mean prefix='enc_'\?"):
        fastrnn.LSTM.from_state_dict(prefixed("enc_", fastrnn.LSTM(3, 4).state_dict()))
    both = state | prefixed("de.", fastrnn.LSTM(3, 4).state_dict())
    with pytest.raises(ValueError, match=r"they are under the prefixes 'net\.rnn\.', 'de\.'"):
        fastrnn.LSTM.from_state_dict(both)
    with pytest.raises(ValueError, match=r"its names are 'a', 'b'$"):
        fastrnn.LSTM.from_state_dict({"a": np.zeros(1), "b": np.zeros(1)})
    with pytest.raises(ValueError, match="it is empty"):
        fastrnn.LSTM.from_state_dict({})
    with pytest.raises(ValueError, match=r"did you mean prefix='net.rnn.'\?"):
        fastrnn.LSTM(3, 4).load_state_dict(state)
    with pytest.raises(ValueError, match=r"did you mean prefix='net.'\?"):
        fastrnn.Linear(2, 2).load_state_dict(prefixed("net.", fastrnn.Linear(2, 2).state_dict()))
    with pytest.raises(ValueError, match="recurrent layers at none, its names are 'a'"):
        LanguageModel.from_state_dict({"a": np.zeros(1)})


def test_a_prefix_need_not_end_with_a_dot():
    layer = fastrnn.LSTM(3, 4, 2, bidirectional=True)
    state = prefixed("enc_", layer.state_dict()) | {"enc_h0": np.ones((4, 4))}
    state |= {"enc_c0": np.ones((4, 4))}
    found = fastrnn.LSTM.from_state_dict(state, "enc_")
    assert found.learned_state
    assert np.array_equal(found.parameters["weight_hh_l1"], layer.parameters["weight_hh_l1"])


@pytest.mark.parametrize("kind", ["many", "long"])
def test_errors_stay_short(kind):
    ends = ["weight_hh_l0", "weight_ih_l0", "bias_ih_l0", "a", "h0", "embedding.weight", "weight_g"]
    if kind == "many":
        names = [f"x{k}.{end}" for k in range(500) for end in ends]
    else:
        names = ["a." * 20000 + end for end in ends] + ["b" * 50000, "\x1b[2J\n" * 10000]
    mapping = dict.fromkeys(names, np.zeros(3))
    linear, layer = fastrnn.Linear(2, 2), fastrnn.LSTM(3, 4)
    prefix = "a." * 20000
    calls: list[Callable[[], Any]] = [
        lambda: fastrnn.LSTM.from_state_dict(mapping),
        lambda: fastrnn.LSTM.from_state_dict(mapping, prefix),
        lambda: fastrnn.LSTM.from_state_dict(mapping, "x0."),
        lambda: fastrnn.LSTMCell.from_state_dict(mapping),
        lambda: fastrnn.LSTM.from_state_dict(mapping, rename={"q" * 9999: "r"}),
        lambda: LanguageModel.from_state_dict(mapping),
        lambda: LanguageModel.from_state_dict(mapping, prefix),
        lambda: layer.load_state_dict(mapping),
        lambda: layer.load_state_dict(mapping, prefix),
        lambda: linear.load_state_dict(mapping),
    ]
    for function in calls:
        with pytest.raises(ValueError) as caught:  # noqa: PT011  # whichever it is
            function()
        assert len(str(caught.value)) < 3000
        assert "\x1b" not in str(caught.value)


# ---- time -------------------------------------------------------------------------------------

ONE = np.zeros(1, np.float32)


def deep(n: int) -> list[str]:
    return ["module." * n + "weight_hh_l0", "module." * n + "weight_hh_l0_raw", "_orig_mod." * n]


def nested(n: int) -> list[str]:
    ends = ("weight_hh_l0", "weight_hh_l0_raw", "h0", "embedding.weight")
    return ["module." * k + end for k in range(int(n**0.5)) for end in ends]


HOSTILE: dict[str, Callable[[int], list[str]]] = {
    "deep prefixes": deep,
    "nested prefixes": nested,
    "parts of weight norm": lambda n: [
        f"{'parametrizations.' * n}w.original0", f"{'weight_g.' * n}weight{'_g' * n}",
    ],
    "raw weights": lambda n: [
        f"a{k}.{end}" for k in range(n // 4) for end in ("module.weight_hh_l0", "weight_hh_l0_raw")
    ],
    "weight norms": lambda n: [
        f"a{k}.{end}" for k in range(n // 4) for end in ("weight_g", "weight_v")
    ],
    "layers": lambda n: [f"weight_hh_l{k}" for k in range(n // 4)],
    "many layers": lambda n: [f"a{k}.weight_hh" for k in range(n // 4)] + ["h0"],
    "a list of cells": lambda n: [f"a.{k}.weight_hh" for k in range(n // 4)] + ["h0", "a.h0"],
}  # fmt: skip


def treat(names: list[str]) -> None:
    """All that is done with the names of a file."""
    tensors = clean_names(dict.fromkeys(names, ONE), [])
    tensors = take_raw_weights(fold_weight_norm(tensors, []), [])
    index = NameIndex(tensors)
    for prefix in index.recurrent:
        _recurrent(tensors, index, prefix, "file")
    _stacks(tensors, index, "file")
    _language_model(tensors, "file")
    for kind in (fastrnn.LSTM, fastrnn.LSTMCell, LanguageModel):
        with pytest.raises(ValueError):  # noqa: PT011  # whichever it is
            kind.from_state_dict(tensors)


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_time_for_names_is_linear_in_them(kind):
    """Eight times the names take 8 times the time, up to noise; a square law would take 64."""

    def seconds(n: int) -> float:
        names, best = HOSTILE[kind](n), float("inf")
        for _ in range(3):
            start = time.process_time()
            treat(names)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(8 * 2000) < 24 * seconds(2000) + 0.02
