"""Infers a recurrent layer from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from fastrnn._arrays import with_article
from fastrnn._errors import safe
from fastrnn._names import listed
from fastrnn.nn.layer_names import LayerNames, NameIndex, other_bias

__all__ = ["Architecture", "FoundLayer", "find_layer", "find_states", "infer_recurrent"]

Cell = Literal["RNN", "GRU", "LSTM"]
Shape = tuple[int, ...]
Shapes = dict[str, Shape]

_LAYER_KEY = re.compile(r"(.*)_l([0-9]+)(_reverse)?")
_CELLS: dict[int, Cell] = {1: "RNN", 3: "GRU", 4: "LSTM"}
_MOST_RIVALS = 64  # layers of one module that are asked whether an initial state is theirs


class HasShape(Protocol):
    """Anything with a shape: a NumPy array, a tensor."""

    @property
    def shape(self) -> Iterable[int]: ...


@dataclass(frozen=True)
class Architecture:
    """The sizes and options of a recurrent layer, named as its constructor names them.

    `merge` is "concat" where the file cannot tell (one layer, or one direction). `single_step` is
    true for a cell, whose keys have no layer suffix. `learned_state`: whether there is an initial
    state. An RNN's nonlinearity and a GRU's `reset` are never in the file.
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
    learned_state: bool = False

    def state_shapes(self) -> dict[str, tuple[int, int]]:
        """The shapes of a learned initial state: h_0 (L * D, R), and an LSTM's c_0 (L * D, H)."""
        depth = self.num_layers * (2 if self.bidirectional else 1)
        shapes = {"h_0": (depth, self.proj_size or self.hidden_size)}
        return shapes | ({"c_0": (depth, self.hidden_size)} if self.cell == "LSTM" else {})

    def constructor(self) -> str:
        """The call that makes such a layer, e.g. `fastrnn.LSTM(65, 128, num_layers=2)`."""
        name = f"{self.cell}Cell" if self.single_step else self.cell
        options = {
            "num_layers": (self.num_layers, 1), "bias": (self.bias, True),
            "bidirectional": (self.bidirectional, False), "proj_size": (self.proj_size, 0),
            "peephole": (self.peephole, False), "merge": (self.merge, "concat"),
            "learned_state": (self.learned_state, False),
        }  # fmt: skip
        given = [f"{key}={value!r}" for key, (value, usual) in options.items() if value != usual]
        return f"fastrnn.{name}({', '.join([str(self.input_size), str(self.hidden_size), *given])})"


@dataclass(frozen=True)
class FoundLayer:
    """A recurrent layer of a mapping: what it is, and which tensor is which.

    `sources`: the names of a layer's parameters, as ours has them, to those of the mapping; None
    stands for zeros. `shapes`: of the layer's parameters, by the same names.
    """

    architecture: Architecture
    sources: dict[str, str | None]
    shapes: Shapes


def infer_recurrent(mapping: Mapping[str, HasShape], prefix: str = "") -> Architecture:
    """The layer whose tensors are `mapping[prefix + "weight_ih_l0"]` and so on.

    Only names and `.shape` are read, so NumPy arrays and tensors do alike. Raises ValueError that
    names the keys which are missing, not expected, or of a shape that contradicts the others.
    Layout: PyTorch's state_dict (torch.nn.RNN, GRU, LSTM and their cells), and `weight_ch_l{k}`
    (3*H,) for an LSTM's peepholes; also the other names that `LSTM.from_state_dict` takes.
    """
    return find_layer(mapping, NameIndex(mapping), prefix).architecture


def find_layer(mapping: Mapping[str, HasShape], index: NameIndex, prefix: str) -> FoundLayer:
    """As `infer_recurrent`, with the place of every tensor; `index` is that of the mapping."""
    found, names = _layer_at(mapping, index, prefix)
    shapes = _expected(found)
    sources = {key: names.sources[key] for key in shapes}
    states = find_states(mapping, index, prefix, found)
    if states:
        sources |= states
        shapes |= found.state_shapes()
        found = replace(found, learned_state=True, single_step=False)  # a cell keeps none
    return FoundLayer(found, sources, shapes)


def _layer_at(
    mapping: Mapping[str, HasShape], index: NameIndex, prefix: str
) -> tuple[Architecture, LayerNames]:
    """The layer under `prefix` but for its initial state."""
    names = index.layer(prefix)
    shapes = {key: _shape(mapping, name) for key, name in names.sources.items() if name is not None}
    shapes |= {key: shapes[other_bias(key)] for key, name in names.sources.items() if name is None}
    found = _from_first_layer(shapes, names)
    _compare(_expected(found), shapes, names)
    return found, names


def find_states(
    mapping: Mapping[str, HasShape], index: NameIndex, prefix: str, layer: Architecture
) -> dict[str, str]:
    """The names of the layer's learned initial states by ours, `h_0` and `c_0`; none, or all.

    They lie beside the layer's weights, or in a module around it. A ValueError where they do not
    fit the layer, or fit another layer of that module as well: zeros would be wrong.
    """
    own = index.states(prefix)
    if own:
        _check_states(mapping, own, layer)
        return own
    around = next((owner for owner in index.above(prefix) if index.states(owner)), None)
    if around is None:
        return {}
    states = index.states(around)
    rivals = index.recurrent_under(around, _MOST_RIVALS)
    others = [rival for rival in rivals if not rival.startswith(prefix)]
    takers = [rival for rival in others if _takes(mapping, index, rival, states)]
    if not takers:
        _check_states(mapping, states, layer)
        return states
    if not _fits(mapping, states, layer):
        return {}
    raise ValueError(
        f"mapping has {listed(states.values())}, which could be the initial state of the layer at "
        f"{safe(prefix)!r} or at {listed(takers)}: say which by "
        f"rename={{{safe(states['h_0'])!r}: 'h_0', ...}}, or leave them out of the mapping"
    )


def _takes(
    mapping: Mapping[str, HasShape], index: NameIndex, prefix: str, states: dict[str, str]
) -> bool:
    """Whether these could be the initial states of the layer under `prefix`."""
    try:
        layer, _ = _layer_at(mapping, index, prefix)
        return not index.states(prefix) and _fits(mapping, states, layer)
    except ValueError:
        return False


def _fits(mapping: Mapping[str, HasShape], states: dict[str, str], layer: Architecture) -> bool:
    try:
        _check_states(mapping, states, layer)
    except ValueError:
        return False
    return True


def _check_states(
    mapping: Mapping[str, HasShape], states: dict[str, str], layer: Architecture
) -> None:
    """An LSTM has both states, the others h; each (L * D, width), or the same for one row."""
    wanted = layer.state_shapes()
    if states.keys() != wanted.keys():
        raise ValueError(
            f"mapping has {listed(states.values())}, expected {' and '.join(wanted)} as the "
            f"initial state of {with_article(layer.cell)}"
        )
    for state, name in states.items():
        depth, width = wanted[state]
        shape = _shape(mapping, name)
        if shape not in ((depth, width), (depth, 1, width)) and (depth, shape) != (1, (width,)):
            raise ValueError(
                f"{safe(name)} has shape {shape}, expected {(depth, width)} as the initial state "
                f"of this {layer.cell}"
            )


def _shape(mapping: Mapping[str, HasShape], name: str) -> Shape:
    return tuple(int(n) for n in mapping[name].shape)


def _from_first_layer(shapes: Shapes, names: LayerNames) -> Architecture:
    """Sizes by the first layer's tensors, options by the presence of keys."""
    keys = [match for match in map(_LAYER_KEY.fullmatch, shapes) if match]
    w_ih = _matrix(shapes, "weight_ih_l0", names)
    w_hh = _matrix(shapes, "weight_hh_l0", names)
    output = w_hh[1]
    proj_size, hidden = 0, output
    if any(key[1] == "weight_hr" for key in keys):
        proj_size, hidden = _matrix(shapes, "weight_hr_l0", names)
    if hidden < 1 or w_ih[1] < 1 or w_hh[0] % hidden or w_hh[0] // hidden not in _CELLS:
        raise ValueError(
            f"{names.name_of('weight_hh_l0')} has shape {w_hh}, expected 1, 3 or 4 times "
            f"{hidden} rows (RNN, GRU, LSTM)"
        )
    cell = _CELLS[w_hh[0] // hidden]
    layers = 1 + max((int(key[2]) for key in keys), default=0)
    if layers > len(shapes):
        raise ValueError(f"{names.name_of(f'weight_ih_l{layers - 1}')} has no layers below it")
    both = any(key[3] for key in keys)
    columns = shapes.get("weight_ih_l1", (0, 0))
    summed = both and layers > 1 and len(columns) == 2 and columns[1] == output
    return Architecture(
        cell, w_ih[1], hidden, layers, both, proj_size,
        bias=any(key.startswith("bias") for key in shapes),
        peephole=any(key[1] == "weight_ch" for key in keys),
        merge="sum" if summed else "concat",
        single_step=names.single_step and not names.is_list,
    )  # fmt: skip


def _matrix(shapes: Shapes, key: str, names: LayerNames) -> tuple[int, int]:
    if key not in shapes:
        raise ValueError(f"{names.name_of(key)} is missing")
    shape = shapes[key]
    if len(shape) != 2:
        raise ValueError(f"{names.name_of(key)} has shape {shape}, expected two dimensions")
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
            tail = f"_l{k}{direction}"
            shapes[f"weight_ih{tail}"] = (rows, wide if k else layer.input_size)
            shapes[f"weight_hh{tail}"] = (rows, output)
            if layer.bias:
                shapes[f"bias_ih{tail}"] = shapes[f"bias_hh{tail}"] = (rows,)
            if layer.proj_size:
                shapes[f"weight_hr{tail}"] = (layer.proj_size, layer.hidden_size)
            if layer.peephole:
                shapes[f"weight_ch{tail}"] = (3 * layer.hidden_size,)
    return shapes


def _compare(expected: Shapes, shapes: Shapes, names: LayerNames) -> None:
    missing = [names.name_of(key) for key in expected if key not in shapes]
    if missing:
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise ValueError(f"missing: {', '.join(missing[:8])}{more}")
    for key, shape in shapes.items():
        if key not in expected:
            raise ValueError(f"{names.name_of(key)} is not expected in such a layer")
        if shape != expected[key]:
            raise ValueError(
                f"{names.name_of(key)} has shape {shape}, expected {expected[key]} by the others"
            )
