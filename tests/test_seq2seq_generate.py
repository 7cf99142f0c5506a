"""Sequence to sequence under `fastrnn.generate`."""

from __future__ import annotations

import numpy as np
import pytest
from seq2seq_cases import BOS, EOS, SETTINGS, batch, made

import fastrnn
from fastrnn.losses import log_softmax


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_translation_takes_the_likeliest_token_each_time(options):
    model = made(scale=3.0, **options)
    source, _, _, lengths = batch()
    found = model.translate(source, lengths[0], bos=BOS, eos=EOS, max_new_tokens=9)
    assert len(found) == 4
    for n, tokens in enumerate(found):
        text = [BOS]
        while len(text) <= 9:
            target = np.array(text)[:, None]
            logits = model(source[:, [n]], target, (lengths[0][[n]], None))
            if (token := int(logits[-1, 0].argmax())) == EOS:
                break
            text.append(token)
        np.testing.assert_array_equal(tokens, text[1:])


@pytest.mark.parametrize("count", [1, 3, 5])
def test_every_source_needs_a_prompt(count):
    source, _, _, lengths = batch()
    conditioned = made().with_source(source, lengths[0])
    wanted = f"prompt holds {count} of them, expected one for each of the model's 4 sources"
    with pytest.raises(ValueError, match=wanted):
        fastrnn.generate(conditioned, [[BOS]] * count, max_new_tokens=3)


@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_beams_have_the_probabilities_of_teacher_forcing(options):
    model = made(scale=3.0, **options)
    source, _, _, lengths = batch()
    conditioned = model.with_source(source, lengths[0])
    found = fastrnn.generate(
        conditioned, [[BOS]] * 4, num_beams=5, max_new_tokens=6, eos_token_id=EOS
    )
    for n, best in enumerate(found):
        tokens = np.array([BOS, *best.tokens])[:, None]
        logits = model(source[:, [n]], tokens[:-1], (lengths[0][[n]], None))
        chosen = np.take_along_axis(log_softmax(logits)[:, 0], tokens[1:], axis=1)[:, 0]
        np.testing.assert_allclose(best.logprobs, chosen, rtol=1e-5, atol=1e-6)


def test_the_old_name_of_with_source_still_leads_to_it():
    source, *_ = batch()
    model = made()
    with pytest.warns(DeprecationWarning, match="given is with_source now"):
        old = model.given(source, shortlist=[3, 4, 5])
    new = model.with_source(source, shortlist=[3, 4, 5])
    found, wanted = (
        fastrnn.generate(one, [[BOS]] * new.num_sources, max_new_tokens=3) for one in (old, new)
    )
    assert [list(one.tokens) for one in found] == [list(one.tokens) for one in wanted]
