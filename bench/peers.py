"""The same layer with the same weights in fastrnn, PyTorch, ONNX Runtime and OpenVINO.

Every peer is optional, and set up as its own documentation advises for latency: weights prepared
once, no autograd, buffers bound once, denormals flushed. `build` compares the output of a peer with
fastrnn's before it hands the peer out: nothing is timed that was not proved.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import cycle
from typing import Any

import numpy as np
from onnx_layer import Floats, onnx_layer

import fastrnn
from fastrnn.cli._floor import Workload
from fastrnn.cli._measure import build_layer, random_input

# name: the modules it needs
_NEEDS = {
    "fastrnn": ("fastrnn",),
    "torch": ("torch",),
    "onnxruntime": ("onnx", "onnxruntime"),
    "openvino": ("onnx", "openvino"),
}
NAMES = tuple(_NEEDS)
CELLS = ("rnn", "gru", "lstm")  # cells that torch.nn and ONNX have
PROVED_CALLS = 3  # a stream is compared after so many steps

settings = ExitStack()  # close() puts back what engines have set for the whole process


def nothing() -> None:
    """For engines without settings of the whole process."""


@dataclass(frozen=True)
class Engine:
    """A layer that is ready to run; a step goes on from the state that the last call left."""

    name: str
    run: Callable[[], object]  # one call
    # y (N, H) of a step's last call, y (T, N, D*H) of a sequence; of a training, arrays by name
    output: Callable[[], Any]
    prepare: Callable[[], object] = nothing  # to be called before a series of calls
    owned: object = None  # buffers of which a runtime only knows the address


class WrongResultError(AssertionError):
    """A peer computes something else than fastrnn, so that its time would mean nothing."""


def available(name: str) -> bool:
    """True if the modules that the engine needs are installed."""
    return all(find_spec(module) for module in _NEEDS[name])


def build(name: str, work: Workload, threads: int = 1) -> Engine:
    """The engine of that name for a workload, proved; ImportError if it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of peers about themselves
        engine = _BUILDERS[name](work, threads)
        if name != "fastrnn":
            prove(engine, work)
    return engine


def prove(engine: Engine, work: Workload) -> None:
    """Raises WrongResultError unless the engine's output is fastrnn's, up to rounding.

    The bound is a few roundings of sums of I + H terms, whose errors grow with the square root.
    """
    expected = _fastrnn(work, 1)
    for each in (expected, engine):
        each.prepare()
        for _ in range(PROVED_CALLS):
            each.run()
    tolerance = 16 * np.finfo(np.float32).eps * (work.inputs + work.hidden) ** 0.5
    y, wanted = engine.output(), expected.output()
    error = float(np.max(np.abs(y - wanted))) if y.shape == wanted.shape else float("inf")
    if not error <= tolerance:
        raise WrongResultError(
            f"{engine.name}, {work.label}: differs by {error:.2g}, allowed are {tolerance:.2g}"
        )


def _fastrnn(work: Workload, threads: int) -> Engine:
    layer, x = build_layer(work), random_input(work)
    prepare = partial(fastrnn.set_num_threads, threads)
    if not work.is_step:
        return Engine("fastrnn", partial(layer, x), lambda: layer(x)[0], prepare)
    x = x[0] if work.rows == 1 else x
    y = np.empty((*x.shape[:-1], work.hidden), np.float32)
    step = layer.stream(work.rows).step
    return Engine("fastrnn", partial(step, x, y), lambda: y.reshape(work.rows, -1), prepare)


def _torch(work: Workload, threads: int) -> Engine:
    """Steps run in an LSTMCell (GRUCell, RNNCell): never slower than an LSTM with one step."""
    import torch

    _infer_only()
    prepare = partial(torch.set_num_threads, threads)
    x = torch.from_numpy(random_input(work))
    if work.is_step:
        step, output = _torch_step(work, x)
        return Engine("torch", step, output, prepare)
    kind = getattr(torch.nn, work.cell.upper())
    module = kind(work.inputs, work.hidden, work.layers, bidirectional=work.directions == 2)
    module.load_state_dict(_tensors(work))
    module.eval()
    return Engine("torch", partial(module, x), lambda: module(x)[0].numpy(), prepare)


def _infer_only() -> None:
    """PyTorch at its best for the rest of the process: no autograd, no denormals."""
    import torch

    if not torch.is_inference_mode_enabled():
        flush_denormals()
        settings.enter_context(torch.inference_mode())


def flush_denormals() -> None:
    """PyTorch flushes them, and gets its threads back, until `settings` are closed."""
    import torch

    settings.callback(torch.set_num_threads, torch.get_num_threads())
    settings.callback(torch.set_flush_denormal, False)
    torch.set_flush_denormal(True)


def _torch_step(work: Workload, x: Any) -> tuple[Callable[[], object], Callable[[], Floats]]:
    import torch

    if work.layers > 1:
        raise ValueError(f"{work.label}: only one layer is stepped with PyTorch")
    cell = getattr(torch.nn, f"{work.cell.upper()}Cell")(work.inputs, work.hidden)
    cell.load_state_dict({name.removesuffix("_l0"): t for name, t in _tensors(work).items()})
    cell.eval()
    lstm = work.cell == "lstm"
    zeros = torch.zeros(work.rows, work.hidden)
    state: Any = (zeros, zeros) if lstm else zeros

    def step() -> None:
        nonlocal state
        state = cell(x, state)

    return step, lambda: (state[0] if lstm else state).numpy()


def _tensors(work: Workload) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(w) for name, w in build_layer(work).state_dict().items()}


def session_maker(name: str, model: bytes, threads: int) -> Callable[[], Any]:
    """A call that prepares an ONNX model: "onnxruntime" or "openvino"."""
    return partial({"onnxruntime": _ort_session, "openvino": _compiled}[name], model, threads)


def _ort_session(model: bytes, threads: int) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _onnxruntime(work: Workload, threads: int) -> Engine:
    session = _ort_session(onnx_layer(work, build_layer(work).state_dict()), threads)

    def bind(inputs: dict[str, Floats], outputs: dict[str, Floats]) -> Callable[[], object]:
        binding = session.io_binding()
        for name, a in inputs.items():
            binding.bind_input(name, "cpu", 0, np.float32, a.shape, a.ctypes.data)
        for name, a in outputs.items():
            binding.bind_output(name, "cpu", 0, np.float32, a.shape, a.ctypes.data)
        return partial(session.run_with_iobinding, binding)

    return _bound("onnxruntime", work, bind)


def _compiled(model: bytes, threads: int) -> Any:
    import openvino

    options = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    return core.compile_model(core.read_model(model), "CPU", options)


def _openvino(work: Workload, threads: int) -> Engine:
    import openvino

    compiled = _compiled(onnx_layer(work, build_layer(work).state_dict()), threads)

    def bind(inputs: dict[str, Floats], outputs: dict[str, Floats]) -> Callable[[], object]:
        request = compiled.create_infer_request()
        for name, a in (inputs | outputs).items():
            request.set_tensor(name, openvino.Tensor(a, shared_memory=True))
        return partial(request.infer, share_inputs=True, share_outputs=True)

    return _bound("openvino", work, bind)


_Bind = Callable[[dict[str, Floats], dict[str, Floats]], Callable[[], object]]


def _bound(name: str, work: Workload, bind: _Bind) -> Engine:
    """An engine over buffers that are bound once; the states of a stream change sides each step."""
    x = random_input(work)
    if not work.is_step:
        y = np.zeros((*x.shape[:2], work.directions * work.hidden), np.float32)
        run = bind({"x": x}, {"y": y})
        return Engine(name, run, lambda: y, owned=(x, y))
    letters = ("h", "c") if work.cell == "lstm" else ("h",)
    sides = [
        {s: np.zeros((1, work.rows, work.hidden), np.float32) for s in letters} for _ in range(2)
    ]

    def between(old: dict[str, Floats], new: dict[str, Floats]) -> Callable[[], object]:
        states = {f"{s}0": old[s] for s in letters}
        return bind({"x": x[None], **states}, {f"{s}1": new[s] for s in letters})

    runs = cycle([(between(*sides), sides[1]), (between(*sides[::-1]), sides[0])])
    newest = sides[0]

    def step() -> None:
        nonlocal newest
        run, newest = next(runs)
        run()

    return Engine(name, step, lambda: newest["h"][0], owned=(x, sides))


_BUILDERS: dict[str, Callable[[Workload, int], Engine]] = {
    "fastrnn": _fastrnn,
    "torch": _torch,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
