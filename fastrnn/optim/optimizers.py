"""Optimisers: `Adam(model).step()` moves a model's parameters against its gradients.

A model is anything with `flat` and `flat_grad`, float32 vectors of one size, and `repack()`. One
step is one pass over them; the rules and the order of operations are those of torch.optim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from fastrnn._arrays import shown
from fastrnn.optim.optimizer import LEAST_EPS, Model, Optimizer

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
]


class SGD(Optimizer):
    """Gradient descent with momentum, plain or Nesterov's. Source: torch.optim.SGD."""

    _rule = "sgd"
    _slots = ("momentum_buffer", "", "")
    _flags = ("nesterov",)
    _ranges: ClassVar = {"dampening": (-math.inf, math.inf)}

    def __init__(
        self,
        model: Model,
        lr: float,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            model,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
        )

    def _checked(self, options: Mapping[str, Any]) -> dict[str, float | bool]:
        checked = super()._checked(options)
        if checked["nesterov"] and (checked["momentum"] <= 0 or checked["dampening"] != 0):
            raise ValueError(
                "nesterov is True, expected a momentum above 0 and no dampening with it"
            )
        return checked

    def _needed(self, options: Mapping[str, float | bool]) -> list[str]:
        return ["momentum_buffer"] if options["momentum"] else []

    def _factors(self) -> dict[str, float]:
        o, is_first = self.options, self.steps == 1  # the buffer starts as the first gradient
        return {
            "rate": o["lr"],
            "weight_decay": o["weight_decay"],
            "momentum": 0.0 if is_first else o["momentum"],
            "gain": 1.0 if is_first else 1.0 - o["dampening"],
            "nesterov": o["momentum"] if o["nesterov"] else 0.0,
        }


class Adam(Optimizer):
    """Steps by moving averages of the gradient and of its square.

    `weight_decay` is added to the gradient. Source: Kingma and Ba 2015; torch.optim.Adam.
    """

    _rule = "adam"
    _slots = ("exp_avg", "exp_avg_sq", "")
    _ranges: ClassVar = {"beta1": (0.0, 1.0), "beta2": (0.0, 1.0), "eps": (LEAST_EPS, math.inf)}

    def __init__(
        self,
        model: Model,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"betas is {shown(betas)}, expected a pair of numbers")
        first, second = betas
        super().__init__(
            model, lr=lr, beta1=first, beta2=second, eps=eps, weight_decay=weight_decay
        )

    def _factors(self) -> dict[str, float]:
        o = self.options
        return dict(
            rate=o["lr"] / (1.0 - o["beta1"] ** self.steps),
            gain=1.0 - o["beta1"],
            decay=o["beta2"],
            rest=1.0 - o["beta2"],
            root=math.sqrt(1.0 - o["beta2"] ** self.steps),
            eps=o["eps"],
            **self._decay(),
        )

    def _decay(self) -> dict[str, float]:
        return {"weight_decay": self.options["weight_decay"]}


class AdamW(Adam):
    """Adam whose `weight_decay` shrinks the parameters themselves, by lr * weight_decay a step.

    Source: Loshchilov and Hutter 2019; torch.optim.AdamW.
    """

    def __init__(
        self,
        model: Model,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(model, lr, betas, eps, weight_decay)

    def _decay(self) -> dict[str, float]:
        return {"shrink": 1.0 - self.lr * self.options["weight_decay"]}


class RMSprop(Optimizer):
    """Steps divided by a moving average of the gradient's size. Source: torch.optim.RMSprop."""

    _rule = "rmsprop"
    _slots = ("momentum_buffer", "square_avg", "grad_avg")
    _flags = ("centered",)
    _ranges: ClassVar = {"alpha": (0.0, math.nextafter(1.0, 2.0)), "eps": (LEAST_EPS, math.inf)}

    def __init__(
        self,
        model: Model,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(
            model,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
        )

    def _needed(self, options: Mapping[str, float | bool]) -> list[str]:
        asked_by = {"momentum": "momentum_buffer", "centered": "grad_avg"}
        unused = {name for option, name in asked_by.items() if not options[option]}
        return [name for name in self._slots if name not in unused]

    def _factors(self) -> dict[str, float]:
        o = self.options
        return {
            "rate": o["lr"],
            "weight_decay": o["weight_decay"],
            "momentum": o["momentum"],
            "decay": o["alpha"],
            "rest": 1.0 - o["alpha"],
            "eps": o["eps"],
        }


class Adagrad(Optimizer):
    """Steps divided by the root of all squared gradients so far.

    Source: Duchi, Hazan and Singer 2011; torch.optim.Adagrad.
    """

    _rule = "adagrad"
    _slots = ("", "sum", "")
    _beginning = ("initial_accumulator_value",)
    _ranges: ClassVar = {"eps": (LEAST_EPS, math.inf)}

    def __init__(
        self,
        model: Model,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(
            model,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )
        self.state["sum"].fill(self.options["initial_accumulator_value"])

    def _factors(self) -> dict[str, float]:
        o = self.options
        return {
            "rate": o["lr"] / (1.0 + (self.steps - 1) * o["lr_decay"]),
            "weight_decay": o["weight_decay"],
            "eps": o["eps"],
        }
