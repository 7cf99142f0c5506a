"""The language model, and parameters going in and out of modules."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from families import FAMILIES, make, normal

import fastrnn
from fastrnn.models import LanguageModel, _base

CELLS = ["rnn", "lstm", "gru"]


def streamed(model, tokens):
    """The model's logits step by step."""
    stream = model.stream(tokens.shape[1])
    return np.stack([stream.step(step) for step in tokens])


@pytest.mark.parametrize("cell", CELLS)
def test_a_language_model_is_its_three_parts_in_a_row(cell, rng):
    model = LanguageModel(11, 5, 9, 2, cell=cell, dropout=0.5)
    tokens = rng.integers(0, 11, (6, 3))
    y, wanted_state = model.rnn(model.embedding(tokens))
    logits, state = model(tokens)
    assert logits.shape == (6, 3, 11)
    assert np.array_equal(logits, model.head(y))
    assert np.array_equal(np.stack(state), np.stack(wanted_state))


@pytest.mark.parametrize("cell", CELLS)
def test_a_language_model_carries_its_state_over_a_cut(cell, rng):
    model = LanguageModel(11, 5, 9, 2, cell=cell)
    tokens = rng.integers(0, 11, (6, 3))
    first, state = model(tokens[:2])
    second, _ = model(tokens[2:], state)
    assert np.array_equal(np.concatenate([first, second]), model(tokens)[0])


@pytest.mark.parametrize("budget", [0, 4 << 20])
@pytest.mark.parametrize("cell", CELLS)
def test_a_token_stream_has_the_bits_of_a_sequence(cell, budget, rng, monkeypatch):
    monkeypatch.setattr(_base, "_TABLE_BUDGET_BYTES", budget)
    for sizes in ((11, 5, 9), (3, 1, 1), (65, 33, 64), (40, 17, 130)):
        model = LanguageModel(*sizes, 2, cell=cell)
        for rows in (1, 3):
            tokens = rng.integers(0, sizes[0], (5, rows))
            assert np.array_equal(streamed(model, tokens), model(tokens)[0])


@pytest.mark.parametrize("budget", [0, 4 << 20])
def test_a_token_stream_takes_an_int_a_list_or_an_array(budget, monkeypatch):
    monkeypatch.setattr(_base, "_TABLE_BUDGET_BYTES", budget)
    model = LanguageModel(11, 5, 9)
    wanted = model([7])[0][0]
    for token in (7, np.int32(7), np.array(7)):
        assert np.array_equal(model.stream().step(token), wanted)
    for token in ([7], np.array([7], np.uint8)):
        assert np.array_equal(model.stream().step(token), wanted[None])
    out = np.empty(11, np.float32)
    assert model.stream().step(7, out=out) is out
    assert np.array_equal(out, wanted)


@pytest.mark.parametrize("budget", [0, 4 << 20])
@pytest.mark.parametrize("token", [11, -1, 1.5, "a", None, [1, 2], 2**63])
def test_a_token_stream_refuses_what_is_no_token(budget, token, monkeypatch):
    monkeypatch.setattr(_base, "_TABLE_BUDGET_BYTES", budget)
    stream = LanguageModel(11, 5, 9).stream()
    stream.step(3)
    before = stream.snapshot()
    with pytest.raises((ValueError, TypeError)):
        stream.step(token)
    assert stream.snapshot() == before


def test_a_language_model_refuses_what_is_no_batch_of_tokens():
    model = LanguageModel(11, 5, 9)
    with pytest.raises(ValueError, match="tokens holds 11, expected indices from 0 to 10"):
        model([3, 11])
    with pytest.raises(ValueError, match="tokens holds -1"):
        model([-1])
    with pytest.raises(TypeError, match="tokens has dtype float64"):
        model([0.5])
    for nothing in ([], np.zeros((0, 3), int)):
        with pytest.raises(ValueError, match="tokens has 0 steps, this LanguageModel expects"):
            model(nothing)
    with pytest.raises(ValueError, match="tokens has 3 dimensions"):
        model(np.zeros((2, 2, 2), int))


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ((3, 4, 5, np.ones(2)), TypeError, "num_layers should be of type int, got: ndarray"),
        ((3, 4, 5, 1025), ValueError, "num_layers must be at most 1024"),
        ((3, 2.0, 5), TypeError, "embedding_dim should be of type int"),
        ((2**21, 4, 5), ValueError, "vocab_size must be at most 1048576, got 2097152"),
    ],
)
def test_a_language_model_refuses_bad_sizes(sizes, error, message):
    with pytest.raises(error, match=message):
        LanguageModel(*sizes)


@pytest.mark.parametrize("budget", [0, 4 << 20])
@pytest.mark.parametrize("part", ["model", "embedding", "rnn", "head"])
@pytest.mark.parametrize("tied", [False, True])
def test_new_parameters_are_seen_by_new_streams_and_not_by_old_ones(
    tied, part, budget, rng, monkeypatch
):
    monkeypatch.setattr(_base, "_TABLE_BUDGET_BYTES", budget)
    model = LanguageModel(11, 5, 5, tie_weights=tied)
    tokens = rng.integers(0, 11, (4, 1))
    old, stream = model(tokens)[0], model.stream()
    model.stream().step(0)
    module = model if part == "model" else getattr(model, part)
    module.load_state_dict({k: -2 * v for k, v in module.state_dict().items()})
    new = model(tokens)[0]
    assert not np.array_equal(new, old)
    assert np.array_equal(streamed(model, tokens), new)
    assert np.array_equal(np.stack([stream.step(step)[None] for step in tokens[:, 0]]), old)
    fresh = LanguageModel(11, 5, 5, tie_weights=tied)
    fresh.load_state_dict(model.state_dict())
    assert np.array_equal(fresh(tokens)[0], new)


def test_tied_weights_are_one_tensor_under_two_names():
    model = LanguageModel(11, 5, 5, tie_weights=True)
    free = LanguageModel(11, 5, 5)
    assert free.num_parameters - model.num_parameters == 11 * 5
    assert model.state_dict().keys() == free.state_dict().keys()
    assert np.shares_memory(model.parameters["head.weight"], model.embedding.weight)
    state = model.state_dict()
    del state["head.weight"]
    state["embedding.weight"] += 1
    model.load_state_dict(state)
    assert np.array_equal(model.state_dict()["head.weight"], state["embedding.weight"])
    before = model.state_dict()
    state["head.weight"] = state["embedding.weight"] + 1
    with pytest.raises(ValueError, match="differ, but this model ties them"):
        model.load_state_dict(state)
    assert all(np.array_equal(before[name], now) for name, now in model.state_dict().items())
    with pytest.raises(ValueError, match="tie_weights needs embedding_dim equal to the 6 features"):
        LanguageModel(11, 5, 6, tie_weights=True)


def test_all_parameters_of_a_model_lie_in_one_aligned_buffer():
    for model in (LanguageModel(11, 5, 5), LanguageModel(11, 5, 5, 2, tie_weights=True)):
        assert all(np.shares_memory(model.flat, tensor) for tensor in model.parameters.values())
        for part in (model, model.embedding, model.rnn, model.head):
            assert part.flat.ctypes.data % 64 == 0
        assert not np.shares_memory(model.rnn.flat, model.embedding.flat)


NAMES = [
    ("embedding", "rnn", "head"),
    ("encoder", "rnn", "decoder"),
    ("embed", "lstm", "fc"),
    ("emb", "gru", "linear"),
    ("embedding", "anything.at.all", "out"),
]


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("cell", CELLS)
def test_a_language_model_is_told_by_its_parameters(cell, names, prefix, rng):
    model = LanguageModel(11, 5, 9, 2, cell=cell)
    renamed = {"other": np.zeros(1)} if prefix else {}
    for name, tensor in model.state_dict().items():
        part, rest = name.split(".", 1)
        part = dict(zip(("embedding", "rnn", "head"), names, strict=True))[part]
        renamed[f"{prefix}{part}.{rest}"] = tensor
    found = LanguageModel.from_state_dict(renamed, prefix)
    assert repr(found) == repr(model)
    tokens = rng.integers(0, 11, (4, 2))
    assert np.array_equal(found(tokens)[0], model(tokens)[0])
    assert np.array_equal(streamed(found, tokens), model(tokens)[0])


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - {"rnn_sigmoid", "rnn_identity"}))
def test_a_language_model_may_have_any_recurrent_layers(family, rng):
    for bidirectional in (False, True):
        rnn = make(family, 5, 8, 2, bidirectional=bidirectional)
        head = fastrnn.Linear(rnn.output_size, 11, bias=False)
        state = {f"rnn.{name}": tensor for name, tensor in rnn.state_dict().items()}
        state["embedding.weight"], state["head.weight"] = (
            normal(rng, 11, 5),
            head.state_dict()["weight"],
        )
        options = {"nonlinearity": rnn.nonlinearity} if hasattr(rnn, "nonlinearity") else {}
        options |= {"reset": rnn.reset} if hasattr(rnn, "reset") else {}
        model = LanguageModel.from_state_dict(state, **options)
        tokens = rng.integers(0, 11, (4, 2))
        wanted = head(rnn(state["embedding.weight"][tokens])[0])
        assert np.array_equal(model(tokens)[0], wanted)
        if bidirectional:
            with pytest.raises(ValueError, match="bidirectional"):
                model.stream()
        else:
            assert np.array_equal(streamed(model, tokens), wanted)


def test_tied_parameters_stay_tied():
    state = LanguageModel(11, 5, 5, tie_weights=True).state_dict()
    assert LanguageModel.from_state_dict(state).tie_weights
    del state["head.weight"]
    assert LanguageModel.from_state_dict(state).tie_weights
    assert not LanguageModel.from_state_dict(LanguageModel(11, 5, 5).state_dict()).tie_weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding.weight": None}, "no embedding"),
        ({"rnn.weight_hh_l0": None}, "recurrent layers at none"),
        ({"emb.weight": np.zeros((11, 5))}, "both embedding.weight and emb.weight"),
        ({"extra.weight": np.zeros(3)}, "no language model has: 'extra.weight'"),
        (
            {"head.weight": np.zeros((11, 8))},
            r"head.weight has shape \(11, 8\), expected \(11, 9\)",
        ),
        ({"head.bias": np.zeros(10)}, "head.bias has shape"),
        ({"embedding.weight": np.zeros((11, 6))}, "embedding.weight has shape"),
        ({"head.weight": None}, "no head"),
        ({"rnn.weight_ih_l0": None}, "weight_ih_l0 is missing"),
    ],
)
def test_parameters_that_are_no_language_model_are_refused(change, message):
    state = LanguageModel(11, 5, 9).state_dict() | change
    with pytest.raises(ValueError, match=message):
        LanguageModel.from_state_dict({k: v for k, v in state.items() if v is not None})


MODULES = {
    **{name: lambda name=name: make(name, 3, 4, 2, bidirectional=True) for name in FAMILIES},
    "rnn_cell": lambda: fastrnn.RNNCell(3, 4),
    "lstm_cell": lambda: fastrnn.LSTMCell(3, 4, peephole=True),
    "gru_cell": lambda: fastrnn.GRUCell(3, 4, bias=False),
    "linear": lambda: fastrnn.Linear(3, 4),
    "embedding": lambda: fastrnn.Embedding(3, 4),
    "language_model": lambda: LanguageModel(3, 4, 5),
    "tied_language_model": lambda: LanguageModel(3, 4, 4, tie_weights=True),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_survives_copying_and_pickling(name):
    module = MODULES[name]()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert repr(twin) == repr(module)
        assert twin.fingerprint() == module.fingerprint()
        twin.flat[...] = 0
        assert module.flat.any()


@pytest.mark.parametrize("name", MODULES)
def test_a_state_dict_loads_into_a_module_of_the_same_kind(name):
    module, other = MODULES[name](), MODULES[name]()
    other.reset_parameters(seed=1)
    state = {f"deep.in.{key}": tensor for key, tensor in module.state_dict().items()}
    report = other.load_state_dict({**state, "elsewhere": np.zeros(1)}, prefix="deep.in.")
    assert report == ([], [])
    assert other.fingerprint() == module.fingerprint()


@pytest.mark.parametrize("name", MODULES)
def test_a_failed_load_changes_nothing(name):
    module = MODULES[name]()
    before, state = module.state_dict(), {k: v + 1 for k, v in module.state_dict().items()}
    last = list(state)[-1]
    wrong = [
        {k: v for k, v in state.items() if k != last},
        {**state, "extra": np.zeros(1)},
        {**state, last: np.zeros((1, 2, 3))},
        {**state, last: state[last].astype(complex)},
        {**state, last: None},
    ]
    for mapping in wrong[1:] if name.startswith("tied") else wrong:
        with pytest.raises((ValueError, TypeError), match=r"extra|" + last.split(".")[-1]):
            module.load_state_dict(mapping)
        assert all(np.array_equal(before[key], now) for key, now in module.state_dict().items())


def test_a_failed_load_names_everything_that_does_not_fit():
    layer = fastrnn.LSTM(3, 4)
    with pytest.raises(ValueError, match="do not fit") as caught:
        layer.load_state_dict({"weight_ih_l0": np.zeros((16, 2)), "x": np.zeros(1)})
    for part in ("this LSTM", "missing 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0'",
                 "unexpected 'x'", "weight_ih_l0 has shape (16, 2), expected (16, 3)"):  # fmt: skip
        assert part in str(caught.value)
    with pytest.raises(TypeError, match="mapping is a list"):
        layer.load_state_dict([1])
    with pytest.raises(TypeError, match="strict should be of type bool, got: ndarray"):
        layer.load_state_dict({}, strict=np.zeros(3))


@pytest.mark.parametrize("kind", [fastrnn.GRU, fastrnn.GRUCell, LanguageModel])
def test_a_prefix_is_text(kind):
    sizes = (3, 4, 5) if kind is LanguageModel else (3, 4)
    module = kind(*sizes)
    with pytest.raises(TypeError, match="prefix is an int, expected a str"):
        kind.from_state_dict(module.state_dict(), 5)
    with pytest.raises(TypeError, match="prefix is an int, expected a str"):
        module.load_state_dict(module.state_dict(), 5)


@pytest.mark.parametrize("length", [1, 12])
def test_tokens_are_never_batch_first(length):
    state = LanguageModel(3, 4, 5, cell="gru").state_dict()
    for value in (True, 1, None):
        with pytest.raises(ValueError, match=r"batch_first is .* are always \(T, N\)"):
            LanguageModel.from_state_dict(state, batch_first=value)
    model = LanguageModel.from_state_dict(state, batch_first=False)
    assert model(np.zeros((length, 2), int))[1].shape == (1, 2, 5)


def test_a_lenient_load_reports_what_it_left_out():
    layer = fastrnn.GRU(3, 4)
    report = layer.load_state_dict({"bias_ih_l0": np.ones(12), "x": 1}, strict=False)
    assert report.missing_keys == ["weight_ih_l0", "weight_hh_l0", "bias_hh_l0"]
    assert report.unexpected_keys == ["x"]
    assert layer.state_dict()["bias_ih_l0"].tolist() == [1.0] * 12
    with pytest.raises(ValueError, match="bias_ih_l0 has shape"):
        layer.load_state_dict({"bias_ih_l0": np.ones(11)}, strict=False)


def test_loading_views_of_the_module_itself_is_safe():
    layer = fastrnn.GRU(3, 4)
    before = layer.state_dict()
    views = dict(layer.parameters)
    views["bias_ih_l0"], views["bias_hh_l0"] = views["bias_hh_l0"], views["bias_ih_l0"]
    layer.load_state_dict(views)
    assert np.array_equal(layer.state_dict()["bias_ih_l0"], before["bias_hh_l0"])
    assert np.array_equal(layer.state_dict()["bias_hh_l0"], before["bias_ih_l0"])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("merge", [None, "concat", "sum"])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_is_told_by_its_parameters(family, num_layers, merge, bias, rng):
    directions = {} if merge is None else {"bidirectional": True, "merge": merge}
    layer = make(family, 3, 8, num_layers, bias=bias, **directions)
    options = {}
    for name in ("nonlinearity", "reset"):
        options |= {name: getattr(layer, name)} if hasattr(layer, name) else {}
    if merge is not None and num_layers == 1:
        options["merge"] = merge
    state = {f"a.{key}": tensor for key, tensor in layer.state_dict().items()}
    found = type(layer).from_state_dict(state, "a.", batch_first=True, **options)
    assert repr(found).replace(", batch_first=True", "") == repr(layer)
    x = normal(rng, 4, 2, 3)
    assert np.array_equal(found(x.swapaxes(0, 1))[0].swapaxes(0, 1), layer(x)[0])


def test_a_cell_is_told_by_its_parameters():
    for cell in (
        fastrnn.RNNCell(3, 4),
        fastrnn.LSTMCell(3, 4, False),
        fastrnn.LSTMCell(3, 4, peephole=True),
        fastrnn.GRUCell(3, 4, reset="before"),
    ):
        options = {"reset": cell.reset} if hasattr(cell, "reset") else {}
        found = type(cell).from_state_dict(cell.state_dict(), **options)
        assert repr(found) == repr(cell)
        assert found.fingerprint() == cell.fingerprint()


def test_another_cell_s_parameters_are_refused():
    kinds = [fastrnn.RNN, fastrnn.LSTM, fastrnn.GRU]
    kinds += [fastrnn.RNNCell, fastrnn.LSTMCell, fastrnn.GRUCell]
    for given in kinds:
        for kind in kinds:
            if kind.__name__[:3] != given.__name__[:3]:
                message = rf"parameters of an? {given.__name__}, expected an? {kind.__name__}$"
                with pytest.raises(ValueError, match=message):
                    kind.from_state_dict(given(3, 4).state_dict())


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_folded_tokens_give_the_bits_of_embedded_rows(cell: str) -> None:
    """Long sequences go through the folded table, short ones through the embedding."""
    model = LanguageModel(7, 5, 9, 2, cell=cell)
    tokens = np.random.default_rng(1).integers(0, 7, (12, 3))
    logits, state = model(tokens)
    first, between = model(tokens[:1])
    second, last = model(tokens[1:], between)
    np.testing.assert_array_equal(np.concatenate([first, second]), logits)
    np.testing.assert_array_equal(np.asarray(last), np.asarray(state))
    y, _ = model.rnn(model.embedding(tokens))
    np.testing.assert_array_equal(model.head(y), logits)
    alone, _ = model(tokens[:, 1])
    np.testing.assert_array_equal(alone, logits[:, 1])
