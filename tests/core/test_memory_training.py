"""What training costs in memory: the tape and no more, a budget that is kept, no leak."""

from __future__ import annotations

import gc
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from families import FAMILIES, make, normal
from memory import c_bytes_in_use, resident_bytes
from processes import run_python

import fastrnn
from fastrnn import _core
from fastrnn.data import TextStream
from fastrnn.models import LanguageModel, Seq2Seq
from fastrnn.optim import Adam
from fastrnn.train import Trainer

# Floats that a tape holds for every row and step: the activated gates, c, and what else a second
# product reads (r * h0, or o tanh(c) before a projection). y is the caller's.
KEPT = {
    "rnn_tanh": 1,
    "rnn_relu": 1,
    "rnn_sigmoid": 1,
    "rnn_identity": 1,
    "lstm": 5,
    "lstm_projected": 6,
    "lstm_peephole": 5,
    "lstm_peephole_projected": 6,
    "gru": 4,
    "gru_reset_before": 4,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tape_holds_gates_and_states_and_no_more(family):
    units, steps, rows = 256, 50, 8
    layer = make(family, 16, units)
    tape, _ = layer._stack.training_bytes(steps, rows, steps * rows, steps)
    cell = next(cell for cell in _core.cells() if cell.name == layer._cell)
    floats = steps * rows * units * KEPT.get(family, cell.gates + cell.states - 1)
    assert 4 * floats <= tape <= 4.3 * floats + 4 * rows * units + 20_000  # rows are kept apart


def test_a_tape_of_few_steps_holds_only_c_between_them():
    layer = fastrnn.LSTM(16, 256)
    tape, workspace = layer._stack.training_bytes(1000, 8, 8000, 50)
    assert tape < 4 * 8 * 256 * (1000 // 50) * 1.2 + 20_000
    assert workspace < 4 * 8 * 256 * 50 * 7 + 2_000_000


def test_a_tape_is_as_long_as_its_rows():
    layer = fastrnn.LSTM(16, 256)
    half, _ = layer._stack.training_bytes(100, 8, 400, 100)
    whole, _ = layer._stack.training_bytes(100, 8, 800, 100)
    assert half < 0.55 * whole


@pytest.mark.parametrize("budget", [4_000_000, 8_000_000])
def test_a_budget_is_kept(budget):
    """Tapes and workspace are allocations of C; the arrays around them are counted and allowed."""
    code = f"""
        import numpy as np
        from memory import c_bytes_in_use
        import fastrnn

        fastrnn.set_num_threads(1)
        layer = fastrnn.LSTM(64, 128, 2)
        x = np.ones((400, 8, 64), np.float32)
        layer.vjp(x[:2])[1](None)
        layer.memory_budget = {budget}
        before = c_bytes_in_use()
        (y, state), pullback = layer.vjp(x)
        between = c_bytes_in_use()
        pullback(y)
        after = c_bytes_in_use()
        outputs = 2 * y.nbytes + 16 * 1024
        print(max(between, after) - before - outputs)
    """
    if c_bytes_in_use() is None:
        pytest.skip("the C library does not tell what it has handed out")
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= budget


def test_a_budget_that_cannot_be_kept_says_what_is_needed():
    layer = fastrnn.LSTM(64, 128)
    layer.memory_budget = 1000
    with pytest.raises(ValueError, match=r"memory_budget is 1000 bytes, .* need at least \d+"):
        layer.vjp(np.ones((100, 4, 64), np.float32))
    with pytest.raises(ValueError, match="memory_budget must be greater than zero"):
        layer.memory_budget = 0
    with pytest.raises(TypeError, match="memory_budget"):
        layer.memory_budget = 1.5


def test_a_pullback_that_is_never_called_gives_its_tape_back(rng):
    layer = fastrnn.LSTM(32, 64, 2)
    x = normal(rng, 20, 4, 32)
    layer.vjp(x)
    gc.collect()
    kept = layer._stack.store.nbytes
    assert kept > 2 * 20 * 4 * 64 * KEPT["lstm"] * 4
    for _ in range(20):
        layer.vjp(x)
    gc.collect()
    assert layer._stack.store.nbytes == kept


SPARE = 32 << 20  # what a layer keeps of tapes, and of a workspace
LARGE = (1000, 64, 8)  # a tape of 80 MB for 64 units


def train(layer, x):
    (y, _), pullback = layer.vjp(x)
    pullback(y)


@pytest.mark.skipif(c_bytes_in_use() is None, reason="the C library does not tell what is in use")
def test_one_large_training_call_leaves_little_behind():
    layer, x = fastrnn.LSTM(8, 64), np.ones(LARGE, np.float32)
    before = c_bytes_in_use()
    train(layer, x)
    gc.collect()
    assert layer._stack.store.nbytes <= SPARE
    assert c_bytes_in_use() - before <= SPARE + layer._stack.num_packed_bytes * 3


def test_large_tapes_stay_while_training_of_their_size_goes_on(rng):
    layer, x = fastrnn.LSTM(8, 64), np.ones(LARGE, np.float32)
    train(layer, x)
    train(layer, x)
    kept = layer._stack.store.nbytes
    assert kept > 70_000_000
    train(layer, x)
    assert layer._stack.store.nbytes == kept
    layer(x[:1, :1])  # no training any more
    assert layer._stack.store.nbytes <= SPARE
    train(layer, x)
    assert layer._stack.store.nbytes <= 2 * SPARE


def test_small_tapes_stay_whatever_comes_between(rng):
    layer, x = fastrnn.GRU(8, 16, 3), normal(rng, 10, 4, 8)
    train(layer, x)
    kept = layer._stack.store.nbytes
    assert kept > 3 * 10 * 4 * 16 * KEPT["gru"] * 4
    layer(x)
    layer.repack()
    assert layer._stack.store.nbytes == kept


@pytest.mark.parametrize(
    "make_model",
    [
        lambda: LanguageModel(50, 32, 64, 2, weight_drop=0.1),
        lambda: Seq2Seq(50, 60, 16, attention="additive", bidirectional=True),
        lambda: fastrnn.WeightDrop(fastrnn.LSTM(32, 64)),
        lambda: fastrnn.Linear(3, 4),
        lambda: fastrnn.LSTMCell(3, 4),
        lambda: fastrnn.LayerNorm(4),
    ],
    ids=["LanguageModel", "Seq2Seq", "WeightDrop", "Linear", "LSTMCell", "LayerNorm"],
)
def test_trim_lets_go_of_all_that_is_kept(make_model):
    model = make_model()
    before = model.state_dict()
    for _ in range(2):
        if isinstance(model, LanguageModel):
            model.loss_vjp(np.ones((20, 8), int), np.ones((20, 8), int))[1]()
        elif isinstance(model, Seq2Seq):
            pair = np.ones((5, 4), int), np.ones((6, 4), int)
            model.loss_vjp(pair, np.ones((6, 4), int))[1]()
        elif isinstance(model, fastrnn.WeightDrop):
            train(model, np.ones((20, 8, 32), np.float32))
    trains = isinstance(model, (LanguageModel, Seq2Seq, fastrnn.WeightDrop))
    assert any(store.nbytes for store in stores_of(model)) == trains
    model.trim()
    assert all(store.nbytes == 0 for store in stores_of(model))
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor, before[name])


def stores_of(module):
    """The stores of all parts, spare twins included."""
    for owner in (getattr(module, "_stack", None), getattr(module, "_dense", None)):
        if owner is not None:
            yield owner.store
    for part in [*getattr(module, "_parts", {}).values(), *getattr(module, "_spare", [])]:
        yield from stores_of(part)


@pytest.mark.parametrize("ends", [True, False], ids=["done", "failed"])
def test_a_whole_training_lets_go_of_all_that_its_steps_kept(rng, ends):
    model = LanguageModel(50, 32, 64, 2)
    trainer = Trainer(model, Adam(model))
    source, validation = (TextStream(rng.integers(0, 50, 2000), 8, 20) for _ in range(2))
    kept = []

    def loss(*batch):
        kept.append(sum(store.nbytes for store in stores_of(model)))
        if not ends:
            raise RuntimeError("stop here")
        return SimpleNamespace(loss=1.0, count=1, state=None, correct=None)

    model.loss = loss
    with nullcontext() if ends else pytest.raises(RuntimeError, match="stop here"):
        trainer.fit(source, validation=validation, max_steps=3, progress=False)
    assert kept[0] > 0
    assert all(store.nbytes == 0 for store in stores_of(model))


def test_steps_of_training_leave_nothing_behind(rng):
    model = LanguageModel(50, 32, 64, 2, dropout=0.1)
    trainer = Trainer(model, Adam(model), clip_norm=1.0)
    tokens = rng.integers(0, 50, (21, 8))

    def steps(count):
        state = None
        for _ in range(count):
            _, state = trainer.step(tokens[:-1], tokens[1:], state)

    steps(20)
    before = resident_bytes()
    steps(300)  # 1 MB of tapes each
    assert resident_bytes() - before < 3_000_000


def test_weights_of_a_pending_tape_stay_as_they_were(rng):
    """A step of an optimiser between a vjp and its pullback changes neither."""
    layer = fastrnn.LSTM(8, 16)
    x, dy = normal(rng, 5, 3, 8), normal(rng, 5, 3, 16)
    expected = layer.vjp(x)[1](dy)[0]
    _, pullback = layer.vjp(x)
    layer.flat += 1.0
    layer.repack()
    np.testing.assert_array_equal(pullback(dy)[0], expected)
