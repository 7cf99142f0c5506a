"""Gradients of Linear and Embedding follow their equations."""

from __future__ import annotations

import numpy as np
import pytest
import reference
from families import normal, same_bits
from test_gradients import AWKWARD, assert_close, largest

import fastrnn


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("outputs", AWKWARD)
def test_gradients_of_linear_follow_its_equation(outputs, bias, rng):
    inputs = AWKWARD[-AWKWARD.index(outputs) - 1]
    linear = fastrnn.Linear(inputs, outputs, bias)
    for shape in ((), (1,), (5,), (2, 0), (2, 3, 4), (33,)):
        x, dy = normal(rng, *shape, inputs), normal(rng, *shape, outputs)
        y, pullback = linear.vjp(x)
        assert same_bits([y], [linear(x)])
        linear.zero_grad()
        dx = pullback(dy)
        rows, columns = x.reshape(-1, inputs), dy.reshape(-1, outputs)
        wanted = {"weight": np.float64(columns).T @ rows, "bias": np.float64(columns).sum(0)}
        scale = largest(x, dy, *wanted.values())
        limit = reference.tolerance(max(outputs, len(rows)), 1, 1, scale)
        assert_close("dx", dx, np.float64(dy) @ linear.parameters["weight"], limit)
        assert list(linear.grads) == ["weight", "bias"][: 1 + bias]
        for name, gradient in linear.grads.items():
            assert_close(name, gradient, wanted[name], limit)


def test_gradients_of_linear_add_up_and_its_pullback_is_called_once(rng):
    linear = fastrnn.Linear(7, 17)
    x, dy = normal(rng, 2, 3, 5, 7), normal(rng, 2, 3, 5, 17)
    for part, d in zip(x, dy, strict=True):
        _, pullback = linear.vjp(part)
        pullback(d)
        with pytest.raises(RuntimeError, match="called"):
            pullback(d)
    wanted = np.float64(dy.reshape(-1, 17)).T @ x.reshape(-1, 7)
    assert_close("weight", linear.grads["weight"], wanted, reference.tolerance(30, 1, 1, 30.0))
    for bad in ((5, 17), (3, 5, 16), (3, 4, 17), ()):
        _, pullback = linear.vjp(x[0])
        with pytest.raises(ValueError, match="dy has"):
            pullback(normal(rng, *bad))


def test_gradients_of_an_embedding_are_those_of_one_hot_times_matrix(rng):
    for num, dim in ((7, 3), (1, 1), (50, 33)):
        embedding, linear = fastrnn.Embedding(num, dim), fastrnn.Linear(num, dim, bias=False)
        linear.load_state_dict({"weight": embedding.weight.T})
        for shape in ((), (4,), (3, 5), (0,), (2, 20)):
            indices, dy = rng.integers(0, num, shape), normal(rng, *shape, dim)
            y, pullback = embedding.vjp(indices)
            assert same_bits([y], [embedding(indices)])
            assert pullback(dy) is None
            linear.vjp(np.eye(num, dtype=np.float32)[indices])[1](dy)
        limit = reference.tolerance(60, 1, 1, largest(linear.grads["weight"]))
        assert_close("weight", embedding.grads["weight"], linear.grads["weight"].T, limit)
        assert embedding.grads["weight"].any()


def test_gradients_of_an_embedding_leave_other_rows_alone(rng):
    embedding, dy = fastrnn.Embedding(6, 4), normal(rng, 3, 4)
    embedding.flat_grad[...] = 1
    embedding.vjp([4, 0, 2])[1](dy)
    assert np.array_equal(embedding.grads["weight"][[4, 0, 2]], 1 + dy)
    assert (embedding.grads["weight"][[1, 3, 5]] == 1).all()


def test_an_embedding_refuses_a_second_pullback_and_other_shapes(rng):
    embedding = fastrnn.Embedding(6, 4)
    _, pullback = embedding.vjp([1, 2])
    pullback(normal(rng, 2, 4))
    with pytest.raises(RuntimeError, match="called"):
        pullback(normal(rng, 2, 4))
    for bad in ((2, 3), (3, 4), (4,), (2, 1, 4)):
        _, pullback = embedding.vjp([1, 2])
        with pytest.raises(ValueError, match="dy has"):
            pullback(normal(rng, *bad))
    with pytest.raises(ValueError, match="indices"):
        embedding.vjp([6])
