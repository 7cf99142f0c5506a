"""Train the character-level language model that ships as fastrnn/data/demo.pt.

The text is the prose of Python's own language reference, as found in the standard library
module pydoc_data.topics, so nothing is downloaded. Its wording differs a little between Python
versions, and so will the model. Needs PyTorch; the default run takes about ten minutes on one
core. The checkpoint is {"state_dict": parameters, "vocabulary": all characters, index = id}.

    python examples/train_demo.py --out fastrnn/data/demo.pt
"""

import math
import time
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, softmax
from torch.optim.lr_scheduler import OneCycleLR

from fastrnn.data import standard_library_text

VOCABULARY = "\n" + "".join(map(chr, range(32, 127)))  # printable ASCII: any English prompt fits


def encode(text: str) -> Tensor:
    return torch.tensor([VOCABULARY.index(character) for character in text])


class CharModel(nn.Module):
    """Characters (T, N) -> logits (T, N, V)."""

    def __init__(self, hidden: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY), 32)
        self.rnn = nn.GRU(32, hidden)
        self.head = nn.Linear(hidden, len(VOCABULARY))
        self.dropout = dropout

    def forward(self, tokens: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = dropout(self.embedding(tokens), self.dropout / 2, self.training)
        y, state = self.rnn(x, state)
        return self.head(dropout(y, self.dropout, self.training)), state


def read_text() -> tuple[Tensor, Tensor]:
    """The ids to learn from and those to validate on: 5 %, in runs of ten paragraphs."""
    parts: tuple[list[str], list[str]] = [], []
    for i, paragraph in enumerate(standard_library_text().split("\n\n")):
        parts[i % 200 >= 190].append(paragraph)
    return encode("\n\n".join(parts[0])), encode("\n\n".join(parts[1]))


def windows(ids: Tensor, batch: int, window: int) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """Endless (inputs, targets, fresh), each (window, batch); `fresh` marks a new pass.

    Row n reads on where it stopped in the window before: the state can be carried over.
    """
    length = len(ids) // batch
    while True:
        shift = int(torch.randint(len(ids), ()))
        streams = ids.roll(shift)[: length * batch].view(batch, length).t().contiguous()
        for t in range(0, length - window, window):
            yield streams[t : t + window], streams[t + 1 : t + window + 1], t == 0


@torch.no_grad()
def bits_per_character(model: CharModel, ids: Tensor) -> float:
    model.eval()
    logits, _ = model(ids[:-1, None])
    model.train()
    return cross_entropy(logits[:, 0], ids[1:]).item() / math.log(2)


@torch.no_grad()
def sample(model: CharModel, length: int, temperature: float) -> str:
    model.eval()
    ids = encode("\n\n").tolist()  # as between two paragraphs
    logits, state = model(torch.tensor(ids)[:, None])
    for _ in range(length):
        ids.append(int(torch.multinomial(softmax(logits[-1, 0] / temperature, 0), 1)))
        logits, state = model(torch.tensor([[ids[-1]]]), state)
    return "".join(VOCABULARY[i] for i in ids[2:])


def train(model: CharModel, options: Namespace) -> None:
    train_ids, valid_ids = read_text()
    print(f"{len(train_ids)} characters to learn from, {len(valid_ids)} to validate on", flush=True)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = OneCycleLR(optimizer, options.lr, options.steps, pct_start=0.1, cycle_momentum=False)
    state: Any = None
    start = time.perf_counter()
    batches = windows(train_ids, options.batch, options.window)
    for step, (inputs, targets, fresh) in zip(range(1, options.steps + 1), batches, strict=False):
        logits, state = model(inputs, None if fresh else state.detach())
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 200 == 0 or step == options.steps:
            bits, valid = loss.item() / math.log(2), bits_per_character(model, valid_ids)
            line = f"step {step}: {bits:.3f} bits per character, validation {valid:.3f}"
            print(f"{line}, {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=ArgumentDefaultsHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("demo.pt"), help="file to write")
    add("--steps", type=int, default=6000, help="optimiser steps")
    add("--seed", type=int, default=0, help="of weights, order, dropout and sample")
    add("--threads", type=int, default=1, help="of PyTorch")
    add("--batch", type=int, default=64, help="streams read in parallel")
    add("--window", type=int, default=32, help="steps per backward pass; the state is carried on")
    add("--hidden", type=int, default=224, help="units of the GRU")
    add("--dropout", type=float, default=0.25, help="after the GRU; half of it before")
    add("--lr", type=float, default=5e-3, help="highest learning rate of the cycle")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    model = CharModel(options.hidden, options.dropout)
    print(f"{sum(p.numel() for p in model.parameters())} parameters: {model}")
    train(model, options)
    torch.save({"state_dict": model.state_dict(), "vocabulary": VOCABULARY}, options.out)
    print(f"{options.out}: {options.out.stat().st_size} bytes\n")
    print(sample(model, 400, temperature=0.65))


if __name__ == "__main__":
    main()
