"""Training on tokens of a small vocabulary: the first layer meets a token once, not every step."""

from __future__ import annotations

import numpy as np
import pytest
from families import same_bits

import fastrnn
from fastrnn.models import LanguageModel

CELLS = ["lstm", "gru", "rnn"]
T, N, V = 30, 17, 40


def trained(model, tokens, targets, lengths=None, threads=1, state=None):
    """Loss, gradients and the gradient of the state, from gradients that are not zero before."""
    model.flat_grad.fill(0.25)
    with fastrnn.num_threads(threads):
        result, backward = model.loss_vjp(tokens, targets, state, lengths)
        dstate = backward(0.5)
    states = dstate if isinstance(dstate, tuple) else (dstate,)
    return result.loss, {**{k: v.copy() for k, v in model.grads.items()}}, states


@pytest.fixture
def unfolded(monkeypatch):
    """Makes a model take the long way."""

    def forbid(model):
        monkeypatch.setattr(type(model), "_folds_in_training", lambda self, inputs: False)

    yield forbid
    monkeypatch.undo()


def batch(rng, rows=N):
    return rng.integers(0, V, (2, T, rows))


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_folding_changes_neither_the_loss_nor_the_gradients(cell, tied, ragged, rng, unfolded):
    """Sums of up to T * N terms in another order: errors grow with the root of their number."""
    model = LanguageModel(V, 65, 65, 2, cell=cell, tie_weights=tied)
    tokens, targets = batch(rng)
    lengths = rng.integers(0, T + 1, N) if ragged else None
    assert model._folds_in_training(tokens)
    loss, grads, states = trained(model, tokens, targets, lengths)
    unfolded(model)
    other_loss, other_grads, other_states = trained(model, tokens, targets, lengths)
    assert loss == other_loss
    bound = 4 * np.finfo(np.float32).eps * (T * N) ** 0.5
    for name, grad in grads.items():
        scale = np.abs(other_grads[name]).max()
        np.testing.assert_allclose(
            grad, other_grads[name], rtol=0, atol=bound * scale, err_msg=name
        )
    assert all(same_bits(a, b) for a, b in zip(states, other_states, strict=True))


@pytest.mark.parametrize("cell", CELLS)
def test_folded_gradients_do_not_depend_on_threads_and_budgets(cell, rng):
    model = LanguageModel(V, 33, 130, 2, cell=cell)
    tokens, targets = batch(rng)
    _, expected, _ = trained(model, tokens, targets)
    for threads in (2, 3):
        _, grads, _ = trained(model, tokens, targets, threads=threads)
        assert all(same_bits(grads[name], expected[name]) for name in grads)
    model.rnn.memory_budget = 3_000_000
    _, grads, _ = trained(model, tokens, targets)
    assert all(same_bits(grads[name], expected[name]) for name in grads)


@pytest.mark.parametrize("token", [-1, V])
@pytest.mark.parametrize("place", [(0, 0), (T - 1, N - 1)])
def test_the_first_token_outside_the_vocabulary_is_refused_wherever_it_stands(token, place, rng):
    model = LanguageModel(V, 6, 8)
    tokens, targets = batch(rng)
    tokens[place] = token
    for call in (
        lambda: model(tokens),
        lambda: model.loss(tokens, targets),
        lambda: model.loss_vjp(tokens, targets),
        lambda: model.stream(N).step(tokens[place[0]]),
        lambda: model.stream(N).read(tokens),
        lambda: fastrnn.generate(model, [int(token)], max_new_tokens=1),
    ):
        with pytest.raises(ValueError, match=f"{token}.*0 to {V - 1}"):
            call()


def test_one_row_of_tokens_folds_like_a_batch_of_one(rng):
    model = LanguageModel(V, 20, 24)
    tokens, targets = rng.integers(0, V, (2, 100))
    loss, grads, _ = trained(model, tokens, targets)
    other_loss, other_grads, _ = trained(model, tokens[:, None], targets[:, None])
    assert loss == other_loss
    assert all(same_bits(grads[name], other_grads[name]) for name in grads)


def test_dropout_and_large_vocabularies_do_not_fold(rng):
    tokens = rng.integers(0, V, (4, 5))
    assert not LanguageModel(V, 8, 8)._folds_in_training(tokens)
    long = np.tile(tokens, (20, 1))
    assert LanguageModel(V, 8, 8)._folds_in_training(long)
    assert not LanguageModel(V, 8, 8, dropout=0.1)._folds_in_training(long)
    assert not LanguageModel(V, 8, 8, weight_drop=0.1)._folds_in_training(long)
