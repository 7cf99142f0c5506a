"""`fastrnn demo`: from a PyTorch checkpoint to streamed text, and the time of a step."""

from __future__ import annotations

import argparse
import time
from importlib import import_module
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn._errors import shown
from fastrnn.cli._values import number, whole
from fastrnn.formats import Checkpoint, open_checkpoint
from fastrnn.models import LanguageModel

Floats = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]

_MAX_STEPS = 10_000_000  # every step's time is kept


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", default="The ", help='how the text starts (default: "The ")')
    parser.add_argument(
        "--temperature",
        type=number(0),
        default=0.6,
        help="0 always takes the likeliest character, 1 samples as trained (default: 0.6)",
    )
    parser.add_argument(
        "--characters", type=whole(1), default=400, help="how many to write (default: 400)"
    )
    parser.add_argument("--seed", type=whole(0), default=0, help="of the sampling (default: 0)")
    parser.add_argument(
        "--steps",
        type=whole(1, _MAX_STEPS),
        default=20000,
        help="timed afterwards (default: 20000)",
    )


def run(options: argparse.Namespace) -> int:
    with as_file(files("fastrnn") / "data" / "demo.pt") as path:
        checkpoint = open_checkpoint(path)
    model = LanguageModel.from_state_dict(checkpoint.tensors)
    vocabulary = _vocabulary(checkpoint, model.vocab_size)
    if not options.prompt or set(options.prompt) - set(vocabulary):
        options.refuse(f"argument --prompt: must be made of these characters: {vocabulary!r}, "
                       f"got {shown(options.prompt)}")  # fmt: skip
    prompt = np.array([vocabulary.index(character) for character in options.prompt])
    print(f"{model.rnn}, {model.num_parameters:,} parameters, read without PyTorch")
    print("trained on the English of the standard library's documentation (pydoc_data.topics)\n")
    seconds = _write(model, vocabulary, prompt, options)
    rate = options.characters / seconds
    print(f"\n{rate:,.0f} characters per second, with sampling and printing")
    _report_latency(model, options.steps)
    _compare_with_torch(model, prompt)
    return 0


def _vocabulary(checkpoint: Checkpoint, size: int) -> str:
    """The characters in the order of their ids; the file holds them beside the weights."""
    vocabulary = checkpoint.values["vocabulary"]
    if not isinstance(vocabulary, str) or len(vocabulary) != size:
        raise ValueError(f"the demo model has {size} tokens, its vocabulary does not fit")
    return vocabulary


def _sample(logits: Floats, temperature: float, generator: np.random.Generator) -> int:
    """One token id; a Gumbel-max draw, which is exact for every temperature above 0."""
    if temperature == 0:
        return int(logits.argmax())
    return int((logits / temperature + generator.gumbel(size=logits.shape)).argmax())


def _write(
    model: LanguageModel, vocabulary: str, prompt: Tokens, options: argparse.Namespace
) -> float:
    """Prints text as it comes; returns the seconds it took."""
    stream, generator = model.stream(), np.random.default_rng(options.seed)
    logits = np.empty(model.vocab_size, np.float32)
    for token in prompt.tolist():
        stream.step(token, out=logits)
    print(options.prompt, end="")
    start = time.perf_counter()
    for _ in range(options.characters):
        token = _sample(logits, options.temperature, generator)
        print(vocabulary[token], end="", flush=True)
        stream.step(token, out=logits)
    print()
    return time.perf_counter() - start


def _report_latency(model: LanguageModel, steps: int) -> None:
    """Times single steps of the whole model (embedding, layers, head), one by one."""
    stream, clock = model.stream(), time.perf_counter_ns
    logits = np.empty(model.vocab_size, np.float32)
    times = np.empty(steps, np.int64)
    for i in range(min(steps, 1000)):  # warm up
        stream.step(i % model.vocab_size, out=logits)
    for i in range(steps):
        start = clock()
        stream.step(i % model.vocab_size, out=logits)
        times[i] = clock() - start
    p50, p99, p999, most = np.percentile(times, [50, 99, 99.9, 100]) / 1000
    print(
        f"step: p50 {p50:.2f} us, p99 {p99:.2f} us, p99.9 {p999:.2f} us, maximum {most:.2f} us; "
        f"{1e9 / times.mean():,.0f} tokens per second"
    )


def _compare_with_torch(model: LanguageModel, prompt: Tokens) -> None:
    """Largest difference between PyTorch's logits and ours, if PyTorch is installed."""
    try:
        torch: Any = import_module("torch")
    except ImportError:
        print("PyTorch is not installed: nothing to compare the logits with")
        return
    expected = _torch_logits(torch, model, prompt)
    ours, _ = model(prompt[:, None])
    difference = float(np.abs(ours[:, 0] - expected).max())
    print(f"largest difference to the logits of PyTorch {torch.__version__}: {difference:.1e}")
    if not difference < 1e-4:
        raise ValueError("the logits differ from PyTorch's by more than rounding")


def _torch_logits(torch: Any, model: LanguageModel, prompt: Tokens) -> Floats:
    weights = {name: torch.from_numpy(value) for name, value in model.state_dict().items()}
    rnn = getattr(torch.nn, type(model.rnn).__name__)(
        model.rnn.input_size, model.rnn.hidden_size, model.rnn.num_layers
    )
    rnn.load_state_dict({name: weights[f"rnn.{name}"] for name in model.rnn.state_dict()})
    functional = torch.nn.functional
    with torch.inference_mode():
        embedded = functional.embedding(torch.from_numpy(prompt), weights["embedding.weight"])
        y, _ = rnn(embedded[:, None])
        logits = functional.linear(y[:, 0], weights["head.weight"], weights.get("head.bias"))
    return np.asarray(logits.numpy())
