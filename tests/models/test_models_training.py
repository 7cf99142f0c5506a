"""Training calls of all models: the way back against finite differences, and the losses."""

from __future__ import annotations

import numpy as np
import pytest
from families import normal
from slopes import assert_slope

from fastrnn import models

CELLS = ["rnn", "lstm", "gru"]


def tokens(rng, steps=5, rows=3):
    return rng.integers(0, 7, (steps, rows))


def classifiers(kind, cell="lstm", **options):
    """One over tokens, one over features."""
    yield kind(4, 5, 2, vocab_size=7, embedding_dim=3, cell=cell, **options)
    yield kind(4, 5, input_size=3, cell=cell, bidirectional=True, **options)


def inputs_of(model, rng, steps=5, rows=3):
    return tokens(rng, steps, rows) if model.embedding else normal(rng, steps, rows, 3)


def cases():
    """Models, and the shape of their targets below 4."""
    for cell in CELLS:
        yield models.LanguageModel(7, 3, 5, 2, cell=cell, label_smoothing=0.1), "steps"
        for model in classifiers(models.SequenceTagger, cell, ignore_index=2):
            yield model, "steps"
        for pooling in ("last", "mean", "max"):
            for model in classifiers(models.SequenceClassifier, cell, pooling=pooling):
                yield model, "rows"


ALL = list(cases())
LABELS = [f"{type(model).__name__}-{i}" for i, (model, _) in enumerate(ALL)]


def targets_of(kind, rng, steps=5, rows=3):
    return rng.integers(0, 4, (steps, rows) if kind == "steps" else rows)


@pytest.mark.parametrize("lengths", [None, [5, 2, 4]])
@pytest.mark.parametrize(("model", "kind"), ALL, ids=LABELS)
def test_loss_gradients_follow_finite_differences(model, kind, lengths, rng):
    model.reset_parameters(seed=3)
    model.zero_grad()
    inputs, targets = inputs_of(model, rng), targets_of(kind, rng)
    result, backward = model.loss_vjp(inputs, targets, lengths=lengths)
    plain = model.loss(inputs, targets, lengths=lengths)
    assert result.loss == plain.loss
    assert result.count == plain.count
    backward()

    def value():
        return model.loss(inputs, targets, lengths=lengths).loss

    for name, tensor in model.parameters.items():
        if not (kind == "rows" and model.pooling == "max"):  # has corners
            assert_slope(value, tensor, model.grads[name], rng, model.repack)
    with pytest.raises(RuntimeError, match="was called before"):
        backward()


@pytest.mark.parametrize(("model", "kind"), ALL, ids=LABELS)
def test_a_vjp_gives_the_bits_of_the_call_and_the_inputs_gradient(model, kind, rng):
    inputs = inputs_of(model, rng)
    output, pullback = model.vjp(inputs)
    wanted = model(inputs)
    if isinstance(model, models.LanguageModel):
        assert np.array_equal(np.asarray(output[1]), np.asarray(wanted[1]))
        output, wanted = output[0], wanted[0]
    assert np.array_equal(output, wanted)
    weights = normal(rng, *output.shape)
    dx = pullback(weights)
    if isinstance(model, models.LanguageModel):
        assert dx[0] is None
    elif model.embedding:
        assert dx is None
    elif not (kind == "rows" and model.pooling == "max"):
        value = lambda: float((np.float64(model(inputs)) * weights).sum())  # noqa: E731
        assert_slope(value, inputs, dx, rng, lambda: None)


@pytest.mark.parametrize("scale", [0.5, 0.0])
def test_a_loss_is_scaled_before_it_is_added(scale, rng):
    for model, kind in ALL[:2] + ALL[3:5]:
        inputs, targets = inputs_of(model, rng), targets_of(kind, rng)
        model.zero_grad()
        model.loss_vjp(inputs, targets)[1]()
        wanted = scale * model.flat_grad
        model.zero_grad()
        model.loss_vjp(inputs, targets)[1](scale)
        assert np.allclose(model.flat_grad, wanted, rtol=1e-5, atol=1e-7)


def test_padded_steps_and_ignored_tags_do_not_count(rng):
    model = models.SequenceTagger(4, 5, vocab_size=7, ignore_index=-100)
    words, tags = tokens(rng), rng.integers(0, 4, (5, 3))
    lengths = [5, 2, 0]
    other = tags.copy()
    other[2:, 1], other[:, 2] = 99, -7
    result = model.loss(words, other, lengths=lengths)
    assert result == model.loss(words, tags, lengths=lengths)
    assert result.count == 7
    logits = model(words, lengths)
    hits = [logits[t, 0].argmax() == tags[t, 0] for t in range(5)]
    hits += [logits[t, 1].argmax() == tags[t, 1] for t in range(2)]
    assert result.correct == sum(hits)
    other[0, 0] = -100
    assert model.loss(words, other, lengths=lengths).count == 6
    alone = model.loss(words[:, 0], tags[:, 0])
    assert np.isclose(alone.loss, model.loss(words[:, :1], tags[:, :1]).loss, rtol=1e-6)


def test_rows_of_a_batch_classify_as_they_would_alone(rng):
    for pooling in ("last", "mean", "max"):
        for model in classifiers(models.SequenceClassifier, pooling=pooling):
            inputs, lengths = inputs_of(model, rng), np.array([5, 2, 4])
            batch = model(inputs, lengths)
            for row, length in enumerate(lengths):
                alone = model(inputs[:length, row])
                assert alone.shape == (4,)
                assert np.allclose(batch[row], alone, rtol=1e-5, atol=1e-6)


def test_a_row_without_steps_trains_nothing_of_the_recurrent_layers(rng):
    for pooling in ("last", "mean", "max"):
        model = models.SequenceClassifier(4, 5, vocab_size=7, pooling=pooling)
        logits, pullback = model.vjp(tokens(rng), [0, 0, 0])
        pullback(np.ones_like(logits))
        assert not model.rnn.flat_grad.any()
        assert model.head.grads["bias"].tolist() == [3.0] * 4


@pytest.mark.parametrize("cell", CELLS)
def test_a_language_model_s_state_carries_gradients_too(cell, rng):
    model = models.LanguageModel(7, 3, 5, 2, cell=cell)
    words, targets = tokens(rng, 6), rng.integers(0, 7, (6, 3))
    whole = model.loss_vjp(words, targets)
    whole[1]()
    wanted = model.flat_grad.copy()
    model.zero_grad()
    first, back_first = model.loss_vjp(words[:2], targets[:2])
    second, back_second = model.loss_vjp(words[2:], targets[2:], first.state)
    assert np.array_equal(np.asarray(second.state), np.asarray(whole[0].state))
    dstate = back_second(scale=4 / 6)
    back_first(scale=2 / 6, dstate=dstate)
    assert np.isclose((first.loss * 2 + second.loss * 4) / 6, whole[0].loss, rtol=1e-6)
    assert np.abs(model.flat_grad - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_tied_weights_get_the_gradients_of_both_uses(rng):
    free, tied = (models.LanguageModel(7, 5, 5, tie_weights=tie) for tie in (False, True))
    tied.reset_parameters(seed=1)
    free.load_state_dict(tied.state_dict())
    words, targets = tokens(rng), rng.integers(0, 7, (5, 3))
    for model in (free, tied):
        model.loss_vjp(words, targets)[1]()
    both = free.grads["embedding.weight"] + free.grads["head.weight"]
    assert np.abs(tied.grads["head.weight"] - both).max() <= 1e-6
    assert np.shares_memory(tied.grads["head.weight"], tied.grads["embedding.weight"])


OPTIONS = {
    "dropout": {"dropout": 0.5},
    "locked": {"dropout": 0.5, "locked_dropout": True},
    "weight_drop": {"weight_drop": 0.5},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_dropout_acts_in_training_and_its_gradients_follow(name, rng):
    model = models.LanguageModel(7, 6, 8, 1, **OPTIONS[name])
    words, targets = tokens(rng), rng.integers(0, 7, (5, 3))

    def loss():
        model.seed(4)
        return model.loss_vjp(words, targets)

    result, backward = loss()
    assert result.loss != model.loss(words, targets).loss
    assert result.loss == loss()[0].loss
    assert model.loss_vjp(words, targets)[0].loss != result.loss
    model.zero_grad()
    backward()
    for key, tensor in model.parameters.items():
        assert_slope(lambda: loss()[0].loss, tensor, model.grads[key], rng, model.repack)


@pytest.mark.parametrize("weight_drop", [0.0, 0.5])
def test_gradient_flow_is_left_in_the_recurrent_layers_on_request(weight_drop, rng):
    model = models.LanguageModel(7, 6, 8, 2, weight_drop=weight_drop)
    forecaster = models.Forecaster(3, 8, 2)
    words, targets = tokens(rng), rng.integers(0, 7, (5, 3))
    for flow in (False, True):
        model.flow = forecaster.flow = flow
        model.loss_vjp(words, targets)[1]()
        forecaster.loss_vjp(normal(rng, 5, 3, 3), normal(rng, 1, 3, 3))[1]()
        for rnn in (model.rnn, forecaster.rnn):
            assert (rnn.last_flow is not None) == flow
            assert not flow or rnn.last_flow.norm.shape == (2, 5)


@pytest.mark.parametrize("kind", [models.SequenceClassifier, models.SequenceTagger])
def test_dropout_of_a_classifier_is_the_same_for_the_same_seed(kind, rng):
    for model in classifiers(kind, dropout=0.5):
        inputs = inputs_of(model, rng)
        model.seed(1)
        one = model.vjp(inputs)[0]
        other = model.vjp(inputs)[0]
        model.seed(1)
        assert np.array_equal(model.vjp(inputs)[0], one)
        assert not np.array_equal(one, other)
        assert not np.array_equal(one, model(inputs))


@pytest.mark.parametrize("objective", ["mse", "mae", "huber"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_forecaster_s_gradients_follow_finite_differences(cell, objective, rng):
    model = models.Forecaster(3, 5, 2, horizon=2, targets=[2, 0], cell=cell, objective=objective)
    model.reset_parameters(seed=2)
    for lengths in (None, [6, 2, 4, 1]):
        model.zero_grad()
        x, wanted = normal(rng, 6, 4, 3), 3 * normal(rng, 2, 4, 2)
        result, backward = model.loss_vjp(x, wanted, lengths=lengths)
        assert result == model.loss(x, wanted, lengths=lengths)
        assert result.count == 16
        assert result.correct is None
        backward()

        def value(x=x, wanted=wanted, lengths=lengths):
            return model.loss(x, wanted, lengths=lengths).loss

        for name, tensor in model.parameters.items():
            assert_slope(value, tensor, model.grads[name], rng, model.repack)
    forecast, pullback = model.vjp(x[:, 0])
    assert np.array_equal(forecast, model(x[:, 0]))
    assert pullback(forecast).shape == (6, 3)


def test_an_autoregression_can_be_trained_step_by_step_too(rng):
    model = models.AutoRegression(2, 3, horizon=2)
    x, wanted = normal(rng, 5, 4, 2), normal(rng, 2, 4, 2)
    _, backward = model.loss_vjp(x, wanted)
    backward()
    for name, tensor in model.parameters.items():
        assert_slope(
            lambda: model.loss(x, wanted).loss, tensor, model.grads[name], rng, model.repack
        )
    forecast, pullback = model.vjp(x)
    weights = normal(rng, *forecast.shape)
    value = lambda: float((np.float64(model(x)) * weights).sum())  # noqa: E731
    assert_slope(value, x, pullback(weights), rng, lambda: None)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("tied", [False, True])
def test_a_language_model_s_gradients_equal_pytorch_s(cell, tied, rng):
    torch = pytest.importorskip("torch")
    model = models.LanguageModel(11, 8, 8, 2, cell=cell, tie_weights=tied, label_smoothing=0.1)
    words, targets = rng.integers(0, 11, (12, 4)), rng.integers(0, 11, (12, 4))
    encoder, head = torch.nn.Embedding(11, 8), torch.nn.Linear(8, 11)
    rnn = getattr(torch.nn, cell.upper())(8, 8, 2)
    theirs = torch.nn.ModuleDict({"embedding": encoder, "rnn": rnn, "head": head})
    theirs.load_state_dict({k: torch.tensor(v) for k, v in model.state_dict().items()})
    if tied:
        head.weight = encoder.weight
    logits = head(rnn(encoder(torch.tensor(words)))[0])
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    loss = criterion(logits.reshape(-1, 11), torch.tensor(targets).reshape(-1))
    loss.backward()
    result, backward = model.loss_vjp(words, targets)
    backward()
    assert abs(result.loss - loss.item()) <= 1e-6
    for name, tensor in theirs.named_parameters():
        wanted = tensor.grad.numpy()
        assert np.abs(model.grads[name] - wanted).max() <= 1e-5 * max(1e-2, np.abs(wanted).max())


@pytest.mark.parametrize("cell", CELLS)
def test_a_classifier_s_gradients_equal_pytorch_s(cell, rng):
    torch = pytest.importorskip("torch")
    model = models.SequenceClassifier(4, 8, 2, vocab_size=7, cell=cell, bidirectional=True)
    words, classes = rng.integers(0, 7, (9, 5)), rng.integers(0, 4, 5)
    lengths = np.array([9, 3, 1, 8, 5])
    encoder, head = torch.nn.Embedding(7, 8), torch.nn.Linear(16, 4)
    rnn = getattr(torch.nn, cell.upper())(8, 8, 2, bidirectional=True)
    theirs = torch.nn.ModuleDict({"embedding": encoder, "rnn": rnn, "head": head})
    theirs.load_state_dict({k: torch.tensor(v) for k, v in model.state_dict().items()})
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        encoder(torch.tensor(words)), torch.tensor(lengths), enforce_sorted=False
    )
    h = rnn(packed)[1]
    h = h[0] if cell == "lstm" else h
    logits = head(torch.cat([h[-2], h[-1]], dim=1))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(classes))
    loss.backward()
    result, backward = model.loss_vjp(words, classes, lengths=lengths)
    backward()
    assert abs(result.loss - loss.item()) <= 1e-6
    assert result.correct == int((logits.argmax(1).numpy() == classes).sum())
    for name, tensor in theirs.named_parameters():
        wanted = tensor.grad.numpy()
        assert np.abs(model.grads[name] - wanted).max() <= 1e-5 * max(1e-2, np.abs(wanted).max())
