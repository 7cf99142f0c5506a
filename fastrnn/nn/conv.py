"""Convolution in one dimension."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastrnn import _core
from fastrnn._arrays import (
    MAX_SIZE,
    ArrayLike,
    FloatArray,
    as_choice,
    as_flag,
    as_float32,
    as_int,
    as_size,
    shown,
)
from fastrnn.nn.embedding import check_shape
from fastrnn.nn.module import Module, fill_uniform, one_after_another
from fastrnn.nn.pullback import adding_to, once
from fastrnn.nn.registry import registered

_PADDINGS = ("valid", "same", "causal")


@registered
class Conv1d(Module):
    """y[t] = bias + sum over k of W_k x[t stride - padding + k dilation], zeros around x.

    Channels come last, unlike torch.nn.Conv1d's (N, C, L); weights are the same: weight
    (out_channels, in_channels / groups, kernel_size) and bias (out_channels,).

    over="time": x (T, N, in_channels), or (T, in_channels) for one row, as of every sequence here,
    -> (T', N, out_channels); T' = T with padding="same" or "causal", which sees no later step.
    over="frame": x (..., L, in_channels) -> (..., L', out_channels), for vectors within one step.

    padding: an int for both ends, (before, after), "valid" (0), "same" or "causal" ((kernel_size -
    1) dilation before, none after); "same" and "causal" need stride 1. A ValueError if x is shorter
    than one window. Starts uniform in +-1/sqrt(kernel_size in_channels / groups), as PyTorch's.
    Source: torch.nn.Conv1d.
    """

    _options = (
        "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
        "bias", "over",
    )  # fmt: skip
    _derived = Module._derived | {"_packed", "_transposed"}
    _transposed: tuple[int, _core.Convolution] | None = None  # for the way back: of which version

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | str | tuple[int, ...] = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        over: str = "time",
    ) -> None:
        self.in_channels = as_size(in_channels, "in_channels", MAX_SIZE)
        self.out_channels = as_size(out_channels, "out_channels", MAX_SIZE)
        self.kernel_size = as_size(_single(kernel_size, "kernel_size"), "kernel_size", MAX_SIZE)
        self.stride = as_size(_single(stride, "stride"), "stride", MAX_SIZE)
        self.dilation = as_size(_single(dilation, "dilation"), "dilation", MAX_SIZE)
        self.groups = as_size(groups, "groups", MAX_SIZE)
        self.bias = as_flag(bias, "bias")
        self.over = as_choice(over, "over", ("time", "frame"))
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, expected a multiple of groups, {self.groups}"
                )
        self.padding = self._checked_padding(padding)
        if self.kernel_size * self.in_channels // self.groups > MAX_SIZE:
            raise ValueError(f"a window of this Conv1d has more than {MAX_SIZE} values")
        shape = (self.out_channels, self.in_channels // self.groups, self.kernel_size)
        shapes: list[tuple[str, tuple[int, ...]]] = [("weight", shape)]
        self._allocate(one_after_another(shapes + [("bias", shape[:1])] * self.bias))
        self._packed = self._blank()
        self._fill()

    def _checked_padding(self, padding: object) -> int | str | tuple[int, int]:
        if isinstance(padding, str):
            padding = as_choice(padding, "padding", _PADDINGS)
            if padding != "valid" and self.stride != 1:
                raise ValueError(
                    f"padding is {padding!r}, which expects stride 1, got {self.stride}"
                )
            self._around = self._named_padding(padding)
            return padding
        if isinstance(padding, (tuple, list)) and len(padding) == 2:
            before, after = (_as_padding(value) for value in padding)
            self._around = (before, after)
            return (before, after)
        value = _as_padding(_single(padding, "padding"))
        self._around = (value, value)
        return value

    def _named_padding(self, padding: str) -> tuple[int, int]:
        reach = (self.kernel_size - 1) * self.dilation
        if padding != "valid" and reach > MAX_SIZE:
            raise ValueError(
                f"(kernel_size - 1) * dilation must be at most {MAX_SIZE}, got {reach}"
            )
        return {
            "valid": (0, 0),
            "same": (reach // 2, reach - reach // 2),
            "causal": (reach, 0),
        }[padding]

    def _blank(self, backward: bool = False) -> _core.Convolution:
        """Room for packed weights."""
        return _core.Convolution(
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            self.stride,
            self.dilation,
            self.groups,
            *self._around,
            bias=self.bias and not backward,
            backward=backward,
        )

    @property
    def _reads(self) -> int | None:
        return None if self.over == "frame" else self.in_channels

    def reset_parameters(self, seed: int | None = None) -> None:
        """Draw all parameters anew."""
        fan_in = self.in_channels // self.groups * self.kernel_size
        fill_uniform(self.flat, fan_in**-0.5, seed)
        self.repack()

    def repack(self) -> None:
        weight, bias = self.parameters["weight"], self.parameters.get("bias")
        self._packed = self._packed.renewed(weight, bias)  # calls keep the old one
        super().repack()

    def _restore(self, parameters: dict[str, FloatArray], gradients: dict[str, FloatArray]) -> None:
        self._packed = self._blank()
        super()._restore(parameters, gradients)

    def trim(self) -> None:
        self._packed.store.trim()
        if self._transposed is not None:
            self._transposed[1].store.trim()

    def __call__(self, x: ArrayLike) -> FloatArray:
        """The convolution of every signal in x."""
        return self._packed.run(x, self.over == "time", self)

    def vjp(self, x: ArrayLike) -> tuple[FloatArray, Callable[[ArrayLike], FloatArray]]:
        """y as the call gives it, and a pullback from dy, of y's shape, to dx, of x's.

        x and the parameters must stay as they are until the pullback is called.
        """
        x = as_float32(x, "x")
        y = self._packed.run(x, self.over == "time", self)

        def pullback(dy: ArrayLike) -> FloatArray:
            dy = as_float32(dy, "dy")
            check_shape(dy, y.shape, "dy")
            weight, bias = self.grads["weight"], self.grads.get("bias")
            with adding_to(weight, bias):
                dx: FloatArray = self._back().run_back(
                    x, self.over == "time", dy, weight, bias, self
                )
            return dx

        return y, once(pullback, "a Conv1d")

    def _back(self) -> _core.Convolution:
        """The weights packed for the way back."""
        version, found = self._version, self._transposed
        if found is None or found[0] != version:
            self._packed.store.trained = True
            blank = self._blank(backward=True) if found is None else found[1]
            blank.store.trained = True
            found = self._transposed = version, blank.renewed(self.parameters["weight"])
        return found[1]

    def __repr__(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}"]
        parts += [f"kernel_size=({self.kernel_size},)", f"stride=({self.stride},)"]
        if self.padding != 0:
            parts.append(
                f"padding=({self.padding},)"
                if isinstance(self.padding, int)
                else f"padding={self.padding}"
            )
        if self.dilation != 1:
            parts.append(f"dilation=({self.dilation},)")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if not self.bias:
            parts.append("bias=False")
        if self.over != "time":
            parts.append(f"over={self.over!r}")
        return f"Conv1d({', '.join(parts)})"


def _single(value: Any, name: str) -> Any:
    """The value of a tuple of one, as PyTorch's repr shows sizes; else the value itself."""
    if isinstance(value, (tuple, list)):
        if len(value) != 1:
            raise ValueError(f"{name} is {shown(value)}, expected one int")
        return value[0]
    return value


def _as_padding(value: object) -> int:
    size = as_int(value, "padding")
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"padding is {shown(value)}, expected 0 to {MAX_SIZE}")
    return size
