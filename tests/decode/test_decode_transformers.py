"""generate beside Hugging Face's: the same weights and options must give the same sequences."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from decoding import Still

import fastrnn
from fastrnn import _core, generate

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers", minversion="5")
nn = torch.nn

V = 24


class Config(transformers.PretrainedConfig):
    model_type = "tiny"

    def __init__(self, cell="LSTM", **options):
        super().__init__(**options)
        self.vocab_size, self.hidden_size, self.num_hidden_layers, self.cell = V, 6, 1, cell


class Theirs(transformers.PreTrainedModel, transformers.GenerationMixin):
    """A language model without a cache: every step reads the whole text."""

    config_class = Config

    def __init__(self, config):
        super().__init__(config)
        self.embedding = nn.Embedding(V, 4)
        self.rnn = getattr(nn, config.cell)(4, 6, batch_first=True)
        self.head = nn.Linear(6, V)
        self.post_init()

    def forward(self, input_ids, **_):
        y, _ = self.rnn(self.embedding(input_ids))
        return transformers.modeling_outputs.CausalLMOutput(logits=self.head(y))


class TheirStill(Theirs):
    """The same logits after any text."""

    def forward(self, input_ids, **_):
        logits = self.still.expand(*input_ids.shape, V)
        return transformers.modeling_outputs.CausalLMOutput(logits=logits)


@pytest.fixture(autouse=True)
def torch_is_quiet():
    """No second team of threads beside ours, no advice on options."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    yield
    torch.set_num_threads(before)


def twins(seed):
    """Their model and ours: random, with logits far enough apart for both to order them alike."""
    torch.manual_seed(seed)
    theirs = Theirs(Config(["LSTM", "GRU"][seed % 2])).eval()
    for name, parameter in theirs.named_parameters():
        scale = {"head.weight": 5.0, "embedding.weight": 2.0}.get(name, 0.6)
        nn.init.uniform_(parameter, -scale, scale)
    return theirs, fastrnn.models.LanguageModel.from_state_dict(theirs.state_dict())


def run_theirs(model, prompt, options):
    with torch.inference_mode():
        return model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            pad_token_id=0,
            use_cache=False,
            return_dict_in_generate=True,
            output_scores=True,
            output_logits=True,
            **options,
        )


def their_results(model, prompt, options):
    """(tokens, logprobs, score) of every sequence that they return."""
    out, start = run_theirs(model, prompt, options), len(prompt)
    if "num_beams" not in options:
        values = model.compute_transition_scores(out.sequences, out.logits, normalize_logits=True)
        return [(out.sequences[0, start:].tolist(), values[0].tolist(), values.mean().item())]
    values = model.compute_transition_scores(out.sequences, out.scores, out.beam_indices)
    lengths = (out.beam_indices >= 0).sum(1).tolist()
    return [
        (tokens[start : start + n].tolist(), row[:n].tolist(), score.item())
        for tokens, row, n, score in zip(
            out.sequences, values, lengths, out.sequences_scores, strict=True
        )
    ]


class EndsWith(transformers.StoppingCriteria):
    """What `stop` is here: the new tokens end with one of these sequences."""

    def __init__(self, sequences, start):
        self.sequences, self.start = sequences, start

    def __call__(self, input_ids, scores, **_):
        texts = input_ids[:, self.start :].tolist()
        ends = [any(text[-len(end) :] == end for end in self.sequences) for text in texts]
        return torch.tensor(ends)


def assert_same(seed, prompts, options, stop=()):
    theirs, ours = twins(seed)
    wanted = []
    for prompt in prompts:
        ends = {"stopping_criteria": [EndsWith(stop, len(prompt))]} if stop else {}
        wanted += their_results(theirs, prompt, options | ends)
    found = generate(ours, prompts, stop=stop, **options)
    assert [g.tokens for g in found] == [tokens for tokens, _, _ in wanted]
    for g, (_, logprobs, score) in zip(found, wanted, strict=True):
        np.testing.assert_allclose(g.logprobs, logprobs, atol=1e-4)
        np.testing.assert_allclose(g.score, score, rtol=1e-4, atol=1e-4)


SEARCHES = [
    {},
    *(
        {
            "num_beams": beams,
            "num_return_sequences": (beams + 1) // 2 if early is True else beams,
            "early_stopping": early,
            "length_penalty": penalty,
        }
        for beams, (early, penalty) in zip(
            [2, 3, 4, 5, 6] * 3,
            product([False, True, "never"], [-1.0, 0.0, 0.6, 1.0, 2.0]),
            strict=True,
        )
    ),
]

RULES = [
    {"eos_token_id": 3},
    {"eos_token_id": [3, 8, 11, 17]},
    {"eos_token_id": [3, 8, 11, 17], "min_new_tokens": 4},
    {"repetition_penalty": 1.4},
    {"repetition_penalty": 0.7, "eos_token_id": [5, 6]},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2, "eos_token_id": [5, 6]},
    {"bad_words_ids": [[4], [7], [1, 2], [9, 9, 9], [19, 19], [20, 21]]},
    {"suppress_tokens": [0, 5, 10, 15, 20], "begin_suppress_tokens": [1, 2, 3, 4]},
    {"forced_eos_token_id": 3, "eos_token_id": [3, 4], "no_repeat_ngram_size": 1},
    {"forced_eos_token_id": 9, "bad_words_ids": [[9]]},
]


@pytest.mark.parametrize("search", SEARCHES, ids=str)
@pytest.mark.parametrize("rules", RULES, ids=str)
def test_the_same_sequences_and_scores(rules, search):
    options = {"max_new_tokens": 8, **rules, **search}
    seed = RULES.index(rules) * len(SEARCHES) + SEARCHES.index(search)
    assert_same(seed, [[3], [17, 4, 9, 9, 20], [1, 2]], options)


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_a_forced_first_token_counts_nothing_and_what_begins_comes_behind_it(search):
    rules = {"forced_bos_token_id": 7, "begin_suppress_tokens": [2, 7, 9], "bad_words_ids": [[7]]}
    for seed in range(5):
        options = {"max_new_tokens": 6, "eos_token_id": [3, 8, 11], **rules, **search}
        assert_same(seed, [[seed], [19]], options)


@pytest.mark.parametrize("search", SEARCHES, ids=str)
def test_stop_sequences_are_their_stopping_criteria(search):
    for seed in range(5):
        options = {"max_new_tokens": 10, "eos_token_id": 3, **search}
        assert_same(seed, [[4, 9], [seed]], options, stop=[[7], [1, 2], [8, 8], [20], [9, 11]])


def random_options(rng):
    """Any rules together."""

    def ids(most):
        return rng.choice(np.arange(4, V), rng.integers(1, most + 1), replace=False).tolist()

    rules = {
        "eos_token_id": rng.choice(4, rng.integers(1, 5), replace=False).tolist(),
        "min_new_tokens": int(rng.integers(0, 4)),
        "repetition_penalty": float(rng.choice([0.6, 1.2, 3.0])),
        "no_repeat_ngram_size": int(rng.integers(1, 4)),
        "bad_words_ids": [ids(3) for _ in range(rng.integers(1, 6))],
        "suppress_tokens": ids(3),
        "begin_suppress_tokens": ids(4),
        "forced_eos_token_id": int(rng.integers(0, 4)),
    }
    chosen = {name: value for name, value in rules.items() if rng.random() < 0.5}
    most = int(rng.integers(4, 12))
    return {"max_new_tokens": most, **chosen, **SEARCHES[rng.integers(len(SEARCHES))]}


@pytest.mark.parametrize("seed", range(20))
def test_rules_together_give_the_same_sequences_and_scores(seed):
    rng = np.random.default_rng(seed)
    for i in range(10):
        prompts = [rng.integers(0, V, rng.integers(1, 9)).tolist() for _ in range(2)]
        assert_same(100 * seed + i, prompts, random_options(rng))


FILTERS = [
    {"temperature": 0.6},
    {"temperature": 1.8},
    {"top_k": 1},
    {"top_k": 5},
    {"top_k": 100},
    {"top_p": 0.0},
    {"top_p": 0.5},
    {"top_p": 0.95},
    {"min_p": 0.05},
    {"min_p": 1.0},
    {"typical_p": 0.2},
    {"typical_p": 0.9},
    {"temperature": 1.5, "top_k": 12, "top_p": 0.9, "min_p": 0.03, "typical_p": 0.8},
    {"temperature": 0.7, "top_p": 0.8, "typical_p": 0.5, "suppress_tokens": [1, 5]},
    {"repetition_penalty": 1.7, "top_p": 0.8, "bad_words_ids": [[3]], "min_p": 0.1},
]


@pytest.mark.parametrize("options", FILTERS, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_draws_come_from_the_same_distribution(seed, options):
    """Every draw is the inverse of their distribution at its random number."""
    logits = 1.5 * np.random.default_rng(seed).standard_normal(V).astype(np.float32)
    theirs, prompt = TheirStill(Config()), list(range(V))  # all tokens have occurred from the start
    theirs.still = torch.from_numpy(logits)
    out = run_theirs(theirs, prompt, {"do_sample": True, "max_new_tokens": 1, **options})
    edges = out.scores[0][0].double().softmax(0).cumsum(0).numpy()
    found = generate(
        Still(logits), prompt, max_new_tokens=1000, do_sample=True, seed=seed, **options
    )
    for position, token in enumerate(found[0].tokens):
        u = _core.uniform(seed, position)
        if abs(edges - u).min() > 1e-6:  # else float32 may round to the neighbour
            assert token == np.searchsorted(edges, u, side="right")
