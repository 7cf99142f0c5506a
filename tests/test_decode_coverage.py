"""The coverage penalty of beam search over models with attention."""

from __future__ import annotations

import numpy as np
import pytest

import fastrnn
from fastrnn.models import Seq2Seq

BOS, EOS, TOKENS = 1, 2, 12


@pytest.fixture
def model():
    model = Seq2Seq(TOKENS, TOKENS, 16, cell="gru", attention="multiplicative")
    model.reset_parameters(3)
    model.flat *= 4.0  # attention that chooses
    model.repack()
    return model


def search(model, source, lengths=None, **options):
    given = model.with_source(source, lengths)
    prompts = [[BOS]] * source.shape[1]
    return fastrnn.generate(
        given, prompts, max_new_tokens=6, num_beams=4, eos_token_id=EOS, **options
    )


@pytest.mark.parametrize("penalty", [0.3, 2.0])
def test_scores_are_those_of_the_definition(model, penalty, rng):
    """Two sources of different lengths at once: padding is no part of what can be missed."""
    source = rng.integers(3, TOKENS, (7, 2))
    lengths = np.array([7, 4])
    found = search(
        model, source, lengths, coverage_penalty=penalty, num_return_sequences=3, length_penalty=0.7
    )
    assert len(found) == 6
    for i, one in enumerate(found):
        row = i // 3
        inputs = np.array([BOS, *one.tokens[:-1]])[:, None]
        weights = model.attention(source[:, row : row + 1], inputs, (lengths[row : row + 1], None))
        given = weights[:, : lengths[row], 0].sum(axis=0, dtype=np.float64)
        missed = penalty * np.log(np.minimum(given, 1.0)).sum()
        expected = sum(one.logprobs) / len(one.tokens) ** 0.7 + missed
        assert one.score == pytest.approx(expected, rel=1e-5)


def test_a_strong_penalty_prefers_what_reads_everything(model, rng):
    source = rng.integers(3, TOKENS, (6, 1))

    def missed(tokens):
        weights = model.attention(source, np.array([BOS, *tokens[:-1]])[:, None])
        return np.log(np.minimum(weights[:, :, 0].sum(axis=0, dtype=np.float64), 1.0)).sum()

    options = {"num_return_sequences": 4, "early_stopping": False}
    plain = search(model, source, **options)
    covering = search(model, source, coverage_penalty=50.0, **options)
    assert missed(covering[0].tokens) >= missed(plain[0].tokens)
    scores = [missed(one.tokens) for one in covering]
    assert scores == sorted(scores, reverse=True)
