"""A layer's weights as an ONNX model, the form in which ONNX Runtime and OpenVINO take them.

ONNX orders the gates otherwise than PyTorch (LSTM i o f c instead of i f g o, GRU z r h instead of
r z n), stacks the directions and puts both biases into one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastrnn.cli._floor import Workload

Floats = npt.NDArray[np.float32]

_ORDER = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn": [0]}  # PyTorch's blocks in ONNX's order
_OPSET, _IR_VERSION = 14, 8  # old enough for every runtime of today


def onnx_layer(work: Workload, state: Mapping[str, Floats]) -> bytes:
    """A serialised model with the weights of `state` (PyTorch's names and shapes).

    A step takes x (1, N, I), h0 and c0 (1, N, H) and gives h1 and c1; a sequence takes x (T, N, I)
    and gives y (T, N, D*H). All shapes are fixed, which lets a runtime prepare the most.
    """
    from onnx import TensorProto, checker, helper

    def value(name: str, *shape: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    nodes, tensors = _step(work, state) if work.is_step else _sequence(work, state)
    x = value("x", work.steps or 1, work.rows, work.inputs)
    if work.is_step:
        states = (1, work.rows, work.hidden)
        suffixes = ("h", "c") if work.cell == "lstm" else ("h",)
        inputs = [x, *(value(f"{s}0", *states) for s in suffixes)]
        outputs = [value(f"{s}1", *states) for s in suffixes]
    else:
        inputs = [x]
        features = work.directions * work.hidden
        outputs = [value("y", work.steps or 1, work.rows, features)]
    graph = helper.make_graph(nodes, "layer", inputs, outputs, tensors)
    opset = helper.make_opsetid("", _OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def _step(work: Workload, state: Mapping[str, Floats]) -> tuple[list[Any], list[Any]]:
    from onnx import helper, numpy_helper

    if work.layers > 1 or work.directions > 1:
        raise ValueError(f"{work.label}: only one layer in one direction is stepped with ONNX")
    weights = _weights(work, state, 0)
    names = ["w", "r", "b"]
    tensors = [numpy_helper.from_array(w, n) for w, n in zip(weights, names, strict=True)]
    lstm = work.cell == "lstm"
    inputs = ["x", *names, "", "h0", *(["c0"] if lstm else [])]
    outputs = ["", "h1", *(["c1"] if lstm else [])]
    return [helper.make_node(work.cell.upper(), inputs, outputs, **_attributes(work))], tensors


def _sequence(work: Workload, state: Mapping[str, Floats]) -> tuple[list[Any], list[Any]]:
    from onnx import helper, numpy_helper

    features = work.directions * work.hidden
    shape = np.array([work.steps, work.rows, features], np.int64)
    tensors = [numpy_helper.from_array(shape, "shape")]
    nodes, x = [], "x"
    for layer in range(work.layers):
        names = [f"{kind}{layer}" for kind in "wrb"]
        weights = _weights(work, state, layer)
        tensors += [numpy_helper.from_array(w, n) for w, n in zip(weights, names, strict=True)]
        split = f"split{layer}"  # (T, D, N, H)
        nodes.append(helper.make_node(work.cell.upper(), [x, *names], [split], **_attributes(work)))
        if work.directions == 2:
            rows_first = f"rows{layer}"  # (T, N, D, H)
            nodes.append(helper.make_node("Transpose", [split], [rows_first], perm=[0, 2, 1, 3]))
            split = rows_first
        x = "y" if layer == work.layers - 1 else f"y{layer}"
        nodes.append(helper.make_node("Reshape", [split, "shape"], [x]))
    return nodes, tensors


def _attributes(work: Workload) -> dict[str, Any]:
    attributes: dict[str, Any] = {"hidden_size": work.hidden}
    if work.directions == 2:
        attributes["direction"] = "bidirectional"
    if work.cell == "gru":
        attributes["linear_before_reset"] = 1
    return attributes


def _weights(work: Workload, state: Mapping[str, Floats], layer: int) -> tuple[Floats, ...]:
    return onnx_weights(work.cell, work.hidden, state, layer, work.directions)


def onnx_weights(
    cell: str, hidden: int, state: Mapping[str, Floats], layer: int, directions: int
) -> tuple[Floats, ...]:
    """W (D, G*H, inputs), R (D, G*H, H) and B (D, 2*G*H) of one layer."""

    def gates(kind: str, suffix: str) -> Floats:
        blocks = state[f"{kind}_l{layer}{suffix}"].reshape(len(_ORDER[cell]), hidden, -1)
        return np.concatenate(blocks[_ORDER[cell]])

    suffixes = ("", "_reverse")[:directions]
    w = np.stack([gates("weight_ih", s) for s in suffixes])
    r = np.stack([gates("weight_hh", s) for s in suffixes])
    biases = ("bias_ih", "bias_hh")
    b = np.stack([np.concatenate([gates(k, s) for k in biases])[:, 0] for s in suffixes])
    return w, r, b
