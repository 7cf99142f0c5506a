"""Forward and backward, and whole training steps, in fastrnn and in PyTorch.

Both start from the same weights. `build` compares the results of a peer with fastrnn's before it
hands the peer out: y, dx and every gradient of layers; loss and gradient norm of the first steps of
a language model, each of which depends on the update before.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
import peers
from peers import Engine, WrongResultError
from workloads import Training

import fastrnn
from fastrnn.cli._floor import GATES, Workload
from fastrnn.cli._measure import build_layer, random_input
from fastrnn.models import LanguageModel
from fastrnn.optim import Adam, clip_grad_norm

Floats = npt.NDArray[np.float32]
Values = dict[str, Any]  # arrays or numbers by name
Tokens = npt.NDArray[np.int64]

NAMES = ("fastrnn", "torch", "torch fused")  # fused: PyTorch's Adam in one pass, on request
MODEL_ONLY = ("torch fused",)
PROVED_CALLS = 3  # by the second call gradients of the first one must be gone
LOSS_TOLERANCE = 1e-4  # relative
# PyTorch adds the squares in float32: of 6.5 million gradients of a head it loses 1e-3 of the norm,
# where the gradients themselves agree to 1e-8.
NORM_TOLERANCE = 1e-2
BATCHES = 8  # consecutive windows of a text, over and over
CLIP_NORM = 0.01  # below what these models have, so that gradients are really scaled
LEARNING_RATE = 1e-3


def names(work: Training) -> tuple[str, ...]:
    """The engines that differ for this work."""
    return tuple(name for name in NAMES if work.vocabulary or name not in MODEL_ONLY)


def available(name: str) -> bool:
    """True if the modules that the engine needs are installed."""
    return peers.available(name.split()[0])


def build(name: str, work: Training, threads: int = 1) -> Engine:
    """The engine of that name, proved; ImportError if it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of PyTorch about itself
        if name == "fastrnn":
            return _fastrnn(work, threads)
        engine = _torch(name, work, threads)
        prove(engine, work)
    return engine


def prove(engine: Engine, work: Training) -> None:
    """Raises WrongResultError unless the engine's first calls give what fastrnn's do."""
    expected = _fastrnn(work, 1)
    tolerances = {"loss": LOSS_TOLERANCE, "norm": NORM_TOLERANCE}
    for _ in range(PROVED_CALLS):
        results = []
        for each in (expected, engine):
            each.prepare()
            results.append(each.output())
        wanted, got = results
        if missing := wanted.keys() ^ got.keys():
            raise WrongResultError(f"{engine.name}, {work.label}: only one has {sorted(missing)}")
        for key, value in wanted.items():
            error = relative_error(got[key], value)
            allowed = tolerances.get(key) or gradient_tolerance(work.layers)
            if not error <= allowed:
                raise WrongResultError(
                    f"{engine.name}, {work.label}: {key} differs by {error:.2g} of its norm, "
                    f"allowed are {allowed:.2g}"
                )


def relative_error(got: Any, wanted: Any) -> float:
    """|got - wanted| / |wanted|, by the norm of all values; infinite for another shape."""
    a, b = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    if a.shape != b.shape:
        return float("inf")
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), np.finfo(np.float32).tiny))


def gradient_tolerance(work: Workload) -> float:
    """Largest relative error, by norm, between two float32 gradients of the same layers.

    A chain of K products is off by eps/2 * sqrt(K), activations and the state's update add up to
    5 eps. Going there and back an error meets 2 T steps of every layer; they are as good as
    independent, so their norm grows with the root. Both sides err: a factor 2; another covers
    partial sums that are larger than the result.
    """
    steps = work.steps or 1
    widest = max(max(work.layer_inputs()) + work.hidden, GATES[work.cell] * work.hidden)
    one_step = np.finfo(np.float32).eps * (max(widest, steps * work.rows) ** 0.5 / 2 + 5)
    return 4 * float(one_step) * (2 * steps * work.layers) ** 0.5


def _fastrnn(work: Training, threads: int) -> Engine:
    run, output = (_model if work.vocabulary else _layers)(work)
    return Engine("fastrnn", run, output, partial(fastrnn.set_num_threads, threads))


def _layers(work: Training) -> tuple[Callable[[], object], Callable[[], Values]]:
    layer, x, dy = build_layer(work.layers), random_input(work.layers), _random_gradient(work)

    def run() -> tuple[Floats, Floats]:
        layer.zero_grad()
        (y, _), pullback = layer.vjp(x)
        dx, _ = pullback(dy)
        return y, dx

    def output() -> Values:
        y, dx = run()
        return {"y": y, "dx": dx, **layer.grads}

    return run, output


def _model(work: Training) -> tuple[Callable[[], Values], Callable[[], Values]]:
    model, batches = build_model(work), _batches(work)
    optimizer, state = Adam(model, lr=LEARNING_RATE), None

    def run() -> Values:
        nonlocal state
        tokens, targets = next(batches)
        model.zero_grad()
        result, backward = model.loss_vjp(tokens, targets, state)
        backward()
        norm = clip_grad_norm(model, CLIP_NORM)
        optimizer.step()
        state = result.state
        return {"loss": result.loss, "norm": norm}

    return run, run


def _torch(name: str, work: Training, threads: int) -> Engine:
    import torch

    train_with_torch()
    fused = name == "torch fused"
    run, output = _torch_model(work, fused) if work.vocabulary else _torch_layers(work)
    return Engine(name, run, output, partial(torch.set_num_threads, threads))


def train_with_torch() -> None:
    """For the rest of the process: autograd, which engines of inference have switched off."""
    import torch

    if torch.is_inference_mode_enabled() or not torch.is_grad_enabled():
        peers.settings.close()
    peers.flush_denormals()


def _torch_layers(work: Training) -> tuple[Callable[[], object], Callable[[], Values]]:
    import torch

    layers = work.layers
    kind = getattr(torch.nn, layers.cell.upper())
    module = kind(layers.inputs, layers.hidden, layers.layers, bidirectional=layers.directions == 2)
    module.load_state_dict(_tensors(build_layer(layers).state_dict()))
    x = torch.from_numpy(random_input(layers)).requires_grad_()
    dy = torch.from_numpy(_random_gradient(work))

    def run() -> Any:
        module.zero_grad(set_to_none=True)
        x.grad = None
        y, _ = module(x)
        y.backward(dy)
        return y

    def output() -> Values:
        y = run()
        grads = {key: parameter.grad.numpy() for key, parameter in module.named_parameters()}
        return {"y": y.detach().numpy(), "dx": x.grad.numpy(), **grads}

    return run, output


def _torch_model(work: Training, fused: bool) -> tuple[Callable[[], Values], Callable[[], Values]]:
    """As examples/word_language_model of PyTorch trains, with Adam."""
    import torch

    module = torch_language_model(work)
    weights = build_model(work).state_dict()
    module.load_state_dict(_tensors(weights))
    options = {"fused": True} if fused else {}
    optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE, **options)
    batches = ((torch.from_numpy(a), torch.from_numpy(b)) for a, b in _batches(work))
    state: Any = None

    def run() -> Values:
        nonlocal state
        tokens, targets = next(batches)
        optimizer.zero_grad(set_to_none=True)
        logits, last = module(tokens, state)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP_NORM)
        optimizer.step()
        state = tuple(s.detach() for s in last) if isinstance(last, tuple) else last.detach()
        return {"loss": loss.item(), "norm": norm.item()}

    return run, run


def torch_language_model(work: Training) -> Any:
    """The language model of a step as a module of PyTorch, with fastrnn's names."""
    import torch
    from torch import nn

    layers = work.layers

    class Model(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            kind = getattr(nn, layers.cell.upper())
            self.embedding = nn.Embedding(work.vocabulary, layers.inputs)
            self.rnn = kind(layers.inputs, layers.hidden, layers.layers)
            self.head = nn.Linear(layers.hidden, work.vocabulary)

        def forward(self, tokens: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
            y, state = self.rnn(self.embedding(tokens), state)
            return self.head(y), state

    return Model()


def build_model(work: Training, seed: int = 0) -> LanguageModel:
    """The language model of a step with random weights, the same for the same seed."""
    layers = work.layers
    model = LanguageModel(
        work.vocabulary, layers.inputs, layers.hidden, layers.layers, cell=layers.cell
    )
    model.reset_parameters(seed)
    return model


def _batches(work: Training, seed: int = 1) -> Iterator[tuple[Tokens, Tokens]]:
    """Tokens (T, N) and their successors, window after window, from the start again and again."""
    steps, rows = work.layers.steps or 1, work.layers.rows
    text = np.random.default_rng(seed).integers(work.vocabulary, size=(BATCHES * steps + 1, rows))
    starts = range(0, BATCHES * steps, steps)
    return cycle([(text[t : t + steps], text[t + 1 : t + steps + 1]) for t in starts])


def _random_gradient(work: Training) -> Floats:
    """dy (T, N, D*H), normal with unit variance."""
    layers = work.layers
    shape = (layers.steps or 1, layers.rows, layers.directions * layers.hidden)
    return np.random.default_rng(2).standard_normal(shape).astype(np.float32)


def _tensors(state: dict[str, Floats]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(np.array(weight)) for name, weight in state.items()}
