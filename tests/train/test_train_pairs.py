"""The trainer on pairs of sequences: sources and targets of different lengths."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn.data import Buckets, Pairs, Sequences
from fastrnn.models import Seq2Seq
from fastrnn.optim import Adam
from fastrnn.train import Trainer, TrainingDiverged

BOS, EOS, TOKENS = 1, 2, 9


def make_source(seed=0, count=60):
    """Words of 3 to 6 letters and the same backwards."""
    generator = np.random.default_rng(seed)
    words = [generator.integers(3, TOKENS, generator.integers(3, 7)) for _ in range(count)]
    turned = [word[::-1].copy() for word in words]
    pairs = Pairs(Sequences.of(words), Sequences.of(turned), bos=BOS, eos=EOS)
    return Buckets(pairs, 10, seed=seed)


def make_trainer(lr=1e-2):
    model = Seq2Seq(TOKENS, TOKENS, 24, cell="gru", attention="scaled_dot", ignore_index=-100)
    model.reset_parameters(0)
    return Trainer(model, Adam(model, lr=lr), clip_norm=1.0)


def test_fit_learns_pairs_and_resumes_with_the_same_bits(tmp_path):
    whole = make_trainer()
    result = whole.fit(make_source(), epochs=4, out=tmp_path / "whole", progress=False)
    pieces = make_trainer()
    pieces.fit(make_source(), max_steps=7, out=tmp_path / "pieces", progress=False)
    resumed = make_trainer()
    resumed.fit(make_source(), epochs=4, out=tmp_path / "pieces", resume=True, progress=False)
    assert result.loss < 2.2  # of a guess
    np.testing.assert_array_equal(resumed.model.flat, whole.model.flat)


def test_a_diverging_training_on_pairs_says_so():
    trainer = make_trainer()
    trainer.model.flat[:] = np.nan
    trainer.model.repack()
    with pytest.raises(TrainingDiverged):
        trainer.fit(make_source(), max_steps=3, progress=False)
