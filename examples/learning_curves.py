"""Train the same network by fastrnn and by PyTorch, from the same weights, and compare.

Both engines get identical weights, batches, Adam settings and clipping, and take turns of --every
steps in one process. Needs PyTorch.

    python examples/learning_curves.py tinyshakespeare.txt --cell lstm
    python examples/learning_curves.py names/ --task names --cell gru

Task "lm" is a character-level language model by truncated backpropagation through time, on a text
or on the prose of Python's own documentation; "names" tells the language of names, from a folder
with one file per language. Prints the loss of both as they learn, how far apart the curves are in
the first 300 steps, perplexity or accuracy on held-out data, and the seconds that training took.

Expect differences far below 1e-4 for hundreds of steps (the engines add in another order), the same
perplexity and accuracy at the end, and fewer seconds. Exit status 1 if the curves of a language
model part by more than --bound. Every number goes into the file that --json names.
"""

import json
import math
import time
from argparse import (
    ArgumentDefaultsHelpFormatter,
    ArgumentParser,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn
from fastrnn.data import (
    Batch,
    Buckets,
    LabelledSequences,
    Source,
    TextStream,
    Vocabulary,
    hold_out,
    read_classes,
    read_text,
    standard_library_text,
)
from fastrnn.models import LanguageModel, SequenceClassifier
from fastrnn.optim import Adam
from fastrnn.train import Trainer

BOUNDED_STEPS = 300


class TorchModel(nn.Module):
    """Embedding, recurrent layers, head: the same names as fastrnn's models have."""

    def __init__(self, cell: str, tokens: int, outputs: int, options: Namespace) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens, options.embedding)
        layers = getattr(nn, cell.upper())
        self.rnn = layers(options.embedding, options.hidden, options.layers)
        self.head = nn.Linear(options.hidden, outputs)

    def forward(self, inputs: Tensor, state: Any, lengths: Tensor | None) -> tuple[Tensor, Any]:
        """Logits of every step, or, with lengths, of each row's last step."""
        x = self.embedding(inputs)
        if lengths is None:
            y, state = self.rnn(x, state)
            return self.head(y).flatten(0, 1), state
        packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
        h = self.rnn(packed)[1]
        return self.head((h[0] if isinstance(h, tuple) else h)[-1]), None


def detached(state: Any) -> Any:
    if isinstance(state, tuple):  # of an LSTM
        return tuple(part.detach() for part in state)
    return None if state is None else state.detach()


class TorchEngine:
    """A training as PyTorch's users write it."""

    def __init__(self, model: TorchModel, options: Namespace) -> None:
        self.model, self.clip, self.seconds = model, options.clip, 0.0
        self.state: Any = None
        self.optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)

    def _loss(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        inputs, targets = torch.from_numpy(batch.inputs), torch.from_numpy(batch.targets).flatten()
        lengths = None if batch.lengths is None else torch.from_numpy(batch.lengths)
        logits, state = self.model(inputs, None if batch.fresh else self.state, lengths)
        self.state = detached(state)
        return cross_entropy(logits, targets), logits, targets

    def step(self, batch: Batch) -> float:
        loss, _, _ = self._loss(batch)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return loss.item()

    @torch.inference_mode()
    def evaluate(self, source: Source) -> tuple[float, float]:
        """Mean loss and accuracy over an epoch."""
        kept = self.state
        loss, correct, count = 0.0, 0, 0
        for batch in source.batches():
            mean, logits, targets = self._loss(batch)
            loss, count = loss + mean.item() * len(targets), count + len(targets)
            correct += int((logits.argmax(1) == targets).sum())
        self.state = kept
        return loss / count, correct / count


class FastEngine:
    """The same training by fastrnn."""

    def __init__(self, model: LanguageModel | SequenceClassifier, options: Namespace) -> None:
        self.seconds, self.state = 0.0, None
        self.trainer = Trainer(model, Adam(model, lr=options.lr), clip_norm=options.clip)

    def step(self, batch: Batch) -> float:
        state = None if batch.fresh else self.state
        loss, self.state = self.trainer.step(batch.inputs, batch.targets, state, batch.lengths)
        return loss

    def evaluate(self, source: Source) -> tuple[float, float]:
        total = self.trainer.evaluate(source)
        return total.loss, (total.correct or 0) / total.count


Engines = dict[str, TorchEngine | FastEngine]


def language_task(options: Namespace) -> tuple[Engines, Source, Source]:
    text = standard_library_text() if options.data is None else read_text(options.data)
    vocabulary = Vocabulary.build(text)
    ids, V = vocabulary.encode(text), len(vocabulary)
    cut = len(ids) * 9 // 10
    train = TextStream(ids[:cut], options.batch, options.bptt)
    model = LanguageModel(V, options.embedding, options.hidden, options.layers, cell=options.cell)
    return engines(model, V, V, options), train, TextStream(ids[cut:], 16, options.bptt)


def names_task(options: Namespace) -> tuple[Engines, Source, Source]:
    pairs = list(dict.fromkeys(zip(*read_classes(options.data), strict=True)))
    names, languages = [name for name, _ in pairs], [language for _, language in pairs]
    vocabulary = Vocabulary.build(names, specials=("pad",))
    examples = LabelledSequences(vocabulary.encode_many(names), languages)
    train, held = hold_out(examples, 0.1, seed=options.seed)
    model = SequenceClassifier(
        len(examples.classes),
        options.hidden,
        options.layers,
        vocab_size=len(vocabulary),
        embedding_dim=options.embedding,
        cell=options.cell,
    )
    both = engines(model, len(vocabulary), len(examples.classes), options)
    return both, Buckets(train, options.batch, seed=options.seed), Buckets(held, 64, shuffle=False)


def engines(model: Any, tokens: int, outputs: int, options: Namespace) -> Engines:
    """Both with the weights that PyTorch draws."""
    torch.manual_seed(options.seed)
    theirs = TorchModel(options.cell, tokens, outputs, options)
    model.load_state_dict(theirs.state_dict())
    return {"pytorch": TorchEngine(theirs, options), "fastrnn": FastEngine(model, options)}


def endless(source: Source) -> Iterator[Batch]:
    while True:
        yield from source.batches()


def run(options: Namespace) -> dict[str, Any]:
    """Train both; gives losses by step, losses and accuracies on held-out data, and seconds."""
    torch.set_num_threads(options.threads)
    fastrnn.set_num_threads(options.threads)
    task = language_task if options.task == "lm" else names_task
    both, source, held = task(options)
    losses: dict[str, list[float]] = {name: [] for name in both}
    checks: list[dict[str, Any]] = []
    print("step      loss: pytorch    fastrnn  difference", flush=True)
    stream, step = endless(source), 0
    while step < options.steps:
        batches = list(islice(stream, min(options.every, options.steps - step)))
        for name, engine in both.items():
            start = time.perf_counter()
            losses[name] += [engine.step(batch) for batch in batches]
            engine.seconds += time.perf_counter() - start
        step += len(batches)
        a, b = losses["pytorch"][-1], losses["fastrnn"][-1]
        print(f"{step:<13} {a:9.5f}  {b:9.5f}     {abs(a - b):.1e}", flush=True)
        if step % options.validate_every == 0 or step == options.steps:
            checks.append(validated(step, both, held))
    seconds = {name: engine.seconds for name, engine in both.items()}
    return {"losses": losses, "held_out": checks, "seconds": seconds}


def validated(step: int, both: Engines, held: Source) -> dict[str, Any]:
    place, found = held.state_dict(), {}
    for name, engine in both.items():
        held.load_state_dict(place)
        loss, accuracy = engine.evaluate(held)
        found[name] = {"loss": loss, "perplexity": math.exp(loss), "accuracy": accuracy}
        shown = f"loss {loss:.5f}, perplexity {math.exp(loss):.4f}"
        print(f"{step:<13} held out, {name}: {shown}, accuracy {100 * accuracy:.2f} %", flush=True)
    return {"step": step, **found}


def report(result: dict[str, Any], options: Namespace) -> None:
    losses, seconds = result["losses"], result["seconds"]
    apart = np.abs(np.subtract(losses["pytorch"], losses["fastrnn"]))[:BOUNDED_STEPS]
    result["largest_difference"] = float(apart.max())
    print(f"\nlargest difference of the losses in {len(apart)} steps: {apart.max():.1e}")
    ratio = seconds["pytorch"] / seconds["fastrnn"]
    print(f"seconds: pytorch {seconds['pytorch']:.1f}, fastrnn {seconds['fastrnn']:.1f}", end="")
    print(f", {ratio:.2f} times as fast, {options.threads} thread(s)")
    if options.json is not None:
        settings = {name: str(value) for name, value in vars(options).items()}
        options.json.write_text(json.dumps({"settings": settings, **result}))
    if options.task == "lm" and not apart.max() <= options.bound:
        raise SystemExit(f"the curves part by more than {options.bound:g}")


class Help(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """The text above as it stands, and defaults."""


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("data", nargs="?", type=Path, help="a text file, or the folder of --task names")
    add("--task", choices=["lm", "names"], default="lm", help="what to learn")
    add("--cell", choices=["lstm", "gru"], default="lstm", help="kind of layer")
    add("--embedding", type=int, default=64, help="size of an embedding")
    add("--hidden", type=int, default=256, help="units of a layer")
    add("--layers", type=int, default=2, help="layers")
    add("--batch", type=int, default=32, help="streams, or names in a batch")
    add("--bptt", type=int, default=64, help="steps per backward pass of a language model")
    add("--steps", type=int, default=1000, help="optimiser steps")
    add("--lr", type=float, default=2e-3, help="learning rate of Adam")
    add("--clip", type=float, default=1.0, help="largest norm of the gradient")
    add("--threads", type=int, default=1, help="of either engine")
    add("--seed", type=int, default=0, help="of weights and batches")
    add("--every", type=int, default=50, help="steps that one engine takes at a time")
    add("--validate-every", type=int, default=500, help="steps; a multiple of --every")
    add("--bound", type=float, default=5e-3, help="largest difference of a language model's losses")
    add("--json", type=Path, help="file for all the figures")
    return parser


def main() -> None:
    parser = make_parser()
    options = parser.parse_args()
    if options.task == "names" and options.data is None:
        parser.error("--task names needs a folder with one file per language")
    report(run(options), options)


if __name__ == "__main__":
    main()
