"""Modules one after the other, and a module with its input added."""

from __future__ import annotations

from typing import Any

from fastrnn._arrays import with_article
from fastrnn.nn.graph import Network, Node, Shape
from fastrnn.nn.joins import Add
from fastrnn.nn.module import Module
from fastrnn.nn.registry import registered

__all__ = ["Residual", "Sequential"]


@registered
class Sequential(Network):
    """Modules one after the other: y, state = net(x, state=None, *, lengths=None).

        Sequential(Linear(40, 64), ReLU(), LSTM(64, 128, 2), Linear(128, 1), Sigmoid())

    Calls, streams, training and files as of every network (`Network`); states and parameters have
    the modules' numbers as names: "2", "2.weight_ih_l0". input_shape: channels or (length,
    channels) of a step, where no module tells: frames, above all.
    Source: torch.nn.Sequential, whose names of parameters these are.
    """

    _modules = ("modules",)
    _options = ("input_shape",)

    def __init__(self, *modules: Module, input_shape: Shape = None) -> None:
        if not modules:
            raise ValueError("a Sequential has at least one module, got none")
        for i, module in enumerate(modules):
            _check_module(module, f"module {i}")
        self.modules, self.input_shape = list(modules), input_shape
        names = [str(i) for i in range(len(modules))]
        before = ["x", *names[:-1]]
        nodes = [Node(n, m, (b,)) for n, m, b in zip(names, modules, before, strict=True)]
        shape = _read_by(modules) if input_shape is None else input_shape
        self._build(nodes, {"x": shape}, (names[-1],))

    def _title(self, name: str) -> str:
        return "the input" if name == "x" else f"module {name}"

    def __len__(self) -> int:
        return len(self.modules)

    def __getitem__(self, i: int) -> Module:
        return self.modules[i]


@registered
class Residual(Network):
    """x + module(x), for a module that gives what it reads: a Sequential, a layer, a map.

    Its parameters are named `module.parameter`, its state is that of the module.
    """

    _modules = ("module",)

    def __init__(self, module: Module) -> None:
        _check_module(module, "module")
        self.module = module
        nodes = [Node("module", module, ("x",)), Node("sum", Add(), ("module", "x"))]
        self._build(nodes, {"x": _read_by([module])}, ("sum",))

    def _title(self, name: str) -> str:
        return {"x": "the input", "sum": "the sum"}.get(name, "the module")

    def __repr__(self) -> str:
        inner = repr(self.module).replace("\n", "\n  ")
        return f"Residual(\n  (module): {inner}\n)"


def _check_module(module: Any, what: str) -> None:
    if not isinstance(module, Module):
        raise TypeError(f"{what} is {with_article(type(module).__name__)}, expected a module")


def _read_by(modules: Any) -> Shape:
    """Input shape of the first module that knows its own, if those before it keep the shape."""
    for module in modules:
        shape: Shape = module._reads
        if shape is not None or not module._keeps_shape:
            return shape
    return None
