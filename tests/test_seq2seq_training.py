"""Sequence to sequence in training: limits of memory, the flow of the gradient in both parts."""

from __future__ import annotations

import numpy as np
import pytest
from seq2seq_cases import batch, made

from fastrnn._backward import kept_steps
from fastrnn.models import BidirectionalLanguageModel, LanguageModel, Seq2Seq


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
    assert [kept_steps(rnn, 80, 16, 1280) < 80 for rnn in model.recurrent.values()] == [True] * 2
    limited = gradients(model)
    assert limited[0] == loss
    np.testing.assert_array_equal(limited[1], gradient)
    model.limit_memory(None)
    assert model.encoder.rnn.memory_budget is None


@pytest.mark.parametrize("attention", ["none", "additive"])
def test_the_flow_of_the_gradient_is_observed_in_both_parts(attention):
    model = made(attention=attention, bidirectional=True, num_layers=2)
    _, expected = gradients(model, S=7, T=5)
    assert model.encoder.rnn.last_flow is None
    model.flow = True
    _, gradient = gradients(model, S=7, T=5)
    np.testing.assert_array_equal(gradient, expected)
    flows = [rnn.last_flow for rnn in model.recurrent.values()]
    assert [flow.norm.shape for flow in flows] == [(4, 7), (2, 5)]
    assert all((flow.norm > 0).any() for flow in flows)
