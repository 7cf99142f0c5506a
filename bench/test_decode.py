"""Decoding with a whole language model, next to an idiomatic PyTorch loop over the same weights.

The loop keeps its states as tensors and reorders them by index. Both sides decode TOKENS tokens
without an end token; their results are compared before they are timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import Generation, generate
from fastrnn.models import LanguageModel

TOKENS = 50

pytestmark = pytest.mark.benchmark(max_time=0.5, min_rounds=5, warmup=True)


@dataclass(frozen=True)
class Case:
    """A model and how it is decoded."""

    label: str
    vocab_size: int
    hidden: int
    layers: int
    beams: int = 1
    streams: int = 1
    samples: bool = False
    target: float = 1.0  # PyTorch's time over fastrnn's


CASES = [
    Case("greedy 2x256", 60, 256, 2, target=7),
    Case("greedy 2x128", 60, 128, 2, target=12),
    Case("beam 4, 2x256", 60, 256, 2, beams=4, target=6),
    Case("beam 4, 2x128", 60, 128, 2, beams=4, target=10),
    Case("64 samples, 2x256", 60, 256, 2, streams=64, samples=True, target=4),
    Case("beam 5, V=10000", 10_000, 512, 1, beams=5, target=2),
]


@cache
def build_model(case: Case) -> LanguageModel:
    """Random weights, with logits far enough apart for both sides to order them alike."""
    model = LanguageModel(case.vocab_size, case.hidden, case.hidden, case.layers)
    model.reset_parameters(1)
    model.parameters["head.weight"][...] *= 20
    model.repack()
    return model


def prompts(case: Case) -> list[list[int]]:
    return [[1 + i % 50] for i in range(case.streams)]


def run_fastrnn(case: Case) -> list[Generation]:
    return generate(
        build_model(case),
        prompts(case),
        max_new_tokens=TOKENS,
        num_beams=case.beams,
        do_sample=case.samples,
        seed=0,
    )


class TorchDecoder:
    """torch.nn modules with the weights of a LanguageModel."""

    def __init__(self, case: Case) -> None:
        import torch

        model = build_model(case)
        self.torch, self.case = torch, case
        state = {name: torch.from_numpy(value) for name, value in model.state_dict().items()}
        self.embedding = torch.nn.Embedding.from_pretrained(state["embedding.weight"])
        self.rnn = torch.nn.LSTM(case.hidden, case.hidden, case.layers)
        names = self.rnn.state_dict()
        self.rnn.load_state_dict({name: state[f"rnn.{name}"] for name in names})
        self.head = torch.nn.Linear(case.hidden, case.vocab_size)
        self.head.load_state_dict({"weight": state["head.weight"], "bias": state["head.bias"]})

    def step(self, tokens: Any, state: Any) -> tuple[Any, Any]:
        y, state = self.rnn(self.embedding(tokens)[None], state)
        return self.head(y[0]), state

    def run(self) -> list[list[int]]:
        with self.torch.inference_mode():
            return self._beams() if self.case.beams > 1 else self._single()

    def _single(self) -> list[list[int]]:
        """Greedy or sampled tokens of all streams."""
        tokens, state, found = self.torch.tensor(prompts(self.case))[:, 0], None, []
        for _ in range(TOKENS):
            logits, state = self.step(tokens, state)
            if self.case.samples:
                tokens = self.torch.multinomial(logits.softmax(-1), 1)[:, 0]
            else:
                tokens = logits.argmax(-1)
            found.append(tokens)
        return list(self.torch.stack(found, 1).tolist())

    def _beams(self) -> list[list[int]]:
        """The best of one prompt's beams."""
        torch, V = self.torch, self.case.vocab_size
        logits, state = self.step(torch.tensor(prompts(self.case)[0]), None)
        scores, tokens = logits.log_softmax(-1)[0].topk(self.case.beams)
        h, c = (s.expand(-1, self.case.beams, -1).contiguous() for s in state)
        texts = tokens[:, None]
        for _ in range(TOKENS - 1):
            logits, (h, c) = self.step(tokens, (h, c))
            sums = (scores[:, None] + logits.log_softmax(-1)).view(-1)
            scores, best = sums.topk(self.case.beams)
            parents, tokens = best // V, best % V
            h, c = h.index_select(1, parents), c.index_select(1, parents)
            texts = torch.cat([texts[parents], tokens[:, None]], 1)
        return [texts[0].tolist()]

    def logprobs(self, generations: list[Generation]) -> Any:
        """Log-probabilities by PyTorch of every stream's tokens: (streams, TOKENS)."""
        with self.torch.inference_mode():
            texts = self.torch.tensor([g.tokens for g in generations])
            first = self.torch.tensor(prompts(self.case))
            y, _ = self.rnn(self.embedding(self.torch.cat([first, texts[:, :-1]], 1).T))
            logs = self.head(y).log_softmax(-1)
            return logs.gather(2, texts.T[:, :, None])[:, :, 0].T.numpy()


def prove(case: Case, decoder: TorchDecoder) -> None:
    """AssertionError unless both sides agree: on the tokens, or on what drawn tokens are worth."""
    found = run_fastrnn(case)
    if not case.samples:
        assert [g.tokens for g in found] == decoder.run(), case.label
    wanted = decoder.logprobs(found)
    np.testing.assert_allclose([g.logprobs for g in found], wanted, atol=2e-3)


@pytest.mark.parametrize("engine", ["fastrnn", "torch"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_decoding(benchmark: Any, threads: int, case: Case, engine: str) -> None:
    run: Callable[[], object] = partial(run_fastrnn, case)
    if find_spec("torch"):
        import torch

        torch.set_num_threads(threads)
        decoder = TorchDecoder(case)
        prove(case, decoder)
        run = decoder.run if engine == "torch" else run
    elif engine == "torch":
        pytest.skip("torch is not installed")
    benchmark.group = f"{case.label}, {TOKENS} tokens, to reach {case.target:g}x"
    benchmark.name = engine
    with fastrnn.num_threads(threads):
        benchmark(run)
