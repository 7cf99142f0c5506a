"""Sequence to sequence: gradients are slopes, and PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest
from seq2seq_cases import SETTINGS, batch, made

from fastrnn.models import FeaturesToSequence
from fastrnn.models._encoder_decoder import ATTENTIONS


def slope_of(model, loss, direction, step=3e-3):
    """The loss's slope along a direction of all parameters, by differences."""
    start, ends = model.flat.copy(), []
    for sign in (1, -1):
        model.flat[...] = start + np.float32(sign * step) * direction
        model.repack()
        ends.append(loss())
    model.flat[...] = start
    model.repack()
    return (ends[0] - ends[1]) / (2 * step)


def check_slopes(model, inputs, targets, lengths):
    result, backward = model.loss_vjp(inputs, targets, None, lengths)
    assert result == model.loss(inputs, targets, None, lengths)
    model.zero_grad()
    backward()
    for name, gradient in model.grads.items():
        assert np.isfinite(gradient).all()
        direction = np.zeros_like(model.flat)
        place = gradient.ctypes.data - model.flat_grad.ctypes.data
        where = slice(place // 4, place // 4 + gradient.size)
        norm = np.sqrt((gradient.astype(np.float64) ** 2).sum())
        assert norm > 0, name
        direction[where] = (gradient / norm).reshape(-1)
        slope = slope_of(model, lambda: model.loss(inputs, targets, None, lengths).loss, direction)
        assert abs(slope - norm) < 0.02 * norm + 2e-4, name


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_gradients_are_slopes(options):
    source, target, targets, lengths = batch()
    check_slopes(made(scale=2.0, **options), (source, target), targets, lengths)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("sets", [False, True])
def test_gradients_of_features_to_sequence_are_slopes(attention, sets):
    rng = np.random.default_rng(3)
    features = rng.standard_normal((4, 3, 5) if sets else (3, 5)).astype(np.float32)
    lengths = (np.array([4, 2, 3]) if sets else None), np.array([5, 3, 4])
    _, target, targets, _ = batch(N=3)
    options = {"attention": attention, "input_feeding": attention == "additive"}
    model = FeaturesToSequence(5, 11, 6, num_layers=2, **options)
    model.reset_parameters(1)
    model.flat *= 2
    model.repack()
    if sets or attention == "none":  # the weights of a set of one are 1, whatever the query
        check_slopes(model, (features, target), targets, lengths)
    logits, pullback = model.vjp(features, target, lengths)
    g = rng.standard_normal(logits.shape).astype(np.float32)
    found = pullback(g)
    direction = rng.standard_normal(features.shape).astype(np.float32)
    ends = [
        (model(features + sign * np.float32(1e-2) * direction, target, lengths) * g).sum()
        for sign in (1, -1)
    ]
    slope = (ends[0] - ends[1]) / 2e-2
    assert found.shape == features.shape
    assert abs((found * direction).sum() - slope) < 0.02 * np.abs(found * direction).sum() + 1e-3


def torch_logits(torch, model, source, target, lengths):
    """The same network of PyTorch's own parts, its parameters by name, and its logits."""
    names = model.state_dict()
    kind = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[model.cell]
    encoder = kind(6, 6, bidirectional=model.bidirectional)
    decoder = kind(12 if model.input_feeding else 6, 6)
    for part, own in (("encoder", encoder), ("decoder", decoder)):
        start = f"{part}.rnn."
        own.load_state_dict(
            {k[len(start) :]: torch.tensor(v) for k, v in names.items() if k.startswith(start)}
        )
    p = {k: torch.tensor(v, requires_grad=True) for k, v in names.items() if ".rnn." not in k}
    x = p["encoder.embedding.weight"][torch.tensor(source)]
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        x, torch.tensor(lengths[0]), enforce_sorted=False
    )
    memory, state = encoder(packed)
    memory, _ = torch.nn.utils.rnn.pad_packed_sequence(memory, total_length=len(source))
    if model.bridge:
        parts = state if isinstance(state, tuple) else (state,)
        mapped = [
            (
                h.transpose(0, 1).flatten(1) @ p[f"bridge.{n}.weight"].T + p[f"bridge.{n}.bias"]
            ).tanh()[None]
            for n, h in zip("hc", parts, strict=False)
        ]
        state = tuple(mapped) if isinstance(state, tuple) else mapped[0]
    inside = torch.arange(len(source)) < torch.tensor(lengths[0])[:, None]

    def look(y):
        scores = torch.einsum("tna,sna->tns", y @ p["decoder.attention.query.weight"].T, memory)
        weights = scores.masked_fill(~inside, float("-inf")).softmax(-1)
        both = torch.cat((torch.einsum("tns,snm->tnm", weights, memory), y), -1)
        z = both @ p["decoder.combine.weight"].T + p["decoder.combine.bias"]
        return z.tanh(), weights

    x = p["decoder.embedding.weight"][torch.tensor(target)]
    if model.input_feeding:
        steps, fed = [], torch.zeros(1, x.shape[1], 6)
        for step in x:
            y, state = decoder(torch.cat((step[None], fed), -1), state)
            steps.append(look(y))
            fed = steps[-1][0]
        hidden, weights = (torch.cat(parts) for parts in zip(*steps, strict=True))
    else:
        hidden, weights = look(decoder(x, state)[0])
    logits = hidden @ p["decoder.head.weight"].T + p["decoder.head.bias"]
    for part, own in (("encoder", encoder), ("decoder", decoder)):
        p |= {f"{part}.rnn.{k}": v for k, v in own.named_parameters()}
    return p, logits, weights


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("feeding", [False, True])
def test_logits_and_gradients_are_pytorchs(cell, bidirectional, feeding):
    torch = pytest.importorskip("torch")
    options = {"cell": cell, "bidirectional": bidirectional, "input_feeding": feeding}
    model = made(attention="multiplicative", scale=2.0, **options)
    source, target, targets, lengths = batch()
    p, logits, weights = torch_logits(torch, model, source, target, lengths)
    inside = np.arange(len(target))[:, None] < lengths[1]
    ours = model(source, target, lengths)
    np.testing.assert_allclose(ours[inside], logits.detach()[inside], rtol=1e-4, atol=1e-5)
    found = model.attention(source, target, lengths).transpose(0, 2, 1)
    np.testing.assert_allclose(found[inside], weights.detach()[inside], rtol=1e-3, atol=1e-5)
    loss = torch.nn.functional.cross_entropy(
        logits[torch.tensor(inside)], torch.tensor(targets[inside])
    )
    loss.backward()
    result, backward = model.loss_vjp((source, target), targets, None, lengths)
    backward()
    assert result.loss == pytest.approx(loss.item(), rel=1e-5)
    for name, tensor in p.items():
        np.testing.assert_allclose(
            model.grads[name], tensor.grad, rtol=2e-3, atol=2e-6, err_msg=name
        )
