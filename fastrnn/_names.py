"""Finding a language model's parts among the names people give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fastrnn._arrays import as_prefix, with_article

_EMBEDDINGS = ("embedding", "encoder", "embed", "emb")
_HEADS = ("head", "decoder", "fc", "linear", "out")


class Parts(NamedTuple):
    """Full names in the mapping; `rnn` is a prefix; None where there is no such tensor."""

    cell: str
    embedding: str
    rnn: str
    head: str | None
    bias: str | None


def find_parts(mapping: Mapping[str, Any], prefix: str) -> Parts:
    """The parts of a language model under `prefix`; ValueError if they do not fit together."""
    from fastrnn.checkpoint import find_recurrent, infer_recurrent

    names = [name for name in mapping if name.startswith(as_prefix(prefix))]
    rnns = [found for found in find_recurrent(names) if found.startswith(prefix)]
    if len(rnns) != 1:
        places = ", ".join(repr(place) for place in rnns) or "none"
        raise ValueError(f"mapping has recurrent layers at {places}, expected exactly one place")
    found = infer_recurrent(mapping, rnns[0])
    if found.single_step:
        kind = with_article(f"{found.cell}Cell")
        raise ValueError(f"mapping has {kind} at {rnns[0]!r}, expected layers")
    embedding = _only(mapping, prefix, _EMBEDDINGS)
    if embedding is None:
        options = ", ".join(_EMBEDDINGS)
        raise ValueError(f"mapping has no embedding under {prefix!r}, looked for {options}")
    head = _only(mapping, prefix, _HEADS)
    owners = _HEADS if head is None else (head[len(prefix) : -len(".weight")],)
    biases = [f"{prefix}{owner}.bias" for owner in owners if f"{prefix}{owner}.bias" in mapping]
    parts = Parts(found.cell, embedding, rnns[0], head, biases[0] if biases else None)
    _check_fit(mapping, parts, found)
    _check_all_used(names, parts)
    return parts


def _only(mapping: Mapping[str, Any], prefix: str, owners: tuple[str, ...]) -> str | None:
    names = [f"{prefix}{owner}.weight" for owner in owners]
    present = [name for name in names if name in mapping]
    if len(present) > 1:
        raise ValueError(f"mapping has both {present[0]} and {present[1]}, expected one of them")
    return present[0] if present else None


def _check_fit(mapping: Mapping[str, Any], parts: Parts, rnn: Any) -> None:
    """The embedding feeds the recurrent layers, they feed the head, and the vocabulary is one."""
    table = tuple(mapping[parts.embedding].shape)
    if len(table) != 2 or table[1] != rnn.input_size:
        raise ValueError(f"{parts.embedding} has shape {table}, expected (V, {rnn.input_size})")
    width = rnn.proj_size or rnn.hidden_size
    width *= 2 if rnn.bidirectional and rnn.merge == "concat" else 1
    if parts.head is None and width != table[1]:
        raise ValueError(f"mapping has no head, and {parts.embedding} has not {width} columns")
    for name, shape in ((parts.head, (table[0], width)), (parts.bias, (table[0],))):
        if name is not None and tuple(mapping[name].shape) != shape:
            raise ValueError(f"{name} has shape {tuple(mapping[name].shape)}, expected {shape}")


def _check_all_used(names: list[str], parts: Parts) -> None:
    own = {parts.embedding, parts.head, parts.bias}
    unused = [name for name in names if name not in own and not name.startswith(parts.rnn)]
    if unused:
        raise ValueError(f"mapping has parameters no language model has: {', '.join(unused)}")
