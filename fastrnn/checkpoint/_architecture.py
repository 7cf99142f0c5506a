"""Infers a recurrent layer from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from ._errors import shown

__all__ = ["Architecture", "find_recurrent", "infer_recurrent"]

Cell = Literal["RNN", "GRU", "LSTM"]
Shape = tuple[int, ...]
Shapes = dict[str, Shape]

_KINDS = "weight_ih|weight_hh|weight_hr|weight_ch|bias_ih|bias_hh"
_LAYER_KEY = re.compile(rf"({_KINDS})_l(0|[1-9][0-9]{{0,8}})(_reverse)?")
_CELL_KEYS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
_CELLS: dict[int, Cell] = {1: "RNN", 3: "GRU", 4: "LSTM"}


class HasShape(Protocol):
    """Anything with a shape: a NumPy array, a tensor."""

    @property
    def shape(self) -> Iterable[int]: ...


@dataclass(frozen=True)
class Architecture:
    """The sizes and options of a recurrent layer, named as its constructor names them.

    `merge` is "concat" where the file cannot tell (one layer, or one direction). `single_step` is
    true for a cell, whose keys have no layer suffix. An RNN's nonlinearity is never in the file.
    """

    cell: Cell
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    proj_size: int = 0
    bias: bool = True
    peephole: bool = False
    merge: Literal["concat", "sum"] = "concat"
    single_step: bool = False

    def constructor(self) -> str:
        """The call that makes such a layer, e.g. `fastrnn.LSTM(65, 128, num_layers=2)`."""
        name = f"{self.cell}Cell" if self.single_step else self.cell
        options = {
            "num_layers": (self.num_layers, 1), "bias": (self.bias, True),
            "bidirectional": (self.bidirectional, False), "proj_size": (self.proj_size, 0),
            "peephole": (self.peephole, False), "merge": (self.merge, "concat"),
        }  # fmt: skip
        given = [f"{key}={value!r}" for key, (value, usual) in options.items() if value != usual]
        return f"fastrnn.{name}({', '.join([str(self.input_size), str(self.hidden_size), *given])})"


def find_recurrent(names: Iterable[str]) -> list[str]:
    """The prefixes ("", "rnn.", ...) under which recurrent weights lie, in order of appearance."""
    found: dict[str, None] = {}
    for name in names:
        owner, dot, last = name.rpartition(".")
        key = _LAYER_KEY.fullmatch(last)
        if (key and key[1] == "weight_hh") or last == "weight_hh":
            found[owner + dot] = None
    return list(found)


def infer_recurrent(mapping: Mapping[str, HasShape], prefix: str = "") -> Architecture:
    """The layer whose tensors are `mapping[prefix + "weight_ih_l0"]` and so on.

    Only names and `.shape` are read, so NumPy arrays and tensors do alike. Raises ValueError that
    names the keys which are missing, not expected, or of a shape that contradicts the others.
    Layout: PyTorch's state_dict (torch.nn.RNN, GRU, LSTM and their cells), and `weight_ch_l{k}`
    (3*H,) for an LSTM's peepholes.
    """
    shapes: Shapes = {}
    for name, value in mapping.items():
        key = name[len(prefix) :]
        if name.startswith(prefix) and (_LAYER_KEY.fullmatch(key) or key in _CELL_KEYS):
            shapes[key] = tuple(int(n) for n in value.shape)
    if not shapes:
        raise ValueError(f"no recurrent weights under prefix {shown(prefix)!r}")
    single = "weight_hh" in shapes or "weight_ih" in shapes
    if single and any(_LAYER_KEY.fullmatch(key) for key in shapes):
        raise ValueError(f"prefix {shown(prefix)!r} holds the weights of a cell and of a layer")
    found = _from_first_layer(shapes, prefix, single)
    _compare(_expected(found), shapes, prefix)
    return found


def _from_first_layer(shapes: Shapes, prefix: str, single: bool) -> Architecture:
    """Sizes by the first layer's tensors, options by the presence of keys."""
    keys = [match for match in map(_LAYER_KEY.fullmatch, shapes) if match]
    tail = "" if single else "_l0"
    w_ih = _matrix(shapes, f"weight_ih{tail}", prefix)
    w_hh = _matrix(shapes, f"weight_hh{tail}", prefix)
    output = w_hh[1]
    proj_size, hidden = 0, output
    if any(key[1] == "weight_hr" for key in keys):
        proj_size, hidden = _matrix(shapes, "weight_hr_l0", prefix)
    if hidden < 1 or w_ih[1] < 1 or w_hh[0] % hidden or w_hh[0] // hidden not in _CELLS:
        raise ValueError(
            f"{shown(prefix)}weight_hh{tail} has shape {w_hh}, expected 1, 3 or 4 times "
            f"{hidden} rows (RNN, GRU, LSTM)"
        )
    cell = _CELLS[w_hh[0] // hidden]
    layers = 1 + max((int(key[2]) for key in keys), default=0)
    if layers > len(shapes):
        raise ValueError(f"{shown(prefix)}weight_ih_l{layers - 1} has no layers below it")
    both = any(key[3] for key in keys)
    columns = shapes.get("weight_ih_l1", (0, 0))
    summed = both and layers > 1 and len(columns) == 2 and columns[1] == output
    return Architecture(
        cell, w_ih[1], hidden, layers, both, proj_size,
        bias=any(key.startswith("bias") for key in shapes),
        peephole=any(key[1] == "weight_ch" for key in keys),
        merge="sum" if summed else "concat",
        single_step=single,
    )  # fmt: skip


def _matrix(shapes: Shapes, key: str, prefix: str) -> tuple[int, int]:
    if key not in shapes:
        raise ValueError(f"{shown(prefix)}{key} is missing")
    shape = shapes[key]
    if len(shape) != 2:
        raise ValueError(f"{shown(prefix)}{key} has shape {shape}, expected two dimensions")
    return shape[0], shape[1]


def _expected(layer: Architecture) -> Shapes:
    """Every key of such a layer with its shape, in PyTorch's order."""
    if layer.cell != "LSTM" and (layer.proj_size or layer.peephole):
        extra = "a projection (weight_hr)" if layer.proj_size else "peepholes (weight_ch)"
        raise ValueError(f"a {layer.cell} with {extra}, which only an LSTM has")
    if layer.proj_size >= layer.hidden_size:
        raise ValueError(
            f"weight_hr has {layer.proj_size} rows, expected fewer than {layer.hidden_size}"
        )
    rows = {cell: gates for gates, cell in _CELLS.items()}[layer.cell] * layer.hidden_size
    output = layer.proj_size or layer.hidden_size
    wide = output * (2 if layer.bidirectional and layer.merge == "concat" else 1)
    shapes: Shapes = {}
    for k in range(layer.num_layers):
        for direction in ("", "_reverse")[: 1 + layer.bidirectional]:
            tail = "" if layer.single_step else f"_l{k}{direction}"
            shapes[f"weight_ih{tail}"] = (rows, wide if k else layer.input_size)
            shapes[f"weight_hh{tail}"] = (rows, output)
            if layer.bias:
                shapes[f"bias_ih{tail}"] = shapes[f"bias_hh{tail}"] = (rows,)
            if layer.proj_size:
                shapes[f"weight_hr{tail}"] = (layer.proj_size, layer.hidden_size)
            if layer.peephole:
                shapes[f"weight_ch{tail}"] = (3 * layer.hidden_size,)
    return shapes


def _compare(expected: Shapes, shapes: Shapes, prefix: str) -> None:
    missing = [f"{shown(prefix)}{key}" for key in expected if key not in shapes]
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise ValueError(f"missing: {', '.join(missing[:8])}{more}")
    for key, shape in shapes.items():
        if key not in expected:
            raise ValueError(f"{shown(prefix)}{key} is not expected in such a layer")
        if shape != expected[key]:
            raise ValueError(
                f"{shown(prefix)}{key} has shape {shape}, expected {expected[key]} by the others"
            )
