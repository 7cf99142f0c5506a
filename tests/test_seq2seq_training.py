"""Sequence to sequence in training: limits of memory, the flow of the gradient in both parts."""

from __future__ import annotations

import numpy as np
import pytest
from seq2seq_cases import batch, made
from slopes import assert_slope

import fastrnn
from fastrnn.models import BidirectionalLanguageModel, LanguageModel, Seq2Seq
from fastrnn.models._input_feeding import join_flows
from fastrnn.nn.tape import checkpoint_every

FEEDING = {"attention": "additive", "input_feeding": True}


def gradients(model, S=80, T=80, N=16):
    source, target, targets, lengths = batch(S=S, T=T, N=N)
    result, backward = model.loss_vjp((source, target), targets, None, lengths)
    model.zero_grad()
    backward()
    return result.loss, model.flat_grad.copy()


def test_the_recurrent_layers_of_a_model_have_the_names_of_their_parameters():
    assert list(LanguageModel(5, 3, 4).recurrent) == ["rnn"]
    assert list(BidirectionalLanguageModel(5, 3, 4).recurrent) == ["forward", "backward"]
    model = Seq2Seq(9, 11, 6)
    assert model.recurrent == {"encoder.rnn": model.encoder.rnn, "decoder.rnn": model.decoder.rnn}


def test_a_limit_of_memory_is_shared_by_units_and_changes_no_bit():
    model = Seq2Seq(9, 11, 64, bidirectional=True, attention="additive")
    model.reset_parameters(0)
    loss, gradient = gradients(model)
    model.limit_memory(4_500_000)
    budgets = [rnn.memory_budget for rnn in model.recurrent.values()]
    assert budgets == [3_000_000, 1_500_000]
    for rnn in model.recurrent.values():
        assert checkpoint_every(rnn._shared_stack(), rnn.memory_budget, 80, 16, 1280) < 80
    limited = gradients(model)
    assert limited[0] == loss
    np.testing.assert_array_equal(limited[1], gradient)
    model.limit_memory(None)
    assert model.encoder.rnn.memory_budget is None


@pytest.mark.parametrize("options", [{}, FEEDING, {"attention": "additive"}], ids=str)
def test_the_flow_of_the_gradient_is_observed_in_both_parts(options):
    model = made(bidirectional=True, num_layers=2, **options)
    _, expected = gradients(model, S=7, T=5)
    assert model.encoder.rnn.last_flow is None
    model.flow = True
    _, gradient = gradients(model, S=7, T=5)
    np.testing.assert_array_equal(gradient, expected)
    flows = [rnn.last_flow for rnn in model.recurrent.values()]
    assert [flow.norm.shape for flow in flows] == [(4, 7), (2, 5)]
    assert all((flow.norm > 0).any() for flow in flows)


@pytest.mark.parametrize("options", [{}, FEEDING, {"attention": "additive"}], ids=str)
def test_gradients_under_dropout_are_slopes(options):
    model = made(scale=1.5, dropout=0.4, num_layers=2, **options)
    source, target, targets, lengths = batch()
    rng = np.random.default_rng(3)

    def result():
        model.seed(5)  # the same masks
        return model.loss_vjp((source, target), targets, None, lengths)

    result()[1]()
    for tensor, gradient in zip(model.parameters.values(), model.grads.values(), strict=True):
        assert_slope(lambda: result()[0].loss, tensor, gradient.copy(), rng, model.repack)


def test_an_input_feeding_decoder_reads_what_the_step_before_saw():
    model = made(**FEEDING)
    source, target, _, lengths = batch()
    logits = model(source, target, lengths)
    unmasked = model(source, target, (lengths[0], None))
    inside = np.arange(len(target))[:, None] < lengths[1]
    np.testing.assert_array_equal(logits[inside], unmasked[inside])
    assert model.decoder.rnn.input_size == 12
    model.decoder.rnn.parameters["weight_ih_l0"][:, 6:] += 0.5
    model.repack()
    changed = model(source, target, lengths)
    np.testing.assert_array_equal(changed[0], logits[0])  # nothing was seen before the first
    assert (changed[1] != logits[1]).any()


@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_flow_of_single_steps_is_that_of_a_sequence(num_layers):
    """What an input-feeding decoder joins, on layers that could run all at once."""
    rnn = fastrnn.LSTM(3, 5, num_layers)
    x = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(np.float32)
    lengths = np.array([6, 2, 4, 0])
    (y, _), pullback = rnn.vjp(x, None, lengths, flow=True)
    pullback(np.ones_like(y))
    whole, state, backs, flows = rnn.last_flow, None, [], []
    for t in range(6):
        (_, state), back = rnn.vjp(x[t : t + 1], state, (lengths > t).astype(int), flow=True)
        backs.append(back)
    dstate = None
    for back in backs[::-1]:
        dstate = back(np.ones((1, 4, 5), np.float32), dstate)[1]
        flows.append(rnn.last_flow)
    joined = join_flows(flows[::-1])
    np.testing.assert_allclose(joined.norm, whole.norm, rtol=1e-5)
    np.testing.assert_array_equal(joined.saturated, whole.saturated)
