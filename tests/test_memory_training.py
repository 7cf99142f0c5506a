"""What training costs in memory: the tape and no more, a budget that is kept, no leak."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from families import FAMILIES, make, normal
from processes import run_python
from test_memory import c_bytes_in_use, resident_bytes

import fastrnn
from fastrnn.models import LanguageModel
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
    floats = steps * rows * units * KEPT[family]
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
        from test_memory import c_bytes_in_use
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
    for _ in range(3):
        layer.vjp(x)
    gc.collect()
    assert layer._stack.pending == 0


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
