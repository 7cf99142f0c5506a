"""The bidirectional language model: what each state has read, its loss, its use as features."""

from __future__ import annotations

import numpy as np
import pytest

import fastrnn
from fastrnn.models import BidirectionalLanguageModel, SequenceTagger
from fastrnn.optim import Adam


def made(seed=0, **options):
    model = BidirectionalLanguageModel(8, 5, 6, **options)
    model.reset_parameters(seed)
    return model


def batch(seed=0, T=7, N=4):
    ids = np.random.default_rng(seed).integers(0, 8, (T + 1, N))
    return ids[:-1], ids[1:], np.array([7, 3, 1, 5])


def test_every_state_has_read_its_own_side_and_the_token_itself():
    model = made()
    tokens, _, lengths = batch()
    states = model.embed(tokens, lengths)
    assert states.shape == (7, 4, 12)
    changed = tokens.copy()
    changed[4, 0] = (changed[4, 0] + 1) % 8
    differs = (model.embed(changed, lengths) != states).any(axis=1)
    assert not differs[:4, :6].any()
    assert not differs[5:, 6:].any()
    moved = (model.embed(changed, lengths) != states)[:, 0]
    assert moved[4:, :6].any(axis=1).all()
    assert moved[:5, 6:].any(axis=1).all()
    assert (states[3:, 1] == 0).all()


def test_rows_do_not_depend_on_their_padding():
    model = made(num_layers=2, cell="gru")
    tokens, _, lengths = batch()
    states = model.embed(tokens, lengths)
    for row, end in enumerate(lengths):
        alone = model.embed(tokens[:end, [row]])
        np.testing.assert_array_equal(alone[:, 0], states[:end, row])


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_all_layers_are_those_of_the_stack_after_the_embeddings(cell):
    model = made(num_layers=3, cell=cell, dropout=0.5)
    tokens, _, lengths = batch()
    layers = model.embed_layers(tokens, lengths)
    assert [part.shape for part in layers] == [(7, 4, 10), *[(7, 4, 12)] * 3]
    np.testing.assert_array_equal(layers[-1], model.embed(tokens, lengths))
    inside = np.arange(7)[:, None] < lengths
    x = model.embedding(tokens) * inside[..., None]
    np.testing.assert_array_equal(layers[0], np.concatenate((x, x), axis=-1))
    assert all((part[~inside] == 0).all() for part in layers)
    lower = made(num_layers=2, cell=cell)
    names = lower.state_dict()
    lower.load_state_dict({k: v for k, v in model.state_dict().items() if k in names})
    np.testing.assert_array_equal(layers[2], lower.embed(tokens, lengths))


def test_one_sequence_without_rows_gives_states_without_rows():
    model = made(num_layers=2)
    tokens = batch()[0]
    np.testing.assert_array_equal(model.embed(tokens[:, 1]), model.embed(tokens)[:, 1])
    alone, together = model.embed_layers(tokens[:, 1].tolist()), model.embed_layers(tokens)
    for one, all_rows in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, all_rows[:, 1])
    for embed in (model.embed, model.embed_layers):
        with pytest.raises(ValueError, match="lengths needs a batch, but tokens has 1 dimension"):
            embed([1, 2], [2])
        with pytest.raises(ValueError, match=r"tokens has shape \(0,\), expected \(T, N\)"):
            embed(np.zeros(0, int))


def test_a_mix_of_all_layers_learns_which_of_them_a_tagger_needs():
    model = BidirectionalLanguageModel(8, 6, 6, num_layers=2)
    model.reset_parameters(0)
    tokens = np.random.default_rng(1).integers(0, 8, (9, 32))
    layers = model.embed_layers(tokens)
    mix, tagger = fastrnn.ScalarMix(3), SequenceTagger(8, 16, input_size=12)
    tagger.reset_parameters(0)
    optimizers = [Adam(mix, lr=3e-2), Adam(tagger, lr=3e-2)]
    for _ in range(40):
        mix.zero_grad()
        tagger.zero_grad()
        x, to_layers = mix.vjp(layers)
        logits, to_x = tagger.vjp(x)
        _, dlogits = fastrnn.losses.cross_entropy(logits, tokens)  # the tag is the token itself
        to_layers(to_x(dlogits))
        for optimizer in optimizers:
            optimizer.step()
    assert (tagger(mix(layers)).argmax(axis=-1) == tokens).mean() > 0.9
    assert mix.shares[0] == mix.shares.max() > 0.5


def test_the_backward_half_is_a_language_model_of_reversed_tokens():
    model = made()
    tokens, targets, _ = batch()
    ahead, behind = model(tokens, targets)
    y, _ = model.forward(model.embedding(tokens))
    np.testing.assert_array_equal(ahead, model.head(y))
    y, _ = model.backward(model.embedding(targets[::-1]))
    np.testing.assert_array_equal(behind, model.head(y)[::-1])


@pytest.mark.parametrize("padded", [False, True])
def test_gradients_are_slopes(padded):
    model = made(ignore_index=-100)
    model.flat *= 2
    model.repack()
    tokens, targets, lengths = batch()
    lengths = lengths if padded else None
    if padded:
        targets = np.where(np.arange(7)[:, None] < lengths, targets, -100)
    result, backward = model.loss_vjp(tokens, targets, None, lengths)
    assert result == model.loss(tokens, targets, None, lengths)
    assert result.count == (32 if padded else 56)
    backward()
    start = model.flat.copy()
    for name, gradient in model.grads.items():
        norm = float(np.sqrt((gradient.astype(np.float64) ** 2).sum()))
        assert norm > 0, name
        ends = []
        for sign in (1, -1):
            model.parameters[name] += np.float32(sign * 3e-3 / norm) * gradient
            model.repack()
            ends.append(model.loss(tokens, targets, None, lengths).loss)
            model.flat[...] = start
            model.repack()
        slope = (ends[0] - ends[1]) / 6e-3
        assert abs(slope - norm) < 0.02 * norm + 2e-4, name


def test_it_learns_comes_back_and_feeds_a_tagger(tmp_path):
    model = made(dropout=0.1)
    model.seed(0)
    ids = np.tile(np.arange(8), 12)[: 8 * 11 + 1]
    tokens, targets = ids[:-1].reshape(11, 8).T, ids[1:].reshape(11, 8).T
    optimizer = Adam(model, lr=2e-2)
    for _ in range(60):
        model.zero_grad()
        _, backward = model.loss_vjp(tokens, targets)
        backward()
        optimizer.step()
    learnt = model.loss(tokens, targets)
    assert learnt.correct == learnt.count
    model.save(tmp_path / "model.safetensors")
    other = fastrnn.load(tmp_path / "model.safetensors")
    states = other.embed(tokens)
    np.testing.assert_array_equal(states, model.embed(tokens))
    tagger = SequenceTagger(3, 4, input_size=states.shape[-1])
    assert tagger(states).shape == (8, 11, 3)


def test_wrong_arguments_are_named():
    model = made()
    tokens, targets, lengths = batch()
    with pytest.raises(ValueError, match="tokens holds 8"):
        model.embed(np.full_like(tokens, 8))
    with pytest.raises(ValueError, match=r"tokens has shape \(7, 4, 1\)"):
        model.embed(tokens[..., None])
    with pytest.raises(ValueError, match="targets has shape"):
        model(tokens, targets[:5])
    with pytest.raises(ValueError, match="lengths holds 7"):
        model.embed(tokens[:5], lengths)
    with pytest.raises(ValueError, match="state is given"):
        model.loss(tokens, targets, np.zeros(3))
