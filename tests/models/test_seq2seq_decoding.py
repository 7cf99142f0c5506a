"""Sequence to sequence: streams, files, training, errors."""

from __future__ import annotations

import numpy as np
import pytest
from seq2seq_cases import BOS, EOS, SETTINGS, batch, made

import fastrnn
from fastrnn.data import Buckets, Pairs
from fastrnn.models import FeaturesToSequence, Seq2Seq
from fastrnn.optim import Adam
from fastrnn.train import Trainer


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_a_stream_gives_the_bits_of_teacher_forcing(options):
    model = made(**options)
    source, target, _, lengths = batch()
    logits = model(source, target, (lengths[0], None))
    stream = model.decoder_stream(source, lengths[0])
    for t in range(len(target)):
        np.testing.assert_array_equal(stream.step(target[t]), logits[t])
    if options["attention"] != "none":
        weights = model.attention(source, target, (lengths[0], None))
        np.testing.assert_array_equal(stream.weights, weights[-1].T)


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_reordered_rows_go_on_as_copies_of_what_they_were(options):
    model = made(**options)
    source, target, _, lengths = batch(T=8)
    stream = model.decoder_stream(source, lengths[0], 6)
    for t in range(3):
        stream.step(target[t][np.minimum(np.arange(6), 3)])
    order, looked = np.array([3, 0, 0, 1]), stream.weights
    stream.reorder(order)
    assert stream.rows == 4
    if looked is not None:
        np.testing.assert_array_equal(stream.weights, looked[order])
    expected = model(source[:, order], target[:, order], (lengths[0][order], None))
    for t in range(3, 6):
        np.testing.assert_array_equal(stream.step(target[t][order]), expected[t])
    looked = stream.weights
    stream.reorder([2, 1])
    if looked is not None:
        np.testing.assert_array_equal(stream.weights, looked[[2, 1]])
    np.testing.assert_array_equal(stream.step(target[6][order[[2, 1]]]), expected[6][:, :][[2, 1]])


def test_rows_past_the_last_source_start_from_the_last_one():
    model = made(attention="additive")
    source, _, _, lengths = batch()
    conditioned = model.with_source(source, lengths[0])
    logits = conditioned.stream(6).step(np.full(6, BOS))
    np.testing.assert_array_equal(logits[3:], logits[[3, 3, 3]])
    assert (conditioned.vocab_size, conditioned.num_sources) == (11, 4)


def test_a_shortlist_leaves_only_its_tokens():
    model = made(attention="additive")
    source, target, _, lengths = batch()
    ids = np.array([2, 5, 7])
    logits = model.decoder_stream(source, lengths[0], shortlist=ids).step(target[0])
    full = model.decoder_stream(source, lengths[0]).step(target[0])
    np.testing.assert_allclose(logits[:, ids], full[:, ids], rtol=1e-5, atol=1e-6)
    assert np.isneginf(np.delete(logits, ids, axis=1)).all()


def test_one_row_takes_a_token_without_dimensions():
    model = made(attention="additive")
    source, target, _, _ = batch(N=1)
    stream = model.decoder_stream(source)
    logits = stream.step(int(target[0, 0]))
    np.testing.assert_array_equal(logits, model(source, target)[0, 0])


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_one_row_may_come_without_its_dimension(options):
    model = made(scale=2.0, **options)
    source, target, targets, _ = batch(N=1)
    one, other = source[:, 0], target[:, 0]
    np.testing.assert_array_equal(model(one, other), model(source, target)[:, 0])
    if options["attention"] != "none":
        weights = model.attention(source, target)
        np.testing.assert_array_equal(model.attention(one, other), weights[..., 0])
    translated = model.translate(one, bos=BOS, eos=EOS, max_new_tokens=9)
    expected = model.translate(source, bos=BOS, eos=EOS, max_new_tokens=9)[0]
    np.testing.assert_array_equal(translated, expected)
    bare, full = model.encode(one), model.encode(source)
    np.testing.assert_array_equal(bare.memory, full.memory[:, 0])
    np.testing.assert_array_equal(np.array(bare.state), np.array(full.state)[..., 0, :])
    logits = model.decoder_stream(one).step(int(other[0]))
    np.testing.assert_array_equal(logits, model(one, other)[0])
    written = fastrnn.generate(model.with_source(one), [BOS], max_new_tokens=9, eos_token_id=EOS)[0]
    assert [token for token in written.tokens if token != EOS] == translated.tolist()
    gradients = []
    for inputs, wanted in (((one, other), targets[:, 0]), ((source, target), targets)):
        result, backward = model.loss_vjp(inputs, wanted)
        assert result == model.loss(inputs, wanted)
        model.zero_grad()
        backward()
        gradients.append(model.flat_grad.copy())
    np.testing.assert_array_equal(*gradients)


def test_padding_of_the_source_does_not_matter():
    model = made(attention="scaled_dot", bidirectional=True)
    source, target, _, lengths = batch()
    longer = np.concatenate((source, np.full((3, 4), 5)))
    expected = model(source, target, lengths)
    np.testing.assert_array_equal(model(longer, target, lengths), expected)
    weights = model.attention(longer, target, lengths)
    outside = np.arange(10)[:, None] >= lengths[0]
    assert (weights[:, outside] == 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_a_saved_model_comes_back_the_same(options, tmp_path):
    model = made(dropout=0.25, label_smoothing=0.1, sampling_probability=0.5, **options)
    model.vocabulary = ["a", "b"]
    model.save(tmp_path / "model.safetensors")
    other = fastrnn.load(tmp_path / "model.safetensors")
    source, target, _, lengths = batch()
    np.testing.assert_array_equal(other(source, target, lengths), model(source, target, lengths))
    assert other.config == model.config
    assert other.vocabulary == ["a", "b"]
    assert (other.label_smoothing, other.sampling_probability) == (0.1, 0.5)
    assert other.fingerprint() == model.fingerprint()


@pytest.mark.parametrize("feeding", [False, True])
def test_features_to_sequence_comes_back_and_streams_the_same(feeding, tmp_path):
    options = {"attention": "additive", "cell": "gru", "input_feeding": feeding}
    model = FeaturesToSequence(5, 11, 6, **options)
    model.save(tmp_path / "model.safetensors")
    other = fastrnn.load(tmp_path / "model.safetensors")
    features = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    target = batch()[1]
    logits = model(features, target, ([3, 1, 2, 3], None))
    stream = other.decoder_stream(features, [3, 1, 2, 3])
    for t in range(len(target)):
        np.testing.assert_array_equal(stream.step(target[t]), logits[t])


def reversals(count, seed):
    """Sequences and what they are backwards."""
    rng = np.random.default_rng(seed)
    source = [rng.integers(3, 9, rng.integers(1, 6)) for _ in range(count)]
    return Pairs(source, [ids[::-1] for ids in source], bos=BOS, eos=EOS), source


@pytest.mark.parametrize(("sampling", "feeding"), [(0.3, False), (0.0, True)])
def test_training_learns_to_reverse(sampling, feeding):
    options = {"attention": "multiplicative", "bidirectional": True, "input_feeding": feeding}
    model = Seq2Seq(9, 9, 24, sampling_probability=sampling, **options)
    model.reset_parameters(0)
    model.seed(1)
    examples, _ = reversals(512, 2)
    trainer = Trainer(model, Adam(model, lr=1e-2), clip_norm=1.0)
    source_of_batches = Buckets(examples, 32, seed=3)
    for _ in range(15):
        for part in source_of_batches.batches():
            trainer.step(part.inputs, part.targets, lengths=part.lengths)
    unseen, source = reversals(64, 4)
    result = trainer.evaluate(Buckets(unseen, 32, seed=0))
    assert result.loss < 0.35
    lengths = np.array([len(ids) for ids in source])
    padded = np.zeros((5, 64), np.int64)
    for n, ids in enumerate(source):
        padded[: len(ids), n] = ids
    found = model.translate(padded, lengths, bos=BOS, eos=EOS, max_new_tokens=8)
    right = sum(np.array_equal(a, b[::-1]) for a, b in zip(found, source, strict=True))
    assert right > 48


@pytest.mark.parametrize("feeding", [False, True])
def test_sampled_inputs_are_the_models_own_and_the_gradient_is_theirs(feeding):
    source, target, targets, lengths = batch()
    options = {"sampling_probability": 1.0, "sampling_temperature": 0.0, "input_feeding": feeding}
    model = made(attention="additive", scale=1.5, **options)
    mixed = target.copy()
    stream = model.decoder_stream(source, lengths[0])
    for t in range(len(target) - 1):
        mixed[t + 1] = stream.step(mixed[t]).argmax(axis=1)
    assert (mixed != target).any()
    result, backward = model.loss_vjp((source, target), targets, None, lengths)
    backward()
    gradient = model.flat_grad.copy()
    model.sampling_probability = 0.0
    model.zero_grad()
    forced, backward = model.loss_vjp((source, mixed), targets, None, lengths)
    backward()
    assert result == forced
    np.testing.assert_array_equal(gradient, model.flat_grad)


@pytest.mark.parametrize("feeding", [False, True])
def test_sampling_follows_the_seed_and_dropout_only_acts_in_training(feeding):
    source, target, targets, lengths = batch()
    options = {"dropout": 0.5, "sampling_probability": 0.5, "input_feeding": feeding}
    model = made(attention="additive", **options)
    losses = []
    for seed in (1, 1, 2):
        model.seed(seed)
        losses.append(model.loss_vjp((source, target), targets, None, lengths)[0].loss)
    assert losses[0] == losses[1] != losses[2]
    still = {model.loss((source, target), targets, None, lengths).loss for _ in range(2)}
    assert len(still) == 1


def test_tied_weights_are_one_and_either_name_loads():
    model = made(attention="additive", tie_weights=True)
    names = model.state_dict()
    np.testing.assert_array_equal(names["decoder.embedding.weight"], names["decoder.head.weight"])
    del names["decoder.head.weight"]
    other = made(1, attention="additive", tie_weights=True)
    other.load_state_dict(names)
    source, target, _, _ = batch()
    np.testing.assert_array_equal(other(source, target), model(source, target))


def test_rows_without_a_source_still_have_logits():
    model = made(attention="additive", bidirectional=True)
    source, target, _, _ = batch()
    logits = model(source, target, ([0, 3, 0, 7], None))
    assert np.isfinite(logits).all()


def test_wrong_arguments_are_named():
    model = made(attention="additive")
    source, target, targets, lengths = batch()
    with pytest.raises(ValueError, match="attention is 'dot', expected one of 'none', 'additive'"):
        Seq2Seq(9, 11, 6, attention="dot")
    with pytest.raises(ValueError, match="bridge is False, but the encoder's state"):
        Seq2Seq(9, 11, 6, bidirectional=True, bridge=False)
    with pytest.raises(ValueError, match="tie_weights needs embedding_dim equal to the 6"):
        Seq2Seq(9, 11, 6, embedding_dim=5, tie_weights=True)
    with pytest.raises(ValueError, match="input_feeding is True, but attention is 'none'"):
        Seq2Seq(9, 11, 6, input_feeding=True)
    with pytest.raises(ValueError, match="sampling_probability is 2"):
        Seq2Seq(9, 11, 6, sampling_probability=2)
    with pytest.raises(ValueError, match="sampling_temperature is -1"):
        Seq2Seq(9, 11, 6, sampling_temperature=-1)
    with pytest.raises(ValueError, match="source holds 9, expected indices from 0 to 8"):
        model(np.full_like(source, 9), target)
    with pytest.raises(ValueError, match=r"source has shape \(7, 4, 1\), expected \(S, N\) or"):
        model(source[..., None], target)
    with pytest.raises(ValueError, match=r"source has shape \(0,\), expected \(S, N\) or \(S,\)"):
        model([], target)
    with pytest.raises(ValueError, match=r"target has shape \(5, 4\), expected \(T,\), as source"):
        model(source[:, 0], target)
    with pytest.raises(ValueError, match=r"target has shape \(5,\), expected \(T, 4\) with T >= 1"):
        model(source, target[:, 0])
    with pytest.raises(ValueError, match="lengths needs a batch, but source has 1 dimension"):
        model(source[:, 0], target[:, 0], (None, [5]))
    with pytest.raises(ValueError, match="lengths needs a batch"):
        model.translate(source[:, 0], [7], bos=BOS, eos=EOS)
    with pytest.raises(ValueError, match=r"dlogits has shape \(5, 1, 11\), expected \(5, 11\)"):
        model.vjp(source[:, 0], target[:, 0])[1](np.zeros((5, 1, 11)))
    with pytest.raises(ValueError, match=r"target has shape \(5, 3\), expected \(T, 4\)"):
        model(source, target[:, :3])
    with pytest.raises(ValueError, match="target holds 11"):
        model(source, target * 0 + 11)
    with pytest.raises(ValueError, match="lengths is not a pair"):
        model(source, target, lengths[0])
    with pytest.raises(ValueError, match="inputs is not a pair"):
        model.loss(source, targets)
    with pytest.raises(ValueError, match="state is given, but a Seq2Seq"):
        model.loss((source, target), targets, np.zeros(3))
    with pytest.raises(ValueError, match="this Seq2Seq has no attention"):
        made().attention(source, target)
    with pytest.raises(ValueError, match="eos holds 11"):
        model.translate(source, bos=BOS, eos=11)
    stream = model.decoder_stream(source)
    with pytest.raises(ValueError, match=r"tokens has shape \(3,\), this stream expects \(4,\)"):
        stream.step(target[0, :3])
    with pytest.raises(ValueError, match="indices holds 4"):
        stream.reorder([0, 4])
    with pytest.raises(ValueError, match="indices has shape"):
        stream.reorder([])
    features = FeaturesToSequence(5, 11, 6)
    with pytest.raises(ValueError, match=r"source has shape \(2, 4\), expected \(N, 5\)"):
        features(np.zeros((2, 4)), target)
    with pytest.raises(ValueError, match="lengths needs sets"):
        features(np.zeros((4, 5)), target, ([1, 1, 1, 1], None))
