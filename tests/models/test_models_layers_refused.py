"""Layers that do not fit a model are refused by name, and are as they were."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from two_sizes import TwoSizes

from fastrnn import (
    GRU,
    LSTM,
    Conv1d,
    Embedding,
    Linear,
    Reshape,
    Sequential,
    Tanh,
    WeightDrop,
    models,
)

V, I, H = 9, 3, 4  # noqa: E741
RNG = np.random.default_rng(3)
X = RNG.standard_normal((6, 2, I)).astype(np.float32)
TOKENS = RNG.integers(0, V, (6, 2))

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
        "weight_drop is 0.5, which needs a recurrent layer as rnn, not a TwoSizes",
    ),
    "encoder": (
        lambda: models.Seq2Seq(7, V, H, encoder=TwoSizes(LSTM(I, 7), GRU(7, H))),
        "encoder is a TwoSizes, expected an LSTM, .* or a Sequential of them",
    ),
    "encoder without recurrence": (
        lambda: models.Seq2Seq(7, V, H, encoder=Sequential(Linear(I, 7), Tanh())),
        "encoder is a Sequential, expected .*, got one without recurrent layers",
    ),
    "encoder with another state": (
        lambda: models.Seq2Seq(
            7, V, H, encoder=Sequential(Conv1d(I, 5, 3, padding="causal"), GRU(5, H))
        ),
        "encoder carries a state of '0', expected states of recurrent layers alone",
    ),
    "stack that reads backwards": (
        lambda: models.FeaturesToSequence(
            2, V, rnn=Sequential(LSTM(I, H, bidirectional=True), GRU(2 * H, H))
        ),
        "rnn is bidirectional, expected layers in one direction",
    ),
    "stack with a state of its own": (
        lambda: models.Seq2Seq(
            7, V, rnn=Sequential(LSTM(I, H), GRU(H, H, learned_state=True)), hidden_size=None
        ),
        "rnn has a learned state, but a decoder starts from its source's",
    ),
    "stack of frames": (
        lambda: models.SequenceTagger(2, rnn=Sequential(LSTM(I, H), Reshape(2, 2))),
        "rnn is no layer over sequences of vectors: this Sequential does not give one vector",
    ),
    "stack of tokens": (
        lambda: models.LanguageModel(V, rnn=Sequential(Embedding(V, I), LSTM(I, H))),
        "rnn is no layer over sequences of vectors: this Sequential does not read one vector",
    ),
    "stack with rows first": (
        lambda: models.SequenceTagger(2, rnn=Sequential(LSTM(I, H, batch_first=True))),
        "rnn has batch_first=True",
    ),
    "size of a stack": (
        lambda: models.LanguageModel(V, hidden_size=4, rnn=Sequential(LSTM(I, 7), GRU(7, H))),
        "hidden_size is 4, but rnn is a Sequential of sizes of its own",
    ),
    "stacks apart": (
        lambda: models.BidirectionalLanguageModel(
            V, forward=Sequential(GRU(I, H), GRU(H, H)), backward=GRU(I, H)
        ),
        "backward has num_layers 1, expected 2, as forward has it",
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
