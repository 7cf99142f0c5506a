"""copy.copy, copy.deepcopy and pickle: nothing that was set is lost, and nothing is shared."""

from __future__ import annotations

import copy
import inspect
import pickle
from functools import partial
from types import FunctionType, ModuleType

import numpy as np
import pytest
from activations import ACTIVATIONS

import fastrnn
from fastrnn import data, decode, losses, models, nn, optim, schedules, train
from fastrnn.nn.module import Module
from fastrnn.nn.recurrent import LAYERS
from fastrnn.nn.recurrent_base import Cell, Recurrent

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
NAMES = {kind.__name__: kind for kind in MADE}
MODULES = sorted(name for name, kind in NAMES.items() if issubclass(kind, Module))
WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "old pickle": lambda value: pickle.loads(pickle.dumps(value, 2)),
}


def public_classes():
    owners = [fastrnn, data, decode, losses, models, optim, schedules, train]
    names = [(owner, getattr(owner, "__all__", vars(owner))) for owner in owners]
    found = {getattr(owner, name) for owner, all_ in names for name in all_ if name[0] != "_"}
    return {kind for kind in found if inspect.isclass(kind) and "fastrnn" in kind.__module__}


def test_every_public_class_is_copied_here_or_known_not_to_be():
    assert public_classes() == set(MADE) | set(REFUSED) | NOT_MADE


def made(name):
    """One of the class; modules with a generator half way, and gradients."""
    value = NAMES[name if isinstance(name, str) else name.__name__]
    value = MADE[value]()
    if isinstance(value, Module):
        value.seed(7)
        value.generator.random(3)
        for i, grad in enumerate(value.grads.values()):
            grad[...] = i
    return value


def contents(value):
    """What an object is made of, by name; None for what has no parts."""
    if isinstance(value, Module):
        state = value.__getstate__()
        tensors = {"parameters": value.parameters, "grads": value.grads}
        return {**state, **tensors, "class": type(value)}
    if isinstance(value, np.random.Generator):
        return {"state": value.bit_generator.state}
    if isinstance(value, dict):
        return {f"{key!r}": part for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return {str(i): part for i, part in enumerate(value)}
    if isinstance(value, fastrnn.Shortlist):
        return value.__getstate__()
    return dict(vars(value)) if hasattr(value, "__dict__") else None


def assert_same(a, b, at=""):
    if isinstance(a, np.random.Generator):
        assert isinstance(b, np.random.Generator), at
    else:
        assert type(a) is type(b), at
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, at
        np.testing.assert_array_equal(a, b, err_msg=at)
    elif isinstance(a, (type, FunctionType, ModuleType)):
        assert a is b, at
    elif (parts := contents(a)) is not None:
        others = contents(b)
        assert list(parts) == list(others), at
        for name, part in parts.items():
            assert_same(part, others[name], f"{at}.{name}")
    else:
        assert a == b or a is b or a != a, at


def mutable_parts(value, seen):
    """Arrays, lists, dicts and objects that a value holds, with the buffers of arrays, by id."""
    if id(value) in seen or isinstance(value, (type, FunctionType, ModuleType, str, bytes)):
        return seen
    if isinstance(value, np.ndarray):
        seen[id(value)] = value
        owner = value.base if isinstance(value.base, np.ndarray) else value
        seen[id(owner)] = owner
        return seen
    parts = contents(value)
    if parts is not None:
        if not isinstance(value, tuple):
            seen[id(value)] = value
        inner = vars(value).values() if isinstance(value, Module) else parts.values()
        for part in inner:
            mutable_parts(part, seen)
    return seen


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", NAMES)
def test_a_copy_has_all_that_was_set_and_shares_nothing(name, way):
    original = made(name)
    twin = WAYS[way](original)
    assert_same(original, twin)
    if way == "copy" and not isinstance(original, (Module, fastrnn.Shortlist)):
        return  # Python's shallow copy: the same parts
    shared = mutable_parts(original, {}).keys() & mutable_parts(twin, {}).keys()
    assert not [mutable_parts(original, {})[key] for key in shared]


class Words(decode.Trie):
    def __init__(self, *words):
        super().__init__(words)
        self.note = [len(words)]


@pytest.mark.parametrize("way", WAYS)
def test_a_constraint_that_was_used_is_copied_with_what_its_own_class_has(way):
    original = Words([1, 2], [3])
    options = {"constraint": original, "eos_token_id": 0, "max_new_tokens": 3, "do_sample": True}
    model = language_model()
    fastrnn.generate(model, [1], seed=2, **options)
    assert original.kept is not None
    twin = WAYS[way](original)
    assert type(twin) is Words
    assert twin.note == [2]
    assert [twin.accepts(text) for text in ([1, 2], [3], [1], [2])] == [True, True, False, False]
    text = fastrnn.generate(model, [1], seed=2, **{**options, "constraint": twin})[0].tokens
    assert twin.accepts(text[:-1])


def test_a_shallow_copy_of_an_optimiser_moves_the_same_model_by_its_own_vectors():
    original = made("Adam")
    vectors = {name: vector.copy() for name, vector in original.state.items()}
    twin = copy.copy(original)
    assert twin.model is original.model
    twin.model.flat_grad[...] = 2.0
    twin.lr = 0.5
    twin.step()
    assert (original.steps, original.lr) == (2, 0.125)
    assert_same(vectors, original.state)


def test_a_shallow_copy_of_a_schedule_a_source_or_a_truncation_goes_on_by_itself():
    schedule = made("Warmup")
    rate, twin = schedule.lr(9), copy.copy(schedule)
    for _ in range(5):
        twin.observe(9.0)
    assert twin.lr(9) < rate == schedule.lr(9)
    source = made("Buckets")
    place, twin = source.state_dict(), copy.copy(source)
    expected = [batch.targets.tolist() for batch in copy.deepcopy(source).batches()]
    assert [batch.targets.tolist() for batch in twin.batches()] == expected
    assert source.state_dict() == place
    assert twin.examples is source.examples
    truncation = made("RandomTruncation")
    state = truncation.generator.bit_generator.state
    copy.copy(truncation).generator.random()
    assert truncation.generator.bit_generator.state == state


def outcome(module):
    """What a call in training and its way back give, and the gradients that they add."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((4, 2, 2)).astype(np.float32)
    tokens = rng.integers(0, 5, (4, 2))
    if isinstance(module, models.AutoRegression):
        loss, back = module.loss_vjp(rng.standard_normal((5, 2, 2)), np.ones((1, 2, 2)))
    elif isinstance(module, models.Forecaster):
        loss, back = module.loss_vjp(x, np.ones((1, 2, 2)))
    elif isinstance(module, (models.LanguageModel, models.BidirectionalLanguageModel)):
        loss, back = module.loss_vjp(tokens, tokens)
    elif isinstance(module, models.SequenceTagger):
        loss, back = module.loss_vjp(x, tokens % 3)
    elif isinstance(module, models.SequenceClassifier):
        loss, back = module.loss_vjp(tokens, [0, 2])
    elif isinstance(module, models.Seq2Seq):
        loss, back = module.loss_vjp((tokens, tokens), tokens)
    elif isinstance(module, models.FeaturesToSequence):
        loss, back = module.loss_vjp((x[0], tokens), tokens)
    else:
        return layer_outcome(module, x, tokens)
    back()
    return loss.loss, [grad.copy() for grad in module.grads.values()]


def layer_outcome(module, x, tokens):
    if isinstance(module, Cell):
        return module(x[0])
    if isinstance(module, Recurrent):
        (y, _), back = module.vjp(x)
    elif isinstance(module, fastrnn.Attention):
        memory = np.ones((5, 2, 3), np.float32)
        (y, _), back = module.vjp(x, memory)
    elif isinstance(module, (fastrnn.Embedding, fastrnn.EmbeddingDropout)):
        y, back = module.vjp(tokens)
    elif isinstance(module, fastrnn.ScalarMix):
        y, back = module.vjp([x, x, x])
    elif isinstance(module, fastrnn.WeightDrop):
        (y, _), back = module.vjp(x)
    elif isinstance(module, (fastrnn.Graph, fastrnn.Sequential, fastrnn.Residual)):
        return network_outcome(module)
    elif isinstance(module, (fastrnn.Add, fastrnn.Multiply, fastrnn.Concatenate)):
        y, back = module.vjp(x, 2 * x)
    elif isinstance(module, (fastrnn.Select, fastrnn.Reshape)):
        y, back = module.vjp(np.arange(24, dtype=np.float32).reshape(2, 2, 6))
    else:
        y, back = module.vjp(x.reshape(4, 4) if isinstance(module, fastrnn.LayerNorm) else x)
    return y, back(np.ones_like(y)), [grad.copy() for grad in module.grads.values()]


def network_outcome(net):
    """Of inputs that fit, whether they are vectors or frames."""
    shapes = net._shapes.values()
    sizes = [(size,) if isinstance(size, int) else size[size[0] == 1 :] for size in shapes]
    x = tuple(np.ones((4, 2, *size), np.float32) for size in sizes)
    (y, state), back = net.vjp(x if len(x) > 1 else x[0])
    return y, state, back(y), [grad.copy() for grad in net.grads.values()]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODULES)
def test_a_copy_trains_with_the_bits_of_the_original(name, way):
    """Dropout goes on from where the generator was, in all parts alike."""
    original = made(name)
    outcome(original)
    twin = WAYS[way](original)
    for _ in range(2):
        expected, got = outcome(original), outcome(twin)
        assert_same(expected, got, name)
    twin.flat += 1.0
    twin.repack()
    again = WAYS[way](original)
    assert_same(outcome(original), outcome(again), name)  # whatever became of the first copy


@pytest.mark.parametrize("way", WAYS)
def test_tied_weights_stay_tied_in_a_copy(way):
    for name in ("LanguageModel", "Seq2Seq", "FeaturesToSequence"):
        twin = WAYS[way](made(name))
        part = twin if name == "LanguageModel" else twin.decoder
        assert part.head.parameters["weight"] is part.embedding.parameters["weight"]
        assert part.head.grads["weight"] is part.embedding.grads["weight"]
        part.embedding.weight[...] = 0.0
        part.embedding.repack()  # by itself: the head follows
        bias = part.head.parameters["bias"]
        np.testing.assert_array_equal(part.head(np.ones((1, part.head.in_features)))[0], bias)
        assert np.shares_memory(part.head.parameters["weight"], twin.flat)
        assert twin.num_parameters == made(name).num_parameters


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_of_a_tied_head_alone_brings_a_copy_of_the_weight_s_owner(way):
    model = language_model()
    twin = WAYS[way](model.head)
    assert not np.shares_memory(twin.parameters["weight"], model.flat)
    x = np.ones((2, 4), np.float32)
    before = model.head(x)
    np.testing.assert_array_equal(twin(x), before)
    model.embedding.weight[...] = 0.0
    model.repack()
    np.testing.assert_array_equal(twin(x), before)


def test_two_models_that_are_copied_together_still_share_their_part():
    shared = fastrnn.Embedding(5, 2)
    twins = copy.deepcopy([shared, shared])
    assert twins[0] is twins[1]


@pytest.mark.parametrize("way", WAYS)
def test_a_stream_is_refused_and_says_what_to_do(way):
    for make in REFUSED.values():
        with pytest.raises(TypeError, match="cannot be copied or pickled, but its state can"):
            WAYS[way](make())
