"""copy.copy, copy.deepcopy and pickle: nothing that was set is lost, and nothing is shared."""

from __future__ import annotations

import copy
import pickle
from types import FunctionType, ModuleType

import numpy as np
import pytest
from made import (
    MADE,
    NOT_MADE,
    REFUSED,
    language_model,
    public_classes,
)

import fastrnn
from fastrnn import decode, models
from fastrnn.nn.module import Module
from fastrnn.nn.recurrent_base import Cell, Recurrent

NAMES = {kind.__name__: kind for kind in MADE}
MODULES = sorted(name for name, kind in NAMES.items() if issubclass(kind, Module))
WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "old pickle": lambda value: pickle.loads(pickle.dumps(value, 2)),
}


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
