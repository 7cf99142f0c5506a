"""One module, several threads: no gradient is lost, weights are old or new, never half of each."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import nullcontext

import numpy as np
import pytest
from processes import run_python

import fastrnn
from fastrnn import models
from fastrnn.nn import embedding, linear, pullback

THREADS, PULLBACKS = 4, 25
TOKENS = np.arange(12).reshape(6, 2) % 7


@pytest.fixture(autouse=True)
def quick_switches():
    """Threads of Python change places after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*functions):
    """Runs all of them at once, each in a thread; what they returned, or the first error."""
    results, barrier = [None] * len(functions), threading.Barrier(len(functions))

    def run(i):
        barrier.wait()
        try:
            results[i] = functions[i]()
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


def tied():
    """A head and a table whose gradients are one array."""
    return models.LanguageModel(7, 16, 16, tie_weights=True)


X = np.linspace(-1, 1, 6 * 2 * 16, dtype=np.float32).reshape(6, 2, 16)
# Module, and what its `vjp` takes; every pullback adds the same gradient.
MODULES = {
    "RNN": (lambda: fastrnn.RNN(16, 16, 2), (X,)),
    "LSTM": (lambda: fastrnn.LSTM(16, 16, 2, bidirectional=True), (X,)),
    "GRU": (lambda: fastrnn.GRU(16, 16), (X,)),
    "Linear": (lambda: fastrnn.Linear(16, 16), (X,)),
    "Embedding": (lambda: fastrnn.Embedding(7, 16), (TOKENS,)),
    "LayerNorm": (lambda: fastrnn.LayerNorm(16), (X,)),
    "Conv1d": (lambda: fastrnn.Conv1d(16, 8, 3, padding=1), (X,)),
    "ScaleShift": (lambda: fastrnn.ScaleShift(16), (X,)),
    "PReLU": (lambda: fastrnn.PReLU(), (X,)),
    "ScalarMix": (lambda: fastrnn.ScalarMix(2), ([X, X + 1],)),
    "EmbeddingDropout": (
        lambda: fastrnn.EmbeddingDropout(fastrnn.Embedding(7, 16), 0.0),
        (TOKENS,),
    ),
    "WeightDrop": (lambda: fastrnn.WeightDrop(fastrnn.LSTM(16, 16), 1.0), (X,)),
    "Attention": (lambda: fastrnn.Attention("additive", 16, 16), (X, X)),
    "LanguageModel": (tied, (TOKENS,)),
    "Seq2Seq": (
        lambda: models.Seq2Seq(7, 7, 8, attention="additive", tie_weights=True),
        (TOKENS, TOKENS),
    ),
}


def first(outputs):
    return outputs[0] if isinstance(outputs, tuple) else outputs


def walk(module, arguments, count):
    """`count` pullbacks of `vjp`s of their own."""
    for _ in range(count):
        outputs, pullback = module.vjp(*arguments)
        pullback(np.ones_like(first(outputs)))


@pytest.mark.parametrize("name", MODULES)
def test_pullbacks_of_several_threads_lose_no_gradient(name):
    make, arguments = MODULES[name]
    module = make()
    walk(module, arguments, THREADS * PULLBACKS)
    expected = module.flat_grad.copy()
    assert expected.any()
    module.zero_grad()
    together(*[lambda: walk(module, arguments, PULLBACKS)] * THREADS)
    if name in ("LanguageModel", "Seq2Seq"):  # other pullbacks of the model come in between
        np.testing.assert_allclose(module.flat_grad, expected, rtol=1e-4, atol=1e-4)
    else:
        np.testing.assert_array_equal(module.flat_grad, expected)


def test_tied_gradients_have_one_lock():
    model = tied()
    head, table = model.head.grads["weight"], model.embedding.grads["weight"]
    assert pullback.adding_to(head) is pullback.adding_to(table)
    with pullback.adding_to(head):
        assert pullback.adding_to(table).locked()
    apart = [np.zeros(4, np.float32) for _ in range(200)]
    with pullback.adding_to(*apart), pullback.adding_to(None):  # several locks, and none
        pass


def test_without_the_lock_gradients_do_get_lost(monkeypatch):
    """What the tests above would see: an addition that another thread's undoes."""
    for module in (linear, embedding):
        monkeypatch.setattr(module, "adding_to", lambda *_: nullcontext())
    size = 256
    layer, x = fastrnn.Linear(size, size), np.ones((64, size), np.float32)

    def lost():
        layer.zero_grad()
        together(*[lambda: walk(layer, (x,), 50)] * THREADS)
        return layer.grads["weight"].min() < 50 * THREADS * 64

    with fastrnn.num_threads(1):
        if not any(lost() for _ in range(300)):
            pytest.skip("the threads never met on this machine")


def test_one_pullback_that_several_threads_call_succeeds_once():
    makers = [MODULES[name] for name in ("LSTM", "Linear", "WeightDrop", "LanguageModel")]
    for make, arguments in makers:
        for _ in range(20):
            outputs, pullback = make().vjp(*arguments)
            dy, done = np.ones_like(first(outputs)), []

            def call(pullback=pullback, dy=dy, done=done):
                try:
                    pullback(dy)
                    done.append("added")
                except RuntimeError as error:
                    done.append("called before" if "before" in str(error) else "once")

            together(*[call] * THREADS)
            assert len(done) == THREADS
            assert done.count("added") == 1


def repacking(module, stop):
    """Packs the same weights again and again."""

    def run():
        while not stop.is_set():
            module.repack()

    return run


@pytest.mark.parametrize("name", ["RNN", "LSTM", "Linear", "WeightDrop", "LanguageModel"])
def test_repacking_during_training_changes_nothing_and_fails_nobody(name):
    make, arguments = MODULES[name]
    module, stop = make(), threading.Event()
    walk(module, arguments, 20)
    expected = module.flat_grad.copy()
    module.zero_grad()

    def train():
        try:
            walk(module, arguments, 20)
        finally:
            stop.set()

    together(train, repacking(module, stop))
    np.testing.assert_array_equal(module.flat_grad, expected)


CALLED = {
    "LSTM": (lambda: fastrnn.LSTM(16, 64, 2), X),
    "GRU on a step": (lambda: fastrnn.GRU(16, 16), X[:1, :1]),
    "LSTMCell": (lambda: fastrnn.LSTMCell(16, 64), X[0]),
    "Linear": (lambda: fastrnn.Linear(16, 256), X),
}


@pytest.mark.parametrize("name", CALLED)
def test_a_call_sees_old_weights_or_new_ones_and_no_mixture(name):
    make, x = CALLED[name]
    layer = make()
    values = [layer.flat.copy(), layer.flat * 2]
    expected = []
    for value in values:
        layer.flat[...] = value
        layer.repack()
        expected.append(first(layer(x)).tobytes())
    stop = threading.Event()

    def change():
        while not stop.is_set():
            for value in values:
                layer.flat[...] = value
                layer.repack()

    def call():
        try:
            return {first(layer(x)).tobytes() for _ in range(300)}
        finally:
            stop.set()

    _, seen, others = together(change, call, call)
    assert seen | others <= set(expected)


def test_streams_and_folded_tables_are_made_while_weights_change():
    model, stop = models.LanguageModel(7, 16, 16), threading.Event()
    expected = model.stream().step(3)

    def steps():
        try:
            for _ in range(50):
                np.testing.assert_array_equal(model.stream().step(3), expected)
                assert model(TOKENS)[0].shape == (6, 2, 7)
        finally:
            stop.set()

    together(steps, steps, repacking(model, stop))


def test_trim_takes_nothing_from_calls_that_run():
    layer = fastrnn.LSTM(16, 64, 2)
    expected, stop = layer(X)[0], threading.Event()

    def trim():
        while not stop.is_set():
            layer.trim()

    def call():
        try:
            for _ in range(50):
                np.testing.assert_array_equal(layer(X)[0], expected)
                walk(layer, (X,), 1)
        finally:
            stop.set()

    together(call, call, trim)


# ---- a forked child ------------------------------------------------------------------------------


def in_a_child(code):
    """What a process prints that forks; a child that hangs is ended."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    done = run_python(
        f"""
        import os, signal, sys, threading, warnings
        import numpy as np
        import fastrnn
        from fastrnn.nn import pullback

        warnings.simplefilter("ignore")
        fastrnn.set_num_threads(1)
        layer, x = fastrnn.LSTM(4, 4, 2, dropout=0.5), np.ones((3, 2, 4), np.float32)
{code}
        """
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_child_does_not_wait_for_locks_that_its_parent_s_threads_held():
    found = in_a_child(
        """
        held, over = threading.Event(), threading.Event()
        def hold():
            with pullback.adding_to(layer.flat_grad):
                held.set()
                over.wait()
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        child = os.fork()
        if not child:
            signal.alarm(20)
            (y, _), pullback = layer.vjp(x)
            pullback(y)
            print(int(layer.flat_grad.any()), flush=True)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        over.set()
        thread.join()
        print(status)
        """
    )
    assert found == ["1", "0"]


def test_a_child_has_the_seed_s_dropout_or_one_of_its_own():
    """A seed goes on as in the parent; without one, two processes drop different values."""
    found = in_a_child(
        """
        seeded, unseeded = fastrnn.Dropout(), fastrnn.Dropout()
        seeded.seed(3)
        ones = np.ones(64, np.float32)
        for layer in (seeded, unseeded):
            layer.vjp(ones)
        reader, writer = os.pipe()
        child = os.fork()
        masks = [layer.vjp(ones)[0].tobytes().hex() for layer in (seeded, unseeded)]
        if not child:
            os.write(writer, "\\n".join(masks).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.close(writer)
        theirs = os.fdopen(reader).read().split()
        print(int(theirs[0] == masks[0]), int(theirs[1] == masks[1]))
        """
    )
    assert found == ["1", "0"]


def test_a_child_s_memory_is_its_own():
    found = in_a_child(
        """
        def train():
            layer.seed(1)
            layer.zero_grad()
            (y, _), pullback = layer.vjp(x)
            pullback(y)
            return layer.flat_grad.tobytes()
        expected, kept = train(), layer._stack.store.nbytes
        child = os.fork()
        if not child:
            signal.alarm(20)
            same = train() == expected and layer._stack.store.nbytes == kept
            layer.trim()
            layer.repack()
            same = same and train() == expected
            os._exit(0 if same else 1)
        status = os.waitpid(child, 0)[1]
        print(status, int(train() == expected), int(layer._stack.store.nbytes == kept))
        """
    )
    assert found == ["0", "1", "1"]
