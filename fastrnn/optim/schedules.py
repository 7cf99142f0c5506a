"""Learning rates by the number of the step: `optimizer.lr = schedule.lr(step)` before each step.

All but Plateau are pure functions of the step; Plateau takes a metric now and then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

from fastrnn._arrays import as_choice, as_float, as_int, as_number, as_size, shown

if TYPE_CHECKING:
    from typing_extensions import Self


class Schedule:
    """Base of all schedules; most define `lr` alone."""

    def __copy__(self) -> Self:
        """A copy with a state of its own."""
        return deepcopy(self)

    def lr(self, step: int) -> float:
        """The learning rate of step 0, 1, ..."""
        raise NotImplementedError

    def observe(self, metric: float) -> None:
        """Take a new validation loss or other metric; only Plateau uses it."""

    def describe(self) -> dict[str, Any]:
        """Its kind and its constructor's arguments by name, as JSON holds them."""
        given = {name: getattr(self, name) for name in signature(type(self)).parameters}
        plain = {k: v.describe() if isinstance(v, Schedule) else v for k, v in given.items()}
        return {"kind": type(self).__name__, **plain}

    def state_dict(self) -> dict[str, Any]:
        """State that changes during training, as plain numbers; empty for a pure schedule."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()` of the same kind of schedule."""
        wanted, got = set(self.state_dict()), set(state)
        if wanted != got:
            kind = type(self).__name__
            raise ValueError(f"state has {sorted(got)}, this {kind} expects {sorted(wanted)}")


@dataclass(frozen=True)
class Constant(Schedule):
    """`rate` at every step."""

    rate: float

    def __post_init__(self) -> None:
        _check("rate", self.rate)

    def lr(self, step: int) -> float:
        _check_step(step)
        return self.rate


@dataclass(frozen=True)
class Warmup(Schedule):
    """From `start` times its first rate linearly up in `steps` steps, then `after` from its step 0.

    Source: torch.optim.lr_scheduler, LinearLR and then another by SequentialLR.
    """

    after: Schedule
    steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.after, Schedule):
            kind = type(self.after).__name__
            raise TypeError(f"after should be a schedule, as Constant(1e-3), got: {kind}")
        as_size(self.steps, "steps")
        _check("start", self.start, high=1.0)

    def lr(self, step: int) -> float:
        _check_step(step)
        if step >= self.steps:
            return self.after.lr(step - self.steps)
        return self.after.lr(0) * (self.start + (1.0 - self.start) * step / self.steps)

    def observe(self, metric: float) -> None:
        self.after.observe(metric)

    def state_dict(self) -> dict[str, Any]:
        return self.after.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.after.load_state_dict(state)


@dataclass(frozen=True)
class Cosine(Schedule):
    """From `rate` down to `low` in `steps` steps along half a cosine, then `low`.

    Source: Loshchilov and Hutter 2017; torch.optim.lr_scheduler.CosineAnnealingLR.
    """

    rate: float
    steps: int
    low: float = 0.0

    def __post_init__(self) -> None:
        _check("rate", self.rate)
        as_size(self.steps, "steps")
        _check("low", self.low, high=self.rate)

    def lr(self, step: int) -> float:
        _check_step(step)
        part = min(step, self.steps) / self.steps
        return self.low + (self.rate - self.low) * (1.0 + math.cos(math.pi * part)) / 2.0


@dataclass(frozen=True)
class StepDecay(Schedule):
    """`rate`, multiplied by `factor` after `every` steps. Source: lr_scheduler.StepLR."""

    rate: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        _check("rate", self.rate)
        as_size(self.every, "every")
        _check("factor", self.factor, high=1.0)

    def lr(self, step: int) -> float:
        _check_step(step)
        return self.rate * float(self.factor) ** (step // self.every)


@dataclass(frozen=True)
class Exponential(Schedule):
    """`rate`, multiplied by `factor` after every step. Source: lr_scheduler.ExponentialLR."""

    rate: float
    factor: float

    def __post_init__(self) -> None:
        _check("rate", self.rate)
        _check("factor", self.factor, high=1.0)

    def lr(self, step: int) -> float:
        _check_step(step)
        return self.rate * float(self.factor) ** step


class Plateau(Schedule):
    """`rate`, multiplied by `factor` when a metric has not improved for more than `patience` calls.

    `mode`: "min" if less is better, else "max". `threshold`: what counts as an improvement, a share
    of the best so far ("rel") or a difference ("abs"). After a cut, `cooldown` observations count
    for nothing. `rate` stays what it began with.
    Source: torch.optim.lr_scheduler.ReduceLROnPlateau.
    """

    def __init__(
        self,
        rate: float,
        *,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        low: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        self.mode = as_choice(mode, "mode", ("min", "max"))
        self.threshold_mode = as_choice(threshold_mode, "threshold_mode", ("rel", "abs"))
        self.factor = _check("factor", factor, high=1.0)
        if self.factor == 1.0:
            raise ValueError("factor is 1, expected a number less than 1")
        self.patience, self.cooldown = (
            _counted("patience", patience),
            _counted("cooldown", cooldown),
        )
        self.threshold, self.eps = _check("threshold", threshold), _check("eps", eps)
        self.low = _check("low", low)
        self.rate = _check("rate", rate)
        self._rate, self._best = self.rate, self._worst
        self._bad = self._resting = 0

    @property
    def _worst(self) -> float:
        return math.inf if self.mode == "min" else -math.inf

    def lr(self, step: int) -> float:
        _check_step(step)
        return self._rate

    def observe(self, metric: float) -> None:
        """Take the metric of one validation."""
        value = float(metric)
        if self._is_better(value):
            self._best, self._bad = value, 0
        else:
            self._bad += 1
        if self._resting:
            self._resting, self._bad = self._resting - 1, 0
        if self._bad > self.patience:
            self._cut()
            self._resting, self._bad = self.cooldown, 0

    def _is_better(self, value: float) -> bool:
        sign = -1.0 if self.mode == "min" else 1.0
        if self.threshold_mode == "rel":
            return sign * value > sign * self._best * (1.0 + sign * self.threshold)
        return sign * value > sign * self._best + self.threshold

    def _cut(self) -> None:
        rate = max(self._rate * self.factor, self.low)
        if self._rate - rate > self.eps:
            self._rate = rate

    def state_dict(self) -> dict[str, Any]:
        """Its rate, best metric (None before the first) and counters."""
        best = self._best if math.isfinite(self._best) else None
        return {"rate": self._rate, "best": best, "bad": self._bad, "resting": self._resting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        best = state["best"]
        rate = _check("rate", state["rate"])
        bad, resting = _counted("bad", state["bad"]), _counted("resting", state["resting"])
        self._best = self._worst if best is None else as_number(best, "best")
        self._rate, self._bad, self._resting = rate, bad, resting


def _check(name: str, value: object, high: float = math.inf) -> float:
    """A finite number from 0 to `high`."""
    number = as_float(value)
    if not 0 <= number <= high:
        limit = "0 or more" if high == math.inf else f"from 0 to {high:g}"
        raise ValueError(f"{name} is {shown(value)}, expected a number {limit}")
    if math.isinf(number):
        raise ValueError(f"{name} is {shown(value)}, expected a finite number")
    return number


def _counted(name: str, value: object) -> int:
    number = as_int(value, name)
    if number < 0:
        raise ValueError(f"{name} is {number}, expected 0 or more")
    return number


def _check_step(step: int) -> None:
    if as_int(step, "step") < 0:
        raise ValueError(f"step is {step}, expected 0 or more")
