"""Steps that the kernels decide without coming back give what single steps give, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

import fastrnn
from fastrnn import generate
from fastrnn.models import LanguageModel, Seq2Seq

PROMPTS = [[1, 2, 3, 4, 5], [6], [2, 2, 9]]


class Plain:
    """The same model as a caller's own: its stream is not the kernels', every step comes back."""

    def __init__(self, model):
        self.vocab_size, self._model = model.vocab_size, model

    def stream(self, batch_size):
        return PlainStream(self._model.stream(batch_size))


class PlainStream:
    def __init__(self, stream):
        self._stream = stream

    def step(self, tokens):
        return self._stream.step(tokens)

    def reorder(self, indices):
        self._stream.reorder(indices)


@pytest.fixture(
    scope="module", params=[("lstm", 30, True), ("gru", 12, True), ("lstm", 30, False)], ids=str
)
def model(request):
    """With a folded table, or with an embedding where the vocabulary is too large for one."""
    cell, vocab_size, folds = request.param
    model = LanguageModel(vocab_size, 16, 16, 2, cell=cell)
    model.reset_parameters(3)
    model.parameters["head.weight"][...] *= 8
    model.repack()
    if not folds:
        model._folds = lambda: False
        assert model._step_stream(1).table is None
    return model


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
@pytest.mark.parametrize("most", [1, 2, 33, 34, 80])
def test_runs_equal_single_steps(model, options, most):
    if options.get("min_new_tokens", 0) > most:
        options = {**options, "min_new_tokens": most}
    for prompt in (PROMPTS, PROMPTS[0], PROMPTS[1], [PROMPTS[0], PROMPTS[0][::-1]]):
        found = generate(model, prompt, max_new_tokens=most, **options)
        wanted = generate(Plain(model), prompt, max_new_tokens=most, **options)
        assert found == wanted


@pytest.mark.parametrize("options", [BEAMS[1], BEAMS[5], *ROWS[:4]], ids=str)
@pytest.mark.parametrize(
    "settings",
    [
        {"attention": "none"},
        {"attention": "additive", "bidirectional": True},
        {"attention": "multiplicative", "input_feeding": True, "embedding_dim": 5},
        {"attention": "scaled_dot", "cell": "gru", "num_layers": 2},
    ],
    ids=str,
)
def test_decoders_run_as_they_step(settings, options):
    model = Seq2Seq(12, 14, 10, **settings)
    model.reset_parameters(2)
    model.parameters["decoder.head.weight"][...] *= 12
    model.repack()
    source = np.random.default_rng(1).integers(0, 12, (7, 3))
    for ids in (None, [1, 3, 5, 8, 9, 11]):
        given = model.given(source, [7, 2, 5], shortlist=ids)
        found = generate(given, [[1]] * 3, max_new_tokens=40, **options)
        assert found == generate(Plain(given), [[1]] * 3, max_new_tokens=40, **options)


@pytest.mark.parametrize("options", [BEAMS[1], ROWS[3]], ids=["beams", "samples"])
def test_threads_change_nothing(model, options):
    with fastrnn.num_threads(1):
        alone = generate(model, PROMPTS * 9, max_new_tokens=40, **options)
    with fastrnn.num_threads(2):
        assert generate(model, PROMPTS * 9, max_new_tokens=40, **options) == alone


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "seed": 1}], ids=str)
def test_what_becomes_nan_is_reported_where_it_does(model, options):
    cell = type(model.rnn).__name__.lower()
    broken = LanguageModel(model.vocab_size, 16, 16, 2, cell=cell)
    broken.load_state_dict(model.state_dict())
    tokens = generate(broken, [1], max_new_tokens=9, **options)[0].tokens
    broken.parameters["embedding.weight"][tokens[6]] = np.nan
    broken.repack()
    with pytest.raises(ValueError, match=r"of prompt 0 at new token .* hold NaN"):
        generate(broken, [1], max_new_tokens=60, **options)


def test_a_long_prompt_is_read_as_its_tokens_one_by_one(model):
    prompt = np.random.default_rng(0).integers(0, model.vocab_size, 700)
    stream = model.stream()
    for token in prompt[:-1]:
        stream.step(int(token))
    read = model.stream()
    read.read(prompt[:-1, None])
    np.testing.assert_array_equal(read.step(int(prompt[-1])), stream.step(int(prompt[-1])))
    assert generate(model, prompt, max_new_tokens=3) == generate(
        Plain(model), prompt, max_new_tokens=3
    )


def test_reading_checks_its_tokens(model):
    stream = model.stream(2)
    with pytest.raises(ValueError, match=rf"tokens holds token {model.vocab_size}, the vocabulary"):
        stream.read([[1, model.vocab_size]])
    with pytest.raises(ValueError, match=r"tokens has shape \(3, 1\), expected \(3, 2\)"):
        stream.read([[1], [2], [3]])
    with pytest.raises(ValueError, match="floats"):
        fastrnn.GRU(3, 4).stream().read([[1]])
