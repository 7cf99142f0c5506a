"""Bad arguments: each is a clear error that names the argument; odd but good ones are taken."""

from __future__ import annotations

import copy
import inspect
import pickle

import numpy as np
import pytest
from families import normal

import fastrnn

LAYERS = [fastrnn.RNN, fastrnn.LSTM, fastrnn.GRU]
CELLS = [fastrnn.RNNCell, fastrnn.LSTMCell, fastrnn.GRUCell]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"input_size": 0}, ValueError, "input_size must be greater than zero, got: 0"),
        ({"input_size": "3"}, TypeError, "input_size should be of type int, got: str"),
        ({"hidden_size": -1}, ValueError, "hidden_size must be greater than zero"),
        ({"hidden_size": 4.0}, TypeError, "hidden_size should be of type int, got: float"),
        ({"hidden_size": True}, TypeError, "hidden_size should be of type int, got: bool"),
        ({"num_layers": 0}, ValueError, "num_layers must be greater than zero"),
        ({"num_layers": 2.0}, TypeError, "num_layers should be of type int"),
        ({"bias": 1}, TypeError, "bias should be of type bool, got: int"),
        ({"batch_first": None}, TypeError, "batch_first should be of type bool"),
        ({"bidirectional": "yes"}, TypeError, "bidirectional should be of type bool"),
        ({"dropout": 1.5}, ValueError, r"dropout is 1.5, expected a number in the range \[0, 1\]"),
        ({"dropout": True}, ValueError, "dropout is True"),
        ({"dropout": "0"}, ValueError, "dropout is '0'"),
        ({"dropout": None}, ValueError, "dropout is None"),
        ({"dropout": float("nan")}, ValueError, "dropout is nan"),
        ({"merge": "mean"}, ValueError, "merge is 'mean', expected one of 'concat', 'sum'"),
        ({"hidden_size": 2**40}, ValueError, "hidden_size must be at most 1048576, got 109951"),
        ({"input_size": 2**31 - 1}, ValueError, "input_size must be at most 1048576, got 21474"),
        ({"num_layers": 1025}, ValueError, "num_layers must be at most 1024, got 1025"),
        ({"dropout": 10**400}, ValueError, "dropout is 1000"),
    ],
)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_refuses_bad_options(kind, options, error, message):
    with pytest.raises(error, match=message):
        kind(**{"input_size": 3, "hidden_size": 4} | options)


@pytest.mark.parametrize(
    ("make_it", "error", "message"),
    [
        (lambda: fastrnn.RNN(3, 4, nonlinearity="gelu"), ValueError, "nonlinearity is 'gelu'"),
        (lambda: fastrnn.RNN(3, 4, 1, False), ValueError, "nonlinearity is False"),
        (lambda: fastrnn.RNNCell(3, 4, nonlinearity="gelu"), ValueError, "nonlinearity is 'gelu'"),
        (lambda: fastrnn.RNN(3, 4, proj_size=2), TypeError, "proj_size"),
        (lambda: fastrnn.GRU(3, 4, reset="never"), ValueError, "reset is 'never'"),
        (lambda: fastrnn.GRUCell(3, 4, reset=True), ValueError, "reset is True"),
        (lambda: fastrnn.LSTM(3, 4, peephole=1), TypeError, "peephole should be of type bool"),
        (
            lambda: fastrnn.LSTM(3, 4, proj_size=4),
            ValueError,
            r"proj_size is 4, expected 0 .* to 3",
        ),
        (lambda: fastrnn.LSTM(3, 4, proj_size=-1), ValueError, "proj_size is -1"),
        (lambda: fastrnn.LSTM(3, 4, proj_size=2.0), TypeError, "proj_size should be of type int"),
        (lambda: fastrnn.LSTM(3, 4, proj_size=True), TypeError, "proj_size should be of type int"),
        (lambda: fastrnn.LSTMCell(3, 4, 1), TypeError, "bias should be of type bool"),
        (lambda: fastrnn.Linear(0, 4), ValueError, "in_features must be greater than zero"),
        (lambda: fastrnn.Linear(3, 4.0), TypeError, "out_features should be of type int"),
        (lambda: fastrnn.Linear(3, 4, None), TypeError, "bias should be of type bool"),
        (
            lambda: fastrnn.Linear(2**20 + 1, 4),
            ValueError,
            "in_features must be at most 1048576, got 1048577",
        ),
        (lambda: fastrnn.Linear(4, 2**40), ValueError, "out_features must be at most 1048576"),
        (lambda: fastrnn.Embedding(4, 2**40), ValueError, "dim must be at most 1048576"),
        (lambda: fastrnn.Embedding(2**31, 4), ValueError, "num must be at most 2147483647"),
        (lambda: fastrnn.GRUCell(3, 2**40), ValueError, "hidden_size must be at most 1048576"),
        (lambda: fastrnn.LSTM(3, np.array([4])), TypeError, "hidden_size should be of type int"),
        (lambda: fastrnn.LSTM(np.True_, 4), TypeError, "input_size should be of type int"),
        (lambda: fastrnn.Embedding(-1, 4), ValueError, "num must be greater than zero"),
        (lambda: fastrnn.Embedding(3, None), TypeError, "dim should be of type int"),
        (lambda: fastrnn.set_num_threads(0), ValueError, "n must be greater than zero"),
        (lambda: fastrnn.set_num_threads("2"), TypeError, "n should be of type int"),
    ],
)
def test_other_bad_options_are_refused(make_it, error, message):
    with pytest.raises(error, match=message):
        make_it()


@pytest.mark.parametrize("kind", LAYERS)
def test_dropout_with_a_single_layer_warns_the_caller(kind):
    with pytest.warns(
        UserWarning, match=r"dropout=0.5 acts after every layer but the last"
    ) as seen:
        kind(3, 4, dropout=0.5)
    assert seen[0].filename == __file__
    assert kind(3, 4, 2, dropout=1).dropout == 1.0


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((5, 2, 4)), ValueError, "x has 4 features, this .* expects 3"),
        (np.zeros((5, 4)), ValueError, "x has 4 features"),
        (np.zeros((5, 2, 0)), ValueError, "x has 0 features"),
        (np.zeros(3), ValueError, "x has 1 dimensions, this .* expects 2 or 3"),
        (np.zeros((1, 5, 2, 3)), ValueError, "x has 4 dimensions"),
        (np.float32(1), ValueError, "x has 0 dimensions"),
        (np.zeros((0, 2, 3)), ValueError, "x has 0 steps, this .* expects at least 1"),
        (np.zeros((0, 3)), ValueError, "x has 0 steps"),
        (np.zeros((0, 0, 3)), ValueError, "x has 0 steps"),
        (np.zeros((5, 2, 3), bool), TypeError, "x has dtype bool, expected real numbers"),
        (np.zeros((5, 2, 3), complex), TypeError, "x has dtype complex128"),
        (np.zeros((5, 2, 3), "V4"), TypeError, r"x has dtype \|V4"),
        (np.zeros((5, 2, 3), object), TypeError, "x has dtype object"),
        (np.zeros((5, 2, 3), "M8[s]"), TypeError, "x has dtype datetime64"),
        ("text", TypeError, "x has dtype <U4"),
        (None, TypeError, "x has dtype object"),
        ([[1.0, 2.0, 3.0], [1.0]], TypeError, "x is a list that cannot become an array"),
    ],
)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_refuses_bad_input(kind, x, error, message):
    with pytest.raises(error, match=message):
        kind(3, 4)(x)


@pytest.mark.parametrize(
    ("h", "error", "message"),
    [
        (np.zeros((1, 3, 4)), ValueError, r"h_0 has shape \(1, 3, 4\), this .* \(1, 2, 4\)"),
        (np.zeros((2, 2, 4)), ValueError, r"h_0 has shape \(2, 2, 4\)"),
        (np.zeros((1, 2, 5)), ValueError, r"h_0 has shape \(1, 2, 5\)"),
        (np.zeros((1, 4)), ValueError, r"h_0 has shape \(1, 4\)"),
        (np.zeros((1, 1, 4)), ValueError, r"h_0 has shape \(1, 1, 4\)"),
        (np.zeros((1, 2, 4), complex), TypeError, "h_0 has dtype complex128"),
        ("zero", TypeError, "h_0 has dtype <U4"),
    ],
)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_refuses_a_bad_state(kind, h, error, message):
    good = np.zeros((1, 2, 4))
    x = np.zeros((5, 2, 3))
    with pytest.raises(error, match=message):
        kind(3, 4)(x, (h, good) if kind is fastrnn.LSTM else h)
    if kind is fastrnn.LSTM:
        with pytest.raises(error, match=message.replace("h_0", "c_0")):
            kind(3, 4)(x, (good, h))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_state_has_as_many_dimensions_as_the_input(kind):
    def state(*shape):
        return (np.zeros(shape),) * 2 if kind is fastrnn.LSTM else np.zeros(shape)

    with pytest.raises(ValueError, match="h_0 has 3 dimensions, an x of 2 dimensions expects 2"):
        kind(3, 4)(np.zeros((5, 3)), state(1, 1, 4))
    with pytest.raises(ValueError, match=r"h_0 has shape \(1, 4\)"):
        kind(3, 4)(np.zeros((5, 1, 3)), state(1, 4))


def test_an_lstm_wants_a_pair_and_the_others_one_array():
    x, h = np.zeros((5, 2, 3)), np.zeros((1, 2, 4))
    for bad in (h, np.zeros((2, 1, 2, 4)), (h,), (h, h, h), (h, None), "no"):
        with pytest.raises(TypeError, match=r"state is an? \w+, an LSTM expects a pair"):
            fastrnn.LSTM(3, 4)(x, bad)
    for bad in ((h,), (h, h), [h]):
        with pytest.raises(TypeError, match=r"h_0 is a \w+, expected one array"):
            fastrnn.GRU(3, 4)(x, bad)
    assert fastrnn.LSTM(3, 4)(x, [h, h])[0].shape == (5, 2, 4)


@pytest.mark.parametrize(
    ("lengths", "error", "message"),
    [
        ([5, 6], ValueError, "lengths holds 6, expected values from 0 to 5 steps"),
        ([5, -1], ValueError, "lengths holds -1"),
        ([5], ValueError, r"lengths has shape \(1,\), this batch expects \(2,\)"),
        ([[5, 5]], ValueError, r"lengths has shape \(1, 2\)"),
        (5, ValueError, r"lengths has shape \(\)"),
        ([5.0, 2.0], TypeError, "lengths has dtype float64, expected integers"),
        ([True, False], TypeError, "lengths has dtype bool"),
        (["a", "b"], TypeError, "lengths has dtype <U1"),
        (np.array([2**64 - 1, 1], np.uint64), ValueError, "lengths holds 18446744073709551615"),
    ],
)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_refuses_bad_lengths(kind, lengths, error, message):
    with pytest.raises(error, match=message):
        kind(3, 4)(np.zeros((5, 2, 3)), lengths=lengths)


def test_lengths_need_a_padded_batch():
    layer = fastrnn.GRU(3, 4)
    with pytest.raises(ValueError, match="lengths needs a batch"):
        layer(np.zeros((5, 3)), lengths=[5])
    with pytest.raises(ValueError, match="lengths and a packed x exclude each other"):
        layer(fastrnn.pack_sequence([np.zeros((5, 3))]), lengths=[5])


@pytest.mark.parametrize("dtype", [np.int8, np.uint32, np.int64])
def test_lengths_may_have_any_integer_type(dtype, rng):
    layer, x = fastrnn.GRU(3, 4), normal(rng, 5, 2, 3)
    wanted = layer(x, lengths=[2, 5])[0]
    assert np.array_equal(layer(x, lengths=np.array([2, 5], dtype))[0], wanted)
    assert np.array_equal(layer(x, lengths=np.array([2, 9, 5], dtype)[::2])[0], wanted)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 4)), "x has 4 features, this .*Cell expects 3"),
        (np.zeros((1, 2, 3)), "x has 3 dimensions, this .*Cell expects 1 or 2"),
        (np.float32(1), "x has 0 dimensions"),
    ],
)
@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_refuses_bad_input(kind, x, message):
    with pytest.raises(ValueError, match=message):
        kind(3, 4)(x)


@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_refuses_a_bad_state(kind):
    for x_shape, shape in (((2, 3), (3, 4)), ((2, 3), (4,)), ((3,), (1, 4)), ((1, 3), (4,))):
        h = np.zeros(shape)
        with pytest.raises(ValueError, match="h has shape"):
            kind(3, 4)(np.zeros(x_shape), (h, h) if kind is fastrnn.LSTMCell else h)
    h = np.zeros((2, 4))
    with pytest.raises(TypeError, match="pair" if kind is fastrnn.LSTMCell else "one array"):
        kind(3, 4)(np.zeros((2, 3)), h if kind is fastrnn.LSTMCell else (h, h))


def test_linear_and_embedding_refuse_bad_input():
    with pytest.raises(ValueError, match="x has 4 features, this Linear expects 3"):
        fastrnn.Linear(3, 5)(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="x has 0 dimensions"):
        fastrnn.Linear(3, 5)(1.0)
    embedding = fastrnn.Embedding(3, 5)
    for bad, shown in ((3, 3), ([0, -1], -1), ([9, -2], -2), (np.int8(-1), -1)):
        with pytest.raises(
            ValueError, match=f"indices holds {shown}, expected indices from 0 to 2"
        ):
            embedding(bad)
    for bad in (1.0, [True], "a", [1.5]):
        with pytest.raises(TypeError, match="indices has dtype"):
            embedding(bad)


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint16])
def test_sizes_may_be_numpy_integers(kind):
    three, four, two = kind(3), kind(4), kind(2)
    for module in (
        fastrnn.LSTM(three, four, two, proj_size=two),
        fastrnn.GRUCell(three, four),
        fastrnn.Linear(three, four),
        fastrnn.Embedding(three, four),
    ):
        assert all(type(value) in (int, bool, float, str) for value in module.config.values())
        assert eval(repr(module), vars(fastrnn)).config == module.config
    assert fastrnn.GRU(3, 4).stream(two).step(np.zeros((2, 3))).shape == (2, 4)


CYCLE: list = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("seed", "error", "message"),
    [
        (-1, ValueError, "seed is -1, expected an int of 0 or more"),
        (1.0, TypeError, "seed is a float, expected an int or None"),
        (True, TypeError, "seed is a bool"),
        ("1", TypeError, "seed is a str"),
        (CYCLE, TypeError, "seed is a list"),
    ],
)
def test_a_seed_is_an_int_or_none(seed, error, message):
    for module in (
        fastrnn.RNN(3, 4),
        fastrnn.LSTMCell(3, 4),
        fastrnn.Linear(3, 4),
        fastrnn.Embedding(3, 4),
        fastrnn.models.LanguageModel(3, 4, 5),
    ):
        before = module.state_dict()
        with pytest.raises(error, match=message):
            module.reset_parameters(seed)
        assert all(np.array_equal(before[name], now) for name, now in module.state_dict().items())
        module.reset_parameters(np.uint8(7))
        module.reset_parameters(None)


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_the_state_may_be_given_under_pytorch_s_name(kind, rng):
    layer, is_pair = kind(3, 4), kind in (fastrnn.LSTM, fastrnn.LSTMCell)
    x, shape = normal(rng, 2, 3), (1, 4) if kind in LAYERS else (2, 4)
    state = (normal(rng, *shape),) * 2 if is_pair else normal(rng, *shape)
    for ours, theirs in zip(layer(x, state), layer(x, hx=state), strict=True):
        assert np.array_equal(np.asarray(ours), np.asarray(theirs))
    with pytest.raises(TypeError, match="and hx are two names of one argument"):
        layer(x, state, hx=state)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_help_of_a_layer_describes_every_argument(kind):
    words = ["h_0", "lengths", "(T, N, I)", "PackedSequence", "ValueError", "torch.nn."]
    for word in words + list(inspect.signature(kind).parameters):
        assert word in kind.__doc__, word
    public = {name for name in dir(kind) if not name.startswith("_")}
    assert not public & {"run_tokens", "shared_stack", "check_streams", "move_to", "versions"}


def test_a_stream_points_to_snapshots_instead_of_being_copied():
    stream = fastrnn.GRU(3, 4).stream()
    for function in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"a Stream cannot be copied .* snapshot\(\)"):
            function(stream)


def test_threads_are_set_for_a_while_and_put_back():
    before = fastrnn.get_num_threads()
    with fastrnn.num_threads(before + 1):
        assert fastrnn.get_num_threads() == before + 1
        with pytest.raises(RuntimeError), fastrnn.num_threads(1):
            raise RuntimeError
        assert fastrnn.get_num_threads() == before + 1
    assert fastrnn.get_num_threads() == before
    assert isinstance(fastrnn.show_config(), dict)


def test_the_package_names_what_it_exports():
    for name in fastrnn.__all__:
        assert getattr(fastrnn, name) is not None
    assert set(fastrnn.__all__) <= set(dir(fastrnn))
    with pytest.raises(AttributeError, match="module 'fastrnn' has no attribute 'nothing'"):
        _ = fastrnn.nothing
