"""Decoding from several threads: each call has what it writes to itself, or is refused."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from decoding import random_table

import fastrnn
from fastrnn import _core, generate
from fastrnn.decode import Trie
from fastrnn.models import LanguageModel, Seq2Seq

V, ROWS = 30_000, 48


def logits():
    return np.random.default_rng(1).standard_normal((ROWS, V)).astype(np.float32)


def sampler():
    made = _core.Sampler(V, ROWS, np.zeros(V, np.uint8), 2, top_p=0.9)
    made.raw[...], made.keys[:], made.positions[:] = logits(), np.arange(ROWS), np.arange(ROWS)
    return lambda: made.run(ROWS), lambda: made.tokens[0].copy()


def chooser():
    made = _core.Chooser(V, ROWS, ROWS, 4, np.zeros(V, np.uint8), 2, 2)
    made.logits[...] = logits()
    made.first[:], made.last[:] = np.arange(ROWS), np.arange(ROWS) + 1
    return lambda: made.run(ROWS), lambda: made.best_tokens.copy()


def grammar():
    x, zeros = logits(), np.zeros(ROWS, np.int64)
    tokens = np.arange(0, V, 2)
    made = _core.Grammar([0, len(tokens)], tokens, 0 * tokens, x, zeros, zeros)
    return lambda: made.apply(ROWS), lambda: np.isinf(x)


@pytest.mark.parametrize("make", [sampler, chooser, grammar])
def test_what_one_thread_uses_another_may_not(make):
    alone, results = make()
    alone()
    wanted = results()
    call, results = make()
    errors, stop = [], threading.Event()

    def work():
        while not stop.is_set():
            try:
                call()
            except RuntimeError as error:
                errors.append(str(error))
                stop.set()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 20
    while not stop.is_set() and time.monotonic() < end:
        time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors
    assert all("in use by another thread; make one" in error for error in errors)
    call()
    np.testing.assert_array_equal(results(), wanted)


def test_rows_that_are_changed_after_the_check_are_not_used():
    made = _core.Chooser(8, 4, 2, 3, np.zeros(8, np.uint8), 2, 2)
    made.first[:], made.last[:] = [0, 99], [4, 99]
    with pytest.raises(ValueError, match="first and last must lie in the 4 rows"):
        made.run(2)
    made.run(1)
    states = np.array([0, 7])
    grammar = _core.Grammar([0, 1], [3], [0], np.zeros((2, 8), np.float32), states, states * 0)
    with pytest.raises(ValueError, match="states holds 7, the states are 0 to 0"):
        grammar.apply(2)
    grammar.apply(1)


@pytest.mark.parametrize("mode", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 4}], ids=str)
def test_calls_of_several_threads_give_what_each_gives_alone(mode):
    model = LanguageModel(20, 12, 12, tie_weights=True)
    given = Seq2Seq(9, 20, 12, attention="additive").with_source(np.arange(8).reshape(4, 2))
    words = Trie([[1, 2, 3], [4, 5], [6, 7, 8, 9]])
    calls = [
        lambda eos=eos: (
            generate(model, [eos, 2], max_new_tokens=40, eos_token_id=eos, **mode),
            generate(given, [[1], [2]], max_new_tokens=40, eos_token_id=eos, **mode),
            generate(
                random_table(20, eos), [1], max_new_tokens=4, eos_token_id=eos, constraint=words,
                **mode,
            ),
        )
        for eos in range(10, 16)
    ]  # fmt: skip
    wanted = [call() for call in calls]
    found = [None] * len(calls)

    def work(i):
        found[i] = [calls[i]() for _ in range(5)]

    with fastrnn.num_threads(1):
        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [[one] * 5 for one in wanted]
