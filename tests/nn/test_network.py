"""Whole networks: the bits of their modules by sequence, step, batch, split; states and files."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from families import normal
from networks import NETWORKS, branches, chain

import fastrnn
from fastrnn import (
    GRU,
    LSTM,
    RNN,
    Add,
    Concatenate,
    Conv1d,
    Dropout,
    Embedding,
    Flip,
    Graph,
    Linear,
    Magnitude,
    Multiply,
    Pooling,
    ReLU,
    Reshape,
    Residual,
    Select,
    Sequential,
    Sigmoid,
    Tanh,
)


def parts_of(state):
    return [part for v in state.values() for part in (v if isinstance(v, tuple) else (v,))]


def same_states(a, b):
    assert a.keys() == b.keys()
    return all(np.array_equal(x, y) for x, y in zip(parts_of(a), parts_of(b), strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_its_equations(name, rng):
    make, reference, shape = NETWORKS[name]
    net, x = make(), normal(rng, 5, 2, *shape)
    np.testing.assert_allclose(net(x)[0], reference(net, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [chain, branches, *(m for m, _, _ in NETWORKS.values())])
@pytest.mark.parametrize("rows", [1, 3])
def test_steps_splits_rows_and_sequences_have_the_same_bits(make, rows, rng):
    net = make()
    net.flat += 0.01  # learned states, scales and shifts are not what they start with
    net.repack()
    shape = next(iter(net._shapes.values()))
    length, channels = (1, shape) if isinstance(shape, int) else shape
    x = normal(rng, 9, rows, *((length, channels) if length > 1 else (channels,)))
    y, state = net(x)
    stream = net.stream(rows)
    assert np.array_equal(np.stack([stream.step(step) for step in x]), y)
    assert same_states(stream.state, state)
    first, between = net(x[:4])
    rest, last = net(x[4:], between)
    assert np.array_equal(np.concatenate((first, rest)), y)
    assert same_states(last, state)
    alone, _ = net(x[:, rows - 1])
    assert np.array_equal(alone, y[:, rows - 1])
    (trained, end), _ = net.vjp(x) if make is not chain else net.vjp(x * 0)
    if make is not chain:  # dropout acts
        assert np.array_equal(trained, y)
        assert same_states(end, state)


def test_a_network_is_its_modules_one_after_the_other(rng):
    net, x = chain(), normal(rng, 5, 3, 4)
    y = x
    for module in net.modules:
        if isinstance(module, fastrnn.nn.recurrent_base.Recurrent):
            y = module(y)[0]
        elif isinstance(module, Residual):
            y = y + module.module[1](module.module[0](y))
        else:
            y = module(y)
    assert np.array_equal(net(x)[0], y)


def test_rows_end_where_their_lengths_say(rng):
    net, x, lengths = branches(), normal(rng, 6, 4, 6), [6, 0, 3, 1]
    y, state = net(x, lengths=lengths)
    spoilt = x.copy()
    for n, length in enumerate(lengths):
        spoilt[length:, n] = np.nan
        assert not y[length:, n].any()
        if length:
            alone, last = net(x[:length, n])
            assert np.array_equal(y[:length, n], alone)
            assert np.array_equal(state["past"][n], last["past"])
            assert np.array_equal(state["rnn"][0][:, n], last["rnn"][0])
    assert np.array_equal(net(spoilt, lengths=lengths)[0], y)


def test_batch_first_layers_make_a_batch_first_network(rng):
    layers = [Conv1d(3, 4, 2, padding="causal"), LSTM(4, 5, batch_first=True), Pooling("mean")]
    net, x, lengths = Sequential(*layers), normal(rng, 2, 6, 3), [6, 4]
    plain = Sequential(Conv1d(3, 4, 2, padding="causal"), LSTM(4, 5), Pooling("mean"))
    plain.load_state_dict(net.state_dict())
    y, state = net(x, lengths=lengths)
    wanted, last = plain(x.swapaxes(0, 1), lengths=lengths)
    assert y.shape == (2, 5)
    assert np.array_equal(y, wanted)
    assert same_states(state, last)
    (again, _), pullback = net.vjp(x, lengths=lengths)
    assert np.array_equal(again, y)
    dx, _ = pullback(y)
    (_, _), other = plain.vjp(x.swapaxes(0, 1), lengths=lengths)
    assert np.array_equal(dx, other(y)[0].swapaxes(0, 1))
    with pytest.raises(ValueError, match="0 is batch_first and 1 is not"):
        Sequential(LSTM(3, 4, batch_first=True), LSTM(4, 5))


@pytest.mark.parametrize("kind", ["last", "mean", "max"])
def test_pooling_gives_one_value_for_a_sequence(kind, rng):
    net, x, lengths = (
        Sequential(Linear(3, 4), Pooling(kind), Linear(4, 2)),
        normal(rng, 5, 3, 3),
        [5, 2, 0],
    )
    y, _ = net(x, lengths=lengths)
    inner = net[0](x)
    take = {"last": lambda v: v[-1], "mean": lambda v: v.mean(0), "max": lambda v: v.max(0)}[kind]
    wanted = np.stack([take(inner[:n, i]) if n else 0 * inner[0, i] for i, n in enumerate(lengths)])
    np.testing.assert_allclose(y, net[2](wanted.astype(np.float32)), rtol=1e-5, atol=1e-6)
    (trained, _), pullback = net.vjp(x, lengths=lengths)
    assert np.array_equal(trained, y)
    assert pullback(y)[0].shape == x.shape
    with pytest.raises(ValueError, match="cannot stream: pooling and flipping need"):
        net.stream()


@pytest.mark.parametrize("at", [0, 2, 4])
def test_the_maximum_of_a_row_with_nan_is_nan(at, rng):
    net, x = Sequential(Linear(3, 4), Pooling("max")), normal(rng, 5, 2, 3)
    x[at, 0, 1] = np.nan
    y, _ = net(x)
    assert np.isnan(y[0]).all()
    assert not np.isnan(y[1]).any()


def test_a_backward_direction_can_be_made_of_flips(rng):
    net = Sequential(Flip(), LSTM(3, 4), Flip(), input_shape=3)
    both, x = LSTM(3, 4, bidirectional=True), normal(rng, 6, 2, 3)
    names = {f"1.{key}": f"{key}_reverse" for key in net[1].parameters}
    net.load_state_dict({new: both.parameters[old] for new, old in names.items()})
    lengths = [6, 3]
    assert np.array_equal(net(x, lengths=lengths)[0], both(x, lengths=lengths)[0][..., 4:])


def test_tokens_come_in_through_an_embedding(rng):
    net = Sequential(Embedding(11, 4), GRU(4, 5), Linear(5, 11))
    tokens = rng.integers(0, 11, (6, 2))
    y, _ = net(tokens)
    stream = net.stream(2)
    assert np.array_equal(np.stack([stream.step(step) for step in tokens]), y)
    (trained, _), pullback = net.vjp(tokens)
    assert np.array_equal(trained, y)
    assert pullback(y)[0] is None
    assert net.grads["0.weight"].any()
    with pytest.raises(ValueError, match="holds token 11"):
        net(tokens + 11 - tokens[0, 0])
    assert [g.tokens for g in fastrnn.generate(Tokens(net), [1, 2], max_new_tokens=3)]


class Tokens:
    """A network as what generate takes."""

    vocab_size = 11

    def __init__(self, net):
        self.stream = net.stream


def test_several_inputs_and_outputs(rng):
    net = Graph(
        {"a": 3, "b": (2, 4)},
        {"flat": Reshape(1, 8), "all": Concatenate(), "rnn": GRU(11, 5), "y": Linear(5, 2)},
        wires={"flat": "b", "all": ("a", "flat"), "y": "rnn"},
        outputs=["y", "rnn"],
    )
    a, b = normal(rng, 6, 3, 3), normal(rng, 6, 3, 2, 4)
    y, h = net((a, b))[0]
    wanted = net.modules["rnn"](np.concatenate((a, b.reshape(6, 3, 8)), axis=-1))[0]
    assert np.array_equal(h, wanted)
    assert np.array_equal(y, net.modules["y"](h))
    assert np.array_equal(net({"b": b, "a": a})[0][0], y)
    stream = net.stream(3)
    steps = [stream.step((a[t], b[t])) for t in range(6)]
    assert np.array_equal(np.stack([step[0] for step in steps]), y)
    assert np.array_equal(np.stack([step[1] for step in steps]), h)
    ((again, _), _), pullback = net.vjp((a, b))
    assert np.array_equal(again, y)
    (da, db), _ = pullback((y, h))
    assert (da.shape, db.shape) == (a.shape, b.shape)
    with pytest.raises(ValueError, match="x holds 1 inputs"):
        net([a])
    with pytest.raises(ValueError, match="x holds 1 inputs"):
        stream.step((a[0],))


def test_names_are_those_of_torch_s_sequential():
    net = Sequential(Linear(4, 3), Residual(LSTM(3, 3)))
    assert list(net.state_dict())[:3] == ["0.weight", "0.bias", "1.module.weight_ih_l0"]
    assert repr(Sequential(Linear(4, 3), ReLU())) == (
        "Sequential(\n  (0): Linear(in_features=4, out_features=3, bias=True)\n  (1): ReLU()\n)"
    )


@pytest.mark.parametrize("make", [chain, branches, *(m for m, _, _ in NETWORKS.values())])
def test_copies_pickles_and_files_are_the_same_network(make, tmp_path):
    net = make()
    net.save(tmp_path / "net.safetensors")
    twins = [copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))]
    for twin in [*twins, fastrnn.load(tmp_path / "net.safetensors")]:
        assert type(twin) is type(net)
        assert repr(twin) == repr(net)
        assert twin.fingerprint() == net.fingerprint()
        twin.flat += 1
        assert twin.fingerprint() == net.fingerprint() or not np.array_equal(twin.flat, net.flat)


def test_a_network_follows_its_parameters_and_streams_keep_theirs(rng):
    net, x = chain(), normal(rng, 4)
    stream, before = net.stream(), net.stream().step(x)
    net[5].parameters["weight"][:] = 3
    net[5].repack()
    assert not np.array_equal(net.stream().step(x), before)
    assert np.array_equal(stream.step(x), before)


def test_snapshots_go_on_and_refuse_another_network(rng):
    net, x = branches(), normal(rng, 6, 2, 6)
    stream = net.stream(2)
    for step in x[:3]:
        stream.step(step)
    saved = stream.snapshot()
    wanted = [stream.step(step) for step in x[3:]]
    other = net.stream(2)
    other.restore(saved)
    assert np.array_equal([other.step(step) for step in x[3:]], wanted)
    with pytest.raises(ValueError, match="another model"):
        branches().stream(2).restore(saved)
    with pytest.raises(ValueError, match="snapshot has 2 rows"):
        net.stream().restore(saved)
    with pytest.raises(ValueError, match="damaged"):
        other.restore(saved[:-20] + bytes(20))


def test_rows_of_a_stream_are_reordered_with_all_they_carry(rng):
    net, x = branches(), normal(rng, 6, 3, 6)
    stream = net.stream(3)
    for step in x[:3]:
        stream.step(step)
    stream.reorder([2, 0, 2])
    rows = [[*x[:3, n], *x[3:, i]] for i, n in enumerate((2, 0, 2))]
    y = [stream.step(step) for step in x[3:]]
    for i, row in enumerate(rows):
        assert np.array_equal(np.stack(y)[:, i], net(np.stack(row))[0][3:])
    stream.reset()
    assert np.array_equal(stream.step(x[0]), net(x[:1])[0][0])


def test_states_are_set_by_name(rng):
    net, x = branches(), normal(rng, 6, 2, 6)
    _, state = net(x)
    stream = net.stream(2)
    stream.state = state
    assert same_states(stream.state, state)
    stream.state = {"past": 0 * state["past"]}
    assert np.array_equal(stream.state["rnn"][0], state["rnn"][0])
    for wrong, error in (
        ({"nobody": 1}, ValueError), ({"rnn": state["past"]}, TypeError), (3, TypeError),
        ({"past": state["past"][:1]}, ValueError),
    ):  # fmt: skip
        with pytest.raises(error, match="state"):
            stream.state = wrong
        with pytest.raises(error, match="state"):
            net(x, wrong)


REFUSED = {
    "module 1 .LSTM. expects 64 features, module 0 gives 40": lambda: Sequential(
        Linear(3, 40), LSTM(64, 5)
    ),
    "node 'a' .Linear. expects 4 features, input 'x' gives 3": lambda: Graph(
        {"x": 3}, {"a": Linear(4, 5)}
    ),
    "module 1 .Conv1d. expects 3 channels, module 0 gives 4": lambda: Sequential(
        Linear(3, 4), Conv1d(3, 2, 1)
    ),
    "module 0 .Conv1d. gives another number of steps": lambda: Sequential(Conv1d(3, 2, 3)),
    "module 1 .Magnitude. expects an even number": lambda: Sequential(Linear(3, 5), Magnitude()),
    "expects two values of one shape": lambda: Graph(
        {"x": 3}, {"a": Linear(3, 4), "y": Add()}, wires={"y": ("a", "x")}
    ),
    "node 'y' .Multiply. reads 1 values, expected 2": lambda: Graph({"x": 3}, {"y": Multiply()}),
    "node 'y' reads 'z', expected an input or a module before it": lambda: Graph(
        {"x": 3}, {"y": Tanh()}, wires={"y": "z"}
    ),
    "'x' is an input and a module": lambda: Graph({"x": 3}, {"x": Tanh()}),
    "outputs has 'q'": lambda: Graph({"x": 3}, {"y": Tanh()}, outputs="q"),
    "a Sequential has at least one module": lambda: Sequential(),
    "are the same Tanh": lambda: Sequential(*[Tanh()] * 2, input_shape=3),
    "reads tokens, expected an Embedding": lambda: Graph({"x": "tokens"}, {"y": Tanh()}),
    "is one value for the whole sequence": lambda: Sequential(
        Linear(3, 3), Pooling("last"), LSTM(3, 4)
    ),
    "expects at least 9 features": lambda: Sequential(Linear(3, 4), Select(0, 9)),
    "expects 7 numbers": lambda: Sequential(Linear(3, 4), Reshape(7, 1)),
    "runs along time, the input gives frames": lambda: Sequential(
        Conv1d(2, 2, 1), input_shape=(3, 2)
    ),
    "has no shape": lambda: Sequential(Tanh())(np.zeros((2, 3))),
}


@pytest.mark.parametrize("message", REFUSED)
def test_modules_that_do_not_fit_each_other_are_refused(message):
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match="module 1 is an int, expected a module"):
        Sequential(Tanh(), 3)
    with pytest.raises(TypeError, match="is an Attention, which cannot be part of a network"):
        Sequential(fastrnn.Attention("additive", 3, 4), input_shape=3)

    class Louder(Linear):
        def __call__(self, x):
            return 2 * super().__call__(x)

    with pytest.raises(TypeError, match="cannot be part of a network"):
        Sequential(Louder(3, 4))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: Sequential(LSTM(3, 4, bidirectional=True)), "module 0 is a bidirectional LSTM"),
        (lambda: Sequential(Conv1d(3, 4, 3, padding="same")), "reads steps to come"),
        (lambda: Sequential(Linear(3, 4), Flip()), "need the whole sequence"),
    ],
)
def test_a_network_that_needs_the_whole_sequence_cannot_stream(make, what, rng):
    net = make()
    assert net(normal(rng, 4, 3))[0].shape[0] == 4
    with pytest.raises(ValueError, match=what):
        net.stream()


def test_x_is_checked(rng):
    net = branches()
    for x, message in (
        (normal(rng, 3, 2, 5), "x has 5 features, this Graph expects 6"),
        (normal(rng, 6), "x has 1 dimensions, this Graph expects 2 or 3"),
        (normal(rng, 0, 2, 6), "x has 0 steps"),
    ):
        with pytest.raises(ValueError, match=message):
            net(x)
    with pytest.raises(ValueError, match="lengths holds 4"):
        net(normal(rng, 3, 2, 6), lengths=[4, 1])


def test_dropout_acts_in_training_only(rng):
    net, x = Sequential(Linear(4, 50), Dropout(0.5), RNN(50, 3)), normal(rng, 3, 2, 4)
    net.seed(1)
    (one, _), _ = net.vjp(x)
    (two, _), _ = net.vjp(x)
    assert not np.array_equal(one, two)
    net.seed(1)
    assert np.array_equal(net.vjp(x)[0][0], one)
    assert np.array_equal(net(x)[0], net[2](net[0](x))[0])
    assert not np.array_equal(net(x)[0], one)


def test_a_network_learns(rng):
    net = Sequential(Linear(2, 8), Tanh(), GRU(8, 8), Linear(8, 1), Sigmoid())
    x = normal(rng, 6, 16, 2)
    target = (x.sum(-1, keepdims=True).cumsum(0) > 0).astype(np.float32)
    optimizer = fastrnn.optim.Adam(net, lr=0.02)
    losses = []
    for _ in range(60):
        (y, _), pullback = net.vjp(x)
        loss, dy = fastrnn.losses.mse(y, target)
        net.zero_grad()
        pullback(dy)
        fastrnn.optim.clip_grad_norm(net, 1.0)
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]
