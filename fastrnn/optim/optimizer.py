"""Base of all optimisers: options, the count of steps, vectors beside the parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from fastrnn import _core
from fastrnn._arrays import FloatArray, aligned_zeros, as_array, as_flag, as_float, shown

if TYPE_CHECKING:
    from typing_extensions import Self

LEAST_EPS = float(np.finfo(np.float32).tiny)  # with less, a parameter without gradient becomes NaN


class Model(Protocol):
    """Part of a model that an optimiser uses."""

    @property
    def flat(self) -> FloatArray: ...
    @property
    def flat_grad(self) -> FloatArray: ...
    def repack(self) -> None: ...


class Optimizer:
    """Base of all optimisers: options, the count of steps, and vectors beside the parameters.

    `options`: the constructor's numbers by name. `state`: vectors (flat.size,) by PyTorch's names.
    """

    _rule: ClassVar[str]  # as the kernel calls it
    _slots: ClassVar[tuple[str, str, str]]  # the kernel's m, v and a by PyTorch's names; "": none
    _flags: ClassVar[tuple[str, ...]] = ()  # options that are True or False
    _beginning: ClassVar[tuple[str, ...]] = ()  # options that the vectors began with
    _ranges: ClassVar[dict[str, tuple[float, float]]]  # half open; else numbers of 0 or more

    def __init__(self, model: Model, **options: Any) -> None:
        _check_model(model)
        self.model = model
        self.steps = 0
        self.options: dict[str, float | bool] = self._checked(options)
        self.state = {name: aligned_zeros(model.flat.size) for name in self._needed(self.options)}

    @property
    def lr(self) -> float:
        """The learning rate, which may be set between steps."""
        return self.options["lr"]

    @lr.setter
    def lr(self, lr: float) -> None:
        self.options["lr"] = as_number("lr", lr)

    def step(self) -> None:
        """Update the parameters from the gradients and repack the model."""
        self.steps += 1
        m, v, a = (self.state.get(name) for name in self._slots)
        flat, flat_grad = self.model.flat, self.model.flat_grad
        _core.update(self._rule, flat, flat_grad, m, v, a, **self._factors())
        self.model.repack()

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        self.model.flat_grad.fill(0.0)

    def state_dict(self) -> dict[str, Any]:
        """State to continue from: the kind, options, `steps`, and copies of the vectors."""
        vectors = {name: vector.copy() for name, vector in self.state.items()}
        return {"kind": type(self).__name__, "steps": self.steps, **self.options, **vectors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()` of the same kind for a model of the same size.

        The options come along. ValueError, and nothing changed, if it does not fit.
        """
        kind = type(self).__name__
        if state.get("kind") != kind:
            raise ValueError(f"state is of kind {state.get('kind')!r}, this optimiser is {kind!r}")
        _check_names(set(self.options) - set(state), "lacks")
        options = self._checked({name: state[name] for name in self.options})
        names = self._needed(options)
        _check_names({*names, "steps"} - set(state), "lacks")
        _check_names(set(state) - {*names, *options, "kind", "steps"}, "has an unexpected")
        vectors = {name: _vector(state[name], name, self.model.flat.size) for name in names}
        steps = int(as_number("steps", state["steps"]))
        self.options, self.state, self.steps = options, vectors, steps

    def clashes(self, state: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Options that a saved state cannot go on with: their values here, and in the state.

        They decide which vectors there are (a momentum of 0 has none) or their first values.
        """
        differ = {n: (v, state[n]) for n, v in self.options.items() if state.get(n, v) != v}
        needed = self._needed(self.options)
        return {
            name: pair
            for name, pair in differ.items()
            if name in self._beginning or self._needed({**self.options, name: pair[1]}) != needed
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """As `load_state_dict`, but with the options that this optimiser was given.

        ValueError if it `clashes` with the state.
        """
        for name, (own, theirs) in self.clashes(state).items():
            raise ValueError(f"{name} is {own}, the saved one is {theirs}")
        self.load_state_dict({**state, **self.options})

    def _checked(self, options: Mapping[str, Any]) -> dict[str, float | bool]:
        return {
            name: as_flag(value, name)
            if name in self._flags
            else as_number(name, value, *self._ranges.get(name, ()))
            for name, value in options.items()
        }

    def _needed(self, options: Mapping[str, float | bool]) -> list[str]:
        """The vectors that these options ask for."""
        return [name for name in self._slots if name]

    def _factors(self) -> dict[str, float]:
        """The kernel's numbers for this step."""
        raise NotImplementedError

    def __copy__(self) -> Self:
        """An optimiser of the same model with options and vectors of its own."""
        twin = type(self).__new__(type(self))
        vars(twin).update(vars(self), options=dict(self.options), state=deepcopy(self.state))
        return twin

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"{type(self).__name__}({options})"


def as_number(name: str, value: object, low: float = 0.0, high: float = math.inf) -> float:
    """A finite number in [low, high)."""
    number = as_float(value)
    if not low <= number < high:
        limits = f"from {low:.3g} to below {high:.3g}" if low > -math.inf else "that is finite"
        raise ValueError(f"{name} is {shown(value)}, expected a number {limits}")
    if math.isinf(number):
        raise ValueError(f"{name} is {shown(value)}, expected a finite number")
    return number


def _check_model(model: Any) -> None:
    missing = [name for name in ("flat", "flat_grad", "repack") if not hasattr(model, name)]
    if missing:
        kind = type(model).__name__
        raise TypeError(f"model should be a model or layer of fastrnn, got: {kind}")


def _check_names(names: set[str], problem: str) -> None:
    if names:
        raise ValueError(f"state {problem} {', '.join(repr(name) for name in sorted(names))}")


def _vector(value: Any, name: str, size: int) -> FloatArray:
    """An aligned copy of a vector of the state."""
    given = as_array(value, name)
    if given.shape != (size,):
        raise ValueError(f"{name} has shape {given.shape}, the model expects ({size},)")
    if given.dtype != np.float32:
        raise TypeError(f"{name} has dtype {given.dtype}, expected float32")
    vector = aligned_zeros(size)
    vector[...] = given
    return vector
