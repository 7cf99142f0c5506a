"""One of every public class, with every option and setting at another value than its usual one."""

from __future__ import annotations

import inspect
from functools import partial

import numpy as np
from activations import ACTIVATIONS

import fastrnn
from fastrnn import data, decode, losses, models, nn, optim, schedules, train
from fastrnn.nn.recurrent import LAYERS

TOKENS = np.arange(40) % 7
SEQUENCES = [np.arange(3) % 5 + 2, np.arange(4) % 5 + 2, np.arange(5) % 5 + 2]


def with_budget(layer, budget):
    layer.memory_budget = budget
    return layer


def trained_optimizer(kind, **options):
    model = fastrnn.GRU(2, 3)
    optimizer = kind(model, **options)
    for _ in range(2):
        model.flat_grad[...] = 0.5
        optimizer.step()
    optimizer.lr = 0.125
    return optimizer


def stepped(schedule):
    for metric in (1.0, 2.0, 3.0):
        schedule.observe(metric)
    return schedule


def read(source):
    next(iter(source.batches()))
    return source


def language_model():
    model = models.LanguageModel(
        7, 4, 4, 2, tie_weights=True, dropout=0.5, label_smoothing=0.1, ignore_index=3,
        weight_drop=0.25, locked_dropout=True,
    )  # fmt: skip
    model.vocabulary, model.extra, model.flow = ["a", "b"], {"note": [1]}, True
    model.limit_memory(10**7)
    return model


def forecaster():
    model = models.Forecaster(2, 3)
    model.scaler = data.Scaler([1.0, 2.0], [3.0, 4.0])
    return model


def trainer():
    model = models.LanguageModel(7, 4, 3, dropout=0.5)
    made = train.Trainer(
        model,
        optim.Adam(model),
        schedule=stepped(schedules.Plateau(0.1)),
        clip_norm=1.0,
        max_loss=9,
    )
    made.step(TOKENS[:6, None], TOKENS[1:7, None])
    return made


# Activations with arguments, all of them unusual; the others have none.
ACTIVATIONS_MADE = {kind: kind for kind in ACTIVATIONS} | {
    nn.Clip: lambda: nn.Clip(-0.5, 0.25),
    nn.ELU: lambda: nn.ELU(0.5),
    nn.GELU: lambda: nn.GELU("tanh"),
    nn.HardSigmoid: lambda: nn.HardSigmoid(0.2, 0.25),
    nn.Hardtanh: lambda: nn.Hardtanh(-0.5, 0.25),
    nn.LeakyReLU: lambda: nn.LeakyReLU(0.5),
    nn.Softplus: lambda: nn.Softplus(2.0, 0.5),
}

# One of each public class, with every option and setting at another value than its usual one.
MADE = {
    fastrnn.RNN: lambda: with_budget(fastrnn.RNN(2, 3, 2, "relu", False, True, 0.5, True), 10**6),
    fastrnn.LSTM: lambda: with_budget(
        fastrnn.LSTM(2, 4, 2, dropout=0.5, proj_size=3, peephole=True), 10**6
    ),
    fastrnn.GRU: lambda: with_budget(fastrnn.GRU(2, 3, 2, reset="before", merge="sum"), 10**6),
    **{  # families whose layers have no options of their own
        kind: partial(kind, 2, 3, 2, bidirectional=True)
        for kind in LAYERS.values()
        if kind not in (fastrnn.RNN, fastrnn.LSTM, fastrnn.GRU)
    },
    fastrnn.RNNCell: lambda: fastrnn.RNNCell(2, 3, False, "sigmoid"),
    fastrnn.LSTMCell: lambda: fastrnn.LSTMCell(2, 3, peephole=True),
    fastrnn.GRUCell: lambda: fastrnn.GRUCell(2, 3, reset="before"),
    fastrnn.Linear: lambda: fastrnn.Linear(2, 3, bias=False),
    fastrnn.Embedding: lambda: fastrnn.Embedding(5, 2),
    fastrnn.LayerNorm: lambda: fastrnn.LayerNorm(4, eps=0.25),
    fastrnn.Conv1d: lambda: fastrnn.Conv1d(2, 4, 2, 1, "causal", 2, 2, False),
    fastrnn.ScaleShift: lambda: fastrnn.ScaleShift(2),
    fastrnn.Add: fastrnn.Add,
    fastrnn.Multiply: fastrnn.Multiply,
    fastrnn.Concatenate: fastrnn.Concatenate,
    fastrnn.Select: lambda: fastrnn.Select(1, 3),
    fastrnn.Reshape: lambda: fastrnn.Reshape(2, 3),
    fastrnn.Residual: lambda: fastrnn.Residual(fastrnn.GRU(3, 3, learned_state=True)),
    fastrnn.Sequential: lambda: fastrnn.Sequential(
        fastrnn.Dropout(0.25), fastrnn.Linear(2, 3), fastrnn.Residual(fastrnn.LSTM(3, 3))
    ),
    fastrnn.Graph: lambda: fastrnn.Graph(
        {"a": 3, "b": (2, 4)},
        {"flat": fastrnn.Reshape(1, 8), "all": fastrnn.Concatenate(), "rnn": fastrnn.RNN(11, 2)},
        wires={"flat": "b", "all": ("a", "flat")},
        outputs=["rnn", "all"],
    ),
    fastrnn.Pooling: lambda: fastrnn.Pooling("max"),
    fastrnn.Flip: fastrnn.Flip,
    fastrnn.PReLU: lambda: fastrnn.PReLU(2, 0.5),
    fastrnn.Dropout: lambda: fastrnn.Dropout(0.25),
    fastrnn.LockedDropout: lambda: fastrnn.LockedDropout(0.25, batch_first=True),
    fastrnn.EmbeddingDropout: lambda: fastrnn.EmbeddingDropout(fastrnn.Embedding(5, 2), 0.5),
    fastrnn.ScalarMix: lambda: fastrnn.ScalarMix(3),
    fastrnn.Attention: lambda: fastrnn.Attention("additive", 2, 3, 4),
    fastrnn.WeightDrop: lambda: fastrnn.WeightDrop(
        with_budget(fastrnn.GRU(2, 3, 2, dropout=0.5), 10**6), 0.25
    ),
    fastrnn.Shortlist: lambda: fastrnn.Shortlist(fastrnn.Linear(2, 5), [3, 1]),
    fastrnn.PackedSequence: lambda: fastrnn.pack_sequence(SEQUENCES, enforce_sorted=False),
    fastrnn.Generation: lambda: fastrnn.generate(language_model(), [1], max_new_tokens=2)[0],
    models.LanguageModel: language_model,
    models.SequenceClassifier: lambda: models.SequenceClassifier(
        3, 4, vocab_size=7, bidirectional=True, pooling="max", dropout=0.5, label_smoothing=0.1
    ),
    models.SequenceTagger: lambda: models.SequenceTagger(3, 4, input_size=2, cell="gru"),
    models.Forecaster: forecaster,
    models.AutoRegression: lambda: models.AutoRegression(2, 3),
    models.BidirectionalLanguageModel: lambda: models.BidirectionalLanguageModel(
        7, 4, 3, dropout=0.5
    ),
    models.Seq2Seq: lambda: models.Seq2Seq(
        7,
        8,
        4,
        attention="additive",
        bidirectional=True,
        tie_weights=True,
        dropout=0.5,
        input_feeding=True,
        sampling_probability=0.5,
        sampling_temperature=2.0,
    ),
    models.FeaturesToSequence: lambda: models.FeaturesToSequence(2, 8, 4, tie_weights=True),
    **ACTIVATIONS_MADE,
    optim.SGD: lambda: trained_optimizer(optim.SGD, lr=0.1, momentum=0.5),
    optim.Adam: lambda: trained_optimizer(optim.Adam, betas=(0.5, 0.75), weight_decay=0.5),
    optim.AdamW: lambda: trained_optimizer(optim.AdamW, eps=0.5),
    optim.RMSprop: lambda: trained_optimizer(optim.RMSprop, momentum=0.5, centered=True),
    optim.Adagrad: lambda: trained_optimizer(optim.Adagrad, initial_accumulator_value=0.5),
    schedules.Constant: lambda: schedules.Constant(0.5),
    schedules.Warmup: lambda: stepped(schedules.Warmup(schedules.Plateau(0.5, patience=1), 3)),
    schedules.Cosine: lambda: schedules.Cosine(0.5, 9),
    schedules.StepDecay: lambda: schedules.StepDecay(0.5, 3),
    schedules.Exponential: lambda: schedules.Exponential(0.5, 0.75),
    schedules.Plateau: lambda: stepped(schedules.Plateau(0.5, patience=1)),
    train.Trainer: trainer,
    train.RandomTruncation: lambda: train.RandomTruncation(0.5, seed=3),
    train.StepReport: lambda: trainer().last,
    train.FitResult: lambda: trainer().fit(
        data.TextStream(TOKENS, 2, 3, seed=1), max_steps=2, history=[], progress=False
    ),
    train.GradientFlow: lambda: train.GradientFlow(np.ones((1, 2)), np.zeros((1, 2))),
    losses.LossResult: lambda: losses.cross_entropy(np.ones((2, 3)), [0, 1]),
    data.Vocabulary: lambda: data.Vocabulary("abc", specials=["pad"]),
    data.Scaler: lambda: data.Scaler([1.0], [2.0]),
    data.Sequences: lambda: data.Sequences.of(SEQUENCES),
    data.LabelledSequences: lambda: data.LabelledSequences(SEQUENCES, ["a", "b", "a"], pad=1),
    data.TaggedSequences: lambda: data.TaggedSequences(SEQUENCES, SEQUENCES, ignore_index=-5),
    data.ShiftedSequences: lambda: data.ShiftedSequences(SEQUENCES, bos=0, eos=1),
    data.Pairs: lambda: data.Pairs(SEQUENCES, SEQUENCES, bos=0, eos=1),
    data.Subset: lambda: data.Subset(data.LabelledSequences(SEQUENCES, [0, 1, 0]), [2, 0]),
    data.Buckets: lambda: read(
        data.Buckets(data.LabelledSequences(SEQUENCES, [0, 1, 0]), 1, seed=5)
    ),
    data.TextStream: lambda: read(data.TextStream(TOKENS, 2, 3, lengths="random", seed=5)),
    data.Windows: lambda: read(data.Windows(np.arange(20.0), 4, 2, stride=2, seed=5)),
    decode.Automaton: lambda: decode.Automaton([{1: 1}, {2: 0}], [1], 1),
    decode.Trie: lambda: decode.Trie([[1, 2], [1, 3]]),
}
REFUSED = {fastrnn.Stream: lambda: fastrnn.GRU(2, 3).stream()}
# Bases and protocols, of which there are no objects; tuples and errors, which Python copies.
NOT_MADE = {
    optim.Optimizer, schedules.Schedule, models.Model, data.Source, data.Examples,
    decode.Decodable, decode.DecodingError, decode.TokenStream,
    train.ResumeError, train.TrainingDiverged,
    data.Batch, data.Labelled, data.Split, data.Table, data.Tagged,
}  # fmt: skip


def public_classes():
    owners = [fastrnn, data, decode, losses, models, optim, schedules, train]
    names = [(owner, getattr(owner, "__all__", vars(owner))) for owner in owners]
    found = {getattr(owner, name) for owner, all_ in names for name in all_ if name[0] != "_"}
    return {kind for kind in found if inspect.isclass(kind) and "fastrnn" in kind.__module__}
