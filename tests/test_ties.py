"""Parameters that are another module's: one tensor and one gradient, wherever the modules go."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_copies import WAYS

import fastrnn
from fastrnn import Embedding, LayerNorm, Linear, LSTMCell, models
from fastrnn.formats import CheckpointError, inspect_checkpoint
from fastrnn.nn.composite import Composite
from fastrnn.optim import SGD, Adam

RNG = np.random.default_rng(8)
TOKENS, TARGET = RNG.integers(0, 7, (5, 2)), RNG.integers(0, 7, (4, 2))


class Around(Composite):
    """A head that stands before the table whose weight it uses."""

    _modules = ("head", "table")

    def __init__(self, head, table):
        self.head, self.table = head, table
        self._assemble()


def tied_by_hand():
    model = models.LanguageModel(7, 4, 4)
    model.tie(model, "head.weight", "embedding.weight")
    return model


def tied_three_ways():
    model = models.Seq2Seq(7, 7, 4, attention="additive", tie_weights=True)
    model.tie(model, "decoder.embedding.weight", "encoder.embedding.weight")
    return model


def around():
    table, head = Embedding(7, 4), Linear(4, 7)
    head.tie(table)
    return Around(head, table)


# A module, the names of one tensor, and what it gives.
TIED = {
    "language model": (
        lambda: models.LanguageModel(7, 4, 4, tie_weights=True),
        ("embedding.weight", "head.weight"),
        lambda model: model(TOKENS)[0],
    ),
    "by hand": (
        tied_by_hand,
        ("embedding.weight", "head.weight"),
        lambda model: model(TOKENS)[0],
    ),
    "three ways": (
        tied_three_ways,
        ("encoder.embedding.weight", "decoder.embedding.weight", "decoder.head.weight"),
        lambda model: model(TOKENS, TARGET),
    ),
    "owner behind": (
        around,
        ("head.weight", "table.weight"),
        lambda model: model.head(model.table(TOKENS)),
    ),
}


@pytest.fixture(params=TIED)
def tied(request):
    make, names, call = TIED[request.param]
    return make(), names, call


def check(model, names):
    """One tensor, in the buffer once."""
    tensors = [model.parameters[name] for name in names]
    grads = [model.grads[name] for name in names]
    assert all(tensor is tensors[0] for tensor in tensors)
    assert all(grad is grads[0] for grad in grads)
    assert np.shares_memory(tensors[0], model.flat)
    assert np.shares_memory(grads[0], model.flat_grad)
    size = sum(p.size for p in model.parameters.values())
    assert model.num_parameters == size - (len(names) - 1) * tensors[0].size
    for part, key in (name.rsplit(".", 1) for name in names):
        module = model
        for step in part.split("."):
            module = getattr(module, step)
        assert module.parameters[key] is tensors[0]


def test_a_tied_tensor_is_one(tied):
    model, names, _ = tied
    check(model, names)
    assert model.state_dict().keys() == model.parameters.keys()


@pytest.mark.parametrize("way", WAYS)
def test_copies_are_tied_among_themselves(tied, way):
    model, names, call = tied
    model.flat_grad[...] = RNG.standard_normal(model.flat_grad.shape)
    twin = WAYS[way](model)
    check(twin, names)
    assert not np.shares_memory(twin.flat, model.flat)
    np.testing.assert_array_equal(call(twin), call(model))
    for name, grad in model.grads.items():
        np.testing.assert_array_equal(twin.grads[name], grad)


def test_one_name_is_enough_to_load_and_two_must_agree(tied):
    model, names, call = tied
    state = {name: RNG.standard_normal(p.shape) for name, p in model.parameters.items()}
    for name in names[1:]:
        del state[name]
    model.load_state_dict(state)
    first = call(model)
    state[names[-1]] = state.pop(names[0])
    model.load_state_dict({**state, **dict.fromkeys(names[1:-1], state[names[-1]])})
    np.testing.assert_array_equal(call(model), first)
    before = model.state_dict()
    state[names[0]] = state[names[-1]] + 1
    with pytest.raises(ValueError, match="differ, but this model ties them"):
        model.load_state_dict(state)
    for name, value in before.items():
        np.testing.assert_array_equal(model.parameters[name], value)


def test_a_write_through_any_name_is_seen_by_all(tied):
    model, names, call = tied
    for name in names:
        before = call(model)
        part = model
        for step in name.split(".")[:-1]:
            part = getattr(part, step)
        part.parameters["weight"][...] = RNG.standard_normal(part.parameters["weight"].shape)
        part.repack()
        now = call(model)
        assert not np.array_equal(now, before)
        fresh = WAYS["pickle"](model)
        np.testing.assert_array_equal(call(fresh), now)
        assert fresh.fingerprint() == model.fingerprint()


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_an_optimiser_takes_one_step_for_the_one_gradient(tied, kind):
    model, names, _ = tied
    model.parameters[names[0]][...] = 1.0
    model.grads[names[0]] += 0.5
    model.grads[names[-1]] += 0.25
    assert float(model.flat_grad.sum()) == 0.75 * model.parameters[names[0]].size
    kind(model, lr=0.5).step()
    expected = 1 - 0.5 * 0.75 if kind is SGD else 0.5
    np.testing.assert_allclose(model.parameters[names[-1]], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["language model", "by hand", "three ways"])
def test_a_file_holds_a_tied_tensor_once_and_the_tie(name, tmp_path):
    from safetensors import safe_open

    make, names, call = TIED[name]
    model = make()
    model.save(tmp_path / "model")
    with safe_open(tmp_path / "model", "numpy") as file:
        assert set(file.keys()) == set(model.parameters) - set(names[1:])
        assert {key: file.metadata()[key] for key in names[1:]} == dict.fromkeys(
            names[1:], names[0]
        )
    again = fastrnn.load(tmp_path / "model")
    check(again, names)
    np.testing.assert_array_equal(call(again), call(model))
    tensors = fastrnn.read_checkpoint(tmp_path / "model")
    assert set(tensors) == set(model.parameters)
    found = inspect_checkpoint(tmp_path / "model")
    assert found["parameters"] == model.num_parameters
    assert found["bytes"] == 4 * model.num_parameters


def test_what_moves_into_a_model_takes_its_ties_along():
    table, head, other = Embedding(5, 3), Linear(3, 5), Linear(3, 5, bias=False)
    head.tie(table)
    other.tie(head)  # the table's, through the head
    inner = Around(head, table)
    outer = Around(other, inner)
    check(outer, ("head.weight", "table.head.weight", "table.table.weight"))
    table.parameters["weight"][...] = 2.0
    table.repack()
    np.testing.assert_array_equal(other(np.ones(3)), 6.0)
    np.testing.assert_allclose(head(np.ones(3)), 6 + head.parameters["bias"], rtol=1e-6)


def test_any_parameter_of_modules_that_are_not_packed_whole_can_be_tied():
    one, other = LayerNorm(4), LayerNorm(4)
    other.tie(one, "bias")
    one.parameters["bias"][...] = 3.0
    one.repack()
    x = np.ones((2, 4))
    np.testing.assert_array_equal(other(x), 3.0)
    table, twin = Embedding(5, 4), Embedding(5, 4)
    twin.tie(table)
    np.testing.assert_array_equal(twin([1, 2]), table([1, 2]))
    for module in (table, twin):
        module.vjp([1])[1](np.ones((1, 4)))
    assert table.grads["weight"][1].tolist() == [2.0] * 4
    assert twin.num_parameters == 20
    assert twin.flat.size == 0
    cell = LSTMCell(3, 2)
    norm = LayerNorm(8)
    norm.tie(cell, "bias", "bias_ih")
    np.testing.assert_array_equal(norm.parameters["bias"], cell.parameters["bias_ih"])


def test_parameters_of_a_tied_pair_are_drawn_as_a_head_s():
    model = models.LanguageModel(50, 16, 16, tie_weights=True)
    assert np.abs(model.embedding.weight).max() <= 0.25
    model.reset_parameters(3)
    first = model.state_dict()
    model.reset_parameters(3)
    for name, value in first.items():
        np.testing.assert_array_equal(model.parameters[name], value)
    assert np.abs(model.embedding.weight).max() <= 0.25


def circle():
    one, other = Linear(3, 3), Linear(3, 3)
    one.tie(other)
    other.tie(one, "bias")


def inside():
    model = models.LanguageModel(5, 3, 3)
    model.head.tie(model.embedding)


def twice():
    head = Linear(3, 5)
    head.tie(Embedding(5, 3))
    head.tie(Embedding(5, 3))


REFUSED = {
    "another shape": (lambda: Linear(3, 5).tie(Embedding(4, 3)), r"shape \(4, 3\).*expects \(5, 3"),
    "no such name": (lambda: Linear(3, 5).tie(Embedding(5, 3), "table"), "name is 'table'"),
    "no such owner": (lambda: Linear(3, 5).tie(LayerNorm(3), of="scale"), "of is 'scale'"),
    "no owner": (lambda: Linear(3, 5).tie(np.ones((5, 3))), "owner is an ndarray"),
    "twice": (twice, "name is 'weight', which is no parameter of this Linear's own"),
    "a circle": (circle, "would own a parameter that is its own"),
    "packed": (lambda: fastrnn.GRU(3, 4).tie(fastrnn.GRU(3, 4), "bias_ih_l0"), "packed together"),
    "a part": (inside, r"part of a LanguageModel already, expected a tie by the whole"),
    "no name of the whole": (
        lambda: tied_by_hand().tie(tied_by_hand(), "head.scale", "head.bias"), "name is 'head.scale"
    ),
    "no other name of the whole": (
        lambda: (m := tied_by_hand()).tie(m, "head.bias", "rnn.bias"), "of is 'rnn.bias'"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_tied_is_refused(name):
    tie, message = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=message):
        tie()


@pytest.mark.parametrize(
    "ties",
    [3, [], {"head.weight": 3}, {"head.bias": "embedding.weight"}, {"x": "y"},
     {"embedding.weight": "head.weight", "head.weight": "embedding.weight"},
     {"rnn.weight_ih_l0": "rnn.weight_hh_l0"}, {"head.weight": None}],
)  # fmt: skip
def test_a_tie_from_a_file_is_checked(ties, tmp_path):
    from safetensors.numpy import load_file, save_file

    path, model = tmp_path / "model", models.LanguageModel(7, 4, 4)
    model.save(path)
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    description = json.loads(header["__metadata__"]["fastrnn"]) | {"tied": ties}
    save_file(load_file(path), path, {"fastrnn": json.dumps(description)})
    with pytest.raises(CheckpointError, match=str(path)):
        fastrnn.load(path)
