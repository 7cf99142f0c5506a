"""Prompts are read as whole sequences, up to their last token, whatever their lengths."""

from __future__ import annotations

import numpy as np
import pytest
from decoding import Plain

import fastrnn
from fastrnn import _core, generate
from fastrnn.decode._stepper import READ_TOKENS
from fastrnn.models import LanguageModel, Seq2Seq

V = 19
LENGTHS = [1, 700, 2, READ_TOKENS // 5, READ_TOKENS // 5 + 1, READ_TOKENS // 5 + 2]
MODES = [
    {},
    {"do_sample": True, "seed": 3, "num_return_sequences": 3},
    {"num_beams": 3, "num_return_sequences": 2},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
]


def prompts(lengths=LENGTHS):
    rng = np.random.default_rng(4)
    return [rng.integers(0, V, length).tolist() for length in lengths]


@pytest.fixture(scope="module", params=["lstm", "gru", "rnn"])
def model(request):
    made = LanguageModel(V, 16, 16, 2, cell=request.param)
    made.reset_parameters(3)
    made.parameters["head.weight"][...] *= 8
    made.repack()
    return made


def decoder(rows, **options):
    """A Seq2Seq with a source for every row; with attention, its decoder goes step by step."""
    made = Seq2Seq(12, V, 10, **options)
    made.reset_parameters(2)
    made.parameters["decoder.head.weight"][...] *= 12
    made.repack()
    return made.with_source(np.random.default_rng(1).integers(0, 12, (5, rows)))


class Watched:
    """A model whose stream notes what it reads, and steps as the kernels do."""

    def __init__(self, model):
        self.model, self.vocab_size, self.read = model, model.vocab_size, []

    def stream(self, batch_size):
        watched = self

        class Stream(_core.Stream):
            def read(self, tokens, lengths=None):
                watched.read.append((tokens, lengths))
                super().read(tokens, lengths)

        return Stream(self.model.stream(batch_size).network, batch_size)


@pytest.mark.parametrize("options", MODES, ids=str)
def test_prompts_of_mixed_lengths_give_what_each_gives_alone_and_a_model_in_python_gives(
    model, options
):
    together = generate(model, prompts(), max_new_tokens=8, **options)
    count = options.get("num_return_sequences", 1)
    for i, prompt in enumerate(prompts()):
        found = together[i * count : i * count + count]
        assert found == generate(model, prompt, max_new_tokens=8, **options)
        assert found == generate(Plain(model), prompt, max_new_tokens=8, **options)
    assert together == generate(Plain(model), prompts(), max_new_tokens=8, **options)


@pytest.mark.parametrize("attention", ["none", "additive"])
@pytest.mark.parametrize("options", MODES, ids=str)
def test_decoders_read_prompts_of_mixed_lengths_with_their_sources(attention, options):
    lengths = [3, 1, 60, 2]
    given = decoder(4, attention=attention)
    found = generate(given, prompts(lengths), max_new_tokens=6, **options)
    assert found == generate(Plain(given), prompts(lengths), max_new_tokens=6, **options)


def test_all_but_the_last_token_is_read_in_pieces_of_a_bounded_size(model):
    watched = Watched(model)
    assert generate(watched, prompts(), max_new_tokens=3) == generate(
        model, prompts(), max_new_tokens=3
    )
    assert max(tokens.size for tokens, _ in watched.read) <= READ_TOKENS
    for row, prompt in enumerate(prompts()):
        pieces = [
            tokens[: len(tokens) if lengths is None else lengths[row], row]
            for tokens, lengths in watched.read
        ]
        assert np.concatenate(pieces).tolist() == prompt[:-1]


def test_prompts_of_one_token_are_not_read(model):
    watched = Watched(model)
    generate(watched, [[1], [2]], max_new_tokens=3)
    assert not watched.read


def streams():
    for cell in ("lstm", "gru"):
        made = LanguageModel(V, 16, 24, 2, cell=cell)
        made.reset_parameters(6)
        yield made.stream(3)
    yield decoder(3).stream(3).core
    yield decoder(3, attention="additive", input_feeding=True, embedding_dim=5).stream(3).core


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("ends", [[40], [1, 2, 40], [0, 7, 13, 39, 40], list(range(41))], ids=str)
def test_reading_in_any_split_gives_the_bits_of_single_steps(number, ends):
    """Rows have ends of their own: from there on they stay as they are."""
    lengths, tokens = np.array([40, 0, 17]), np.random.default_rng(5).integers(0, V, (40, 3))
    stream, steps = list(streams())[number], list(streams())[number]
    for start, end in zip([0, *ends], ends, strict=False):
        stream.read(tokens[start:end], np.clip(lengths - start, 0, end - start))
    found = stream.step(np.array([3, 4, 5]))
    for row, length in enumerate(lengths):
        alone = list(streams())[number]
        for t in range(length):
            alone.step(tokens[t])
        np.testing.assert_array_equal(found[row], alone.step(np.array([3, 4, 5]))[row])
    for t in range(40):
        steps.step(tokens[t])
    whole = list(streams())[number]
    whole.read(tokens)
    np.testing.assert_array_equal(whole.step(np.zeros(3, int)), steps.step(np.zeros(3, int)))


def test_threads_do_not_change_what_is_read(model):
    def read():
        stream = model.stream(60)
        stream.read(np.random.default_rng(5).integers(0, V, (50, 60)))
        return stream.step(np.arange(60) % V)

    with fastrnn.num_threads(1):
        alone = read()
    with fastrnn.num_threads(2):
        np.testing.assert_array_equal(read(), alone)


def test_reading_checks_its_tokens_and_lengths(model):
    stream = model.stream(2)
    before = stream.snapshot()
    with pytest.raises(ValueError, match=rf"tokens holds token {V}, the vocabulary"):
        stream.read([[1, V]])
    with pytest.raises(ValueError, match=r"tokens has shape \(3, 1\), expected \(3, 2\)"):
        stream.read([[1], [2], [3]])
    for lengths in ([2, 0], [-1, 0]):
        with pytest.raises(ValueError, match=r"lengths holds .*, expected values from 0 to 1"):
            stream.read([[1, 2]], lengths)
    with pytest.raises(ValueError, match=r"lengths has shape \(1,\)"):
        stream.read([[1, 2]], [1])
    with pytest.raises(ValueError, match="takes floats, no tokens"):
        fastrnn.GRU(3, 4).stream().read([[1]])
    stream.read(np.zeros((0, 2), int))
    stream.read([[1, 2]], [0, 0])
    assert stream.snapshot() == before
