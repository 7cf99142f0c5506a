"""Progress of a training for a person: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from contextlib import suppress
from typing import Any

_LINE_SECONDS = 10.0  # between two lines
_BAR_SECONDS = 0.2  # between two texts of the bar
_MOST_PERPLEXITY = 20.0  # loss beyond which exp(loss) says nothing


class Silent:
    """No progress at all; the base of the two that show some."""

    def start(self, step: int, total: int | None) -> None:
        """Begin at `step` of `total` steps (None: not known); called once."""

    def step(self, step: int, facts: dict[str, Any]) -> None:
        """Show one more step."""

    def say(self, text: str) -> None:
        """One line that stays."""

    def close(self) -> None:
        """End; called once."""


class Lines(Silent):
    """Progress as a line now and then."""

    def start(self, step: int, total: int | None) -> None:
        self._first, self._total = step, total
        self._began = self._shown = time.monotonic()

    def step(self, step: int, facts: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._shown < _LINE_SECONDS:
            return
        self._shown = now
        left = ""
        if self._total is not None and self._total >= step:
            seconds = (now - self._began) / max(step - self._first, 1) * (self._total - step)
            left = f"  {clock(seconds)} left"
        of = "" if self._total is None else f"/{self._total}"
        self.say(f"step {step}{of}  {described(facts)}{left}")

    def say(self, text: str) -> None:
        with suppress(OSError, ValueError):  # a stream that is full, closed or without a reader
            print(text, file=sys.stderr, flush=True)


class Bar(Silent):
    """tqdm's bar, which knows the time left."""

    _bar: Any = None

    def start(self, step: int, total: int | None) -> None:
        from tqdm import tqdm  # type: ignore[import-untyped]

        self._bar = tqdm(
            total=total, initial=step, unit="step", dynamic_ncols=True, file=sys.stderr
        )
        self._shown = 0.0

    def step(self, step: int, facts: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._shown > _BAR_SECONDS:
            self._shown = now
            self._bar.set_postfix_str(described(facts), refresh=False)
        self._bar.update(step - self._bar.n)

    def say(self, text: str) -> None:
        self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def progress(wanted: bool | None) -> Silent:
    """A bar if the standard error stream is a terminal and tqdm is there, lines otherwise."""
    if wanted is False:
        return Silent()
    if sys.stderr is None:  # a program without a console
        return Silent()
    try:
        import tqdm  # noqa: F401
    except ImportError:
        return Lines()
    return Bar() if sys.stderr.isatty() else Lines()


def described(facts: dict[str, Any]) -> str:
    """Loss, perplexity, gradient norm, learning rate and speed in one line."""
    texts = [f"loss {facts['loss']:.4f}"]
    if facts["unit"] == "tokens" and facts["loss"] < _MOST_PERPLEXITY:
        texts.append(f"ppl {math.exp(facts['loss']):.2f}")
    if "accuracy" in facts:
        texts.append(f"accuracy {100 * facts['accuracy']:.1f} %")
    if "norm" in facts:
        texts += [f"norm {facts['norm']:.3g}", f"lr {facts['lr']:.3g}"]
    if "rate" in facts:
        texts.append(f"{facts['rate']:,.0f} {facts['unit']}/s")
    return "  ".join(texts)


def clock(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03, 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
