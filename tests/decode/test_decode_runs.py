"""Steps that the kernels decide without coming back give what a plain loop over calls gives.

Three ways to the same tokens: runs of the kernels, single steps of the same streams (bit for bit),
and a loop in float64 over whole calls of the model, which knows neither streams nor tables.
"""

from __future__ import annotations

import numpy as np
import pytest
import reference
from decoding import Plain, beam_search, draws, greedy_search

import fastrnn
from fastrnn import generate, stream_generate
from fastrnn.decode import DecodingError, _sampling, _search
from fastrnn.models import FeaturesToSequence, LanguageModel, Seq2Seq, _base

PROMPTS = [[1, 2, 3, 4, 5], [6], [2, 2, 9]]


class Float64:
    """A LanguageModel by the float64 reference: tokens (T,) -> logits (1, V) behind the last one.

    It remembers the states behind all texts that it was asked for, since searches prolong them.
    """

    def __init__(self, model):
        self.rnn, self.vocab_size, self.states = model.rnn, model.vocab_size, {(): (None, None)}
        self.p = {name: value.astype(np.float64) for name, value in model.parameters.items()}

    def __call__(self, tokens):
        known = next(n for n in range(len(tokens) - 1, -1, -1) if (*tokens[:n],) in self.states)
        x = self.p["embedding.weight"][tokens[known:]][:, None]
        y, *last = reference.run_layer(self.rnn, x, *self.states[(*tokens[:known],)])
        self.states[(*tokens,)] = last
        return y[-1] @ self.p["head.weight"].T + self.p["head.bias"], None


class Whole:
    """A model with one source, by whole calls: tokens (T,) -> logits (T, V)."""

    def __init__(self, model, source, length, ids):
        self.model, self.source, self.length, self.ids = model, source, length, ids
        self.vocab_size = model.vocab_size

    def __call__(self, tokens):
        logits = self.model(self.source, tokens[:, None], ([self.length], None))[:, 0]
        if self.ids is not None:
            kept = np.full_like(logits, -np.inf)
            kept[:, self.ids] = logits[:, self.ids]
            logits = kept
        return logits, None


@pytest.fixture(scope="module", params=[True, False], ids=["table", "embedding"])
def folds(request):
    """Whether tokens are looked up in a folded table, or in an embedding for want of its budget."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.param:
            patch.setattr(_base, "_TABLE_BUDGET_BYTES", 0)
        yield request.param


@pytest.fixture(scope="module", params=[0, 1])
def model(request, folds):
    """Two of them with a table, two with an embedding."""
    cells = [("lstm", 30), ("gru", 12)] if folds else [("rnn", 40), ("lstm", 11)]
    cell, vocab_size = cells[request.param]
    model = LanguageModel(vocab_size, 16, 16, 2, cell=cell)
    model.reset_parameters(3)
    model.parameters["head.weight"][...] *= 8
    model.repack()
    assert ("embed" in model.stream(1).network.kinds) != folds
    return model


def assert_same(found, wanted):
    """A Generation, and (tokens, logprobs) of a loop in float64."""
    assert found.tokens == wanted[0]
    np.testing.assert_allclose(found.logprobs, wanted[1], rtol=0, atol=2e-4)


@pytest.mark.parametrize("eos", [(), (3, 5)], ids=str)
def test_greedy_runs_are_loops_over_calls(model, eos):
    for plain, most in ((model, 40), (Float64(model), 9)):
        found = generate(model, PROMPTS, max_new_tokens=most, eos_token_id=eos)
        for one, prompt in zip(found, PROMPTS, strict=True):
            assert_same(one, greedy_search(plain, prompt, most, eos))


@pytest.mark.parametrize(
    ("filters", "eos"),
    [({}, ()), ({"top_k": 5, "top_p": 0.9, "temperature": 0.8}, (3, 5))],
    ids=str,
)
def test_drawn_runs_are_loops_over_calls(model, filters, eos):
    options = {"do_sample": True, "seed": 11, "eos_token_id": eos, **filters}
    found = generate(model, PROMPTS, max_new_tokens=35, num_return_sequences=2, **options)
    wanted = [
        draws(plain, prompt, 35, eos, seed=11, sequence=sequence, **filters)
        for prompt, exact in zip(PROMPTS, (model, Float64(model), model), strict=True)
        for sequence, plain in ((0, exact), (1, model))
    ]
    for i, prompt in enumerate(PROMPTS):
        pair = wanted[2 * i : 2 * i + 2]
        pair.sort(key=lambda one: -sum(one[1]) / len(one[1]))
        for one, loop in zip(found[2 * i : 2 * i + 2], pair, strict=True):
            assert_same(one, loop)
            assert one.score == pytest.approx(sum(loop[1]) / len(loop[1]), abs=2e-4), prompt


@pytest.mark.parametrize(("beams", "branches", "eos"), [(2, None, (3, 5)), (3, 2, ())], ids=str)
def test_beams_run_as_a_plain_search_over_calls(model, beams, branches, eos):
    options = {"num_beams": beams, "top_k": branches, "eos_token_id": eos}
    found = generate(model, PROMPTS, max_new_tokens=34, num_return_sequences=2, **options)
    for i, prompt in enumerate(PROMPTS):
        plain = Float64(model) if i == 1 else model
        wanted = beam_search(plain, prompt, beams, 34, eos, branches=branches)
        for one, (score, tokens) in zip(found[2 * i : 2 * i + 2], wanted[:2], strict=True):
            assert one.tokens == tokens
            assert one.score == pytest.approx(score, abs=2e-4)


@pytest.mark.parametrize("seed", [99, 100, 101])
def test_beams_that_have_found_enough_are_asked_at_every_step(seed):
    """With seed 100, a run past the step that says so would find another text."""
    model = LanguageModel(12, 8, 8, cell="gru")
    model.reset_parameters(seed)
    model.parameters["head.weight"][...] *= 6
    model.repack()
    options = {"max_new_tokens": 60, "num_beams": 2, "patience": 0.5, "eos_token_id": 3}
    assert generate(model, [1], **options) == generate(Plain(model), [1], **options)


def decoders():
    """Models with three sources, and what reads source i of them by whole calls."""
    rng = np.random.default_rng(1)
    lengths = [7, 2, 5]
    tokens, sets = rng.integers(0, 12, (7, 3)), rng.standard_normal((7, 3, 5)).astype(np.float32)
    for make, source in (
        (lambda: Seq2Seq(12, 14, 10, tie_weights=True), tokens),
        (lambda: Seq2Seq(12, 14, 10, attention="additive", bidirectional=True), tokens),
        (
            lambda: Seq2Seq(
                12, 14, 10, attention="multiplicative", input_feeding=True, embedding_dim=5
            ),
            tokens,
        ),
        (lambda: Seq2Seq(12, 14, 10, attention="scaled_dot", cell="gru", num_layers=2), tokens),
        (lambda: FeaturesToSequence(5, 14, 10, attention="additive", cell="rnn"), sets),
    ):
        model = make()
        model.reset_parameters(2)
        model.parameters["decoder.head.weight"][...] *= 12
        model.repack()
        yield model, source, lengths


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("ids", [None, [1, 3, 5, 8, 9, 11]], ids=["all", "shortlist"])
def test_decoders_run_as_loops_over_calls(number, ids, folds):
    model, source, lengths = list(decoders())[number]
    given = model.with_source(source, lengths, shortlist=ids)
    has_table = folds and not model.decoder.feeds
    assert ("embed" not in given.stream().core.network.kinds) == has_table
    plain = [Whole(model, source[:, i : i + 1], lengths[i], ids) for i in range(3)]
    prompts = [[1, 4, 2], [2, 5], [3, 1, 1]]
    greedy = generate(given, prompts, max_new_tokens=14, eos_token_id=3)
    drawn = generate(given, prompts, max_new_tokens=14, do_sample=True, seed=5)
    beams = generate(given, prompts, max_new_tokens=12, eos_token_id=3, num_beams=3)
    for i, prompt in enumerate(prompts):
        assert_same(greedy[i], greedy_search(plain[i], prompt, 14, [3]))
        assert_same(drawn[i], draws(plain[i], prompt, 14, seed=5))
        score, tokens = beam_search(plain[i], prompt, 3, 12, [3])[0]
        assert beams[i].tokens == tokens
        assert beams[i].score == pytest.approx(score, abs=2e-4)


BEAMS = [
    {"num_beams": 4, "num_return_sequences": 4},
    {"num_beams": 4, "eos_token_id": 3, "num_return_sequences": 4},
    {"num_beams": 3, "eos_token_id": [3, 5, 8], "early_stopping": True, "patience": 2.0},
    {"num_beams": 2, "eos_token_id": 7, "early_stopping": "never", "length_penalty": 2.0},
    {"num_beams": 4, "stop": [[3, 5], [9]], "num_return_sequences": 2},
    {"num_beams": 5, "top_k": 2, "eos_token_id": 4, "num_return_sequences": 2},
    {"num_beams": 5, "eos_token_id": 2, "min_new_tokens": 6},
]
ROWS = [
    {},
    {"eos_token_id": [3, 5]},
    {"do_sample": True, "seed": 5},
    {"do_sample": True, "seed": 5, "eos_token_id": 2, "num_return_sequences": 4},
    {"do_sample": True, "seed": 6, "stop": [[1, 1], [4]], "top_p": 0.9, "num_return_sequences": 3},
    {"do_sample": True, "seed": 7, "temperature": 0.5, "top_k": 5, "typical_p": 0.8},
]


@pytest.mark.parametrize("options", BEAMS + ROWS, ids=str)
@pytest.mark.parametrize("most", [1, 2, 34])
def test_runs_equal_single_steps(model, options, most):
    if options.get("min_new_tokens", 0) > most:
        options = {**options, "min_new_tokens": most}
    for prompt in (PROMPTS, PROMPTS[1], [PROMPTS[0], PROMPTS[0][::-1]]):
        found = generate(model, prompt, max_new_tokens=most, **options)
        wanted = generate(Plain(model), prompt, max_new_tokens=most, **options)
        assert found == wanted


@pytest.mark.parametrize("options", [BEAMS[1], BEAMS[5], *ROWS[:4]], ids=str)
@pytest.mark.parametrize("number", range(5))
def test_decoders_run_as_they_step(number, options, folds):
    model, source, lengths = list(decoders())[number]
    for ids in (None, [1, 3, 5, 8, 9, 11]):
        given = model.with_source(source, lengths, shortlist=ids)
        found = generate(given, [[1]] * 3, max_new_tokens=40, **options)
        assert found == generate(Plain(given), [[1]] * 3, max_new_tokens=40, **options)


@pytest.mark.parametrize("options", [BEAMS[1], ROWS[3]], ids=["beams", "samples"])
def test_threads_change_nothing(model, options):
    with fastrnn.num_threads(1):
        alone = generate(model, PROMPTS * 9, max_new_tokens=40, **options)
    with fastrnn.num_threads(2):
        assert generate(model, PROMPTS * 9, max_new_tokens=40, **options) == alone


@pytest.mark.parametrize("options", BEAMS + ROWS, ids=str)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_runs_of_any_number_of_steps_are_equal(model, options, steps, monkeypatch):
    wanted = generate(model, PROMPTS, max_new_tokens=34, **options)
    for module in (_sampling, _search):
        monkeypatch.setattr(module, "RUN_STEPS", steps)
    assert generate(model, PROMPTS, max_new_tokens=34, **options) == wanted


@pytest.mark.parametrize("options", [*BEAMS[:3], *ROWS[:3]], ids=str)
def test_a_processor_that_changes_nothing_takes_single_steps_to_the_same(model, options):
    seen = []
    found = generate(
        model, PROMPTS, max_new_tokens=20, logits_processor=lambda *row: seen.append(row), **options
    )
    assert len(seen) >= 20
    assert found == generate(model, PROMPTS, max_new_tokens=20, **options)


@pytest.mark.parametrize("options", [BEAMS[0], BEAMS[1], BEAMS[4], *ROWS[:3]], ids=str)
def test_a_stream_of_tokens_is_that_of_a_model_in_python(model, options):
    options = {**options, "num_return_sequences": 1, "max_new_tokens": 20}
    for prompt in PROMPTS:
        found = list(stream_generate(model, prompt, **options))
        assert found == list(stream_generate(Plain(model), prompt, **options))
        assert found == generate(model, prompt, **options)[0].tokens


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 1}], ids=str)
@pytest.mark.parametrize("at", [0, 1, 6])
def test_nan_is_reported_for_its_prompt_and_place(model, options, at):
    """Networks and models in Python name the same ones."""
    cell = type(model.rnn).__name__.lower()
    prompts = [[7, 5], [4, 1], [2, 2]]  # of one length: else those in Python write at other times
    tokens = generate(model, prompts, max_new_tokens=9, **options)[1].tokens
    broken = LanguageModel(model.vocab_size, 16, 16, 2, cell=cell)
    broken.load_state_dict(model.state_dict())
    broken.parameters["embedding.weight"][tokens[at]] = np.nan
    broken.repack()
    errors = []
    for given in (broken, Plain(broken)):
        with pytest.raises(DecodingError, match=r"at new token \d+ hold NaN") as caught:
            generate(given, prompts, max_new_tokens=60, **options)
        errors.append((str(caught.value), caught.value.prompt))
    assert errors[0] == errors[1]
