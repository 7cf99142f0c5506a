"""Models take layers that are built already, of any options, and say where they do not fit."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from two_sizes import TwoSizes

import fastrnn
from fastrnn import (
    GRU,
    LSTM,
    RNN,
    Conv1d,
    Embedding,
    LayerNorm,
    LiGRU,
    Linear,
    Residual,
    Sequential,
    Tanh,
    WeightDrop,
    _core,
    generate,
    models,
)
from fastrnn.optim import SGD

V, I, H, T, N = 9, 3, 4, 6, 2  # noqa: E741
RNG = np.random.default_rng(3)
X = RNG.standard_normal((T, N, I)).astype(np.float32)
TOKENS, SOURCE = RNG.integers(0, V, (T, N)), RNG.integers(0, 7, (5, N))


def learned(layer):
    """A layer whose learned state is not zero."""
    for name in ("h_0", "c_0"):
        if name in layer.parameters:
            layer.parameters[name][...] = 0.25
    layer.repack()
    return layer


RECURRENT = {
    "peephole": lambda: LSTM(I, H, 2, peephole=True),
    "reset before": lambda: GRU(I, H, reset="before"),
    "learned state": lambda: learned(LSTM(I, H, learned_state=True)),
    "projection": lambda: LSTM(I, 5, proj_size=H),
    "no bias": lambda: GRU(I, H, bias=False),
    "relu": lambda: RNN(I, H, nonlinearity="relu"),
}
STACKS = {
    "mixed stack": lambda: Sequential(
        learned(LSTM(I, 5, peephole=True, learned_state=True)), GRU(5, H, reset="before")
    ),
    "light stack": lambda: Sequential(
        LiGRU(I, 6), Sequential(LSTM(6, 7, proj_size=3)), RNN(3, H, nonlinearity="relu")
    ),
    "stack with more": lambda: Sequential(
        WeightDrop(GRU(I, 6), 0.0), LayerNorm(6), Residual(LSTM(6, 6)), Linear(6, H), Tanh()
    ),
    "convolution": lambda: Sequential(Conv1d(I, 5, 3, padding="causal"), GRU(5, H)),
}
LAYERS = (
    RECURRENT
    | STACKS
    | {
        "hard gates": lambda: GRU(I, H, recurrent_activation="hard_sigmoid"),
        "light": lambda: LiGRU(I, H, 2),
        "dropped weights": lambda: WeightDrop(LSTM(I, H, peephole=True), 0.0),
        "two sizes": lambda: TwoSizes(LSTM(I, 7), GRU(7, H)),
    }
)
MODELS = {
    "language": (lambda rnn: models.LanguageModel(V, rnn=rnn), TOKENS, TOKENS),
    "language, tied": (
        lambda rnn: models.LanguageModel(
            rnn=rnn, embedding=Embedding(V, I), head=Linear(H, V), dropout=0.0
        ),
        TOKENS,
        TOKENS,
    ),
    "tagger": (lambda rnn: models.SequenceTagger(2, input_size=I, rnn=rnn), X, TOKENS % 2),
    "classifier": (lambda rnn: models.SequenceClassifier(3, rnn=rnn), X, TOKENS[0] % 3),
    "classifier, mean": (
        lambda rnn: models.SequenceClassifier(rnn=rnn, head=Linear(H, 3), pooling="mean"),
        X,
        TOKENS[0] % 3,
    ),
    "forecaster": (lambda rnn: models.Forecaster(rnn=rnn, horizon=2), X, X[:2]),
}


def first(result):
    return result[0] if isinstance(result, tuple) else result


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes_with_the_layer_that_it_is_given(name, layer):
    make, inputs, _ = MODELS[name]
    rnn = LAYERS[layer]()
    alone = copy.deepcopy(rnn)
    model = make(rnn)
    assert model.rnn is rnn
    x = inputs if inputs.dtype == np.float32 else model.embedding(inputs)
    y, _ = alone(x)
    wanted = {"classifier": y[-1], "classifier, mean": y.mean(axis=0), "forecaster": y[-1]}
    logits = model.head(wanted.get(name, y))
    found = first(model(inputs))
    if name == "forecaster":
        found = found.transpose(1, 0, 2).reshape(logits.shape)
    np.testing.assert_allclose(found, logits, rtol=1e-6, atol=1e-6)
    if name != "classifier, mean":
        np.testing.assert_array_equal(found, logits)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_around_a_layer_learns_by_the_slope_of_its_loss(name, layer):
    make, inputs, targets = MODELS[name]
    model = make(LAYERS[layer]())
    model.reset_parameters(0)
    result, backward = model.loss_vjp(inputs, targets)
    backward()
    slope = float((model.flat_grad.astype(np.float64) ** 2).sum())
    assert slope > 0
    before, step = result.loss, 1e-3 / max(1.0, slope)
    SGD(model, lr=step).step()
    np.testing.assert_allclose(before - model.loss(inputs, targets).loss, step * slope, rtol=0.1)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", MODELS)
def test_a_row_that_ends_early_is_as_it_is_alone(name, layer):
    make, inputs, targets = MODELS[name]
    model = make(LAYERS[layer]())
    logits, lengths = first(model(inputs, lengths=[T, 3])), [T, 3]
    alone = first(model(inputs[:3, 1:]))
    found = logits[:3, 1:] if logits.ndim == 3 and name != "forecaster" else logits[..., 1:, :]
    np.testing.assert_allclose(found, alone, rtol=1e-6, atol=1e-7)
    loss = model.loss_vjp(inputs, targets, None, lengths)[0].loss
    assert loss == pytest.approx(model.loss(inputs, targets, None, lengths).loss, rel=1e-5)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", MODELS)
def test_a_stream_of_a_model_gives_the_bits_of_its_call(name, layer):
    make, inputs, _ = MODELS[name]
    model = make(LAYERS[layer]())
    if name == "classifier, mean":
        with pytest.raises(ValueError, match="pooling 'mean' needs the whole sequence"):
            model.stream()
        return
    stream = model.stream(N)
    steps = [stream.step(x) for x in inputs[:3]]
    snapshot, state = stream.snapshot(), stream.state
    steps += [stream.step(x) for x in inputs[3:]]
    found = np.stack(steps) if first(model(inputs)).ndim == 3 else steps[-1]
    found = steps[-1] if name == "forecaster" else found
    np.testing.assert_array_equal(found, first(model(inputs)))
    for go_back in (lambda: stream.restore(snapshot), lambda: setattr(stream, "state", state)):
        go_back()
        np.testing.assert_array_equal([stream.step(x) for x in inputs[3:]], steps[3:])
    stream.reset()
    out = np.empty_like(steps[0])
    np.testing.assert_array_equal(stream.step(inputs[0], out=out), steps[0])
    np.testing.assert_array_equal(out, steps[0])
    other = make(LAYERS[layer]())
    with pytest.raises(ValueError, match="another model or from other weights"):
        other.stream(N).restore(snapshot)


@pytest.mark.parametrize("layer", LAYERS)
def test_generation_goes_through_any_layer(layer):
    model = models.LanguageModel(V, rnn=LAYERS[layer]())
    for beams in (1, 2):
        found = generate(model, [[1, 2], [3]], max_new_tokens=4, num_beams=beams)
        for prompt, result in zip(([1, 2], [3]), found, strict=True):
            logits, _ = model(np.array([*prompt, *result.tokens])[:-1])
            logits = logits[len(prompt) - 1 :].astype(np.float64)
            wide = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
            picked = wide[np.arange(4), result.tokens]
            np.testing.assert_allclose(picked, result.logprobs, atol=1e-5)
            assert beams > 1 or list(wide.argmax(axis=-1)) == list(result.tokens)


@pytest.mark.parametrize("layer", [name for name in LAYERS if name != "two sizes"])
@pytest.mark.parametrize("name", MODELS)
def test_files_and_copies_keep_the_layer(name, layer, tmp_path):
    make, inputs, _ = MODELS[name]
    model = make(LAYERS[layer]())
    model.save(tmp_path / "model")
    for again in (fastrnn.load(tmp_path / "model"), copy.deepcopy(model)):
        assert repr(again.rnn) == repr(model.rnn)
        assert again.config == model.config
        assert again.fingerprint() == model.fingerprint()
        np.testing.assert_array_equal(first(again(inputs)), first(model(inputs)))


@pytest.mark.parametrize("name", MODELS)
def test_a_layer_of_a_class_that_no_file_may_name_is_not_saved(name, tmp_path):
    model = MODELS[name][0](LAYERS["two sizes"]())
    with pytest.raises(TypeError, match=r"module\.rnn is a TwoSizes.*save_pytorch writes"):
        model.save(tmp_path / "model")
    again = copy.deepcopy(model)
    np.testing.assert_array_equal(first(again(MODELS[name][1])), first(model(MODELS[name][1])))


# ---- sequence to sequence, and both ways --------------------------------------------------------

DECODERS = {
    "mixed stack": lambda: Sequential(LSTM(I, 5, peephole=True), GRU(5, H, reset="before")),
    "light stack": STACKS["light stack"],
    "stack with more": STACKS["stack with more"],
    "light": lambda: LiGRU(I, H),
    "dropped weights": lambda: WeightDrop(LSTM(I, H, peephole=True), 0.0),
    "hard gates": lambda: LSTM(I, H, recurrent_activation=("hard_sigmoid", 0.2, 0.5)),
}
PAIRS = {
    "stack to stack": lambda: {
        "encoder": DECODERS["mixed stack"](),
        "rnn": DECODERS["mixed stack"](),
    },
    "stack to layer": lambda: {"encoder": STACKS["mixed stack"](), "rnn": LSTM(I, H)},
    "layer to stack": lambda: {
        "encoder": GRU(I, 5, bidirectional=True),
        "rnn": DECODERS["light stack"](),
    },
    "two ways to stack": lambda: {
        "encoder": Sequential(GRU(I, 5, bidirectional=True), LSTM(10, 4, bidirectional=True)),
        "rnn": DECODERS["stack with more"](),
    },
    "light": lambda: {"encoder": LiGRU(I, H), "rnn": LiGRU(I, H), "cell": "ligru"},
    "dropped weights": lambda: {
        "encoder": WeightDrop(GRU(I, 5), 0.0),
        "rnn": DECODERS["dropped weights"](),
    },
    "hard gates": lambda: {"encoder": GRU(I, H), "rnn": DECODERS["hard gates"]()},
    "peepholes": lambda: {"encoder": LSTM(I, H, peephole=True), "rnn": LSTM(I, H, peephole=True)},
    "before": lambda: {"encoder": GRU(I, H, bidirectional=True), "rnn": GRU(I, 5, reset="before")},
    "other cells": lambda: {"encoder": GRU(I, H), "rnn": LSTM(5, 6, 2)},
    "fewer states": lambda: {"encoder": LSTM(I, H), "rnn": RNN(I, 5)},
    "projections": lambda: {"encoder": LSTM(I, 6, proj_size=2), "rnn": LSTM(I, 5, proj_size=4)},
    "learned": lambda: {"encoder": learned(GRU(I, H, learned_state=True))},
    "decoder alone": lambda: {"rnn": GRU(I, H, 2, reset="before"), "encoder_layers": 1},
    "head": lambda: {"hidden_size": H, "head": Linear(H, V, bias=False)},
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("attention", ["none", "additive"])
def test_encoder_and_decoder_may_be_any_recurrent_layers(pair, attention, tmp_path):
    model = models.Seq2Seq(7, V, attention=attention, **PAIRS[pair]())
    check_slope(model, (SOURCE, TOKENS))
    stream = model.decoder_stream(SOURCE)
    steps = np.stack([stream.step(tokens) for tokens in TOKENS])
    np.testing.assert_array_equal(steps, model(SOURCE, TOKENS))
    model.save(tmp_path / "model")
    for again in (fastrnn.load(tmp_path / "model"), copy.deepcopy(model)):
        assert repr(again) == repr(model)
        assert again.config == model.config
        np.testing.assert_array_equal(again(SOURCE, TOKENS), model(SOURCE, TOKENS))


def check_slope(model, inputs):
    model.reset_parameters(0)  # draws may leave every unit of a small ReLU layer at 0
    result, backward = model.loss_vjp(inputs, TOKENS)
    backward()
    assert all(grad.any() for name, grad in model.grads.items() if "bias" not in name)
    slope = float((model.flat_grad.astype(np.float64) ** 2).sum())
    step = 1e-3 / max(1.0, slope)
    SGD(model, lr=step).step()
    lost = result.loss - model.loss(inputs, TOKENS).loss
    np.testing.assert_allclose(lost, step * slope, rtol=0.1)


def test_a_decoder_that_is_fed_takes_what_it_gives(tmp_path):
    options = {"attention": "scaled_dot", "input_feeding": True, "tie_weights": True}
    model = models.Seq2Seq(7, V, rnn=GRU(2 * H, H, reset="before"), **options)
    assert model.decoder.embedding.dim == H
    check_slope(model, (SOURCE, TOKENS))
    model.save(tmp_path / "model")
    again = fastrnn.load(tmp_path / "model")
    np.testing.assert_array_equal(again(SOURCE, TOKENS), model(SOURCE, TOKENS))
    assert again.parameters["decoder.head.weight"] is again.parameters["decoder.embedding.weight"]


@pytest.mark.parametrize(
    "layer", ["peephole", "reset before", "projection", "relu", *sorted(DECODERS)]
)
def test_features_are_described_by_any_recurrent_layer(layer, tmp_path):
    rnn = (RECURRENT | DECODERS)[layer]()
    model = models.FeaturesToSequence(2, V, rnn=rnn, attention="additive")
    features = RNG.standard_normal((5, N, 2)).astype(np.float32)
    check_slope(model, (features, TOKENS))
    model.save(tmp_path / "model")
    again = fastrnn.load(tmp_path / "model")
    assert again.config == model.config
    np.testing.assert_array_equal(again(features, TOKENS), model(features, TOKENS))


@pytest.mark.parametrize("layer", sorted(RECURRENT | DECODERS))
def test_both_ways_may_be_any_recurrent_layers(layer, tmp_path):
    forward, backward = ((RECURRENT | DECODERS)[layer]() for _ in range(2))
    model = models.BidirectionalLanguageModel(V, forward=forward, backward=backward)
    model.reset_parameters(0)
    result, backward = model.loss_vjp(TOKENS, TOKENS[::-1])
    backward()
    slope = float((model.flat_grad.astype(np.float64) ** 2).sum())
    step = 1e-3 / max(1.0, slope)
    SGD(model, lr=step).step()
    lost = result.loss - model.loss(TOKENS, TOKENS[::-1]).loss
    np.testing.assert_allclose(lost, step * slope, rtol=0.1)
    if layer == "stack with more":
        with pytest.raises(
            ValueError, match="forward has a LayerNorm in it, expected recurrent layers"
        ):
            model.embed_layers(TOKENS)
    else:
        found = model.embed_layers(TOKENS)
        assert len(found) == model.num_layers + 1
        np.testing.assert_array_equal(found[-1], model.embed(TOKENS))
    model.save(tmp_path / "model")
    again = fastrnn.load(tmp_path / "model")
    assert again.config == model.config
    np.testing.assert_array_equal(again.embed(TOKENS), model.embed(TOKENS))


@pytest.mark.parametrize("layer", [name for name in LAYERS if name != "two sizes"])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "classifier, mean"])
def test_a_step_of_a_model_is_one_call_of_the_core(name, layer):
    stream = MODELS[name][0](LAYERS[layer]()).stream(N)
    assert isinstance(stream, _core.Stream)
    kinds = stream.network.kinds
    assert kinds[-1] == "linear"
    assert kinds.count("recurrent") >= 1


@pytest.mark.parametrize("layer", STACKS)
def test_a_language_model_goes_on_through_the_states_of_a_stack(layer):
    model = models.LanguageModel(V, rnn=STACKS[layer]())
    whole, last = model(TOKENS)
    first_half, state = model(TOKENS[:3])
    second_half, end = model(TOKENS[3:], state)
    np.testing.assert_array_equal(np.concatenate((first_half, second_half)), whole)
    assert end.keys() == last.keys() == set(model.rnn.carried)
    result, backward = model.loss_vjp(TOKENS[:3], TOKENS[1:4])
    _, back = model.loss_vjp(TOKENS[3:], TOKENS[3:], result.state)
    found = backward(1.0, back(1.0))
    assert found.keys() == last.keys()


def test_windows_of_a_stack_learn_and_are_resumed_with_its_state(tmp_path):
    def trained(name, *stops):
        for stop in stops:
            model = models.LanguageModel(V, rnn=STACKS["mixed stack"](), dropout=0.2)
            model.reset_parameters(1)
            model.seed(2)
            truncation = fastrnn.train.RandomTruncation(0.5, seed=0)
            trainer = fastrnn.train.Trainer(model, SGD(model, lr=0.1), truncation=truncation)
            source = fastrnn.data.TextStream(np.tile(np.arange(8), 60), 2, 5)
            trainer.fit(source, max_steps=stop, out=tmp_path / name, resume=True, progress=False)
        return model.flat

    before = models.LanguageModel(V, rnn=STACKS["mixed stack"]())
    before.reset_parameters(1)
    once = trained("once", 6)
    assert not np.array_equal(once, before.flat)
    np.testing.assert_array_equal(once, trained("parts", 2, 6))


@pytest.mark.parametrize("layer", ["mixed stack", "light stack"])
@pytest.mark.parametrize("beams", [1, 2])
def test_a_stack_is_decoded_as_it_is_taught(layer, beams):
    model = models.Seq2Seq(
        7, V, attention="scaled_dot", encoder=GRU(I, 5, bidirectional=True), rnn=DECODERS[layer]()
    )
    found = generate(model.with_source(SOURCE), [[1], [2]], max_new_tokens=4, num_beams=beams)
    for n, result in enumerate(found):
        tokens = np.array([n + 1, *result.tokens])
        logits = model(SOURCE[:, n], tokens[:-1]).astype(np.float64)
        wide = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        np.testing.assert_allclose(wide[np.arange(4), tokens[1:]], result.logprobs, atol=1e-5)


def test_one_source_gives_the_state_of_a_stack_without_rows():
    model = models.Seq2Seq(7, V, encoder=GRU(I, 5), rnn=DECODERS["mixed stack"]())
    state = model.encode(SOURCE[:, 0]).state
    assert state["0"][0].shape == state["0"][1].shape == (1, 5)
    assert state["1"].shape == (1, H)
    rows = model.encode(SOURCE).state
    np.testing.assert_allclose(state["1"], rows["1"][:, 0], rtol=1e-6)


@pytest.mark.parametrize("flow", [False, True])
def test_a_stack_that_is_fed_learns_and_streams(flow):
    rnn = Sequential(LSTM(2 + H, 5), GRU(5, H))
    model = models.Seq2Seq(7, V, rnn=rnn, embedding_dim=2, attention="additive", input_feeding=True)
    model.flow = flow
    check_slope(model, (SOURCE, TOKENS))
    stream = model.decoder_stream(SOURCE)
    steps = np.stack([stream.step(tokens) for tokens in TOKENS])
    np.testing.assert_array_equal(steps, model(SOURCE, TOKENS))
    for layer in rnn.modules:
        assert (layer.last_flow is not None) == flow
        assert not flow or layer.last_flow.norm.shape == (1, T)


def test_an_autoregression_takes_its_head():
    head = Linear(4, 2)
    model = models.AutoRegression(order=2, head=head)
    assert (model.input_size, model.head) == (2, head)
    x = X[..., :2]
    np.testing.assert_array_equal(model(x)[0], head(x[-2:].transpose(1, 0, 2).reshape(N, 4)))
