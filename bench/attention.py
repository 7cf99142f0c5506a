"""Attention over a memory in fastrnn and in PyTorch, from the same weights.

PyTorch gets its own layout, rows first: products around a masked softmax, and for the scaled dot
product also its fused function. `build` compares contexts and all gradients with fastrnn's before
it hands an engine out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from peers import Engine, WrongResultError
from training import gradient_tolerance, relative_error, train_with_torch

import fastrnn
from fastrnn.cli._floor import Workload

NAMES = ("fastrnn", "torch", "torch fused")
KINDS = ("additive", "multiplicative", "scaled_dot")


@dataclass(frozen=True)
class Attending:
    """One call: `rows` with `steps` queries each look at up to `positions` of a memory.

    Queries, memory and keys have `size` features. A single step is one of
    decoding: keys are made beforehand. `backward`: the backward pass as well, to all parameters.
    """

    kind: str
    steps: int
    rows: int
    positions: int
    size: int
    backward: bool = False

    @property
    def label(self) -> str:
        """A short name, such as `additive 256 N=32 T=30 S=40 train`."""
        shape = f"{self.size} N={self.rows} T={self.steps} S={self.positions}"
        return f"{self.kind} {shape}" + (" train" if self.backward else "")


def cases() -> list[Attending]:
    """A training with teacher forcing, and steps of decoding."""
    return [
        *(Attending(kind, 30, 32, 40, 256, back) for back in (False, True) for kind in KINDS),
        *(Attending(kind, 1, rows, 40, 256) for rows in (4, 64) for kind in KINDS),
    ]


def names(work: Attending) -> tuple[str, ...]:
    """The engines that can do it."""
    return NAMES if work.kind == "scaled_dot" else NAMES[:2]


def available(name: str) -> bool:
    """True if the modules that the engine needs are installed."""
    return name == "fastrnn" or find_spec("torch") is not None


def build(name: str, work: Attending, threads: int = 1) -> Engine:
    """The engine of that name, proved; ImportError if it is not installed."""
    if name == "fastrnn":
        return _fastrnn(work, threads)
    engine = _torch(name, work, threads)
    prove(engine, work)
    return engine


def prove(engine: Engine, work: Attending) -> None:
    """Raises WrongResultError unless all that the engine finds is fastrnn's, up to rounding."""
    allowed = gradient_tolerance(Workload("rnn", work.size, work.size, work.rows, work.steps))
    wanted, got = _fastrnn(work, 1).output(), engine.output()
    for key in wanted.keys() | got.keys():
        both = key in wanted and got.get(key) is not None
        error = relative_error(got[key], wanted[key]) if both else float("inf")
        if not error <= allowed:
            raise WrongResultError(
                f"{engine.name}, {work.label}: {key} differs by {error:.2g} of its norm, allowed "
                f"are {allowed:.2g}"
            )


def build_layer(work: Attending) -> fastrnn.Attention:
    """Random weights, the same for the same work."""
    layer = fastrnn.Attention(work.kind, work.size, work.size)
    layer.reset_parameters(0)
    return layer


def _inputs(work: Attending) -> tuple[Any, Any, Any, Any]:
    """queries (T, N, Q), memory (S, N, M), lengths (N,), dcontext (T, N, M)."""
    rng = np.random.default_rng(1)
    shape = (work.rows, work.size)
    queries, dcontext = rng.standard_normal((2, work.steps, *shape), np.float32)
    memory = rng.standard_normal((work.positions, *shape), np.float32)
    lengths = rng.integers(work.positions // 2, work.positions, work.rows, endpoint=True)
    return queries, memory, lengths, dcontext


def _fastrnn(work: Attending, threads: int) -> Engine:
    layer, (queries, memory, lengths, dcontext) = build_layer(work), _inputs(work)
    prepared = layer.prepare(memory, lengths)

    def forward() -> dict[str, Any]:
        if work.steps == 1:
            return {"context": layer.attend(queries, prepared)[0]}
        return {"context": layer(queries, memory, lengths)[0]}

    def there_and_back() -> dict[str, Any]:
        layer.zero_grad()
        (context, _), pullback = layer.vjp(queries, memory, lengths)
        dqueries, dmemory = pullback(dcontext)
        return {"context": context, "dqueries": dqueries, "dmemory": dmemory, **layer.grads}

    run = there_and_back if work.backward else forward
    return Engine("fastrnn", run, run, partial(fastrnn.set_num_threads, threads))


# ---- PyTorch ------------------------------------------------------------------------------------


def torch_parts(layer: fastrnn.Attention) -> Any:
    """The layer's linear maps as a torch.nn.ModuleDict with fastrnn's names, without weights."""
    from torch import nn

    parts = {"query": nn.Linear(layer.query_size, layer.size, bias=False)}
    if layer.kind != "multiplicative":
        parts["key"] = nn.Linear(layer.memory_size, layer.size, bias=layer.kind == "additive")
    if layer.kind == "additive":
        parts["score"] = nn.Linear(layer.size, 1, bias=False)
    return nn.ModuleDict(parts)


def torch_keys(parts: Any, memory: Any) -> Any:
    """Keys (N, S, A)."""
    return parts["key"](memory) if "key" in parts else memory


def torch_attend(kind: str, parts: Any, queries: Any, keys: Any, memory: Any, inside: Any) -> Any:
    """context (N, T, M) of queries (N, T, Q); inside (N, 1, S): which positions count."""
    query = parts["query"](queries)
    if kind == "additive":
        scores = parts["score"]((query[:, :, None] + keys[:, None]).tanh())[..., 0]
    else:
        scores = query @ keys.transpose(1, 2)
    if kind == "scaled_dot":
        scores = scores * query.shape[-1] ** -0.5
    return scores.masked_fill(~inside, float("-inf")).softmax(-1) @ memory


def torch_attend_fused(
    kind: str, parts: Any, queries: Any, keys: Any, memory: Any, inside: Any
) -> Any:
    """The same for scaled_dot, by PyTorch's own function."""
    import torch

    query = parts["query"](queries)
    return torch.nn.functional.scaled_dot_product_attention(query, keys, memory, attn_mask=inside)


def _torch(name: str, work: Attending, threads: int) -> Engine:
    import torch

    train_with_torch()
    layer, (queries, memory, lengths, dcontext) = build_layer(work), _inputs(work)
    parts = torch_parts(layer)
    parts.load_state_dict({k: torch.from_numpy(v) for k, v in layer.state_dict().items()})
    arrays = (queries, memory, dcontext)
    q, m, g = (torch.from_numpy(a).transpose(0, 1).contiguous() for a in arrays)
    inside = (torch.arange(work.positions) < torch.from_numpy(lengths)[:, None])[:, None]
    function = torch_attend_fused if name == "torch fused" else torch_attend
    attend = partial(function, work.kind, parts)
    with torch.no_grad():
        prepared = torch_keys(parts, m)

    @torch.no_grad()  # type: ignore[untyped-decorator, unused-ignore]
    def forward() -> dict[str, Any]:
        keys = prepared if work.steps == 1 else torch_keys(parts, m)
        return {"context": attend(q, keys, m, inside)}

    def there_and_back() -> dict[str, Any]:
        parts.zero_grad(set_to_none=True)
        q.grad = m.grad = None
        context = attend(q, torch_keys(parts, m), m, inside)
        context.backward(g)
        return {"context": context.detach(), "dqueries": q.grad, "dmemory": m.grad}

    if work.backward:
        q.requires_grad_(), m.requires_grad_()
    run: Callable[[], dict[str, Any]] = there_and_back if work.backward else forward

    def output() -> dict[str, Any]:
        found = {key: value.transpose(0, 1).numpy() for key, value in run().items()}
        grads = {key: p.grad.numpy() for key, p in parts.named_parameters() if work.backward}
        return found | grads

    return Engine(name, run, output, partial(torch.set_num_threads, threads))
