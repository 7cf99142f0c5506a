"""Layers, cells and models from the names that others give to their parameters."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from families import FAMILIES, call, make, normal

import fastrnn
from fastrnn.formats import infer_recurrent
from fastrnn.models import LanguageModel

CELLS = {
    "rnn": (fastrnn.RNN, fastrnn.RNNCell, {}),
    "lstm": (fastrnn.LSTM, fastrnn.LSTMCell, {}),
    "peephole": (fastrnn.LSTM, fastrnn.LSTMCell, {"peephole": True}),
    "gru": (fastrnn.GRU, fastrnn.GRUCell, {}),
}


def outputs(cell: Any, x: Any) -> Any:
    """The h of every step of a cell that runs over x (T, N, I)."""
    state, found = None, []
    for step in x:
        state = cell(step, state)
        found.append(state[0] if cell.has_cell else state)
    return np.array(found)


def prefixed(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in state.items()}


# ---- one bias for two -------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["bias_ih", "bias_hh", "bias"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_one_bias_stands_for_two_of_which_one_is_zero(family, bidirectional, kept, rng):
    layer = make(family, 3, 8, 2, bidirectional=bidirectional)
    gone = "bias_hh" if kept == "bias" else {"bias_ih": "bias_hh", "bias_hh": "bias_ih"}[kept]
    for name, tensor in layer.parameters.items():
        if name.startswith(gone):
            tensor[...] = 0
    layer.repack()
    state = {k: v for k, v in layer.state_dict().items() if not k.startswith(gone)}
    if kept == "bias":
        state = {k.replace("bias_ih", "bias"): v for k, v in state.items()}
    options = {k: getattr(layer, k) for k in ("nonlinearity", "reset") if hasattr(layer, k)}
    found = type(layer).from_state_dict(state, **options)
    x = normal(rng, 4, 2, 3)
    assert np.array_equal(call(found, x)[0], call(layer, x)[0])
    assert found.fingerprint() == layer.fingerprint()


def test_a_plain_bias_is_that_of_the_only_layer():
    layer = fastrnn.GRU(3, 4)
    layer.parameters["bias_hh_l0"][...] = 0
    state = layer.state_dict()
    del state["bias_hh_l0"]
    state["bias"] = state.pop("bias_ih_l0")
    found = fastrnn.GRU.from_state_dict(state)
    assert np.array_equal(found.parameters["bias_ih_l0"], state["bias"])
    assert not found.parameters["bias_hh_l0"].any()  # b_hn too, which the reset gate multiplies
    cell = fastrnn.GRUCell.from_state_dict({k.removesuffix("_l0"): v for k, v in state.items()})
    assert np.array_equal(cell.parameters["bias_ih"], state["bias"])
    assert not cell.parameters["bias_hh"].any()


def lstm_state(layers: int = 1, **options: Any) -> dict[str, Any]:
    return fastrnn.LSTM(3, 4, layers, **options).state_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias_hh_l1": None}, "missing: bias_hh_l1"),
        ({"bias_hh_l1": None, "bias_ih_l1": None}, "missing: bias_ih_l1, bias_hh_l1"),
        ({"bias_hh_l0": None, "bias_ih_l1": None}, "missing: bias_hh_l0, bias_ih_l1"),
        ({"bias_ih_l1": None, "bias_hh_l1": None, "bias_l1": np.zeros(16)}, "missing: bias_ih_l1"),
        ({"bias_l1": np.zeros(16)}, "unexpected 'bias_l1'"),
        ({"bias": np.zeros(16)}, "unexpected 'bias'"),
        (
            {**dict.fromkeys(["bias_ih_l0", "bias_hh_l0", "bias_ih_l1", "bias_hh_l1"]),
             "bias": np.zeros(16)},
            "bias could be the bias of any of several layers or directions",
        ),
        (
            {**dict.fromkeys(["bias_hh_l0", "bias_hh_l1"]), "bias_ih_l1": np.zeros(12)},
            r"bias_ih_l1 has shape \(12,\), expected \(16,\)",
        ),
    ],
)  # fmt: skip
def test_biases_that_could_mean_several_things_are_refused(change, message):
    state = {k: v for k, v in (lstm_state(2) | change).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        fastrnn.LSTM.from_state_dict(state)


# ---- cells and layers -------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CELLS)
def test_a_layer_from_a_cell_gives_the_cell_s_outputs_and_the_other_way_round(name, bias, rng):
    layer_kind, cell_kind, options = CELLS[name]
    x = normal(rng, 5, 2, 3)
    cell = cell_kind(3, 4, bias=bias, **options)
    layer = layer_kind.from_state_dict(prefixed("a.", cell.state_dict()), "a.")
    assert layer.config == layer_kind(3, 4, bias=bias, **options).config
    assert np.array_equal(layer(x)[0], outputs(cell, x))
    again = cell_kind.from_state_dict(prefixed("a.", layer.state_dict()), "a.")
    assert again.fingerprint() == cell.fingerprint()


def test_what_a_cell_has_not_is_refused():
    for options in ({"num_layers": 2}, {"bidirectional": True}, {"proj_size": 2}):
        state = fastrnn.LSTM(3, 4, **options).state_dict()
        with pytest.raises(ValueError, match="expected those of an LSTMCell: one layer") as caught:
            fastrnn.LSTMCell.from_state_dict(state)
        (option,) = options.items()
        assert "{}={}".format(*option) in str(caught.value)
    state = fastrnn.GRUCell(3, 4).state_dict()
    with pytest.raises(ValueError, match="no learned initial state"):
        fastrnn.GRUCell.from_state_dict({**state, "h_0": np.zeros(4)})
    with pytest.raises(ValueError, match="no learned initial state"):
        fastrnn.GRUCell.from_state_dict({**prefixed("cell.", state), "h0": np.zeros(4)}, "cell.")


@pytest.mark.parametrize("single_layers", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_a_list_of_cells_or_single_layers_is_a_stack(name, single_layers, rng):
    layer_kind, _, options = CELLS[name]
    stack = layer_kind(3, 4, 12, **options)
    state = {}
    for key, tensor in stack.state_dict().items():
        kind, _, k = key.rpartition("_l")
        state[f"net.cells.{k}.{kind}{'_l0' if single_layers else ''}"] = tensor
    found = layer_kind.from_state_dict(state, "net.cells.")
    assert found.fingerprint() == stack.fingerprint()
    last = {key: v for key, v in state.items() if ".cells.11." in key}
    alone = layer_kind.from_state_dict(last, "net.cells.11.")
    assert np.array_equal(alone.parameters["weight_hh_l0"], stack.parameters["weight_hh_l11"])


def test_lists_that_are_no_stack_are_refused():
    cells = [prefixed(f"{k}.", fastrnn.LSTMCell(4, 4).state_dict()) for k in range(3)]
    layer = prefixed("1.", fastrnn.LSTM(4, 4).state_dict())
    with pytest.raises(ValueError, match="expected cells or single layers in it"):
        fastrnn.LSTM.from_state_dict(cells[0] | layer)
    with pytest.raises(ValueError, match=r"unexpected '2\.weight_ih'"):
        fastrnn.LSTM.from_state_dict(cells[0] | cells[2])
    other = prefixed("1.", fastrnn.LSTMCell(4, 5).state_dict())
    with pytest.raises(ValueError, match=r"1.weight_ih has shape \(20, 4\), expected \(16, 4\)"):
        fastrnn.LSTM.from_state_dict(cells[0] | other)
    short = {k: v for k, v in cells[1].items() if k != "1.bias_hh"}
    with pytest.raises(ValueError, match=r"missing: 1\.bias_hh"):
        fastrnn.LSTM.from_state_dict(cells[0] | short)
    short = {k: v for k, v in cells[0].items() if k != "0.bias_ih"}
    with pytest.raises(ValueError, match=r"missing: 0\.bias_ih"):
        fastrnn.LSTM.from_state_dict(short | cells[1])
    layer = prefixed("0.", fastrnn.LSTM(3, 4).state_dict()) | {"1.weight": np.zeros((2, 4))}
    with pytest.raises(ValueError, match=r"unexpected '1\.weight'; did you mean prefix='0\.'\?"):
        fastrnn.LSTM.from_state_dict(layer)
    deep = prefixed("1.", fastrnn.LSTM(4, 4, 2).state_dict())
    with pytest.raises(ValueError, match="expected cells or single layers in it"):
        fastrnn.LSTM.from_state_dict(prefixed("0.", fastrnn.LSTM(4, 4).state_dict()) | deep)


def test_a_language_model_may_be_made_of_cells(rng):
    model = LanguageModel(11, 5, 6, 2)
    names = {}
    for name, tensor in model.state_dict().items():
        kind, _, k = name.rpartition("_l")
        names[f"cells.{k}.{kind[4:]}" if name.startswith("rnn.") else name] = tensor
    found = LanguageModel.from_state_dict(names)
    assert found.fingerprint() == model.fingerprint()


# ---- learned initial states -------------------------------------------------------------------


@pytest.mark.parametrize("names", [("h_0", "c_0"), ("h0", "c0")])
@pytest.mark.parametrize("family", ["lstm", "gru", "lstm_projected"])
def test_an_initial_state_is_found_beside_the_layer_and_around_it(family, names, rng):
    layer = make(family, 3, 8, 2, bidirectional=True)
    shapes = (4, layer.state_size), (4, 8)
    states = [normal(rng, *shape) for shape in shapes][: 1 + layer.has_cell]
    x = normal(rng, 4, 3, 3)
    wanted = call(layer, x, *(np.stack([s] * 3, axis=1) for s in states))
    for owner in ("net.rnn.", "net.", ""):
        for middle in (False, True):
            own = [s[:, None] if middle else s for s in states]
            state = prefixed("net.rnn.", layer.state_dict())
            state |= {f"{owner}{n}": s for n, s in zip(names, own, strict=False)}
            found = type(layer).from_state_dict(state, "net.rnn.")
            assert found.learned_state
            for got, part in zip(call(found, x), wanted, strict=True):
                assert got is part or np.array_equal(got, part)
            assert np.array_equal(found.state_dict()["h_0"], states[0])


def test_one_layer_may_have_a_state_without_its_own_axis():
    state = fastrnn.GRU(3, 4).state_dict() | {"h0": np.arange(4.0)}
    assert fastrnn.GRU.from_state_dict(state).parameters["h_0"].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(("prefix", "owner"), [("", ""), ("rnn.", "rnn."), ("rnn.", "")])
@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"h0": (4,)}, "mapping has '{0}h0', expected h_0 and c_0 as the initial state of an LSTM"),
        ({"c0": (4,)}, "mapping has '{0}c0', expected h_0 and c_0"),
        ({"h0": (5,), "c0": (4,)}, "{0}h0 has shape (5,), expected (1, 4)"),
        ({"h0": (1, 2, 4), "c0": (4,)}, "{0}h0 has shape (1, 2, 4)"),
        ({"h0": (4,), "h_0": (4,)}, "mapping has both {0}h0 and {0}h_0"),
    ],
)
def test_states_that_do_not_fit_are_refused(extra, message, prefix, owner):
    states = {name: np.zeros(shape) for name, shape in extra.items()}
    state = prefixed(prefix, lstm_state()) | prefixed(owner, states)
    with pytest.raises(ValueError, match=re.escape(message.format(owner))):
        fastrnn.LSTM.from_state_dict(state, prefix)


def test_a_state_is_that_of_the_layer_it_fits_or_refused():
    two = prefixed("en.", fastrnn.GRU(3, 4).state_dict())
    two |= prefixed("de.", fastrnn.GRU(3, 4).state_dict()) | {"h0": np.ones((1, 4))}
    with pytest.raises(ValueError, match=r"'h0', which could be the .* 'de\.' or at 'en\.'"):
        fastrnn.GRU.from_state_dict(two, "de.")
    found = fastrnn.GRU.from_state_dict(two, "de.", rename={"h0": "h_0"})
    assert found.parameters["h_0"].tolist() == [[1, 1, 1, 1]]
    other = two | prefixed("en.", fastrnn.GRU(3, 5).state_dict())
    assert fastrnn.GRU.from_state_dict(other, "de.").learned_state
    assert not fastrnn.GRU.from_state_dict(other, "en.").learned_state
    own = two | {"en.h0": np.zeros(4)}
    assert fastrnn.GRU.from_state_dict(own, "de.").learned_state


def test_loading_never_loses_a_state():
    layer = fastrnn.GRU(3, 4)
    state = layer.state_dict()
    with pytest.raises(ValueError, match="unexpected 'h_0'"):
        layer.load_state_dict({**state, "h_0": np.zeros((1, 4))})
    with pytest.raises(ValueError, match="learned_state=True"):
        layer.load_state_dict({**prefixed("rnn.", state), "h0": np.zeros(4)}, "rnn.")
    other = fastrnn.GRU(3, 4, learned_state=True)
    with pytest.raises(ValueError, match="missing 'h_0'"):
        other.load_state_dict(state)
    other.load_state_dict({**state, "h_0": np.ones((1, 4))})
    assert other.state_dict()["h_0"].all()


# ---- renaming ---------------------------------------------------------------------------------


def test_exact_names_are_renamed():
    layer, cell = fastrnn.LSTM(3, 4), fastrnn.GRUCell(3, 4)
    names = ("enc_w_ih", "enc_w_hh", "enc_b_ih", "enc_b_hh")
    for prefix in ("", "net."):
        given = dict(zip(names, layer.state_dict().values(), strict=True))
        rename = dict(zip(names, layer.state_dict(), strict=True))
        found = fastrnn.LSTM.from_state_dict(prefixed(prefix, given), prefix, rename=rename)
        assert found.fingerprint() == layer.fingerprint()
        given = dict(zip(names, cell.state_dict().values(), strict=True))
        rename = dict(zip(names, cell.state_dict(), strict=True))
        again = fastrnn.GRUCell.from_state_dict(prefixed(prefix, given), prefix, rename=rename)
        assert again.fingerprint() == cell.fingerprint()
    swapped = layer.state_dict()
    swapped["bias_ih_l0"], swapped["bias_hh_l0"] = swapped["bias_hh_l0"], swapped["bias_ih_l0"]
    rename = {"bias_ih_l0": "bias_hh_l0", "bias_hh_l0": "bias_ih_l0"}
    assert fastrnn.LSTM.from_state_dict(swapped, rename=rename).fingerprint() == layer.fingerprint()


def test_a_model_s_names_are_renamed():
    model = LanguageModel(11, 5, 6)
    state = model.state_dict()
    state["tok"], state["net.cell.w"] = state.pop("embedding.weight"), state.pop("rnn.weight_ih_l0")
    rename = {"tok": "embedding.weight", "net.cell.w": "rnn.weight_ih_l0"}
    for prefix in ("", "lm."):
        found = LanguageModel.from_state_dict(prefixed(prefix, state), prefix, rename=rename)
        assert found.fingerprint() == model.fingerprint()


@pytest.mark.parametrize(
    ("rename", "error", "message"),
    [
        ({"w": "weight_ih_l0"}, ValueError, "rename has 'w', which is not among the names 'wei"),
        ({"bias_ih_l0": "bias_hh_l0"}, ValueError, "two parameters the name 'net.bias_hh_l0'"),
        ({"net.bias_ih_l0": "a", "bias_ih_l0": "b"}, ValueError, "two keys for one name"),
        ({"bias_ih_l0": "x", "bias_hh_l0": "x"}, ValueError, "two parameters the name 'net.x'"),
        ({"bias_ih_l0": 3}, TypeError, "rename holds an int"),
        ({3: "bias_ih_l0"}, TypeError, "rename holds an int"),
        (["bias_ih_l0"], TypeError, "rename is a list"),
    ],
)
def test_a_rename_that_does_not_fit_is_refused(rename, error, message):
    state = prefixed("net.", fastrnn.LSTM(3, 4).state_dict())
    with pytest.raises(error, match=message):
        fastrnn.LSTM.from_state_dict(state, "net.", rename=rename)
    parts = {"net.embedding.weight": np.zeros((5, 3)), "net.head.weight": np.zeros((5, 4))}
    with pytest.raises(error, match=message):
        LanguageModel.from_state_dict(state | parts, "net.", rename=rename)


# ---- what shapes tell, and what is given ------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "overrides"),
    [
        (fastrnn.LSTM(3, 4), {"hidden_size": 5}),
        (fastrnn.LSTM(3, 4), {"input_size": np.int64(5)}),
        (fastrnn.LSTM(3, 4), {"num_layers": 2}),
        (fastrnn.LSTM(3, 4), {"bidirectional": True}),
        (fastrnn.LSTM(3, 4), {"proj_size": 2}),
        (fastrnn.LSTM(3, 4), {"bias": False}),
        (fastrnn.LSTM(3, 4), {"peephole": True}),
        (fastrnn.LSTM(3, 4), {"learned_state": True}),
        (fastrnn.GRU(3, 4, bias=False), {"bias": True}),
        (fastrnn.GRU(3, 4, 2, bidirectional=True), {"merge": "sum"}),
        (fastrnn.RNN(3, 4, learned_state=True), {"learned_state": False}),
        (fastrnn.LSTMCell(3, 4, peephole=True), {"peephole": False}),
        (fastrnn.GRUCell(3, 4), {"hidden_size": 2}),
    ],
)
def test_an_override_that_contradicts_the_parameters_names_both_values(layer, overrides):
    ((name, value),) = overrides.items()
    told = getattr(layer, name)
    with pytest.raises(
        ValueError, match=f"{name} is .*{value}.*, but the parameters have '?{told}"
    ):
        type(layer).from_state_dict(layer.state_dict(), **overrides)
    again = type(layer).from_state_dict(layer.state_dict(), **{name: told})
    assert again.fingerprint() == layer.fingerprint()


def test_a_subclass_whose_constructor_takes_less_is_made():
    class Small(fastrnn.GRU):
        def __init__(
            self,
            input_size: int,
            hidden_size: int,
            num_layers: int,
            bidirectional: bool,
            bias: bool,
        ) -> None:
            super().__init__(
                input_size, hidden_size, num_layers, bias=bias, bidirectional=bidirectional
            )

    state = fastrnn.GRU(3, 4).state_dict()
    found = Small.from_state_dict(state)
    assert np.array_equal(found.parameters["weight_hh_l0"], state["weight_hh_l0"])


def test_overrides_of_a_wrong_type_are_the_constructor_s_errors():
    state = fastrnn.LSTM(3, 4).state_dict()
    with pytest.raises(TypeError, match="bias should be of type bool"):
        fastrnn.LSTM.from_state_dict(state, bias=None)
    with pytest.raises(TypeError, match="hidden_size should be of type int"):
        fastrnn.LSTM.from_state_dict(state, hidden_size=np.array([4, 4]))
    with pytest.raises(TypeError, match="unexpected keyword argument 'units'"):
        fastrnn.LSTM.from_state_dict(state, units=4)


def test_an_option_that_shapes_do_not_show_is_taken(rng):
    layer = fastrnn.GRU(3, 4, 2, reset="before", bidirectional=True)
    found = fastrnn.GRU.from_state_dict(layer.state_dict(), reset="before")
    x = normal(rng, 4, 2, 3)
    assert np.array_equal(found(x)[0], layer(x)[0])
    one = fastrnn.RNN(3, 4, nonlinearity="relu", bidirectional=True, merge="sum")
    again = fastrnn.RNN.from_state_dict(one.state_dict(), nonlinearity="relu", merge="sum")
    assert again.fingerprint() == one.fingerprint()


def test_names_and_shapes_are_enough_to_tell_a_layer():
    class Shaped:
        def __init__(self, *shape: int) -> None:
            self.shape = shape

    names = {"0.weight_ih": Shaped(12, 3), "0.weight_hh": Shaped(12, 4), "0.bias": Shaped(12)}
    assert infer_recurrent(names).constructor() == "fastrnn.GRU(3, 4)"
    assert infer_recurrent(names, "0.").constructor() == "fastrnn.GRUCell(3, 4)"
    names["h0"] = Shaped(1, 1, 4)
    assert infer_recurrent(names).constructor() == "fastrnn.GRU(3, 4, learned_state=True)"
