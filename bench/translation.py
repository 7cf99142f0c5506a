"""Sequence to sequence in fastrnn and in PyTorch, from the same weights: training and translation.

PyTorch runs an idiomatic model of its own modules (packed sources, states of beams reordered by
index). `build` compares loss and gradients, or translations, before it hands an engine out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from attention import torch_attend, torch_keys, torch_parts
from peers import Engine, WrongResultError
from training import LOSS_TOLERANCE, gradient_tolerance, relative_error, train_with_torch

import fastrnn
from fastrnn.cli._floor import Workload
from fastrnn.models import Seq2Seq

NAMES = ("fastrnn", "torch")
BOS = 1
SCORE_TOLERANCE = 2e-3  # of a sum of log-probabilities


@dataclass(frozen=True)
class Translating:
    """An LSTM encoder in both directions, and a decoder that may attend to its outputs.

    `beams` 0: loss and gradients of `rows` pairs, else their translation, without an end token.
    """

    attention: str
    rows: int
    beams: int = 0
    hidden: int = 256
    vocabulary: int = 60
    steps: int = 30  # of the longest source and of every target

    @property
    def label(self) -> str:
        """A short name, such as `seq2seq none 256 N=32 train` or `seq2seq none 256 N=1 beams=4`."""
        what = f"beams={self.beams}" if self.beams else "train"
        return f"seq2seq {self.attention} {self.hidden} N={self.rows} {what}"


def cases() -> list[Translating]:
    """With attention and without."""
    works = [(32, 0), *((rows, beams) for beams in (1, 4) for rows in (1, 32))]
    return [Translating(kind, *work) for kind in ("none", "multiplicative") for work in works]


def names(work: Translating) -> tuple[str, ...]:
    """The engines that can do it: all."""
    return NAMES


def available(name: str) -> bool:
    """True if the modules that the engine needs are installed."""
    return name == "fastrnn" or find_spec("torch") is not None


def build(name: str, work: Translating, threads: int = 1) -> Engine:
    """The engine of that name, proved; ImportError if it is not installed."""
    if name == "fastrnn":
        return _fastrnn(work, threads)
    engine = _torch(work, threads)
    prove(engine, work)
    return engine


def prove(engine: Engine, work: Translating) -> None:
    """Raises WrongResultError unless the engine finds what fastrnn does, up to rounding.

    Greedy translations are the same token by token; the best of beams is only as probable, because
    one of two that are almost equally good may be lost to rounding.
    """
    steps = 2 * work.steps
    allowed = gradient_tolerance(Workload("lstm", work.hidden, work.hidden, work.rows, steps, 2))
    tolerances = {"loss": LOSS_TOLERANCE, "tokens": 0.0, "scores": SCORE_TOLERANCE}
    wanted, got = _fastrnn(work, 1).output(), engine.output()
    for key in wanted.keys() | got.keys():
        both = key in wanted and got.get(key) is not None
        error = relative_error(got[key], wanted[key]) if both else float("inf")
        if not error <= tolerances.get(key, allowed):
            raise WrongResultError(f"{engine.name}, {work.label}: {key} differs by {error:.2g}")


@cache
def build_model(work: Translating) -> Seq2Seq:
    """Random weights, with logits far enough apart for translations to be ordered alike."""
    model = Seq2Seq(
        work.vocabulary,
        work.vocabulary,
        work.hidden,
        cell="lstm",
        bidirectional=True,
        attention=work.attention,
    )
    model.reset_parameters(1)
    if work.beams:
        model.parameters["decoder.head.weight"][...] *= 20
        model.repack()
    return model


def _inputs(work: Translating) -> tuple[Any, Any, Any, Any]:
    """source (S, N), its lengths (N,), target (T, N) and the tokens after it (T, N)."""
    rng = np.random.default_rng(2)
    source = rng.integers(2, work.vocabulary, (work.steps, work.rows))
    lengths = rng.integers(work.steps // 2, work.steps, work.rows, endpoint=True)
    lengths[0] = work.steps
    text = rng.integers(2, work.vocabulary, (work.steps + 1, work.rows))
    text[0] = BOS
    return source, lengths, text[:-1], text[1:]


def _fastrnn(work: Translating, threads: int) -> Engine:
    model, (source, lengths, target, after) = build_model(work), _inputs(work)

    def train() -> dict[str, Any]:
        model.zero_grad()
        result, backward = model.loss_vjp((source, target), after, None, (lengths, None))
        backward()
        return {"loss": result.loss, **model.grads}

    def translate() -> list[fastrnn.Generation]:
        prompts = [[BOS]] * work.rows
        given = model.with_source(source, lengths)
        return fastrnn.generate(given, prompts, max_new_tokens=work.steps, num_beams=work.beams)

    def output() -> dict[str, Any]:
        if not work.beams:
            return train()
        found = translate()
        scores = {"scores": [sum(each.logprobs) for each in found]}
        return scores | ({"tokens": [each.tokens for each in found]} if work.beams == 1 else {})

    run = translate if work.beams else train
    return Engine("fastrnn", run, output, partial(fastrnn.set_num_threads, threads))


# ---- PyTorch ------------------------------------------------------------------------------------


def torch_seq2seq(work: Translating) -> Any:
    """The same model as a torch.nn.ModuleDict with fastrnn's names and weights."""
    import torch
    from torch import nn

    model, hidden = build_model(work), work.hidden
    decoder = {
        "embedding": nn.Embedding(work.vocabulary, hidden),
        "rnn": nn.LSTM(hidden, hidden),
        "head": nn.Linear(hidden, work.vocabulary),
    }
    if model.decoder.attention is not None:
        decoder["attention"] = torch_parts(model.decoder.attention)
        decoder["combine"] = nn.Linear(3 * hidden, hidden)
    encoder = {
        "embedding": nn.Embedding(work.vocabulary, hidden),
        "rnn": nn.LSTM(hidden, hidden, bidirectional=True),
    }
    bridge = {letter: nn.Linear(2 * hidden, hidden) for letter in "hc"}
    parts = {"encoder": encoder, "bridge": bridge, "decoder": decoder}
    module = nn.ModuleDict({name: nn.ModuleDict(part) for name, part in parts.items()})
    module.load_state_dict({k: torch.from_numpy(v) for k, v in model.state_dict().items()})
    return module


class TorchTranslator:
    """Translation as programs for PyTorch do it."""

    def __init__(self, work: Translating) -> None:
        import torch

        self.torch, self.work, self.module = torch, work, torch_seq2seq(work)
        self.source, self.lengths, self.target, self.after = map(torch.from_numpy, _inputs(work))
        self.inside = (torch.arange(work.steps) < self.lengths[:, None])[:, None]

    def encode(self) -> tuple[tuple[Any, Any], tuple[Any, Any, Any]]:
        """The decoder's state, and keys (N, S, A), memory (N, S, M) and mask (N, 1, S)."""
        rnn, encoder = self.torch.nn.utils.rnn, self.module["encoder"]
        packed = rnn.pack_padded_sequence(
            encoder["embedding"](self.source), self.lengths, enforce_sorted=False
        )
        memory, last = encoder["rnn"](packed)
        memory, _ = rnn.pad_packed_sequence(memory, batch_first=True)
        bridge = self.module["bridge"]
        h, c = (
            bridge[k](s.transpose(0, 1).flatten(1)).tanh()[None]
            for k, s in zip("hc", last, strict=True)
        )
        decoder = self.module["decoder"]
        keys = torch_keys(decoder["attention"], memory) if "attention" in decoder else memory
        return (h, c), (keys, memory, self.inside)

    def decode(self, tokens: Any, state: Any, looked_at: Any) -> tuple[Any, Any]:
        """logits (T, N, V) of tokens (T, N), and the state after them."""
        decoder = self.module["decoder"]
        y, state = decoder["rnn"](decoder["embedding"](tokens), state)
        if "attention" in decoder:
            kind, parts = self.work.attention, decoder["attention"]
            context = torch_attend(kind, parts, y.transpose(0, 1), *looked_at).transpose(0, 1)
            y = decoder["combine"](self.torch.cat((context, y), -1)).tanh()
        return decoder["head"](y), state

    def train(self) -> Any:
        """The loss; gradients are left in the module."""
        self.module.zero_grad(set_to_none=True)
        logits, _ = self.decode(self.target, *self.encode())
        loss = self.torch.nn.functional.cross_entropy(logits.flatten(0, 1), self.after.flatten())
        loss.backward()
        return loss

    def translate(self) -> tuple[Any, Any]:
        """Tokens (N, T) and sums of log-probabilities (N,), of the best beam each."""
        with self.torch.inference_mode():
            return self._beams() if self.work.beams > 1 else self._greedy()

    def _greedy(self) -> tuple[Any, Any]:
        state, looked_at = self.encode()
        tokens = self.torch.full((self.work.rows,), BOS)
        scores, found = self.torch.zeros(self.work.rows), []
        for _ in range(self.work.steps):
            logits, state = self.decode(tokens[None], state, looked_at)
            best, tokens = logits[0].log_softmax(-1).max(-1)
            scores = scores + best
            found.append(tokens)
        return self.torch.stack(found, 1), scores

    def _beams(self) -> tuple[Any, Any]:
        torch, N, B, V = self.torch, self.work.rows, self.work.beams, self.work.vocabulary
        state, looked_at = self.encode()
        logits, state = self.decode(torch.full((1, N), BOS), state, looked_at)
        scores, tokens = logits[0].log_softmax(-1).topk(B)  # (N, B)
        h, c = (s.repeat_interleave(B, 1) for s in state)
        looked_at = [part.repeat_interleave(B, 0) for part in looked_at]
        texts, first = tokens[..., None], torch.arange(0, N * B, B)[:, None]
        for _ in range(self.work.steps - 1):
            logits, (h, c) = self.decode(tokens.reshape(1, -1), (h, c), looked_at)
            sums = scores[..., None] + logits.log_softmax(-1).view(N, B, V)
            scores, best = sums.flatten(1).topk(B)
            tokens, rows = best % V, (best // V + first).flatten()
            h, c = h.index_select(1, rows), c.index_select(1, rows)
            texts = torch.cat((texts.flatten(0, 1)[rows].view(N, B, -1), tokens[..., None]), -1)
        return texts[:, 0], scores[:, 0]


def _torch(work: Translating, threads: int) -> Engine:
    import torch

    train_with_torch()
    translator = TorchTranslator(work)

    def output() -> dict[str, Any]:
        if not work.beams:
            loss = translator.train().item()
            return {"loss": loss, **_gradients(translator.module)}
        tokens, scores = translator.translate()
        return {"scores": scores.numpy()} | ({"tokens": tokens.numpy()} if work.beams == 1 else {})

    run = translator.translate if work.beams else translator.train
    return Engine("torch", run, output, partial(torch.set_num_threads, threads))


def _gradients(module: Any) -> dict[str, Any]:
    return {name: parameter.grad.numpy() for name, parameter in module.named_parameters()}
