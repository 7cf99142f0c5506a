"""Activations, each a module: y = f(x), over one value, a pair of values or the last axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

from fastrnn import _core
from fastrnn._arrays import ArrayLike, FloatArray, as_choice, as_finite, as_float32, as_int, shown
from fastrnn.nn.module import Module
from fastrnn.nn.pullback import once
from fastrnn.nn.registry import registered


class Activation(Module):
    """A function without learned parameters, of any array: `y = f(x)`, `y, pullback = f.vjp(x)`.

    Results are within 4 ulp of float64 and have the same bits on every instruction set with a fused
    multiply-add. NaN gives NaN; an infinite value gives the function's limit.
    """

    _derived = Module._derived | {"_kernel"}
    _keeps_shape = True
    _function: ClassVar[str]  # its name in the core's table

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._allocate([])
        self._kernel = self._made_kernel()

    def _made_kernel(self) -> _core.Activation:
        return _core.Activation(self._function, *self.config.values())  # as the table has them

    def _restore(self, parameters: dict[str, FloatArray], gradients: dict[str, FloatArray]) -> None:
        self._kernel = self._made_kernel()
        super()._restore(parameters, gradients)

    def reset_parameters(self, seed: int | None = None) -> None:
        """There is nothing to draw."""

    def __call__(self, x: ArrayLike) -> FloatArray:
        """The function of every value (pair, row) of x."""
        return self._kernel.run(x, self)

    def vjp(self, x: ArrayLike) -> tuple[FloatArray, Callable[[ArrayLike], FloatArray]]:
        """y as the call gives it, and a pullback from dy, of y's shape, to dx.

        x and y must stay as they are until the pullback is called.
        """
        x = as_float32(x, "x")
        kernel = self._kernel
        y = kernel.run(x, self)
        kept = x if kernel.kept == "x" else y

        def pullback(dy: ArrayLike) -> FloatArray:
            return kernel.back(kept, dy, self)

        return y, once(pullback, f"a {type(self).__name__}")

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.config.items())
        return f"{type(self).__name__}({options})"


def _positive(value: object, name: str) -> float:
    number = as_finite(value, name)
    if number <= 0:
        raise ValueError(f"{name} is {shown(value)}, expected a number above 0")
    return number


# ---- bounded ------------------------------------------------------------------------------------


@registered
class Tanh(Activation):
    """y = tanh(x), as the recurrent layers compute it. Source: torch.nn.Tanh."""

    _function = "tanh"


@registered
class Sigmoid(Activation):
    """y = 1 / (1 + e^-x), as the recurrent layers compute it. Source: torch.nn.Sigmoid."""

    _function = "sigmoid"


@registered
class HardSigmoid(Activation):
    """y = alpha x + beta, limited to 0..1; the gradient is 0 at the limits.

    Keras 2 takes 0.2 and 0.5, PyTorch and Keras 3 the default 1/6 and 0.5.
    Source: torch.nn.Hardsigmoid; ONNX's HardSigmoid.
    """

    _function = "hard_sigmoid"
    _options = ("alpha", "beta")

    def __init__(self, alpha: float = 1 / 6, beta: float = 0.5) -> None:
        self.alpha, self.beta = as_finite(alpha, "alpha"), as_finite(beta, "beta")
        self._begin()


@registered
class Softsign(Activation):
    """y = x / (1 + |x|). Source: torch.nn.Softsign."""

    _function = "softsign"


@registered
class Clip(Activation):
    """y = x limited to low..high, None for no limit; the gradient is 0 at the limits and beyond.

    Source: ONNX's Clip.
    """

    _function = "clip"
    _options = ("low", "high")

    def __init__(self, low: float | None = None, high: float | None = None) -> None:
        self.low = None if low is None else as_finite(low, "low")
        self.high = None if high is None else as_finite(high, "high")
        if low is not None and high is not None and not low < high:
            raise ValueError(f"low is {shown(low)} and high {shown(high)}, expected low below high")
        self._begin()

    def _made_kernel(self) -> _core.Activation:
        low = -math.inf if self.low is None else self.low
        return _core.Activation("clip", low, math.inf if self.high is None else self.high)


@registered
class Hardtanh(Activation):
    """y = x limited to min_val..max_val; the gradient is 0 at the limits and beyond.

    Source: torch.nn.Hardtanh.
    """

    _function = "clip"
    _options = ("min_val", "max_val")

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        self.min_val, self.max_val = as_finite(min_val, "min_val"), as_finite(max_val, "max_val")
        if not self.min_val < self.max_val:
            raise ValueError(
                f"min_val is {shown(min_val)} and max_val {shown(max_val)}, "
                f"expected min_val below max_val"
            )
        self._begin()


# ---- rectifiers ---------------------------------------------------------------------------------


@registered
class ReLU(Activation):
    """y = max(x, 0). Source: torch.nn.ReLU."""

    _function = "relu"


@registered
class LeakyReLU(Activation):
    """y = x where x > 0, else negative_slope x. Source: torch.nn.LeakyReLU."""

    _function = "leaky_relu"
    _options = ("negative_slope",)

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = as_finite(negative_slope, "negative_slope")
        self._begin()


@registered
class ELU(Activation):
    """y = x where x > 0, else alpha (e^x - 1). Source: torch.nn.ELU."""

    _function = "elu"
    _options = ("alpha",)

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = as_finite(alpha, "alpha")
        self._begin()


@registered
class SELU(Activation):
    """y = 1.0507 x where x > 0, else 1.7581 (e^x - 1). Source: torch.nn.SELU."""

    _function = "selu"


@registered
class GELU(Activation):
    """y = x Phi(x), Phi the normal distribution; approximate="tanh": by way of a tanh.

    The approximation is x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)). Source: torch.nn.GELU.
    """

    _options = ("approximate",)

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = as_choice(approximate, "approximate", ("none", "tanh"))
        self._begin()

    def _made_kernel(self) -> _core.Activation:
        return _core.Activation("gelu" if self.approximate == "none" else "gelu_tanh")


@registered
class SiLU(Activation):
    """y = x sigmoid(x), also called swish. Source: torch.nn.SiLU."""

    _function = "silu"


@registered
class Hardswish(Activation):
    """y = x (x + 3) / 6, 0 below -3 and x above 3. Source: torch.nn.Hardswish."""

    _function = "hard_swish"


@registered
class Mish(Activation):
    """y = x tanh(softplus(x)). Source: torch.nn.Mish."""

    _function = "mish"


@registered
class Softplus(Activation):
    """y = ln(1 + e^(beta x)) / beta, x itself where beta x > threshold.

    Source: torch.nn.Softplus.
    """

    _function = "softplus"
    _options = ("beta", "threshold")

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = _positive(beta, "beta")
        self.threshold = as_finite(threshold, "threshold")
        self._begin()


@registered
class LogSigmoid(Activation):
    """y = ln sigmoid(x). Source: torch.nn.LogSigmoid."""

    _function = "log_sigmoid"


# ---- powers and logarithms ----------------------------------------------------------------------


@registered
class Exp(Activation):
    """y = e^x. Source: torch.exp."""

    _function = "exp"


@registered
class Log(Activation):
    """y = ln x: -inf at 0, NaN below. Source: torch.log."""

    _function = "log"


@registered
class Abs(Activation):
    """y = |x|; the gradient is 0 at 0. Source: torch.abs."""

    _function = "abs"


@registered
class Square(Activation):
    """y = x^2. Source: torch.square."""

    _function = "square"


@registered
class Sqrt(Activation):
    """y = the square root of x: NaN below 0. Source: torch.sqrt."""

    _function = "sqrt"


@registered
class Magnitude(Activation):
    """y = sqrt(re^2 + im^2): x (*, 2 C), C real parts, then C imaginary ones -> (*, C).

    The spectrum of a frame whose Fourier transform a convolution has made. Nothing overflows; the
    gradient is 0 where y is 0.
    """

    _function = "magnitude"
    _keeps_shape = False


# ---- over the last axis -------------------------------------------------------------------------


@registered
class Softmax(Activation):
    """y = e^x / sum e^x over the last axis: (*, C). A row that holds +inf, or -inf only, gives NaN.

    Source: torch.nn.Softmax with dim=-1, the only one there is here.
    """

    _function = "softmax"
    _options = ("dim",)

    def __init__(self, dim: int = -1) -> None:
        self.dim = as_int(dim, "dim")
        if self.dim != -1:
            raise ValueError(
                f"dim is {shown(dim)}, a {type(self).__name__} expects -1: the last axis"
            )
        self._begin()

    def _made_kernel(self) -> _core.Activation:
        return _core.Activation(self._function)


@registered
class LogSoftmax(Softmax):
    """y = ln softmax(x) over the last axis: (*, C). Source: torch.nn.LogSoftmax with dim=-1."""

    _function = "log_softmax"
