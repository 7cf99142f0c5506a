"""Parameters that change through one part of a model: every other part follows."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn import Linear, generate
from fastrnn.models import (
    BidirectionalLanguageModel,
    FeaturesToSequence,
    LanguageModel,
    Seq2Seq,
    SequenceClassifier,
    SequenceTagger,
)
from fastrnn.optim import SGD

V, H = 11, 6
RNG = np.random.default_rng(5)
SOURCE, TARGET = RNG.integers(0, 9, (5, 3)), RNG.integers(0, V, (4, 3))
FEATURES = RNG.standard_normal((5, 3, 4)).astype(np.float32)
WIDE = 44_000  # tokens that no folded table takes: 4 * H * WIDE floats are over its budget


def whole(model, inputs):
    return lambda: model(inputs, TARGET)


def tokens_of(model):
    return lambda: model(np.tile(TARGET, (4, 1)))[0]


MODELS = {
    "language": (lambda: LanguageModel(V, H, H), tokens_of),
    "language, tied": (lambda: LanguageModel(V, H, H, 2, cell="gru", tie_weights=True), tokens_of),
    "language, wide": (lambda: LanguageModel(WIDE, H, H, tie_weights=True), tokens_of),
    "both ways": (
        lambda: BidirectionalLanguageModel(V, H, H),
        lambda model: lambda: np.concatenate(model(TARGET, TARGET)),
    ),
    "tagger": (
        lambda: SequenceTagger(3, H, vocab_size=V),
        lambda model: lambda: model(TARGET),
    ),
    "classifier": (
        lambda: SequenceClassifier(3, H, vocab_size=V),
        lambda model: lambda: model(TARGET),
    ),
    **{
        f"{name}, {attention}{', tied' if tied else ''}{', fed' if fed else ''}": (
            lambda make=make, attention=attention, tied=tied, fed=fed: make(
                attention=attention, tie_weights=tied, input_feeding=fed
            ),
            lambda model, inputs=inputs: whole(model, inputs),
        )
        for name, make, inputs in (
            ("seq2seq", lambda **options: Seq2Seq(9, V, H, **options), SOURCE),
            ("features", lambda **options: FeaturesToSequence(4, V, H, **options), FEATURES),
        )
        for attention, fed in (("none", False), ("additive", False), ("multiplicative", True))
        for tied in (False, True)
    },
}


def parts_of(module, name=""):
    """Every module within a module, by its path, the smallest first."""
    for key, part in getattr(module, "_parts", {}).items():
        yield from parts_of(part, f"{name}.{key}" if name else key)
    if name:
        yield name, module


def drawn(module):
    """New values for all of a module's tensors, tied ones the same under both names."""
    values = {id(p): RNG.standard_normal(p.shape) / 2 for p in module.parameters.values()}
    return {name: values[id(p)] for name, p in module.parameters.items()}


def outputs(model, call):
    """What calls, streams and decoding give, by what is told apart where it goes wrong."""
    found = {"call": call()}
    if isinstance(model, (Seq2Seq, FeaturesToSequence)):
        source = SOURCE if isinstance(model, Seq2Seq) else FEATURES
        stream = model.decoder_stream(source)
        found["stream"] = np.stack([stream.step(tokens) for tokens in TARGET])
        short = model.decoder_stream(source, shortlist=[7, 2, 3])
        found["shortlist"] = np.stack([short.step(tokens) for tokens in TARGET])
        given, prompts = model.with_source(source), [[1]] * 3
    elif isinstance(model, LanguageModel):
        stream = model.stream(3)
        found["stream"] = np.stack([stream.step(tokens) for tokens in TARGET])
        given, prompts = model, TARGET.T
    else:
        return found
    for beams in (1, 3):
        results = generate(given, prompts, max_new_tokens=5, num_beams=beams)
        found[f"{beams} beams"] = np.array([(*r.tokens, *r.logprobs, r.score) for r in results])
    return found


def check(model, make, call_of):
    """The model behaves as a new one with the same parameters does."""
    fresh = make()
    fresh.load_state_dict(model.state_dict())
    wanted = outputs(fresh, call_of(fresh))
    for name, value in outputs(model, call_of(model)).items():
        np.testing.assert_array_equal(value, wanted[name], err_msg=name)
    assert model.fingerprint() == fresh.fingerprint()


@pytest.mark.parametrize("kind", MODELS)
def test_a_part_that_is_loaded_changes_the_model(kind):
    make, call_of = MODELS[kind]
    model = make()
    outputs(model, call_of(model))  # so that whatever is kept between calls is there
    for _, part in parts_of(model):
        part.load_state_dict(drawn(part))
        check(model, make, call_of)


@pytest.mark.parametrize("kind", MODELS)
def test_a_part_that_is_written_and_repacked_changes_the_model(kind):
    make, call_of = MODELS[kind]
    model = make()
    outputs(model, call_of(model))
    for _, part in parts_of(model):
        for name, value in drawn(part).items():
            part.parameters[name][...] = value
        part.repack()
        check(model, make, call_of)


@pytest.mark.parametrize("kind", MODELS)
def test_an_optimiser_of_a_part_changes_the_model(kind):
    make, call_of = MODELS[kind]
    model = make()
    outputs(model, call_of(model))
    for _, part in parts_of(model):
        part.flat_grad[...] = RNG.standard_normal(part.flat_grad.shape)
        SGD(part, lr=0.3).step()
        check(model, make, call_of)


@pytest.mark.parametrize("kind", [kind for kind in MODELS if "tied" in kind])
def test_a_tied_head_has_the_gradient_of_the_weight_as_it_is_now(kind):
    make, _ = MODELS[kind]
    model = make()
    owner = getattr(model, "decoder", model)
    hidden, dlogits = RNG.standard_normal((2, H)), RNG.standard_normal((2, V))
    owner.head.vjp(hidden)[1](dlogits)  # packs the way back
    owner.embedding.load_state_dict({"weight": RNG.standard_normal((V, H))})
    plain = Linear(H, V)
    plain.load_state_dict(owner.head.state_dict())
    np.testing.assert_array_equal(owner.head.vjp(hidden)[1](dlogits), plain.vjp(hidden)[1](dlogits))


@pytest.mark.parametrize("kind", ["language, tied", "seq2seq, additive, tied", "features, none"])
def test_streams_keep_the_weights_they_were_made_with(kind):
    make, _ = MODELS[kind]
    model = make()
    decoder = getattr(model, "decoder", model)

    def stream_of():
        if isinstance(model, LanguageModel):
            return model.stream(3)
        return model.decoder_stream(SOURCE if isinstance(model, Seq2Seq) else FEATURES)

    def steps(stream):
        return np.stack([stream.step(tokens) for tokens in TARGET])

    kept, wanted = stream_of(), steps(stream_of())
    decoder.embedding.load_state_dict({"weight": RNG.standard_normal((V, H))})
    assert (steps(stream_of()) != wanted).any()
    np.testing.assert_array_equal(steps(kept), wanted)


@pytest.mark.parametrize("part", ["encoder.rnn", "decoder.embedding", "decoder.rnn"])
def test_sources_that_other_parameters_have_encoded_are_refused(part):
    model = Seq2Seq(9, V, H, attention="additive", tie_weights=True)
    given = model.with_source(SOURCE, shortlist=[1, 2, 3])
    generate(given, [[1]] * 3, max_new_tokens=2)
    changed = dict(parts_of(model))[part]
    changed.load_state_dict(drawn(changed))
    with pytest.raises(ValueError, match=r"parameters have changed since with_source\(source\)"):
        generate(given, [[1]] * 3, max_new_tokens=2)
    generate(model.with_source(SOURCE, shortlist=[1, 2, 3]), [[1]] * 3, max_new_tokens=2)
