"""Models made of a table, and searches written to be read: what decoding is compared with."""

from __future__ import annotations

import itertools
import math

import numpy as np


class TableModel:
    """Logits are any function of the tokens so far; keeps a count of the rows it was asked for."""

    def __init__(self, vocab_size, logits):
        self.vocab_size, self.logits = vocab_size, logits
        self.rows_seen = []

    def stream(self, batch_size):
        return TableStream(self, batch_size)


class TableStream:
    def __init__(self, model, rows):
        self.model, self.texts = model, [()] * rows

    def step(self, tokens):
        assert tokens.shape == (len(self.texts),)
        self.model.rows_seen.append(len(tokens))
        self.texts = [(*text, int(t)) for text, t in zip(self.texts, tokens, strict=True)]
        return np.stack([self.model.logits(text) for text in self.texts]).astype(np.float32)

    def reorder(self, indices):
        self.texts = [self.texts[i] for i in indices]


def random_table(vocab_size, seed=0, scale=2.0):
    """Logits drawn anew for every text."""

    def logits(text):
        return scale * np.random.default_rng([seed, *text]).standard_normal(vocab_size)

    return TableModel(vocab_size, logits)


def constant_table(logits):
    """The same logits whatever came before."""
    row = np.array(logits, np.float32)
    return TableModel(len(row), lambda text: row)


class Still:
    """A model without memory: the same logits for every row and step."""

    def __init__(self, logits):
        self.row, self.vocab_size = np.array(logits, np.float32), len(logits)

    def stream(self, batch_size):
        return self

    def step(self, tokens):
        return np.broadcast_to(self.row, (len(tokens), self.vocab_size))

    def reorder(self, indices):
        pass


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


def log_softmax(x):
    x = np.asarray(x, np.float64)
    return x - x.max() - math.log(np.exp(x - x.max()).sum())


def log_probabilities(model, text):
    """Of what follows a text, in float64 from the model's float32 logits."""
    if isinstance(model, TableModel):
        return log_softmax(np.asarray(model.logits(tuple(text)), np.float32))
    logits, _ = model(np.array(text))
    return log_softmax(logits[-1])


def every_sequence(model, prompt, most, eos, penalty=1.0):
    """(score, tokens) of all complete sequences, by enumeration."""
    found = []
    for length in range(1, most + 1):
        for tokens in itertools.product(range(model.vocab_size), repeat=length):
            ends = [token in eos for token in tokens]
            if any(ends[:-1]) or (length < most and not ends[-1]):
                continue
            total = sum(
                log_probabilities(model, [*prompt, *tokens[:i]])[token]
                for i, token in enumerate(tokens)
            )
            found.append((total / length**penalty, list(tokens)))
    return sorted(found, key=lambda pair: -pair[0])


def beam_search(
    model, prompt, beams, most, eos, *, alpha=1.0, early=False, form="power", branches=None
):
    """Hugging Face's beam search, one candidate after the other: (score, tokens)."""

    def score_of(total, length):
        return total / (length**alpha if form == "power" else ((5 + length) / 6) ** alpha)

    live, finished = [(0.0, [])], []
    for length in range(1, most + 1):
        candidates = []
        for parent, (total, tokens) in enumerate(live):
            values = list(enumerate(log_probabilities(model, [*prompt, *tokens])))
            values.sort(key=lambda pair: (-pair[1], pair[0]))
            for token, value in values[:branches]:
                candidates.append((total + value, parent, token))
        candidates.sort(key=lambda c: (-c[0], c[1], c[2]))
        following = []
        for rank, (total, parent, token) in enumerate(candidates):
            tokens = [*live[parent][1], token]
            if token in eos:
                if rank < beams:
                    finished.append((score_of(total, length), tokens))
            else:
                following.append((total, tokens))
            if len(following) == beams:
                break
        live = following
        if length == most:
            finished += [(score_of(total, most), tokens) for total, tokens in live]
        finished = sorted(finished, key=lambda pair: -pair[0])[:beams]
        if not live:
            break
        if len(finished) == beams:
            attainable = score_of(live[0][0], most if early == "never" and alpha > 0 else length)
            if early is True or finished[-1][0] >= attainable:
                break
    return finished


def greedy_search(model, prompt, most, eos=()):
    """The most probable token each time, the lowest of equal ones: (tokens, logprobs)."""
    tokens, logprobs = [], []
    while len(tokens) < most and not (tokens and tokens[-1] in eos):
        values = log_probabilities(model, [*prompt, *tokens])
        tokens.append(int(values.argmax()))
        logprobs.append(values.max())
    return tokens, logprobs


def draws(model, prompt, most, eos=(), *, seed, sequence=0, **filters):
    """One token after the other at its random number: (tokens, logprobs)."""
    key = (seed + sequence * 0x9E3779B97F4A7C15) & MASK
    tokens, logprobs = [], []
    while len(tokens) < most and not (tokens and tokens[-1] in eos):
        values = log_probabilities(model, [*prompt, *tokens])
        p = by_definition(values, **filters)
        tokens.append(inverse_cdf(p, uniform(key, len(tokens))))
        logprobs.append(values[tokens[-1]])
    return tokens, logprobs


# ---- drawing ------------------------------------------------------------------------------------

MASK = (1 << 64) - 1


def mix(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def uniform(key, position):
    return (mix((mix(key) + (position + 1) * 0x9E3779B97F4A7C15) & MASK) >> 11) / 2**53


def by_definition(logits, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0):
    """Probabilities (V,) in float64 after all filters, each on what the one before has left."""
    x = np.asarray(logits, np.float64)
    allowed = x > -np.inf
    d = np.where(allowed, (x - x.max()) / temperature if temperature < math.inf else 0.0, -np.inf)
    order = np.lexsort((np.arange(len(x)), -x))
    if top_k:
        d[order[top_k:]] = -np.inf
    p = np.exp(d) / np.exp(d).sum()
    p[order[1:][np.cumsum(p[order])[:-1] >= top_p]] = 0
    p = p / p.sum()
    p[p < min_p * p.max()] = 0
    p = p / p.sum()
    if typical_p < 1:
        logs = np.log(p, where=p > 0, out=np.zeros_like(p))
        distance = np.where(p > 0, abs(-logs + (p * logs).sum()), np.inf)
        order = np.argsort(distance, kind="stable")
        p[order[1:][np.cumsum(p[order])[:-1] >= typical_p]] = 0
    return p / p.sum()


def inverse_cdf(p, u):
    return int(np.searchsorted(np.cumsum(p), u, side="right"))
