"""Training of whole networks: every module's own forward pass with its pullback, there and back.

Letters as in `recurrent.py`. Results have the bits of the core's networks, because the modules run
the same kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from fastrnn import _core
from fastrnn._arrays import AnyArray, FloatArray, IntArray, as_float32, with_article
from fastrnn._names import listed
from fastrnn.nn.conv import Conv1d
from fastrnn.nn.dropout import Dropout
from fastrnn.nn.embedding import check_shape
from fastrnn.nn.lowering import Carried
from fastrnn.nn.pooling import OverTime
from fastrnn.nn.pullback import adding_to, once
from fastrnn.nn.recurrent_base import Recurrent
from fastrnn.nn.weight_drop import WeightDrop

Gradient = FloatArray | None


class Backward(NamedTuple):
    """Gradients of states that a pullback takes and finds, by the modules' names."""

    dlast: dict[str, Any]
    dfirst: dict[str, Any]


Back = Callable[[Gradient, Backward], list[Gradient]]  # dy -> dx of every input


class Pass:
    """One forward pass in training mode over arrays (T, N, *), or (N, T, *) if batch_first."""

    def __init__(
        self,
        carried: list[Carried],
        pooled: frozenset[str],
        parts: Any,
        counts: IntArray | None,
        batch_first: bool,
        flow: bool = False,
    ) -> None:
        self.carried, self.pooled = {one.name: one for one in carried}, pooled
        self.counts, self.batch_first, self.flow = counts, batch_first, flow
        self.first: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        for one in carried:
            values = [array for place, _, array in parts if place == one.place]
            if values:
                self.first[one.name] = self._first(one, values)

    def _first(self, carried: Carried, values: list[FloatArray]) -> Any:
        if isinstance(carried.module, Conv1d):
            return values[0].reshape(values[0].shape[1], -1, carried.module.in_channels)
        return values[0] if len(values) == 1 else tuple(values)

    def run(
        self, network: Any, x: list[Any], path: str = ""
    ) -> tuple[list[FloatArray], Callable[[list[Gradient], Backward], list[Gradient]]]:
        """The outputs of a network and the way back to its inputs."""
        values: dict[str, Any] = dict(zip(network._shapes, x, strict=True))
        ways: list[tuple[Any, Back]] = []
        for node in network._nodes:
            read = [values[name] for name in node.inputs]
            values[node.name], back = self._module(node.module, read, path + node.name)
            ways.append((node, back))

        def back_all(dy: list[Gradient], state: Backward) -> list[Gradient]:
            grads: dict[str, Gradient] = dict.fromkeys(values)
            for name, value in zip(network._results, dy, strict=True):
                grads[name] = _sum(grads[name], value)
            for node, back in reversed(ways):
                for name, dx in zip(node.inputs, back(grads.pop(node.name), state), strict=True):
                    grads[name] = _sum(grads[name], dx)
            return [grads[name] for name in network._shapes]

        return [values[name] for name in network._results], back_all

    def _module(self, module: Any, x: list[Any], path: str) -> tuple[FloatArray, Back]:
        if hasattr(module, "_nodes"):
            (y,), inside = self.run(module, x, f"{path}.")
            return y, lambda dy, state: inside([dy], state)
        if isinstance(module, (Recurrent, WeightDrop)):
            return self._recurrent(module, x[0], path)
        if isinstance(module, Conv1d) and module.over == "time":
            return self._convolution(module, x[0], path)
        if isinstance(module, OverTime):
            return self._over_time(module, x[0])
        # A mask of dropout is of rows and steps, whichever of them there are.
        whole = self.counts is None or path in self.pooled or isinstance(module, Dropout)
        return _stateless(module, x) if whole else self._each_step(module, x)

    def _each_step(self, module: Any, x: list[Any]) -> tuple[FloatArray, Back]:
        """A module without a state on the steps that rows have: of others, y and dx are 0.

        They may hold anything, also what no zero gradient makes harmless: 0 * inf is nan.
        """
        assert self.counts is not None
        alive = _alive(x[0], self.counts, self.batch_first).reshape(x[0].shape[:2])
        y, inside = _stateless(module, [one[alive][:, None] for one in x])

        def back(dy: Gradient, state: Backward) -> list[Gradient]:
            dx = inside(None if dy is None else dy[alive][:, None], state)
            return [None if one is None else _scattered(one, alive) for one in dx]

        return _scattered(y, alive), back

    def _recurrent(self, module: Any, x: FloatArray, path: str) -> tuple[FloatArray, Back]:
        shape = x.shape
        vectors = x.reshape(*shape[:2], -1)
        (y, self.last[path]), pullback = module.vjp(
            vectors, self.first.get(path), lengths=self.counts, flow=self.flow
        )

        def back(dy: Gradient, state: Backward) -> list[Gradient]:
            dx, state.dfirst[path] = pullback(dy, state.dlast.get(path))
            return [dx.reshape(shape)]

        return y, back

    def _over_time(self, module: OverTime, x: FloatArray) -> tuple[FloatArray, Back]:
        """Pooling, which gives (N, *), or a flip."""
        steps = _core.OverTime(x.shape, self.counts, self.batch_first)
        y, inside = module._over(steps, x, True)
        return y, lambda dy, state: [None if dy is None else inside(dy)]

    def _convolution(self, module: Conv1d, x: FloatArray, path: str) -> tuple[FloatArray, Back]:
        """A convolution along time: what comes before the sequences is its state."""
        alive = None if self.counts is None else _alive(x, self.counts, self.batch_first)
        inside = x if alive is None else np.where(alive, x, np.float32(0))
        signals = np.ascontiguousarray(inside.swapaxes(0, 1)) if self.batch_first else inside
        before = module._around[0]
        carries = path in self.carried
        past = self.first.get(path)
        if carries and past is None:
            past = np.zeros((signals.shape[1], before, module.in_channels), np.float32)
        places = None if past is None else _last_places(signals, before, self.counts)
        if past is not None and places is not None:
            joined = np.concatenate((past, signals.swapaxes(0, 1)), axis=1)
            self.last[path] = np.take_along_axis(joined, places[..., None], axis=1)
        packed = module._packed
        y = packed.run(signals, True, module, past)

        def back(dy: Gradient, state: Backward) -> list[Gradient]:
            grad = np.zeros_like(y) if dy is None else dy
            if dy is not None and self.batch_first:
                grad = np.ascontiguousarray(dy.swapaxes(0, 1))
            weight, bias = module.grads["weight"], module.grads.get("bias")
            with adding_to(weight, bias):
                found = module._back().run_back(signals, True, grad, weight, bias, module, past)
            dx, dpast = found if past is not None else (found, None)
            if dpast is not None:
                dlast = state.dlast.get(path)
                if dlast is not None and places is not None:
                    dpast, dx = _added(dpast, dx, dlast, places)
                state.dfirst[path] = dpast
            dx = dx.swapaxes(0, 1) if self.batch_first else dx
            return [np.ascontiguousarray(dx if alive is None else np.where(alive, dx, 0))]

        return np.ascontiguousarray(y.swapaxes(0, 1)) if self.batch_first else y, back


def trained(
    trip: Pass, network: Any, x: list[Any], ends: list[bool], kind: str
) -> tuple[list[FloatArray], Callable[[Any, Any], tuple[list[Gradient], dict[str, Any]]]]:
    """The outputs, 0 past the ends of rows, and back(dy, dstate) -> dx, dstate of the first state.

    `ends`: which outputs are one value for a whole sequence.
    """
    y, back_all = trip.run(network, x)
    for i, end in enumerate(ends):
        if trip.counts is not None and not end:
            y[i] = np.where(_alive(y[i], trip.counts, trip.batch_first), y[i], np.float32(0))

    def back(dy: list[Gradient], dlast: dict[str, Any]) -> tuple[list[Gradient], dict[str, Any]]:
        state = Backward(dlast, {})
        grads: list[Gradient] = []
        for value, end, result in zip(dy, ends, y, strict=True):
            if value is not None:
                check_shape(value, result.shape, "dy")
            if value is not None and trip.counts is not None and not end:
                value = np.where(_alive(value, trip.counts, trip.batch_first), value, np.float32(0))
            grads.append(value)
        return back_all(grads, state), state.dfirst

    return y, once(back, with_article(kind))


def _stateless(module: Any, x: list[Any]) -> tuple[FloatArray, Back]:
    """A module that looks at each step alone."""
    y, pullback = module.vjp(*x)

    def back(dy: Gradient, state: Backward) -> list[Gradient]:
        if dy is None:
            return [None] * len(x)
        dx = pullback(dy)
        return list(dx) if isinstance(dx, tuple) else [dx]

    return y, back


def _scattered(values: FloatArray, alive: AnyArray) -> FloatArray:
    """Values (K, 1, *) of the steps that are alive, among zeros."""
    found = np.zeros((*alive.shape, *values.shape[2:]), np.float32)
    found[alive] = values[:, 0]
    return found


def _sum(a: Gradient, b: Gradient) -> Gradient:
    if a is None or b is None:
        return b if a is None else a
    total: FloatArray = a + b
    return total


def _alive(x: AnyArray, counts: IntArray, batch_first: bool) -> AnyArray:
    """Mask of the steps of x that lie within their row."""
    steps = np.arange(x.shape[1 if batch_first else 0])
    alive = steps < counts[:, None]
    return (alive if batch_first else alive.T).reshape(*x.shape[:2], *[1] * (x.ndim - 2))


def _last_places(signals: FloatArray, before: int, counts: IntArray | None) -> IntArray:
    """Indices (N, before) of every row's new past among its old past and its steps."""
    steps, rows = signals.shape[:2]
    lengths = np.full(rows, steps) if counts is None else counts
    places: IntArray = lengths[:, None] + np.arange(before)
    return places


def _added(
    dpast: FloatArray, dx: FloatArray, dlast: FloatArray, places: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Both gradients with that of the past behind the rows, which is a part of them."""
    joined = np.concatenate((dpast, dx.swapaxes(0, 1)), axis=1)
    rows = np.arange(len(joined))[:, None]
    joined[rows, places] += as_float32(dlast, "dstate")
    before = dpast.shape[1]
    return joined[:, :before].copy(), np.ascontiguousarray(joined[:, before:].swapaxes(0, 1))


def check_names(dstate: Any, known: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """A gradient of the last state, None for none; ValueError for names that there are not."""
    if dstate is None:
        return {}
    if not isinstance(dstate, Mapping):
        kind = with_article(type(dstate).__name__)
        raise TypeError(f"dstate is {kind}, expected a mapping of modules' names to gradients")
    unknown = [str(name) for name in dstate if name not in known]
    if unknown:
        raise ValueError(f"dstate has {listed(unknown)}, {owner} carries {listed(list(known))}")
    return dict(dstate)
