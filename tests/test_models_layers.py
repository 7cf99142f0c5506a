"""Models take layers that are built already, of any options, and say where they do not fit."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import fastrnn
from fastrnn import GRU, LSTM, RNN, Embedding, Linear, WeightDrop, generate, models
from fastrnn.nn.composite import Composite
from fastrnn.optim import SGD

V, I, H, T, N = 9, 3, 4, 6, 2  # noqa: E741
RNG = np.random.default_rng(3)
X = RNG.standard_normal((T, N, I)).astype(np.float32)
TOKENS, SOURCE = RNG.integers(0, V, (T, N)), RNG.integers(0, 7, (5, N))


class TwoSizes(Composite):
    """An LSTM under a GRU of another size: a layer that is no recurrent one of fastrnn's."""

    _modules = ("below", "above")

    def __init__(self, below, above):
        self.below, self.above = below, above
        self._assemble()

    @property
    def input_size(self):
        return self.below.input_size

    @property
    def output_size(self):
        return self.above.output_size

    def __call__(self, x, state=None, *, lengths=None):
        state = (None, None) if state is None else state
        y, below = self.below(x, state[0], lengths=lengths)
        y, above = self.above(y, state[1], lengths=lengths)
        return y, (below, above)

    def vjp(self, x, state=None, lengths=None):
        state = (None, None) if state is None else state
        (y, below), to_x = self.below.vjp(x, state[0], lengths)
        (y, above), to_y = self.above.vjp(y, state[1], lengths)

        def pullback(dy, dstate=None):
            dstate = (None, None) if dstate is None else dstate
            dy, d_above = to_y(dy, dstate[1])
            dx, d_below = to_x(dy, dstate[0])
            return dx, (d_below, d_above)

        return (y, (below, above)), pullback

    def stream(self, batch_size=1):
        return TwoStreams(self.below.stream(batch_size), self.above.stream(batch_size))


class TwoStreams:
    def __init__(self, below, above):
        self.both = below, above

    def step(self, x):
        return self.both[1].step(self.both[0].step(x))

    def reset(self):
        for one in self.both:
            one.reset()

    def reorder(self, indices):
        for one in self.both:
            one.reorder(indices)

    @property
    def state(self):
        return tuple(one.state for one in self.both)

    @state.setter
    def state(self, value):
        for one, part in zip(self.both, value, strict=True):
            one.state = part

    def snapshot(self):
        first, second = (one.snapshot() for one in self.both)
        return len(first).to_bytes(4, "little") + first + second

    def restore(self, snapshot):
        end = 4 + int.from_bytes(snapshot[:4], "little")
        self.both[0].restore(snapshot[4:end])
        self.both[1].restore(snapshot[end:])


def learned(layer):
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
LAYERS = RECURRENT | {
    "dropped weights": lambda: WeightDrop(LSTM(I, H, peephole=True), 0.0),
    "two sizes": lambda: TwoSizes(LSTM(I, 7), GRU(7, H)),
}
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

PAIRS = {
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


@pytest.mark.parametrize("layer", ["peephole", "reset before", "projection", "relu"])
def test_features_are_described_by_any_recurrent_layer(layer, tmp_path):
    model = models.FeaturesToSequence(2, V, rnn=RECURRENT[layer](), attention="additive")
    features = RNG.standard_normal((5, N, 2)).astype(np.float32)
    check_slope(model, (features, TOKENS))
    model.save(tmp_path / "model")
    again = fastrnn.load(tmp_path / "model")
    assert again.config == model.config
    np.testing.assert_array_equal(again(features, TOKENS), model(features, TOKENS))


@pytest.mark.parametrize("layer", RECURRENT)
def test_both_ways_may_be_any_recurrent_layers(layer, tmp_path):
    forward, backward = RECURRENT[layer](), RECURRENT[layer]()
    model = models.BidirectionalLanguageModel(V, forward=forward, backward=backward)
    result, backward = model.loss_vjp(TOKENS, TOKENS[::-1])
    backward()
    slope = float((model.flat_grad.astype(np.float64) ** 2).sum())
    step = 1e-3 / max(1.0, slope)
    SGD(model, lr=step).step()
    lost = result.loss - model.loss(TOKENS, TOKENS[::-1]).loss
    np.testing.assert_allclose(lost, step * slope, rtol=0.1)
    np.testing.assert_array_equal(model.embed_layers(TOKENS)[-1], model.embed(TOKENS))
    model.save(tmp_path / "model")
    again = fastrnn.load(tmp_path / "model")
    assert again.config == model.config
    np.testing.assert_array_equal(again.embed(TOKENS), model.embed(TOKENS))


def test_an_autoregression_takes_its_head():
    head = Linear(4, 2)
    model = models.AutoRegression(order=2, head=head)
    assert (model.input_size, model.head) == (2, head)
    x = X[..., :2]
    np.testing.assert_array_equal(model(x)[0], head(x[-2:].transpose(1, 0, 2).reshape(N, 4)))


# ---- what does not fit ---------------------------------------------------------------------------

REFUSED = {
    "hidden size": (
        lambda: models.LanguageModel(V, hidden_size=5, rnn=LSTM(I, H)),
        "hidden_size is 5, but rnn has hidden_size 4",
    ),
    "layers": (
        lambda: models.SequenceTagger(2, num_layers=1, rnn=LSTM(I, H, 2)),
        "num_layers is 1, but rnn has num_layers 2",
    ),
    "cell": (
        lambda: models.Forecaster(cell="gru", rnn=LSTM(I, H)),
        "cell is 'gru', but rnn is an LSTM",
    ),
    "size of another class": (
        lambda: models.LanguageModel(V, hidden_size=4, rnn=TwoSizes(LSTM(I, 7), GRU(7, H))),
        "hidden_size is 4, but rnn is a TwoSizes of sizes of its own",
    ),
    "directions": (
        lambda: models.SequenceTagger(2, bidirectional=True, rnn=LSTM(I, H)),
        "bidirectional is True, but rnn has bidirectional False",
    ),
    "embedding": (
        lambda: models.LanguageModel(V, 5, rnn=LSTM(I, H)),
        "embedding_dim is 5, the recurrent layers expect 3",
    ),
    "table": (
        lambda: models.LanguageModel(V, embedding=Embedding(8, I), rnn=LSTM(I, H)),
        "vocab_size is 9, expected the 8 of embedding",
    ),
    "width of a table": (
        lambda: models.LanguageModel(V, 4, embedding=Embedding(V, I), rnn=LSTM(I, H)),
        "embedding_dim is 4, expected the 3 of embedding",
    ),
    "head": (
        lambda: models.LanguageModel(V, rnn=LSTM(I, H), head=Linear(5, V)),
        "the head takes 5 features, expected the 4 of the recurrent layers",
    ),
    "outputs": (
        lambda: models.SequenceClassifier(3, rnn=LSTM(I, H), head=Linear(H, 2)),
        r"the head gives 2 numbers, expected 3 \(num_classes\)",
    ),
    "inputs": (
        lambda: models.Forecaster(2, rnn=LSTM(I, H)),
        "input_size is 2, expected the 3 of rnn",
    ),
    "batch first": (
        lambda: models.SequenceTagger(2, rnn=LSTM(I, H, batch_first=True)),
        "rnn has batch_first=True",
    ),
    "no layer": (
        lambda: models.LanguageModel(V, rnn=Linear(I, H)),
        "rnn is a Linear, expected a layer over sequences",
    ),
    "a class": (lambda: models.LanguageModel(V, rnn=LSTM), "rnn is a type, expected a layer"),
    "no head": (
        lambda: models.LanguageModel(V, rnn=LSTM(I, H), head=LSTM(H, V)),
        "head is an LSTM, expected a Linear",
    ),
    "no table": (
        lambda: models.LanguageModel(V, rnn=LSTM(I, H), embedding=Linear(I, V)),
        "embedding is a Linear, expected an Embedding",
    ),
    "backwards forecast": (
        lambda: models.Forecaster(rnn=LSTM(I, H, bidirectional=True)),
        "rnn is bidirectional",
    ),
    "two last states": (
        lambda: models.SequenceClassifier(2, rnn=WeightDrop(LSTM(I, H, bidirectional=True))),
        "pooling is 'last', but rnn reads in two directions",
    ),
    "dropped weights of others": (
        lambda: models.LanguageModel(V, rnn=TwoSizes(LSTM(I, 7), GRU(7, H)), weight_drop=0.5),
        "weight_drop is 0.5, which needs an RNN, an LSTM or a GRU",
    ),
    "encoder": (
        lambda: models.Seq2Seq(7, V, H, encoder=TwoSizes(LSTM(I, 7), GRU(7, H))),
        "encoder is a TwoSizes, expected an RNN, an LSTM or a GRU",
    ),
    "encoder layers": (
        lambda: models.Seq2Seq(7, V, encoder=LSTM(I, H), encoder_layers=2),
        "encoder_layers is 2, but encoder has num_layers 1",
    ),
    "decoder that reads backwards": (
        lambda: models.Seq2Seq(7, V, H, rnn=LSTM(I, H, bidirectional=True)),
        "rnn is bidirectional, expected layers in one direction",
    ),
    "decoder with a state of its own": (
        lambda: models.Seq2Seq(7, V, rnn=LSTM(I, H, learned_state=True)),
        "rnn has a learned state, but a decoder starts from its source's",
    ),
    "decoder that is fed": (
        lambda: models.Seq2Seq(7, V, rnn=GRU(H, H), attention="additive", input_feeding=True),
        "rnn takes 4 features, expected more than 4 that are fed",
    ),
    "bridge": (
        lambda: models.Seq2Seq(7, V, encoder=GRU(I, 5), rnn=GRU(I, H), bridge=False),
        "bridge is False, but the encoder's state",
    ),
    "ways apart": (
        lambda: models.BidirectionalLanguageModel(V, forward=GRU(I, H), backward=GRU(I, 5)),
        "backward has output_size 5, expected 4",
    ),
    "order": (
        lambda: models.AutoRegression(order=3, head=Linear(4, 2)),
        "expected a multiple of 3",
    ),
    "no bias": (lambda: models.AutoRegression(2, 2, head=Linear(4, 2, False)), "head has no bias"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_by_name(name):
    make, message = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_a_layer_has_one_model():
    rnn = LSTM(I, H)
    model = models.LanguageModel(V, rnn=rnn)
    before = model(TOKENS)[0]
    with pytest.raises(ValueError, match=r"rnn is part of a LanguageModel already.*deepcopy\(rnn"):
        models.SequenceTagger(2, rnn=rnn)
    np.testing.assert_array_equal(model(TOKENS)[0], before)
    models.SequenceTagger(2, rnn=copy.deepcopy(rnn))
    both = GRU(I, H)
    with pytest.raises(ValueError, match="encoder and rnn are the same layer"):
        models.Seq2Seq(7, V, encoder=both, rnn=both)
    with pytest.raises(ValueError, match="forward and backward are the same layer"):
        models.BidirectionalLanguageModel(V, forward=both, backward=both)
    with pytest.raises(ValueError, match="encoder is part of a LanguageModel already"):
        models.Seq2Seq(7, V, encoder=rnn, rnn=both)
    models.Seq2Seq(7, V, rnn=both)  # it is still free
    del model
    models.SequenceTagger(2, rnn=rnn)  # the other model is gone


def test_a_layer_that_was_refused_is_as_it_was():
    rnn = LSTM(I, H)
    x = rnn(X)[0]
    for options in ({"dropout": 7}, {"cell": "gru"}, {"head": Linear(5, V)}):
        with pytest.raises(ValueError, match=r"dropout|cell|head"):
            models.LanguageModel(V, rnn=rnn, **options)
        with pytest.raises(ValueError, match=r"dropout|cell|head"):
            models.Seq2Seq(7, V, rnn=rnn, **options)
    np.testing.assert_array_equal(rnn(X)[0], x)
    models.LanguageModel(V, rnn=rnn)
