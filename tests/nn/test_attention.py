"""Attention against float64 and PyTorch; what is masked is exactly zero; bits do not depend."""

from __future__ import annotations

import numpy as np
import pytest

import fastrnn
from fastrnn import _core
from fastrnn.nn.attention import KINDS

SHAPES = [(3, 4, 5, 6, 7, 8), (1, 1, 1, 1, 1, 1), (5, 2, 17, 16, 33, 20), (2, 3, 40, 65, 9, 64)]


def drawn(T, N, S, Q, M, seed=0):
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((T, N, Q)).astype(np.float32)
    memory = rng.standard_normal((S, N, M)).astype(np.float32)
    return queries, memory, rng.integers(0, S + 1, N)


def layer(kind, Q, M, A, seed=1):
    attention = fastrnn.Attention(kind, Q, M, None if kind == "multiplicative" else A)
    attention.reset_parameters(seed)
    attention.flat *= 2
    attention.repack()
    return attention


def scores64(attention, q, m):
    """(T, N, S) in float64, from the definitions."""
    p = {k: v.astype(np.float64) for k, v in attention.parameters.items()}
    query = q @ p["query.weight"].T
    if attention.kind == "multiplicative":
        return np.einsum("tna,sna->tns", query, m)
    key = m @ p["key.weight"].T + p.get("key.bias", 0.0)
    if attention.kind == "scaled_dot":
        return np.einsum("tna,sna->tns", query, key) / np.sqrt(attention.size)
    hidden = np.tanh(query[:, None] + key[None])
    return np.einsum("tsna,a->tns", hidden, p["score.weight"][0])


def forward64(attention, queries, memory, lengths):
    q, m = queries.astype(np.float64), memory.astype(np.float64)
    inside = np.arange(len(m)) < lengths[:, None]
    scores = np.where(inside[None], scores64(attention, q, m), -np.inf)
    top = np.where(lengths[None, :, None] > 0, scores.max(-1, keepdims=True), 0.0)
    e = np.exp(scores - top)
    weights = e / np.maximum(e.sum(-1, keepdims=True), 1e-300)
    return np.einsum("tns,snm->tnm", weights, m), weights


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_context_and_weights_are_those_of_float64(kind, shape):
    T, N, S, Q, M, A = shape
    queries, memory, lengths = drawn(T, N, S, Q, M)
    attention = layer(kind, Q, M, A)
    context, weights = attention(queries, memory, lengths)
    context64, weights64 = forward64(attention, queries, memory, lengths)
    np.testing.assert_allclose(weights, weights64, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(context, context64, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_masked_positions_have_exactly_no_weight_and_cannot_matter(kind):
    queries, memory, _ = drawn(4, 5, 9, 6, 7)
    lengths = np.array([9, 0, 3, 1, 8])
    attention = layer(kind, 6, 7, 8)
    context, weights = attention(queries, memory, lengths)
    outside = np.arange(9) >= lengths[:, None]
    assert (weights[:, outside] == 0).all()
    assert (context[:, 1] == 0).all()
    spoiled = memory.copy()
    spoiled[outside.T] = np.nan
    again, weights_again = attention(queries, spoiled, lengths)
    np.testing.assert_array_equal(context, again)
    np.testing.assert_array_equal(weights, weights_again)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_slopes_of_the_float64_reference(kind, shape):
    T, N, S, Q, M, A = shape
    queries, memory, lengths = drawn(T, N, S, Q, M)
    lengths = np.maximum(lengths, 1)
    attention = layer(kind, Q, M, A)
    g = np.random.default_rng(5).standard_normal((T, N, M)).astype(np.float32)
    _, pullback = attention.vjp(queries, memory, lengths)
    found = dict(zip(("queries", "memory"), pullback(g), strict=True))
    rng = np.random.default_rng(6)
    places = {"queries": queries.astype(np.float64), "memory": memory.astype(np.float64)}
    for name, array in places.items():
        direction = rng.standard_normal(array.shape)
        ends = []
        for sign in (1, -1):
            moved = {**places, name: array + sign * 1e-5 * direction}
            ends.append((forward64(attention, *moved.values(), lengths)[0] * g).sum())
        slope = (ends[0] - ends[1]) / 2e-5
        scale = np.abs(found[name] * direction).sum() + 1e-3
        assert abs((found[name] * direction).sum() - slope) < 1e-4 * scale, name


@pytest.mark.parametrize("kind", KINDS)
def test_all_gradients_are_pytorchs(kind):
    torch = pytest.importorskip("torch")
    queries, memory, lengths = drawn(6, 4, 11, 10, 19)
    lengths = np.maximum(lengths, 1)
    attention = layer(kind, 10, 19, 13)
    p = {k: torch.tensor(v, requires_grad=True) for k, v in attention.parameters.items()}
    q, m = (torch.tensor(a, requires_grad=True) for a in (queries, memory))
    query = q @ p["query.weight"].T
    if kind == "multiplicative":
        scores = torch.einsum("tna,sna->tns", query, m)
    else:
        key = m @ p["key.weight"].T + p.get("key.bias", 0.0)
        scores = torch.einsum("tna,sna->tns", query, key) / 13**0.5
        if kind == "additive":
            scores = (query[:, None] + key[None]).tanh() @ p["score.weight"][0]
            scores = scores.permute(0, 2, 1)
    inside = torch.arange(11) < torch.tensor(lengths)[:, None]
    weights = scores.masked_fill(~inside, float("-inf")).softmax(-1)
    context = torch.einsum("tns,snm->tnm", weights, m)
    (ours, our_weights), pullback = attention.vjp(queries, memory, lengths)
    np.testing.assert_allclose(ours, context.detach(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(our_weights, weights.detach(), rtol=1e-4, atol=1e-6)
    g = np.random.default_rng(7).standard_normal(ours.shape).astype(np.float32)
    context.backward(torch.tensor(g))
    attention.zero_grad()
    for mine, theirs in zip(pullback(g), (q, m), strict=True):
        np.testing.assert_allclose(mine, theirs.grad, rtol=1e-3, atol=3e-5)
    for name, tensor in p.items():
        np.testing.assert_allclose(attention.grads[name], tensor.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_bits_depend_on_neither_threads_nor_neighbours_nor_padding_nor_steps(kind):
    queries, memory, lengths = drawn(20, 6, 30, 33, 40)
    lengths = np.maximum(lengths, 1)
    attention = layer(kind, 33, 40, 48)
    g = np.random.default_rng(8).standard_normal((20, 6, 40)).astype(np.float32)
    with fastrnn.num_threads(1):
        (context, weights), pullback = attention.vjp(queries, memory, lengths)
        dqueries, dmemory = pullback(g)
    with fastrnn.num_threads(3):
        again, other_pullback = attention.vjp(queries, memory, lengths)
        for a, b in zip(
            (context, weights, dqueries, dmemory), again + other_pullback(g), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    row, end = 2, int(lengths[2])
    alone, pull_alone = attention.vjp(queries[:, [row]], memory[:end, [row]])
    np.testing.assert_array_equal(alone[0][:, 0], context[:, row])
    np.testing.assert_array_equal(alone[1][:, 0], weights[:, row, :end])
    for a, b in zip(pull_alone(g[:, [row]]), (dqueries, dmemory[:end]), strict=True):
        np.testing.assert_array_equal(a[:, 0], b[:, row])
    prepared = attention.prepare(memory, lengths)
    step, _ = attention.attend(queries[[7]], prepared)
    np.testing.assert_array_equal(step[0], context[7])


@pytest.mark.parametrize("kind", KINDS)
def test_instruction_sets_agree_bit_for_bit(kind):
    queries, memory, lengths = drawn(3, 4, 21, 18, 35)
    results = []
    before = _core.get_isa()
    try:
        for name in ("avx2", "avx512", "neon"):
            try:
                _core.select_isa(name)
            except ValueError:
                continue
            results.append(layer(kind, 18, 35, 19)(queries, memory, lengths))
    finally:
        _core.select_isa(before)
    for context, weights in results[1:]:
        np.testing.assert_array_equal(context, results[0][0])
        np.testing.assert_array_equal(weights, results[0][1])
    base = forward64(layer(kind, 18, 35, 19), queries, memory, lengths)[0]
    for context, _ in results:
        np.testing.assert_allclose(context, base, rtol=2e-4, atol=2e-5)


def test_rows_may_share_the_memory_of_their_source():
    queries, memory, lengths = drawn(2, 3, 7, 4, 5)
    attention = layer("additive", 4, 5, 6)
    sources = np.array([2, 0, 2, 1, 1])
    many = queries[:, sources]
    context, weights = attention.attend(many, attention.prepare(memory, lengths), sources)
    expected = attention(many, memory[:, sources], lengths[sources])
    np.testing.assert_array_equal(context, expected[0])
    np.testing.assert_array_equal(weights, expected[1])


def test_wrong_arguments_are_named():
    attention = fastrnn.Attention("additive", 4, 5)
    queries, memory = np.zeros((2, 3, 4), np.float32), np.zeros((6, 3, 5), np.float32)
    with pytest.raises(ValueError, match=r"kind is 'dot', expected one of"):
        fastrnn.Attention("dot", 4, 5)
    with pytest.raises(ValueError, match=r"size is 3, multiplicative attention expects 5"):
        fastrnn.Attention("multiplicative", 4, 5, 3)
    with pytest.raises(ValueError, match=r"queries has shape \(2, 3, 5\)"):
        attention(memory[:2], memory)
    with pytest.raises(ValueError, match=r"memory has shape \(2, 3, 4\)"):
        attention(queries, queries)
    with pytest.raises(ValueError, match=r"queries has shape \(2, 2, 4\)"):
        attention(queries[:, :2], memory)
    with pytest.raises(ValueError, match="lengths holds 7"):
        attention(queries, memory, [1, 2, 7])
    prepared = attention.prepare(memory)
    with pytest.raises(ValueError, match="sources holds 3"):
        attention.attend(queries, prepared, [0, 1, 3])
    with pytest.raises(ValueError, match="sources has shape"):
        attention.attend(queries, prepared, [0, 1])
    _, pullback = attention.vjp(queries, memory)
    with pytest.raises(ValueError, match="dcontext has shape"):
        pullback(queries)


def test_a_shortlist_gives_the_listed_outputs_of_its_head():
    head = fastrnn.Linear(7, 50)
    x = np.random.default_rng(0).standard_normal((2, 3, 7)).astype(np.float32)
    ids = np.array([40, 3, 17])
    short = fastrnn.Shortlist(head, ids)
    np.testing.assert_allclose(short(x), head(x)[..., ids], rtol=1e-5, atol=1e-6)
    full = short.full(x)
    np.testing.assert_array_equal(full[..., ids], short(x))
    assert np.isneginf(np.delete(full, ids, axis=-1)).all()
    for wrong in ([1, 1], [50], [], [[1]]):
        with pytest.raises(ValueError, match="ids"):
            fastrnn.Shortlist(head, np.array(wrong, np.int64))
    with pytest.raises(ValueError, match=r"x has 5 features, this Shortlist expects \d+"):
        short(x[..., :5])
