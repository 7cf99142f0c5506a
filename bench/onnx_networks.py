"""Whole networks, one step at a time: fastrnn's stream and the same graph in ONNX Runtime.

The builders are those of the tests (tests/helpers/networks.py), whose references prove fastrnn;
here a peer's output is compared with fastrnn's before it is timed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from onnx_layer import Floats, onnx_weights
from peers import Engine, WrongResultError

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

from networks import NETWORKS

NAMES = ("fastrnn", "bare stream", "onnxruntime")
STEPS = 3  # after which outputs are compared
_OPSET, _IR_VERSION = 14, 8


def build(name: str, network: str) -> Engine:
    """The engine of that name for a network, proved; ImportError if it is not installed."""
    make, _, shape = NETWORKS[network]
    net = make()
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape).astype(np.float32)
    if name == "bare stream":
        return _bare(net, rng)
    engine = _stream(net, x) if name == "fastrnn" else _onnxruntime(net, x)
    if name != "fastrnn":
        _prove(engine, _stream(net, x))
    return engine


def _stream(net: Any, x: Floats) -> Engine:
    stream = net.stream()
    y = np.empty_like(stream.step(x))
    stream.reset()
    return Engine("fastrnn", partial(stream.step, x, y), lambda: y)


def _bare(net: Any, rng: np.random.Generator) -> Engine:
    """The recurrent layers alone, with which whole steps are compared."""
    layer = next(module for _, module in net._recurrent())
    x = rng.standard_normal(layer.input_size).astype(np.float32)
    return _stream(layer, x)


def _onnxruntime(net: Any, x: Floats) -> Engine:
    """One thread; inputs, outputs and states bound once, states in turn."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = onnxruntime.InferenceSession(onnx_network(net, x), options)
    batched = np.ascontiguousarray(x.T[None]) if x.ndim == 2 else x[None]
    states = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs() if i.name != "x"}
    ends = {name: np.zeros_like(value) for name, value in states.items()}
    y = np.empty(session.get_outputs()[0].shape, np.float32)
    bindings = []
    for before, after in ((states, ends), (ends, states)):
        binding = session.io_binding()
        binding.bind_cpu_input("x", batched)
        for key, value in before.items():
            binding.bind_cpu_input(key, value)
            _bind_output(binding, f"{key}_n", after[key])
        _bind_output(binding, "y", y)
        bindings.append(binding)
    turn = [0]

    def run() -> None:
        session.run_with_iobinding(bindings[turn[0]])
        turn[0] ^= 1

    owned = (session, states, ends, batched)
    return Engine("onnxruntime", run, lambda: y[0], owned=owned)


def _bind_output(binding: Any, name: str, array: Floats) -> None:
    binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)


def _prove(engine: Engine, expected: Engine) -> None:
    for each in (engine, expected):
        for _ in range(STEPS):
            each.run()
    error = float(np.abs(engine.output().reshape(-1) - expected.output().reshape(-1)).max())
    if not error < 1e-4:
        raise WrongResultError(f"{engine.name} differs by {error:.2g}, allowed are 1e-4")


# ---- the network as an ONNX graph ----------------------------------------------------------------


class _Model:
    """Nodes, weights, inputs and outputs of a model as they are collected."""

    def __init__(self) -> None:
        from onnx import TensorProto, helper, numpy_helper

        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.states: list[tuple[str, tuple[int, ...]]] = []
        self.helper, self.float = helper, TensorProto.FLOAT
        self.tensor = numpy_helper.from_array

    def weight(self, name: str, array: Any) -> str:
        self.tensors.append(self.tensor(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(self.helper.make_node(kind, inputs, [output], **attributes))
        return output


def onnx_network(net: Any, x: Floats) -> bytes:
    """A serialised model of one step of one row, with the states h and c of every layer."""
    from onnx import checker

    m = _Model()
    shape = (1, *x.shape[::-1]) if x.ndim == 2 else (1, *x.shape)  # ONNX: channels before length
    last = _walk(m, net, ["x"], "net.")
    m.node("Identity", [last], "y")
    value = m.helper.make_tensor_value_info
    inputs = [value("x", m.float, shape)] + [value(n, m.float, s) for n, s in m.states]
    outputs = [value("y", m.float, (1, _features(net)))]
    outputs += [value(f"{n}_n", m.float, s) for n, s in m.states]
    graph = m.helper.make_graph(m.nodes, "network", inputs, outputs, m.tensors)
    opset = m.helper.make_opsetid("", _OPSET)
    model = m.helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def _features(net: Any) -> int:
    return int(net._current().network.outputs[0][1])


def _walk(m: _Model, net: Any, x: list[str], path: str) -> str:
    values = dict(zip(net._shapes, x, strict=True))
    for node in net._nodes:
        read = [values[name] for name in node.inputs]
        values[node.name] = _module(m, node.module, read, path + node.name)
    return values[net._results[0]]


def _module(m: _Model, module: Any, x: list[str], name: str) -> str:
    kind = type(module).__name__
    if hasattr(module, "_nodes"):
        return _walk(m, module, x, f"{name}.")
    if kind in ("ReLU", "Sigmoid", "Tanh"):
        return m.node({"ReLU": "Relu"}.get(kind, kind), x, name)
    if kind in ("Add", "Multiply"):
        return m.node({"Multiply": "Mul"}.get(kind, kind), x, name)
    return _MODULES[kind](m, module, x[0], name)


def _linear(m: _Model, module: Any, x: str, name: str) -> str:
    p = module.parameters
    w, b = m.weight(f"{name}.w", p["weight"]), m.weight(f"{name}.b", p["bias"])
    return m.node("Gemm", [x, w, b], name, transB=1)


def _conv(m: _Model, module: Any, x: str, name: str) -> str:
    p = module.parameters
    names = [m.weight(f"{name}.{key}", value) for key, value in p.items()]
    sizes = {"strides": [module.stride], "dilations": [module.dilation]}
    return m.node("Conv", [x, *names], name, pads=list(module._around), **sizes)


def _magnitude(m: _Model, module: Any, x: str, name: str) -> str:
    m.nodes.append(m.helper.make_node("Split", [x], [f"{name}.re", f"{name}.im"], axis=1))
    squares = [m.node("Mul", [part] * 2, f"{part}2") for part in (f"{name}.re", f"{name}.im")]
    return m.node("Sqrt", [m.node("Add", squares, f"{name}.sum")], name)


def _lstm(m: _Model, module: Any, x: str, name: str) -> str:
    """Every layer reads x (1, 1, I) and gives y (1, 1, 1, H)."""
    H = module.hidden_size
    shape = m.weight(f"{name}.shape0", np.array([1, 1, module.input_size], np.int64))
    x = m.node("Reshape", [x, shape], f"{name}.x0")
    for k in range(module.num_layers):
        w, r, b = onnx_weights("lstm", H, module.parameters, k, 1)
        names = [m.weight(f"{name}.{key}{k}", v) for key, v in zip("wrb", (w, r, b), strict=True)]
        states = [f"{name}.h{k}", f"{name}.c{k}"]
        m.states += [(state, (1, 1, H)) for state in states]
        outputs = ["", *(f"{state}_n" for state in states)]
        inputs = [x, *names, "", *states]
        m.nodes.append(m.helper.make_node("LSTM", inputs, outputs, hidden_size=H))
        x = outputs[1]
    shape = m.weight(f"{name}.shape", np.array([1, H], np.int64))
    return m.node("Reshape", [x, shape], name)


_MODULES: dict[str, Callable[[_Model, Any, str, str], str]] = {
    "Linear": _linear,
    "Conv1d": _conv,
    "Magnitude": _magnitude,
    "LSTM": _lstm,
}
