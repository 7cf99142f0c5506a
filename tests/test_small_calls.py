"""One vector through one module: what surrounds the kernel costs little, whatever comes in."""

from __future__ import annotations

import timeit

import numpy as np
import pytest

import fastrnn

X = np.array([0.5], np.float32)
STEP, BATCH = X[None], X[None, None]
ONE = np.array([1])


def recurrent(kind, x, with_state):
    layer = kind(1, 1)
    state = layer(x)
    state = state[1] if isinstance(state, tuple) and not kind.__name__.endswith("Cell") else state
    return (lambda: layer(x, state)) if with_state else (lambda: layer(x))


def attention(kind):
    layer = fastrnn.Attention(kind, 1, 1)
    return lambda: layer(BATCH, BATCH)


def bound(module, *arguments):
    return lambda: module(*arguments)


LAYERS = [fastrnn.RNN, fastrnn.LSTM, fastrnn.GRU]
CELLS = [fastrnn.RNNCell, fastrnn.LSTMCell, fastrnn.GRUCell]
ROWS = {
    "Linear": lambda: bound(fastrnn.Linear(1, 1), X),
    "Linear without bias": lambda: bound(fastrnn.Linear(1, 1, bias=False), STEP),
    "LayerNorm": lambda: bound(fastrnn.LayerNorm(1), X),
    "Conv1d": lambda: bound(fastrnn.Conv1d(1, 1, 1), STEP),
    "ReLU": lambda: bound(fastrnn.ReLU(), X),
    "GELU": lambda: bound(fastrnn.GELU(), X),
    "Softmax": lambda: bound(fastrnn.Softmax(), X),
    "ScaleShift": lambda: bound(fastrnn.ScaleShift(1), X),
    "PReLU": lambda: bound(fastrnn.PReLU(), X),
    "Embedding": lambda: bound(fastrnn.Embedding(3, 2), ONE),
    "Embedding of an int": lambda: bound(fastrnn.Embedding(3, 2), 1),
    "EmbeddingDropout": lambda: bound(fastrnn.EmbeddingDropout(fastrnn.Embedding(3, 2)), ONE),
    "Dropout": lambda: bound(fastrnn.Dropout(), X),
    "LockedDropout": lambda: bound(fastrnn.LockedDropout(), STEP),
    "Shortlist": lambda: bound(fastrnn.Shortlist(fastrnn.Linear(1, 3), ONE), X),
    "ScalarMix": lambda: bound(fastrnn.ScalarMix(2), [X, X]),
}
STEPS = {
    f"{kind.__name__} on {x.ndim} dimensions{' from a state' * state}": (
        lambda kind=kind, x=x, state=state: recurrent(kind, x, state)
    )
    for kinds, inputs in ((LAYERS, (STEP, BATCH)), (CELLS, (X, STEP)))
    for kind in kinds
    for x in inputs
    for state in (False, True)
} | {"WeightDrop": lambda: bound(fastrnn.WeightDrop(fastrnn.LSTM(1, 1)), BATCH)}
LOOKS = {kind: lambda kind=kind: attention(kind) for kind in ("multiplicative", "additive")}


def fastest(call, loops=500, repeats=20):
    """Seconds of one call: the least of many short measurements, for neighbours only add to it."""
    return min(timeit.repeat(call, number=loops, repeat=repeats)) / loops


@pytest.mark.parametrize(
    ("make", "times"),
    [(make, 6) for make in ROWS.values()]
    + [(make, 14) for make in STEPS.values()]
    + [(make, 40) for make in LOOKS.values()],
    ids=[*ROWS, *STEPS, *LOOKS],
)
def test_a_call_costs_few_times_a_stream_s_step_of_the_same_size(make, times):
    """Twice what was measured when all was quiet: a step took 0.2 us, LSTM with a state 1.2."""
    call, y = make(), np.empty(1, np.float32)
    stream = fastrnn.LSTM(1, 1).stream()
    for _ in range(3):  # measured again before it is accused
        if fastest(call) <= times * fastest(lambda: stream.step(X, out=y)):
            return
    pytest.fail(f"the call takes more than {times} times as long as a step of a stream")


def variants(x):
    """x in other types and layouts, of equal value."""
    misaligned = np.empty(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    misaligned[...] = x
    wide = np.repeat(x, 2, axis=-1)[..., ::2]
    read_only = x.copy()
    read_only.flags.writeable = False
    return {
        "float64": x.astype(np.float64),
        "big-endian": x.astype(">f4"),
        "float16": x.astype(np.float16),
        "Fortran": np.asfortranarray(x),
        "strided": wide,
        "misaligned": misaligned,
        "read-only": read_only,
        "list": x.tolist(),
        "subclass": x.view(type("Sub", (np.ndarray,), {})),
    }


MODULES = {
    "Linear": (lambda: fastrnn.Linear(4, 3), 2),
    "LayerNorm": (lambda: fastrnn.LayerNorm(4), 3),
    "Conv1d": (lambda: fastrnn.Conv1d(4, 3, 2, padding="causal"), 3),
    "SiLU": (fastrnn.SiLU, 1),
    "Magnitude": (fastrnn.Magnitude, 2),
    "ScaleShift": (lambda: fastrnn.ScaleShift(4), 3),
    "PReLU": (fastrnn.PReLU, 3),
    "Shortlist": (lambda: fastrnn.Shortlist(fastrnn.Linear(4, 5), [3, 1]), 2),
    "ScalarMix": (lambda: fastrnn.ScalarMix(2), 3),
    "RNN": (lambda: fastrnn.RNN(4, 3, 2, bidirectional=True), 3),
    "LSTM": (lambda: fastrnn.LSTM(4, 3, 2, proj_size=2), 3),
    "GRU": (lambda: fastrnn.GRU(4, 3, batch_first=True), 3),
    "GRU of one row": (lambda: fastrnn.GRU(4, 3), 2),
    "LSTMCell": (lambda: fastrnn.LSTMCell(4, 3), 2),
    "GRUCell of one row": (lambda: fastrnn.GRUCell(4, 3), 1),
}


def arrays_of(result):
    """All arrays in a nest of tuples."""
    if not isinstance(result, tuple):
        return [result]
    return [array for part in result for array in arrays_of(part)]


@pytest.mark.parametrize("name", MODULES)
def test_types_and_layouts_of_the_input_change_no_bit(name, rng):
    make, ndim = MODULES[name]
    module, shape = make(), (2, 3, 4)[-ndim:]
    x = rng.standard_normal(shape).astype(np.float16).astype(np.float32)  # float16 can hold it
    expected = arrays_of(module(x))
    for kind, same in variants(x).items():
        results = arrays_of(module(same))
        assert len(results) == len(expected)
        for got, wanted in zip(results, expected, strict=True):
            assert type(got) is np.ndarray, kind
            assert got.dtype == np.float32, kind
            np.testing.assert_array_equal(got, wanted, err_msg=kind)


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU", "GRU of one row", "LSTMCell"])
def test_types_and_layouts_of_the_state_change_no_bit(name, rng):
    make, ndim = MODULES[name]
    module, shape = make(), (2, 3, 4)[-ndim:]
    x = rng.standard_normal(shape).astype(np.float32)
    last = module(x)[1] if "Cell" not in name else module(x)
    state = tuple(map(np.float16, last)) if isinstance(last, tuple) else np.float16(last)
    parts = state if isinstance(state, tuple) else (state,)
    plain = [np.float32(part) for part in parts]
    expected = arrays_of(module(x, tuple(plain) if len(plain) > 1 else plain[0]))
    for kind in set(variants(plain[0])) - {"list"}:  # a list could be meant as a pair
        same = [variants(part)[kind] for part in plain]
        for got, wanted in zip(
            arrays_of(module(x, tuple(same) if len(same) > 1 else same[0])), expected, strict=True
        ):
            np.testing.assert_array_equal(got, wanted, err_msg=kind)


def normalised(x, eps):
    """A layer norm with sums in float64 and everything else in float32."""
    centred = (x - x.mean(dtype=np.float64)).astype(np.float32)
    variance = np.square(centred).mean(dtype=np.float64)
    return centred * np.float32(1 / np.sqrt(variance + eps))


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 15, 64, 127, 128, 129, 200, 1000, 1031])
def test_a_layer_norm_has_numpy_s_bits_and_the_same_in_every_batch(size, rng):
    layer = fastrnn.LayerNorm(size, eps=1e-3)
    layer.parameters["weight"][...] = rng.standard_normal(size)
    layer.parameters["bias"][...] = rng.standard_normal(size)
    layer.repack()
    x = rng.standard_normal((3, 5, size)).astype(np.float32) * 10 + 3
    y, (y_training, _) = layer(x), layer.vjp(x)
    np.testing.assert_array_equal(y, y_training)
    weight, bias = layer.parameters["weight"], layer.parameters["bias"]
    for i, j in np.ndindex(3, 5):
        np.testing.assert_array_equal(y[i, j], layer(x[i, j]))
        np.testing.assert_array_equal(y[i, j], normalised(x[i, j], 1e-3) * weight + bias)


def test_a_layer_norm_of_no_rows_is_empty():
    assert fastrnn.LayerNorm(3)(np.empty((2, 0, 3))).shape == (2, 0, 3)


def test_an_embedding_takes_an_int_of_any_size_or_says_which_it_takes():
    embedding = fastrnn.Embedding(3, 2)
    np.testing.assert_array_equal(embedding(2), embedding.weight[2])
    np.testing.assert_array_equal(embedding([[2, 0]]), embedding.weight[[[2, 0]]])
    assert embedding(np.empty((0, 4), np.int64)).shape == (0, 4, 2)
    for wrong in (3, -1, 10**18, -(10**18)):
        with pytest.raises(ValueError, match=f"indices holds {wrong}, expected indices from 0"):
            embedding(wrong)
    for wrong in (10**30, 2**63, True, 1.0, "1"):
        with pytest.raises((TypeError, ValueError), match="indices"):
            embedding(wrong)


def test_a_scalar_mix_follows_its_weights_after_a_repack(rng):
    mix, x = fastrnn.ScalarMix(2), rng.standard_normal((2, 3)).astype(np.float32)
    np.testing.assert_array_equal(mix(x), (x[0] + x[1]) / 2)
    mix.parameters["weight"][...] = [0, -np.inf]
    mix.repack()
    np.testing.assert_array_equal(mix(x), x[0])
    np.testing.assert_array_equal(mix(part for part in x), x[0])
