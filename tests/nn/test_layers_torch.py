"""Parity with PyTorch: the same numbers, and the same inputs accepted and refused."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import reference

import fastrnn

torch = pytest.importorskip("torch")
nn, rnn_utils = torch.nn, torch.nn.utils.rnn

# PyTorch says that projections run on its slow path, and the like; that is not our concern.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

KINDS = {
    "RNN": {},
    "RNN relu": {"nonlinearity": "relu"},
    "LSTM": {},
    "LSTM projected": {"proj_size": 3},
    "GRU": {},
}


@pytest.fixture(autouse=True)
def torch_is_quiet():
    """The same numbers in every run, and no second team of threads beside ours."""
    torch.manual_seed(7)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def twins(kind, *args, **options):
    """A PyTorch module and ours with the same parameters."""
    name, options = kind.split()[0], KINDS.get(kind, {}) | options
    theirs = getattr(nn, name)(*args, **options).eval()
    ours = getattr(fastrnn, name)(*args, **options)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def flat(result):
    """All arrays of nested tuples and packed sequences, in order."""
    if hasattr(result, "batch_sizes"):
        return [result.data, result.batch_sizes]
    if isinstance(result, (tuple, list)):
        return [array for part in result for array in flat(part)]
    return [result]


def assert_close(ours, theirs, limit):
    ours, theirs = flat(ours), [t.detach().numpy() for t in flat(theirs)]
    assert [a.shape for a in ours] == [a.shape for a in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert np.abs(mine - other).max(initial=0) <= limit


def limit_of(layer, steps):
    """Both sides may be off, and in opposite directions; inputs are below 5."""
    return 2 * reference.layer_tolerance(layer, steps, 5.0)


@pytest.mark.parametrize("hidden", [5, 17, 64])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_layers_give_pytorch_s_results(kind, batch_first, bias, num_layers, bidirectional, hidden):
    theirs, ours = twins(
        kind, 7, hidden, num_layers, bias=bias, batch_first=batch_first, bidirectional=bidirectional
    )
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    assert ours.num_parameters == sum(p.numel() for p in theirs.parameters())
    x = torch.randn((3, 6, 7) if batch_first else (6, 3, 7))
    assert_close(ours(x), theirs(x), limit_of(ours, 6))
    state = tuple(torch.randn_like(part) for part in flat(theirs(x)[1]))
    state = state if ours.has_cell else state[0]
    assert_close(ours(x, state), theirs(x, state), limit_of(ours, 6))


@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences_give_pytorch_s_results(kind, bidirectional, enforce_sorted):
    theirs, ours = twins(kind, 4, 9, 2, bidirectional=bidirectional)
    lengths = [6, 4, 4, 1] if enforce_sorted else [4, 1, 6, 3]
    x = torch.randn(6, 4, 4)
    packed = rnn_utils.pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted)
    state = tuple(torch.randn_like(part) for part in flat(theirs(packed)[1]))
    state = state if ours.has_cell else state[0]
    wanted = theirs(packed, state)
    own = fastrnn.pack_padded_sequence(x, lengths, enforce_sorted=enforce_sorted)
    for given in (packed, own):
        got = ours(given, state)
        assert_close(got, wanted, limit_of(ours, 6))
        padded = fastrnn.pad_packed_sequence(got[0])
        assert_close(padded, rnn_utils.pad_packed_sequence(wanted[0]), limit_of(ours, 6))
    y, last = ours(x, state, lengths=lengths)
    assert_close(
        (y, last), (rnn_utils.pad_packed_sequence(wanted[0])[0], wanted[1]), limit_of(ours, 6)
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["RNNCell", "RNNCell relu", "LSTMCell", "GRUCell"])
def test_cells_give_pytorch_s_results(kind, bias):
    options = {"nonlinearity": "relu"} if "relu" in kind else {}
    theirs, ours = twins(kind, 5, 9, bias=bias, **options)
    assert [*ours.state_dict()] == [*theirs.state_dict()]
    limit = 2 * reference.tolerance(14, 1, 1, 5.0)
    for shape in ((4,), ()):
        x, h, c = torch.randn(*shape, 5), torch.randn(*shape, 9), torch.randn(*shape, 9)
        state = (h, c) if ours.has_cell else h
        assert_close(ours(x), theirs(x), limit)
        assert_close(ours(x, state), theirs(x, state), limit)


def test_linear_and_embedding_give_pytorch_s_results():
    for bias in (True, False):
        theirs, ours = twins("Linear", 7, 5, bias=bias)
        for shape in ((7,), (3, 7), (2, 0, 7), (2, 3, 7)):
            x = torch.randn(shape)
            assert_close(ours(x), theirs(x), 2 * reference.tolerance(7, 1, 1, 5.0))
        assert repr(ours) == repr(theirs)
    theirs, ours = twins("Embedding", 7, 5)
    for indices in (torch.tensor(3), torch.tensor([[1, 2], [6, 0]]), torch.zeros(0, 2).long()):
        assert_close(ours(indices), theirs(indices), 0)
    assert repr(ours) == repr(theirs)


def test_a_language_model_gives_pytorch_s_results():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Embedding(11, 6)
            self.rnn = nn.LSTM(6, 9, 2)
            self.decoder = nn.Linear(9, 11)

        def forward(self, tokens):
            y, state = self.rnn(self.encoder(tokens))
            return self.decoder(y), state

    theirs = Net()
    ours = fastrnn.models.LanguageModel.from_state_dict(theirs.state_dict())
    tokens = torch.randint(11, (5, 3))
    assert_close(ours(tokens), theirs(tokens), 4 * limit_of(ours.rnn, 5))


REPRS = [
    ("LSTM", (3, 4), {}),
    ("LSTM", (3, 4, 2), {"bidirectional": True, "proj_size": 2, "dropout": 0.5}),
    ("LSTM", (3, 4), {"bias": False, "batch_first": True}),
    ("GRU", (3, 4, 2, False, True, 0.25, True), {}),
    ("RNN", (3, 4, 3), {}),
    ("RNNCell", (3, 4, False, "relu"), {}),
    ("LSTMCell", (3, 4), {}),
    ("GRUCell", (3, 4, False), {}),
]


@pytest.mark.parametrize(("kind", "args", "options"), REPRS)
def test_repr_is_pytorch_s(kind, args, options):
    assert repr(getattr(fastrnn, kind)(*args, **options)) == repr(
        getattr(nn, kind)(*args, **options)
    )


def outcome(function):
    """What a call gives: its arrays, or None if it refuses. A crash of another kind is an error."""
    try:
        return flat(function())
    except (ValueError, TypeError, RuntimeError, IndexError, AttributeError):
        return None


def assert_same_outcome(theirs, ours):
    wanted = outcome(theirs)
    if wanted is None:
        with pytest.raises((ValueError, TypeError)):
            ours()
    else:
        assert_close(ours(), wanted, 1e-5)


OPTIONS = [
    {"num_layers": 0},
    {"num_layers": -1},
    {"num_layers": 2.0},
    {"num_layers": "2"},
    {"num_layers": 2},
    {"bias": 1},
    {"bias": None},
    {"batch_first": 1},
    {"dropout": True},
    {"dropout": 1.5},
    {"dropout": -0.1},
    {"dropout": "0"},
    {"dropout": None},
    {"dropout": 1, "num_layers": 2},
    {"dropout": 0.5},
    {"proj_size": 4},
    {"proj_size": -1},
    {"proj_size": 3},
    {"proj_size": 2.0},
    {"nonlinearity": "gelu"},
    {"input_size": 0},
    {"input_size": "3"},
    {"hidden_size": 0},
    {"hidden_size": -4},
    {"hidden_size": 4.0},
    {"no_such_option": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_options_are_accepted_and_refused_as_by_pytorch(kind, options):
    arguments = {"input_size": 3, "hidden_size": 4} | options

    def build(package):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            module = getattr(package, kind)(**arguments)
        return repr(module), [(w.category, w.filename) for w in seen]

    try:
        wanted = build(nn)
    except (ValueError, TypeError, RuntimeError):
        with pytest.raises((ValueError, TypeError)):
            build(fastrnn)
        return
    assert build(fastrnn)[0] == wanted[0]
    assert [category for category, _ in build(fastrnn)[1]] == [c for c, _ in wanted[1]]


def zeros(*shape):
    return torch.zeros(shape)


INPUTS = {
    "batch": zeros(5, 2, 3),
    "one row": zeros(5, 3),
    "one step": zeros(1, 2, 3),
    "1-D": zeros(3),
    "0-D": zeros(),
    "4-D": zeros(1, 5, 2, 3),
    "features": zeros(5, 2, 4),
    "no features": zeros(5, 2, 0),
    "no steps": zeros(0, 2, 3),
    "no steps of one row": zeros(0, 3),
    "no rows": zeros(5, 0, 3),
    "nothing": zeros(0, 0, 3),
    "bool": zeros(5, 2, 3).bool(),
    "complex": torch.zeros(5, 2, 3, dtype=torch.complex64),
    "transposed": zeros(3, 2, 5).transpose(0, 2),
    "expanded": zeros(1, 1, 3).expand(5, 2, 3),
    "needs gradient": zeros(5, 2, 3).requires_grad_(),
    "packed": rnn_utils.pack_padded_sequence(zeros(5, 2, 3), [5, 2]),
    "packed and sorted": rnn_utils.pack_padded_sequence(
        zeros(5, 2, 3), [2, 5], enforce_sorted=False
    ),
    "packed features": rnn_utils.pack_padded_sequence(zeros(5, 2, 4), [5, 2]),
    "packed 3-D": rnn_utils.pack_padded_sequence(zeros(5, 2, 1, 3), [5, 2]),
    "packed, too short": rnn_utils.PackedSequence(zeros(6, 3), torch.tensor([2, 2, 1, 1, 1])),
    "None": None,
    "text": "text",
}
STATES = {
    "none": None,
    "good": zeros(2, 2, 4),
    "of one row": zeros(2, 4),
    "of no rows": zeros(2, 0, 4),
    "rows": zeros(2, 3, 4),
    "one for all rows": zeros(2, 1, 4),
    "layers": zeros(1, 2, 4),
    "units": zeros(2, 2, 5),
    "4-D": zeros(1, 2, 2, 4),
}


@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", ["RNN", "GRU"])
def test_inputs_are_accepted_and_refused_as_by_pytorch(kind, batch_first, given):
    theirs, ours = twins(kind, 3, 4, 2, batch_first=batch_first)
    x = INPUTS[given]
    for name, h in STATES.items():
        if given == "packed and sorted" and name == "rows":  # PyTorch drops the rows too many
            with pytest.raises(ValueError, match="h_0 has shape"):
                ours(x, h)
        else:
            assert_same_outcome(lambda h=h: theirs(x, h), lambda h=h: ours(x, h))


@pytest.mark.parametrize("given", INPUTS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_an_lstm_s_inputs_are_accepted_and_refused_as_by_pytorch(batch_first, given):
    theirs, ours = twins("LSTM", 3, 4, 2, batch_first=batch_first)
    x = INPUTS[given]
    assert_same_outcome(lambda: theirs(x), lambda: ours(x))
    wanted = outcome(lambda: theirs(x))
    good = zeros(2, 2, 4) if wanted is None else wanted[-1]
    for name, h in STATES.items():
        if given.startswith("packed") and name not in ("none", "good"):
            with pytest.raises(ValueError, match=r"h_0 has shape|x|data"):
                ours(x, (h, h))  # PyTorch does not check a state here, and crashes
        elif h is not None:
            for pair in ((h, h), (h, good), (good, h), [h, h]):
                assert_same_outcome(
                    lambda pair=pair: theirs(x, pair), lambda pair=pair: ours(x, pair)
                )


@pytest.mark.parametrize("given", ["batch", "one row", "packed", "packed and sorted"])
def test_an_lstm_refuses_states_that_are_no_pair(given):
    """PyTorch does so with most, and takes a stacked tensor or a triple with some inputs."""
    layer, h = fastrnn.LSTM(3, 4, 2), STATES["good"]
    for bad in (h, torch.stack([h, h]), (h,), (h, h, h), (h, None)):
        with pytest.raises(TypeError, match="state is a"):
            layer(INPUTS[given], bad)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_tensors_of_other_types_are_converted(kind, dtype):
    theirs, ours = twins(kind, 3, 4)
    x = (4 * torch.randn(5, 2, 3)).to(dtype)
    assert_close(ours(x), theirs(x.float()), 1e-5)
    if dtype.is_floating_point:
        assert_close(ours(x.clone().requires_grad_()), theirs(x.float()), 1e-5)
        ours.load_state_dict({k: v.to(dtype) for k, v in theirs.named_parameters()})
        theirs = theirs.to(dtype).float()
        assert_close(ours(x), theirs(x.float()), 1e-5)


def test_tensors_that_hold_no_numbers_on_this_machine_are_refused():
    layer = fastrnn.GRU(3, 4)
    for x in (torch.zeros(5, 2, 3, device="meta"), torch.zeros(5, 2, 3).to_sparse()):
        with pytest.raises(TypeError, match="x is a Tensor that cannot become an array"):
            layer(x)


CELL_INPUTS = [(2, 3), (3,), (0, 3), (1, 3), (2, 5), (5,), (2, 2, 3), ()]
CELL_STATES = [None, (2, 4), (4,), (0, 4), (1, 4), (2, 5), (3, 4), (2, 2, 4), ()]


@pytest.mark.parametrize("shape", CELL_INPUTS, ids=str)
@pytest.mark.parametrize("state_shape", CELL_STATES, ids=str)
@pytest.mark.parametrize("kind", ["RNNCell", "LSTMCell", "GRUCell"])
def test_cells_accept_and_refuse_as_pytorch(kind, state_shape, shape):
    theirs, ours = twins(kind, 3, 4)
    x, state = zeros(*shape), None if state_shape is None else zeros(*state_shape)
    if kind == "LSTMCell" and state is not None:
        state = (state, state)
    assert_same_outcome(lambda: theirs(x, state), lambda: ours(x, state))


LENGTHS = [[5, 2], [2, 5], [5, 5], [3, 2], [5, 0], [5, -1], [5], [5, 2, 1], [[5, 2]], 5, []]
PADDED = {
    "2-D": torch.arange(10.0).reshape(5, 2),
    "3-D": torch.arange(30.0).reshape(5, 2, 3),
    "4-D": torch.arange(60.0).reshape(5, 2, 3, 2),
    "ints": torch.arange(10).reshape(5, 2),
    "1-D": zeros(5),
    "no rows": zeros(5, 0, 3),
}


@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("padded", PADDED)
def test_packing_is_pytorch_s(padded, lengths):
    for batch_first in (False, True):
        x = PADDED[padded]
        x = x.transpose(0, 1) if batch_first and x.ndim > 1 else x

        def pack(package, enforce_sorted, x=x, batch_first=batch_first):
            packed = package.pack_padded_sequence(x, lengths, batch_first, enforce_sorted)
            order = [i for i in packed[2:] if i is not None]
            again = package.pad_packed_sequence(packed, batch_first, 7.0, 9)
            return (packed, *order, *again, *package.pad_packed_sequence(packed))

        assert_same_outcome(lambda: pack(rnn_utils, True), lambda: pack(fastrnn, True))
        if lengths == [5]:  # PyTorch silently drops the rows without a length
            with pytest.raises(ValueError, match=r"lengths has shape|dimensions|input"):
                pack(fastrnn, False)
        else:
            assert_same_outcome(lambda: pack(rnn_utils, False), lambda: pack(fastrnn, False))


SEQUENCES = {
    "falling": [zeros(4, 2), zeros(2, 2)],
    "rising": [torch.ones(2, 2), zeros(4, 2)],
    "1-D": [torch.arange(3), torch.arange(2)],
    "one": [torch.ones(3, 2)],
    "a tensor": torch.ones(3, 4, 2),
    "an empty row": [torch.ones(3, 2), zeros(0, 2)],
    "none": [],
    "features": [zeros(2, 2), zeros(1, 3)],
    "0-D": [torch.tensor(1.0)],
    "a number": 3,
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_padding_lists_of_sequences_is_pytorch_s(name):
    rows = SEQUENCES[name]
    for options in ((), (True,), (False, 2.0), (True, 2.0, "left"), (True, 0.0, "up")):
        assert_same_outcome(
            lambda options=options: rnn_utils.pad_sequence(rows, *options),
            lambda options=options: fastrnn.pad_sequence(rows, *options),
        )
    for enforce_sorted in (True, False):
        assert_same_outcome(
            lambda flag=enforce_sorted: rnn_utils.pack_sequence(rows, flag),
            lambda flag=enforce_sorted: fastrnn.pack_sequence(rows, flag),
        )


def test_a_state_dict_goes_back_into_pytorch():
    for kind in KINDS:
        theirs, ours = twins(kind, 3, 5, 2, bidirectional=True)
        ours.reset_parameters(seed=3)
        theirs.load_state_dict({k: torch.from_numpy(v) for k, v in ours.state_dict().items()})
        x = torch.randn(4, 2, 3)
        assert_close(ours(x), theirs(x), limit_of(ours, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_from_state_dict_reads_pytorch_s_parameters(kind):
    theirs, ours = twins(kind, 3, 5, 2, bidirectional=True)
    options = {"nonlinearity": "relu"} if "relu" in kind else {}
    prefixed = {f"net.{name}": tensor for name, tensor in theirs.state_dict().items()}
    found = type(ours).from_state_dict(prefixed, prefix="net.", **options)
    assert repr(found) == repr(ours)
    x = torch.randn(4, 2, 3)
    assert np.array_equal(found(x)[0], ours(x)[0])
