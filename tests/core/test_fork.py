"""Forked and spawned processes: every way into the core gives the same bits in a child."""

from __future__ import annotations

import textwrap

import pytest
from processes import run_python

# In every configuration the parent's own result is the right one; a child that crashes, hangs or
# differs ends with another code.
CONFIGURATIONS = """
    import os, signal
    import numpy as np
    import fastrnn

    def infer(layer, x):
        y, state = layer(x)
        return [y, *(state if isinstance(state, tuple) else [state])]

    def train(layer, x):
        layer.zero_grad()
        (y, state), pullback = layer.vjp(x)
        dx, _ = pullback(np.ones_like(y))
        return [y, dx, *layer.grads.values()]

    def linear(layer, x):
        head = fastrnn.Linear(layer.hidden_size, 700)
        head.reset_parameters(seed=1)
        y, pullback = head.vjp(infer(layer, x)[0][..., : layer.hidden_size])
        dx = pullback(y)
        optimizer = fastrnn.optim.Adam(head, lr=1e-3)
        norm = fastrnn.optim.clip_grad_norm(head, 1.0)
        optimizer.step()
        loss, dlogits = fastrnn.losses.cross_entropy(y, np.zeros(y.shape[:-1], np.int64))
        return [y, dx, np.float64(norm), np.float64(loss), dlogits, head.flat]

    def alike(ours, right):
        return all(np.array_equal(a, b) for a, b in zip(ours, right, strict=True))

    def exit_code(function):
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            try:
                os._exit(0 if function() else 1)
            finally:
                os._exit(2)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    CASES = [  # one row is divided by units, several by rows, two directions by directions
        (fastrnn.LSTM, False, 1), (fastrnn.LSTM, True, 8), (fastrnn.GRU, False, 8),
        (fastrnn.GRU, True, 1), (fastrnn.RNN, False, 1), (fastrnn.RNN, True, 8),
    ]
"""
CHILDREN = """
    fastrnn.set_num_threads({threads})
    for cell, two, rows in CASES[({threads} + {used}) % 2 :: 2]:
        layer = cell(40, 130, bidirectional=two)
        layer.reset_parameters(seed=2)
        x = np.random.default_rng(3).standard_normal((30, rows, 40), dtype=np.float32)
        for work in (infer, train, linear):
            with fastrnn.num_threads(1):
                right = [np.array(a) for a in work(layer, x)]
            if {used}:
                assert alike(work(layer, x), right)
            child = lambda: alike(work(layer, x), right)
            assert exit_code(child) == 0, (cell, two, rows, work)
            assert exit_code(lambda: child() and exit_code(child) == 0) == 0, "of a child"
            assert child()
"""


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize("threads", [2, 3])
def test_forked_children_infer_and_train_with_the_same_bits(threads, used):
    body = CHILDREN.format(threads=threads, used=used)
    done = run_python(textwrap.dedent(CONFIGURATIONS) + textwrap.dedent(body))
    assert done.returncode == 0, done.stderr


FROM_A_THREAD = """
    import threading, time

    fastrnn.set_num_threads(2)
    layer = fastrnn.LSTM(64, 256)
    layer.reset_parameters(seed=2)
    x = np.random.default_rng(3).standard_normal((50, 1, 64), dtype=np.float32)
    with fastrnn.num_threads(1):
        right = [np.array(a) for a in infer(layer, x)]
    stopped = []

    def compute():  # teams come and go while others fork
        while not stopped:
            assert alike(infer(layer, x), right)

    codes = []

    def fork():
        for _ in range(10):
            codes.append(exit_code(lambda: alike(infer(layer, x), right)))

    threads = [threading.Thread(target=f) for f in (compute, compute, fork)]
    for thread in threads:
        thread.start()
    threads[-1].join()
    stopped.append(True)
    for thread in threads:
        thread.join()
    assert codes == [0] * 10, codes
    assert alike(infer(layer, x), right)
"""


def test_a_thread_may_fork_while_other_threads_compute():
    done = run_python(
        textwrap.dedent(CONFIGURATIONS) + textwrap.dedent(FROM_A_THREAD), PYTHONWARNINGS="ignore"
    )
    assert done.returncode == 0, done.stderr


PROCESSES = """
    import multiprocessing, sys
    import numpy as np
    import fastrnn

    def train(seed):
        fastrnn.set_num_threads(2)
        layer = fastrnn.GRU(40, 130, bidirectional=True)
        layer.reset_parameters(seed=seed)
        x = np.random.default_rng(seed).standard_normal((30, 4, 40), dtype=np.float32)
        (y, state), pullback = layer.vjp(x)
        dx, _ = pullback(np.ones_like(y))
        return [np.array(a) for a in (y, state, dx, *layer.grads.values())]

    if __name__ == "__main__":
        right = [train(seed) for seed in range(4)]
        context = multiprocessing.get_context(sys.argv[1])
        with context.Pool(2) as pool:
            results = pool.map_async(train, range(4)).get(timeout=90)
        for ours, wanted in zip(results, right, strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(ours, wanted, strict=True))
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_processes_of_every_start_method_train_with_the_same_bits(method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(PROCESSES))
    code = f"""
        import runpy, sys
        sys.argv = [{str(script)!r}, {method!r}]
        runpy.run_path({str(script)!r}, run_name="__main__")
    """
    if method != "fork":  # these import the script again in the child, as a file
        code = f"""
            import subprocess, sys
            sys.exit(subprocess.run([sys.executable, {str(script)!r}, {method!r}]).returncode)
        """
    done = run_python(code, PYTHONWARNINGS="ignore")
    assert done.returncode == 0, done.stderr
